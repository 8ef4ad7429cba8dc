"""KPS: a real-time publish/subscribe bus over WebSockets, with acknowledged publishing.

The names here are the public API.
"""

import importlib
from typing import TYPE_CHECKING, Any

from kps.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    KPSError,
    MessageTooLarge,
    NotConnected,
    QueueFull,
    RequestTimeout,
    ServerError,
    ServerStartFailed,
)
from kps.protocol.backoff import Backoff
from kps.protocol.events import Connected, Disconnected
from kps.protocol.http import HttpRequest, HttpResponse
from kps.protocol.limits import Limits, Overflow
from kps.protocol.messages import AckResponse, Message

if TYPE_CHECKING:
    from kps.io_asyncio.ack import Ack
    from kps.io_asyncio.client import Client
    from kps.io_asyncio.server import Server
    from kps.io_asyncio.subscription import Subscription

__all__ = [
    "Ack",
    "AckResponse",
    "Backoff",
    "Client",
    "ClientClosed",
    "ConnectFailed",
    "Connected",
    "ConnectionLost",
    "Disconnected",
    "HttpRequest",
    "HttpResponse",
    "InvalidArgument",
    "KPSError",
    "Limits",
    "Message",
    "MessageTooLarge",
    "NotConnected",
    "Overflow",
    "QueueFull",
    "RequestTimeout",
    "Server",
    "ServerError",
    "ServerStartFailed",
    "Subscription",
]

# Loaded on first use, so that a program without an event loop never imports asyncio.
_LAZY = {
    "Ack": "kps.io_asyncio.ack",
    "Client": "kps.io_asyncio.client",
    "Server": "kps.io_asyncio.server",
    "Subscription": "kps.io_asyncio.subscription",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'kps' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value
