"""Background work."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
AnyTask = TypeVar("AnyTask", bound="asyncio.Task[Any]")


class Workers:
    """Runs coroutine functions as tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self, work: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Start a task."""
        task = quiet(asyncio.get_running_loop().create_task(work(*args, **kwargs)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def quiet(task: AnyTask) -> AnyTask:
    """Return a task of ours that a program may forget together with its loop.

    asyncio would complain about a task that it knows nothing of.
    """
    with contextlib.suppress(AttributeError):  # a task of another library
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task
