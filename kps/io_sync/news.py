"""Waits until a condition holds, in any thread."""

import threading
from collections.abc import Callable
from typing import Any

from kps.io_common.condition import Condition
from kps.io_sync.runtime import Runtime


class News:
    """Lets any number of threads wait until a condition holds.

    All news of a driver share its one lock, which a waiting thread releases. An announcement
    wakes only the threads that have something to do: who announces looks for the others.
    """

    __slots__ = ("_lock", "_runtime", "_waiting", "is_held")

    def __init__(self, lock: threading.RLock, runtime: Runtime) -> None:
        self._lock = lock
        self._runtime = runtime
        self._waiting: dict[Condition, Callable[[], bool]] = {}
        """For each thread that waits, what wakes it, and whether it is to go on."""
        self.is_held = False
        """Whether announcements have no effect, because another one follows soon."""

    @property
    def is_locked_here(self) -> bool:
        """Whether this thread holds the lock."""
        lock: Any = self._lock
        return bool(lock._is_owned())

    def until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until a condition holds; return ``False`` if the timeout is over first.

        Other threads ask for the condition too, with the lock held. Raises
        :class:`kps.InvalidState` in a forked child, and while a call into the core is under way
        in this thread: waiting would release its lock.
        """
        runtime = self._runtime
        with self._lock:
            runtime.check()  # with the lock held: another thread's call may be under way before
            if condition():
                return True
            if timeout is None:
                self._wait_until(condition, lambda: None)
                return True
            ends = runtime.clock() + timeout
            self._wait_until(
                lambda: condition() or runtime.clock() >= ends,
                lambda: ends - runtime.clock(),
            )
            return condition()

    def forked(self, lock: threading.RLock) -> None:
        """In a forked child: use a new lock. Who held the old one exists in the parent only."""
        self._lock = lock
        self._waiting = {}
        self.is_held = False

    def announce(self) -> None:
        """Make all waiters go on whose condition holds."""
        if self._waiting and not self.is_held:
            with self._lock:
                for condition, is_due in list(self._waiting.items()):
                    if is_due():
                        condition.notify()

    def wait(self, timeout: float | None) -> None:
        """With the lock held: wait for the next announcement, for up to ``timeout`` seconds."""
        own = Condition(self._lock)
        self._waiting[own] = _always
        try:
            self._runtime.wait(own, timeout)
        finally:
            self._waiting.pop(own, None)

    def _wait_until(
        self, is_due: Callable[[], bool], seconds_left: Callable[[], float | None]
    ) -> None:
        own = Condition(self._lock)
        self._waiting[own] = is_due  # before it looks, so that no announcement is lost
        try:
            while not is_due():
                self._runtime.wait(own, seconds_left())
        finally:
            self._waiting.pop(own, None)


def _always() -> bool:
    return True
