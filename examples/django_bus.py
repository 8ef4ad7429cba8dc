"""The bus in Django: an ``asgi.py`` whose clients are the users of Django's sessions.

A project of one file. In yours, only what begins at ``identify`` is new.

    pip install /path/to/the/checkout django "uvicorn[standard]"
    uvicorn django_bus:application
"""

import io
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for this example",
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()

from django.contrib.sessions.middleware import SessionMiddleware  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.handlers.asgi import ASGIRequest  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from kps.asgi import Bus, Scope  # noqa: E402


def identify(scope: Scope) -> str | None:
    """Return who a client is, by its session. This runs in a thread, so it may ask a database.

    With ``django.contrib.auth``: ``user = django.contrib.auth.get_user(request)``, and then
    ``return user.get_username() or None``.
    """
    request: Any = ASGIRequest({**scope, "method": "GET"}, io.BytesIO())
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    name: str | None = request.session.get("name")
    return name


application = Bus(get_asgi_application(), path="/ws/bus", identify=identify)


def login(request: HttpRequest) -> HttpResponse:
    """Begin a session. A real site would ask for more than a name."""
    request.session["name"] = request.GET["name"]
    return HttpResponse("hello")


async def order(request: HttpRequest) -> JsonResponse:
    """Tell all clients of an order. A view that is no coroutine calls ``async_to_sync``."""
    heard = await application.publish("orders", {"item": request.GET["item"]})
    return JsonResponse({"heard": heard})


urlpatterns = [path("login", login), path("order", order)]
