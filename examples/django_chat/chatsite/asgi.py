"""The application: HTTP is Django's, WebSockets and the worker's channel are consumers."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
django = get_asgi_application()

from chatsite.consumers import Dice, Person, Readings  # noqa: E402 - they need Django's settings

application = ProtocolTypeRouter(
    {
        "http": django,
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(
                URLRouter(
                    [
                        path("ws/rooms/<slug:room>/", Person.as_asgi()),
                        path("ws/readings/", Readings.as_asgi()),
                    ]
                )
            )
        ),
        "channel": ChannelNameRouter({"dice": Dice.as_asgi()}),
    }
)
