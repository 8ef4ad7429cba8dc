"""Accepts TLS connections on the event loop."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from kps.io_asyncio.connection import Connection
from kps.io_common.forks import keep_from_children
from kps.io_common.logger import write
from kps.io_common.system_errors import describe
from kps.protocol.dialect.address import host_and_port
from kps.protocol.limits import ConnectionLimits

_PAUSE = 0.05  # seconds, when there are no descriptors left


class Source(Protocol):
    """Where connections come from."""

    async def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Return the next one, and the address of its peer. Raises ``OSError``."""

    def close(self) -> None:
        """Take no more."""


class ListeningSocket:
    """Connections to a listening socket, which this closes."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._loop = asyncio.get_running_loop()

    async def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Return the next one, and the address of its peer. Raises ``OSError``."""
        sock, address = await self._loop.sock_accept(self._listener)
        return sock, address[:2]

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


class TlsListener:
    """Accepts connections, and does the TLS handshake with each.

    ``loop.create_server`` cannot replace its context, does not end pending handshakes, and does
    not tell why one failed.

    Args:
        source: Where connections come from, which this object closes.
        admit: Returns the protocol for a connection from ``host:port``, or ``None`` to refuse it
            without a handshake.
        give_up: Called after each handshake with the connection; has an effect if it failed.
        context: Returns the context for a new connection.
        limits: How long a handshake may take, and the end of a connection.
    """

    def __init__(
        self,
        source: Source,
        admit: Callable[[str], Connection | None],
        give_up: Callable[[Connection], None],
        context: Callable[[], ssl.SSLContext],
        limits: ConnectionLimits,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._admit = admit
        self._give_up = give_up
        self._context = context
        self._limits = limits
        self._shaking: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = self._new_task(self._accept())
        self._accepting.add_done_callback(lambda _: source.close())

    def close(self) -> None:
        """Stop listening, and end the pending handshakes."""
        self._accepting.cancel()
        for sock in self._shaking:
            with contextlib.suppress(OSError):  # the peer is gone
                sock.shutdown(socket.SHUT_RDWR)

    async def wait_closed(self) -> None:
        """Wait until ``close`` has taken effect, which takes no time."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                sock, address = await self._source.accept()
            except OSError as error:  # the client is gone, or no descriptors are left
                text = "cannot accept a connection: %(reason)s"
                write(logging.WARNING, "accept_failed", text, reason=describe(error))
                await asyncio.sleep(_PAUSE)
                continue
            peer = host_and_port(*address)
            connection = self._admit(peer)
            if connection is None:
                sock.close()
            else:
                keep_from_children(sock)
                self._shaking.add(sock)
                self._new_task(self._shake_hands(sock, connection, peer))
            await asyncio.sleep(0)  # a flood of connections must not starve the loop

    async def _shake_hands(self, sock: socket.socket, connection: Connection, peer: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=self._context(),
                ssl_handshake_timeout=self._limits.handshake_timeout,
                ssl_shutdown_timeout=self._limits.close_timeout,
            )
        except OSError as error:
            text = "no TLS with %(address)s: %(reason)s"
            write(logging.DEBUG, "tls_failed", text, address=peer, reason=describe(error))
        finally:
            self._shaking.discard(sock)
            self._give_up(connection)  # without effect if the handshake succeeded

    def _new_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
