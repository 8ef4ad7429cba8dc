"""The WebSockets of a bus past ASGI, in an application that uvicorn serves.

uvicorn gives each request for a WebSocket to a protocol of asyncio. That of :func:`protocol` takes
those for the bus as a :class:`kps.Server` takes them, and leaves all others to uvicorn's own::

    uvicorn.run(app, ws=kps.uvicorn.protocol(bus, "/bus"))

So KPS reads and writes the frames itself: a message for a client costs a small part of what it
costs over ASGI, KPS compresses, and its heartbeat finds dead clients. But the framework's
middleware sees nothing of these connections: see ``docs/frameworks.md``.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from kps.errors import InvalidArgument
from kps.io_asyncio.asgi_bus import Bus
from kps.io_asyncio.asgi_scope import Receive, Scope, Send, peer_of
from kps.protocol.limits import shown


def protocol(bus: Bus, path: str) -> type[asyncio.Protocol]:
    """Return what uvicorn takes as ``ws``: it serves the bus at a path and below it.

    Until the bus has started (see its ``lifespan``), its connections go over ASGI. Raises
    :class:`kps.InvalidArgument` for what is no bus or no path.
    """
    if not isinstance(bus, Bus):
        raise InvalidArgument(f"this takes a kps.asgi.Bus, not {shown(bus)}")
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidArgument(f"a path starts with '/': {shown(path)}")

    class BusProtocol(_Switch):
        _bus = bus
        _path = path.rstrip("/").encode()

    return BusProtocol


class _Switch(asyncio.Protocol):
    """Looks at the request, and gives the transport to the protocol that serves it."""

    _bus: Bus
    _path: bytes

    def __init__(self, config: Any, server_state: Any, app_state: Any) -> None:
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._transport: asyncio.Transport
        self._chosen: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take the head of the request, which uvicorn has read as a whole."""
        if self._chosen is None:
            chosen, data = self._choose(data)
            self._chosen = chosen
            chosen.connection_made(self._transport)
            # Later, as uvicorn is about to set this one.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._transport.set_protocol, chosen)
        self._chosen.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._chosen is not None:
            self._chosen.connection_lost(exc)

    def _choose(self, head: bytes) -> tuple[asyncio.Protocol, bytes]:
        """Return the protocol for a request, and what it is to read."""
        method, target, rest = head.split(b" ", 2)
        path, mark, query = target.partition(b"?")
        if path == self._path or path.startswith(self._path + b"/"):
            connection = self._bus._new_connection(self._peer(rest), self._server_state.connections)
            if connection is not None:
                within = self._bus._settings.config.path.encode() + mark + query
                return connection, b" ".join((method, within, rest))
        new_other: Callable[..., asyncio.Protocol] = cast("Any", AutoWebSocketsProtocol)
        other = new_other(
            config=self._config, server_state=self._server_state, app_state=self._app_state
        )
        return other, head

    def _peer(self, rest: bytes) -> str:
        """Return the address of the client, behind the proxies that uvicorn trusts."""
        lines = [line.partition(b":") for line in rest.split(b"\r\n")[1:]]
        scope: Scope = {
            "type": "websocket",
            "client": self._transport.get_extra_info("peername")[:2],
            "headers": [(name.lower(), value.strip()) for name, _, value in lines if name],
        }
        if self._config.proxy_headers:
            trusted = self._config.forwarded_allow_ips
            passing: Any = ProxyHeadersMiddleware(cast("Any", _nothing), trusted_hosts=trusted)
            # It changes the scope, and awaits nothing but that application.
            begun: Coroutine[Any, Any, None] = passing(scope, None, None)
            with suppress(StopIteration):
                begun.send(None)
        return peer_of(scope)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing."""
