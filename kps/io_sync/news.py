"""Waits until a condition holds, in any thread."""

import sys
import threading
from collections.abc import Callable

from kps.io_common.condition import Condition
from kps.io_sync.runtime import Runtime

# On Windows an endless wait would keep signals away from the main thread.
_STEP = 0.5 if sys.platform == "win32" else None


class News:
    """Lets any number of threads wait until a condition holds.

    All news of a driver share its one lock, which a waiting thread releases.
    """

    __slots__ = ("_condition", "_runtime", "_waiting")

    def __init__(self, lock: threading.RLock, runtime: Runtime) -> None:
        self._condition = Condition(lock)
        self._runtime = runtime
        self._waiting = 0  # threads that wait; a server announces often, and mostly to none

    @property
    def is_locked_here(self) -> bool:
        """Whether this thread holds the lock."""
        return self._condition.is_locked_here

    def until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until a condition holds; return ``False`` if the timeout is over first.

        Raises :class:`kps.InvalidState` in a forked child, and while a
        call into the core is under way in this thread: waiting would release its lock.
        """
        runtime = self._runtime
        with self._condition.lock:
            runtime.check()  # with the lock held: another thread's call may be under way before
            ends = None if timeout is None else runtime.clock() + timeout
            self._waiting += 1  # before it looks, so that no announcement is lost
            try:
                while not condition():
                    left = _STEP if ends is None else ends - runtime.clock()
                    if ends is not None and left is not None and left <= 0:
                        return False
                    runtime.wait(self._condition, left)
            finally:
                self._waiting -= 1
        return True

    def forked(self, lock: threading.RLock) -> None:
        """In a forked child: use a new lock. Who held the old one exists in the parent only."""
        self._condition = Condition(lock)

    def announce(self) -> None:
        """Make all waiters check their condition."""
        if self._waiting:
            with self._condition.lock:
                self._condition.notify_all()

    def wait(self, timeout: float | None) -> None:
        """With the lock held: wait for the next announcement, for up to ``timeout`` seconds."""
        self._waiting += 1
        try:
            self._runtime.wait(self._condition, timeout)
        finally:
            self._waiting -= 1
