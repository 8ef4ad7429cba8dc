"""The pages."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path


def room(request: HttpRequest, name: str) -> HttpResponse:
    """Show a room."""
    return render(request, "room.html", {"room": name})


urlpatterns = [
    path("", room, {"name": "lobby"}),
    path("rooms/<slug:name>/", room),
]
