"""Waiting for news, in a way that is safe to cancel."""

import asyncio


class Arrival:
    """Lets any number of tasks wait for the next piece of news. Safe to cancel."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Wait for the next ``announce``."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def announce(self) -> None:
        """Wake whoever waits."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
