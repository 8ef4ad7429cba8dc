"""What a program may give KPS to call: callbacks for messages, hooks for decisions and news.

On asyncio each may be a coroutine function, which runs on the event loop, or a plain function,
which runs in a thread. On threads each is a plain function.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kps.errors import ServerError
from kps.protocol.access.identity import Identity
from kps.protocol.bus.message import Message
from kps.protocol.client.events import Connected, Disconnected
from kps.protocol.wire.http import HttpRequest, HttpResponse

Callback = Callable[[Message[Any]], object]
"""Handles a message. What it returns is the result for a publisher who wants an ack."""

UpgradeVerdict = bool | None | Identity | HttpResponse
"""Whether a client may connect: yes or no (403); who it is; or the answer to turn it away with."""

UpgradeHook = Callable[[HttpRequest], UpgradeVerdict | Awaitable[UpgradeVerdict]]
"""Sees the request of a client that wants to connect, and decides."""

TokenVerdict = Identity | HttpResponse | None
"""Who shows a token; ``None`` if nobody; an answer when it cannot be found out for now."""

TokenHook = Callable[[str], TokenVerdict | Awaitable[TokenVerdict]]
"""Takes a client's token, and says whose it is. :class:`kps.TokenFile` and
:class:`kps.JWTVerifier` are two. If it has a method ``reload``, the server calls that when it
reloads."""

OnConnect = Callable[[Connected], object]
OnDisconnect = Callable[[Disconnected], object]
OnError = Callable[[ServerError], object]
OnFrame = Callable[[dict[str, Any], Any], object]
"""Gets a message of the server as it came, and the client."""
OnClose = Callable[[], object]

# What decorators return as they got it.
AnyCallback = TypeVar("AnyCallback", bound=Callback)
AnyUpgradeHook = TypeVar("AnyUpgradeHook", bound=UpgradeHook)
