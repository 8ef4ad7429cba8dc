"""Accepting TLS connections on the event loop."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from kps.io_asyncio.connection import Connection
from kps.io_common.logs import logger
from kps.io_common.system_errors import describe
from kps.protocol.dialect.address import host_and_port

_PAUSE = 0.05  # seconds, when there are no descriptors left


class TlsListener:
    """Accepts connections, and shakes hands with each.

    In place of ``loop.create_server``, whose context cannot be replaced, and which neither
    ends a handshake that is under way nor tells why one failed.

    Args:
        listener: The socket that listens; it is closed with this.
        admit: Makes what the bytes of a connection from ``host:port`` go to, once they are
            encrypted. ``None`` turns it away, without the work of a handshake.
        give_up: Is told when nothing came of such a handshake.
        context: Returns the context for a new connection.
        timeout: Seconds for a handshake as a whole.
    """

    def __init__(
        self,
        listener: socket.socket,
        admit: Callable[[str], Connection | None],
        give_up: Callable[[Connection], None],
        context: Callable[[], ssl.SSLContext],
        timeout: float,
    ) -> None:
        listener.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._admit = admit
        self._give_up = give_up
        self._context = context
        self._timeout = timeout
        self._shaking: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = self._new_task(self._accept())
        self._accepting.add_done_callback(lambda _: listener.close())

    def close(self) -> None:
        """Stop listening, and end the handshakes that are under way."""
        self._accepting.cancel()
        for sock in self._shaking:
            with contextlib.suppress(OSError):  # the peer has gone
                sock.shutdown(socket.SHUT_RDWR)

    async def wait_closed(self) -> None:
        """After ``close``: until that is done, which is at once."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                sock, address = await self._loop.sock_accept(self._listener)
            except OSError as error:  # it went away again, or there are no descriptors left
                logger.warning("cannot accept a connection: %s", describe(error))
                await asyncio.sleep(_PAUSE)
                continue
            peer = host_and_port(*address[:2])
            connection = self._admit(peer)
            if connection is None:
                sock.close()
            else:
                self._shaking.add(sock)
                self._new_task(self._shake_hands(sock, connection, peer))
            await asyncio.sleep(0)  # who connects all the time does not keep others waiting

    async def _shake_hands(self, sock: socket.socket, connection: Connection, peer: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=self._context(),
                ssl_handshake_timeout=self._timeout,
            )
        except OSError as error:
            logger.debug("no TLS with %s: %s", peer, describe(error))
        finally:
            self._shaking.discard(sock)
            self._give_up(connection)  # of no effect if it has begun

    def _new_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
