"""The pages."""

from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path


def room(request: HttpRequest, name: str) -> HttpResponse:
    """Show a room."""
    return render(request, "room.html", {"room": name})


urlpatterns = [
    path("", login_required(room), {"name": "lobby"}),
    path("rooms/<slug:name>/", login_required(room)),
    path("accounts/login/", LoginView.as_view(template_name="login.html")),
]
