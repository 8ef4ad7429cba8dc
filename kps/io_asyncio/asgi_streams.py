"""Ends the event streams of an application when uvicorn is about to stop.

uvicorn ends the lifespan of an application behind the last request, and an event stream has no end.
It tells nobody before. Other servers of ASGI end all requests after some seconds.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from kps.io_asyncio.server_driver import ServerDriver
from kps.protocol.server.hub import Hub

_EVERY = 0.25  # seconds between two looks
_GRACE = 10.0  # seconds in which a client gets what is pending for it


class OpenStreams:
    """The streams of a bus. It looks after the server only while there are some."""

    def __init__(self, driver: ServerDriver, hub: Hub) -> None:
        self._driver = driver
        self._hub = hub
        self._numbers: set[int] = set()  # of their sessions
        self._next_look: asyncio.TimerHandle | None = None

    @contextmanager
    def has(self, number: int) -> Iterator[None]:
        """Look after a stream meanwhile."""
        self._numbers.add(number)
        if self._next_look is None:
            self._plan_look()
        try:
            yield
        finally:
            self._numbers.discard(number)

    def _plan_look(self) -> None:
        self._next_look = self._driver.runtime.loop.call_later(_EVERY, self._look)

    def _look(self) -> None:
        self._next_look = None
        if not self._numbers:
            return
        self._plan_look()
        if is_stopping():
            self._hub.shutdown(_GRACE, self._driver.clock(), list(self._numbers))
            self._driver.progress()


def is_stopping() -> bool:
    """Tell whether this process is one of uvicorn that has been told to stop.

    Its server is found by the handler that it has set for the signal.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
