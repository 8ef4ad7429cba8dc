"""What the carriers of WebSockets and of plain requests below a server of ASGI have in common."""

import asyncio
from abc import ABC, abstractmethod

from kps.io_asyncio.asgi_scope import Send
from kps.io_asyncio.server_driver import ServerDriver
from kps.protocol.server.message_connection import MessageConnection


class AsgiCarrier(ABC):
    """Carries one request, and what follows it, in a task of the application.

    The task enters by ``_take_in``, works within ``_patience``, and leaves by ``_let_go``.
    ``abort`` ends its work with a :class:`TimeoutError`.
    """

    __slots__ = ("__weakref__", "_driver", "_endpoint", "_patience", "_send")

    def __init__(self, driver: ServerDriver, endpoint: MessageConnection, send: Send) -> None:
        self._driver = driver
        self._endpoint = endpoint
        self._send = send
        self._patience: asyncio.Timeout

    @abstractmethod
    def flush(self) -> int:
        """Let reader and writer go on. Return 0, as nothing is written at once."""

    def abort(self) -> None:
        """Drop the connection now."""
        # Later, as the work may not have begun.
        self._driver.runtime.loop.call_soon(self._end)

    def _end(self) -> None:
        patience = self._patience
        if self in self._driver.connections and patience.when() is None:
            patience.reschedule(self._driver.runtime.loop.time())

    def _take_in(self) -> None:
        self._patience = asyncio.timeout(None)
        self._driver.take_in(self, self._endpoint)

    def _let_go(self) -> None:
        driver = self._driver
        self._endpoint.connection_lost(driver.clock())
        driver._detach(self)
        driver.progress()
