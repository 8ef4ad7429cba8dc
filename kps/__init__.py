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
from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.bus.message import Message
from kps.protocol.client.events import Connected, Disconnected
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.limits import ClientLimits, Overflow, RatePolicy, ServerLimits
from kps.protocol.wire.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from kps.auth.jwt import JWTVerifier
    from kps.auth.tokens import TokenFile
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
    "ClientLimits",
    "ConnectFailed",
    "Connected",
    "ConnectionLost",
    "Disconnected",
    "HttpRequest",
    "HttpResponse",
    "Identity",
    "InvalidArgument",
    "JWTVerifier",
    "KPSError",
    "Message",
    "MessageTooLarge",
    "NotConnected",
    "Overflow",
    "Permissions",
    "QueueFull",
    "RatePolicy",
    "RequestTimeout",
    "Server",
    "ServerError",
    "ServerLimits",
    "ServerStartFailed",
    "Subscription",
    "TokenFile",
]

# Loaded on first use, so that a program without an event loop never imports asyncio, and a
# client nothing that only servers need.
_LAZY = {
    "Ack": "kps.io_asyncio.ack",
    "Client": "kps.io_asyncio.client",
    "JWTVerifier": "kps.auth.jwt",
    "Server": "kps.io_asyncio.server",
    "Subscription": "kps.io_asyncio.subscription",
    "TokenFile": "kps.auth.tokens",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'kps' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value
