"""Waits until a condition holds, in a way that is safe to cancel."""

import asyncio
from collections.abc import Callable

from kps.io_asyncio.runtime import Runtime


class News:
    """Lets any number of tasks wait until a condition holds."""

    __slots__ = ("_runtime", "_waiters")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiters: set[asyncio.Future[None]] = set()

    async def until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until a condition holds; return ``False`` if the timeout is over first.

        Raises :class:`kps.InvalidState` outside the event loop.
        """
        runtime = self._runtime
        runtime.check()
        if timeout is None:
            while not condition():
                waiter = runtime.loop.create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)
            return True
        return condition() or await self._until_late(condition, timeout)

    def announce(self) -> None:
        """Make all waiters check their condition."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _until_late(self, condition: Callable[[], bool], timeout: float) -> bool:
        runtime = self._runtime
        is_over = False

        def end() -> None:
            nonlocal is_over
            is_over = True
            self.announce()

        timer = runtime.call_at(runtime.clock() + timeout, end)
        try:
            await self.until(lambda: is_over or condition())
        finally:
            timer.cancel()
        return condition()
