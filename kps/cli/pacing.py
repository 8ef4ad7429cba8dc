"""Keeps a rate that does not wait for answers."""

import asyncio
import time


class Pace:
    """Moments that are ``1 / rate`` seconds apart, the first one at ``began``.

    What is late is due at once, so the rate is kept on average. Times are as ``perf_counter``
    tells them.
    """

    def __init__(self, rate: float, began: float) -> None:
        self._began = began
        self._rate = rate
        self._count = 0

    @property
    def due(self) -> float:
        """When the next moment is."""
        return self._began + self._count / self._rate

    async def next(self) -> float:
        """Wait until the next moment, and return it."""
        due = self.due
        self._count += 1
        # More than once, because uvloop rounds to milliseconds.
        while (delay := due - time.perf_counter()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(delay)
        return due
