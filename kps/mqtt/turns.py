"""Lets messages go to the bus in the order in which they came, also if they had to wait."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable


class Turns:
    """Whose turn it is among messages with numbers, those that came first having the lower ones.

    A message goes at once while the bus takes messages and nobody waits. So any number of them is
    under way at a time. Otherwise all wait. Then the one with the lowest number goes first, and
    the next one when that has begun.

    ``is_held`` tells whether messages must wait, ``until_free`` waits as long as they must.
    """

    def __init__(
        self, is_held: Callable[[], bool], until_free: Callable[[], Awaitable[None]]
    ) -> None:
        self._is_held = is_held
        self._until_free = until_free
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # a heap
        self._work: asyncio.Task[None] | None = None

    async def come(self, number: int) -> None:
        """Wait for the turn of a message, which then must begin before it waits for anything."""
        if self._work is None:
            if not self._is_held():
                return
            self._work = asyncio.create_task(self._let_go())
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (number, turn))
        await turn

    def close(self) -> None:
        """Let nobody go any more."""
        if self._work is not None:
            self._work.cancel()

    async def _let_go(self) -> None:
        try:
            while self._waiting:
                if self._is_held():
                    await self._until_free()
                turn = heapq.heappop(self._waiting)[1]
                if not turn.done():  # its message was given up
                    turn.set_result(None)
                    await asyncio.sleep(0)  # it begins
        finally:
            self._work = None
