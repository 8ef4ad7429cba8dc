"""A condition variable that an exception out of a signal handler leaves whole.

``with threading.Condition()`` takes the lock in Python code: an exception that comes in then
leaves the lock taken, and all threads hang. One that comes in as ``wait`` has released the lock
leaves it released, and the callers fail as they release it again.
"""

import sys
import threading
from _thread import allocate_lock
from collections.abc import Callable
from operator import call
from time import monotonic
from typing import Any

# A signal that comes as the main thread is about to wait does not end the wait, and on Windows
# none does. So the main thread, which runs the handlers, never waits for ever.
STEP = 0.5 if sys.platform == "win32" else 5.0
"""Seconds after which an endless wait of the main thread returns."""


class Condition:
    """Lets threads wait for each other. They enter ``lock``, whose code is not Python's."""

    __slots__ = ("_waiters", "lock")

    def __init__(self, lock: "threading.RLock | None" = None) -> None:
        self.lock = threading.RLock() if lock is None else lock
        self._waiters: dict[Any, None] = {}  # for each thread that waits, a lock that it waits for

    @property
    def is_locked_here(self) -> bool:
        """Whether this thread holds the lock."""
        lock: Any = self.lock
        return bool(lock._is_owned())

    @property
    def has_waiters(self) -> bool:
        """With the lock held: whether a thread waits that has not been notified."""
        return bool(self._waiters)

    def wait(self, timeout: float | None = None) -> None:
        """With the lock held: release it until a ``notify``, for up to ``timeout`` seconds.

        It may return early: what the caller waits for need not hold.
        """
        lock: Any = self.lock
        waiter = allocate_lock()
        waiter.acquire()
        self._waiters[waiter] = None
        released: list[Any] = []  # how often this thread holds the lock
        try:
            # No exception comes in between the release and the note of it: this is one call.
            released.extend(map(call, (lock._release_save,)))
            if timeout is None and threading.get_ident() != threading.main_thread().ident:
                waiter.acquire()
            elif timeout is None:
                waiter.acquire(timeout=STEP)
            else:
                waiter.acquire(timeout=min(max(0.0, timeout), threading.TIMEOUT_MAX))
        finally:
            if released:
                lock._acquire_restore(released[0])
            self._waiters.pop(waiter, None)

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """With the lock held: wait until a condition holds; tell whether it does in time."""
        ends = monotonic() + timeout
        while not condition():
            left = ends - monotonic()
            if left <= 0:
                return False
            self.wait(left)
        return True

    def notify(self) -> None:
        """With the lock held: let one thread go on, if any waits."""
        while True:
            for waiter in self._waiters:  # noqa: B007
                break  # nothing is called in between, so no signal handler changes it
            else:
                return
            is_new = waiter.locked()  # else an exception came in after its release
            if is_new:
                try:
                    waiter.release()
                except RuntimeError:  # a signal handler has, in between
                    is_new = False
            self._waiters.pop(waiter, None)
            if is_new:
                return

    def notify_all(self) -> None:
        """With the lock held: let all threads go on."""
        while self._waiters:
            self.notify()
