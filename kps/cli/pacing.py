"""Keeps a rate that does not wait for answers."""

import asyncio
import time


class Pace:
    """Moments that are ``1 / rate`` seconds apart, beginning now.

    What is late is due at once, so the rate is kept on average.
    """

    def __init__(self, rate: float) -> None:
        self.began = time.perf_counter()
        """The first moment."""
        self._rate = rate
        self._count = 0

    async def next(self) -> float:
        """Wait until the next moment, and return it, as ``perf_counter`` tells the time."""
        due = self.began + self._count / self._rate
        self._count += 1
        # More than once, because uvloop rounds to milliseconds.
        while (delay := due - time.perf_counter()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(delay)
        return due
