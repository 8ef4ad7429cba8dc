"""A connection whose transport comes from another server, when that has read the request."""

import asyncio

from kps.io_asyncio.connection import Connection
from kps.io_asyncio.server_driver import ServerDriver
from kps.protocol.server.hub import Hub

_GRACE = 10.0  # seconds in which a client gets what is pending for it


class CarriedConnection(Connection):
    """Carries bytes as any connection, and ends when the other server ends.

    ``among`` are the connections of that server, which calls their ``shutdown``.
    """

    __slots__ = ("_among", "_driver", "_hub", "_peer")

    def __init__(self, driver: ServerDriver, hub: Hub, peer: str, among: set[object]) -> None:
        super().__init__(driver.runtime.loop, driver, driver.clock)
        self._driver = driver
        self._hub = hub
        self._peer = peer
        self._among = among

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._among.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._among.discard(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close, as the server of the application stops."""
        driver = self._driver
        session = driver.connections.get(self)
        if session is not None:
            self._hub.shutdown(_GRACE, driver.clock(), [session.number])
            driver.progress()

    def peer_of(self, transport: asyncio.BaseTransport) -> str:
        return self._peer
