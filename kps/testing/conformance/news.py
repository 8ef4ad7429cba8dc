"""Waits for events, of which there are several kinds, with a patience."""

import asyncio
from collections.abc import Callable


class News:
    """Lets the judge of one testee wait until a condition holds."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def announce(self) -> None:
        """Make the one who waits check its condition."""
        self._event.set()

    async def until(self, condition: Callable[[], bool], patience: float) -> bool:
        """Wait until a condition holds; return ``False`` if the patience is over first."""
        try:
            async with asyncio.timeout(patience):
                while not condition():
                    self._event.clear()
                    await self._event.wait()
        except TimeoutError:
            return condition()
        return True
