"""Background work, and the tasks in which a program takes messages."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from kps.io_common.logger import trace_of
from kps.io_common.logs import report_failure

P = ParamSpec("P")
AnyTask = TypeVar("AnyTask", bound="asyncio.Task[Any]")

Worker = asyncio.Task[Any] | None
"""The task in which a program takes messages; ``None`` outside of tasks."""


def current_worker() -> Worker:
    """Return the task that is running."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # another thread, or the garbage collector after the loop
        return None


def has_ended(worker: Worker) -> bool:
    """Tell whether a task has ended."""
    return worker is not None and worker.done()


class Watcher(Protocol):
    """Wants to know when a task has ended."""

    def _worker_ended(self, worker: Worker) -> None: ...


_watchers: WeakKeyDictionary[asyncio.Task[Any], WeakSet[Watcher]] = WeakKeyDictionary()
"""Those of each task. A callback for each of them would stay with the task as long as it runs."""


def watch(worker: Worker, watcher: Watcher) -> bool:
    """Tell a watcher soon after a task has ended, if the watcher still lives.

    Return ``False`` outside of tasks.
    """
    if worker is None:
        return False
    if worker not in _watchers:
        worker.add_done_callback(_tell_watchers)
        _watchers[worker] = WeakSet()
    _watchers[worker].add(watcher)
    return True


def _tell_watchers(worker: asyncio.Task[Any]) -> None:
    for watcher in _watchers.pop(worker, ()):
        watcher._worker_ended(worker)


def outcome_of(worker: Worker, topic: str) -> str | None:
    """Return why a task that has ended did not handle its message on ``topic``, if it failed."""
    if worker is None or worker.cancelled():
        return "cancelled"
    failure = worker.exception()
    if failure is None:
        return None
    if issubclass(type(failure), Exception):
        return report_failure(failure, topic)  # logs it: nobody else may look at it any more
    return type(failure).__name__


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


def ends_task(failure: BaseException) -> bool:
    """Tell whether an exception ends the current task, and is no failure of the code it awaits.

    Awaiting a task that was cancelled raises ``CancelledError`` too. Python throws
    ``GeneratorExit`` into a task that is destroyed; that has no traceback within the task's code.
    """
    kind = type(failure)  # ``isinstance`` asks the exception too, which may be broken itself
    if issubclass(kind, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    trace = trace_of(failure)
    return issubclass(kind, GeneratorExit) and (trace is None or trace.tb_next is None)


def quiet(task: AnyTask) -> AnyTask:
    """Return a task of ours that a program may forget together with its loop.

    asyncio would complain about a task that it knows nothing of.
    """
    if hasattr(task, "_log_destroy_pending"):  # not a task of another library
        task._log_destroy_pending = False
    return task
