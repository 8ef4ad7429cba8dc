"""Ends a client or server once, however many callers wait for that."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from kps.io_asyncio.workers import quiet

End = Callable[[], Coroutine[Any, Any, None]]


class Ending:
    """Runs the end in a task of its own, which goes on when a caller is cancelled."""

    def __init__(self) -> None:
        self.waiting: set[asyncio.Task[Any] | None] = set()
        """The tasks that wait for the end. It must not wait for them."""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether the end has begun, and is not over."""
        return self._task is not None and not self._task.done()

    async def finish(self, end: End, shorten: End | None = None) -> None:
        """Wait for the end; begin it if nobody has, or if the earlier one was cancelled or failed.

        ``shorten`` is called if the end is under way. Cancelling a caller does not cancel the end.
        """
        if self.is_under_way and shorten is not None:
            await shorten()
        if self._task is None or (self._task.done() and _failed(self._task)):
            self._task = quiet(asyncio.get_running_loop().create_task(end()))
        caller = asyncio.current_task()
        self.waiting.add(caller)
        try:
            await asyncio.shield(self._task)
        finally:
            self.waiting.discard(caller)


def _failed(task: "asyncio.Task[None]") -> bool:
    return task.cancelled() or task.exception() is not None
