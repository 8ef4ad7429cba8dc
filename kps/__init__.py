"""KPS: a real-time publish/subscribe bus over WebSockets, with acknowledged publishing.

The names here are the public API. :mod:`kps.sync` is its blocking form, for programs without an
event loop; :mod:`kps.otel` traces programs; :mod:`kps.testing` helps to test them.
"""

import importlib

from kps.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    InvalidState,
    KPSError,
    MessageTooLarge,
    NobodyThere,
    NotConnected,
    QueueFull,
    Refused,
    RequestFailed,
    RequestTimeout,
    ServerError,
    ServerStartFailed,
    ServerStopped,
    Unsupported,
    WrongThread,
)

TYPE_CHECKING = False  # type checkers know it; typing is slow to import
if TYPE_CHECKING:
    from kps import otel, sync
    from kps.auth.first_of import FirstOf
    from kps.auth.jwt import JWTVerifier
    from kps.auth.tokens import TokenFile
    from kps.compat.values import ClientSubscriber
    from kps.io_asyncio.ack import Ack
    from kps.io_asyncio.ack import Ack as ClientAck
    from kps.io_asyncio.client import Client
    from kps.io_asyncio.client import Client as BusClient
    from kps.io_asyncio.server import Server
    from kps.io_asyncio.subscription import Messages, Subscription
    from kps.io_asyncio.subscription import Subscription as ClientSubscription
    from kps.protocol.access.identity import Identity, Permissions
    from kps.protocol.bus.history import History
    from kps.protocol.bus.members import Presence
    from kps.protocol.bus.message import Message
    from kps.protocol.bus.past import Past
    from kps.protocol.client.events import Connected, Disconnected, Lost, Recovered
    from kps.protocol.client.reconnect import Backoff
    from kps.protocol.dialect.binary import pack_bytes, unpack_bytes
    from kps.protocol.dialect.outcome import AckResponse, GroupResponse, Receipt
    from kps.protocol.dialect.places import Position
    from kps.protocol.limits import ClientLimits, Overflow
    from kps.protocol.patterns import Pattern
    from kps.protocol.server.events import ClientLeft, ConnectedClient, Subscribing, Unsubscribed
    from kps.protocol.server_limits import RatePolicy, ServerLimits
    from kps.protocol.wire.http import HttpRequest, HttpResponse
    from kps.version import __version__


__all__ = [
    "Ack",
    "AckResponse",
    "Backoff",
    "BusClient",
    "Client",
    "ClientAck",
    "ClientClosed",
    "ClientLeft",
    "ClientLimits",
    "ClientSubscriber",
    "ClientSubscription",
    "ConnectFailed",
    "Connected",
    "ConnectedClient",
    "ConnectionLost",
    "Disconnected",
    "FirstOf",
    "GroupResponse",
    "History",
    "HttpRequest",
    "HttpResponse",
    "Identity",
    "InvalidArgument",
    "InvalidState",
    "JWTVerifier",
    "KPSError",
    "Lost",
    "Message",
    "MessageTooLarge",
    "Messages",
    "NobodyThere",
    "NotConnected",
    "Overflow",
    "Past",
    "Pattern",
    "Permissions",
    "Position",
    "Presence",
    "QueueFull",
    "RatePolicy",
    "Receipt",
    "Recovered",
    "Refused",
    "RequestFailed",
    "RequestTimeout",
    "Server",
    "ServerError",
    "ServerLimits",
    "ServerStartFailed",
    "ServerStopped",
    "Subscribing",
    "Subscription",
    "TokenFile",
    "Unsubscribed",
    "Unsupported",
    "WrongThread",
    "__version__",
    "otel",
    "pack_bytes",
    "sync",
    "unpack_bytes",
]

# Loaded on first use, so that a program without an event loop never imports asyncio, a client
# nothing that only servers need, and pytest, which imports this package for its plugin, nothing
# at all. The last four are the family's names.
_LAZY = {
    "Ack": "kps.io_asyncio.ack:Ack",
    "AckResponse": "kps.protocol.dialect.outcome:AckResponse",
    "Backoff": "kps.protocol.client.reconnect:Backoff",
    "Client": "kps.io_asyncio.client:Client",
    "ClientLeft": "kps.protocol.server.events:ClientLeft",
    "ClientLimits": "kps.protocol.limits:ClientLimits",
    "Connected": "kps.protocol.client.events:Connected",
    "ConnectedClient": "kps.protocol.server.events:ConnectedClient",
    "Disconnected": "kps.protocol.client.events:Disconnected",
    "FirstOf": "kps.auth.first_of:FirstOf",
    "GroupResponse": "kps.protocol.dialect.outcome:GroupResponse",
    "History": "kps.protocol.bus.history:History",
    "Lost": "kps.protocol.client.events:Lost",
    "Past": "kps.protocol.bus.past:Past",
    "Position": "kps.protocol.dialect.places:Position",
    "Receipt": "kps.protocol.dialect.outcome:Receipt",
    "Recovered": "kps.protocol.client.events:Recovered",
    "HttpRequest": "kps.protocol.wire.http:HttpRequest",
    "HttpResponse": "kps.protocol.wire.http:HttpResponse",
    "Identity": "kps.protocol.access.identity:Identity",
    "JWTVerifier": "kps.auth.jwt:JWTVerifier",
    "Message": "kps.protocol.bus.message:Message",
    "Messages": "kps.io_asyncio.subscription:Messages",
    "Overflow": "kps.protocol.limits:Overflow",
    "Pattern": "kps.protocol.patterns:Pattern",
    "Permissions": "kps.protocol.access.identity:Permissions",
    "Presence": "kps.protocol.bus.members:Presence",
    "RatePolicy": "kps.protocol.server_limits:RatePolicy",
    "Server": "kps.io_asyncio.server:Server",
    "ServerLimits": "kps.protocol.server_limits:ServerLimits",
    "Subscribing": "kps.protocol.server.events:Subscribing",
    "Subscription": "kps.io_asyncio.subscription:Subscription",
    "TokenFile": "kps.auth.tokens:TokenFile",
    "Unsubscribed": "kps.protocol.server.events:Unsubscribed",
    "__version__": "kps.version:__version__",
    "pack_bytes": "kps.protocol.dialect.binary:pack_bytes",
    "unpack_bytes": "kps.protocol.dialect.binary:unpack_bytes",
    "BusClient": "kps.io_asyncio.client:Client",
    "ClientAck": "kps.io_asyncio.ack:Ack",
    "ClientSubscriber": "kps.compat.values:ClientSubscriber",
    "ClientSubscription": "kps.io_asyncio.subscription:Subscription",
}


if not TYPE_CHECKING:  # else a mistyped name would have the type Any

    def __getattr__(name: str) -> object:
        if name in ("otel", "sync"):
            return importlib.import_module(f"kps.{name}")
        if name in _LAZY:
            module, _, attribute = _LAZY[name].partition(":")
            value = getattr(importlib.import_module(module), attribute)
        elif name == "Limits":
            raise ImportError(  # which ``from kps import Limits`` shows, unlike an AttributeError
                "kps.Limits is kps.ServerLimits for servers, kps.ClientLimits for clients"
            )
        else:
            raise AttributeError(f"module 'kps' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
