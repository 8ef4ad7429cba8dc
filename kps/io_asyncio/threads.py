"""Threads for callbacks that are plain functions."""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from time import monotonic
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from kps.io_common.condition import Condition

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 5.0  # seconds for running calls to return at the end of the program


class CallbackThreads(Executor):
    """Makes calls on up to ``most`` threads, which it starts when it needs them.

    Unlike the threads of ``ThreadPoolExecutor``, a call that never returns does not keep the
    program from ending.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._news = Condition()
        self.waiting: deque[tuple[Future[Any] | None, Callable[[], Any]]] = deque()
        """The calls that wait for a thread. A long call may look here, and make room."""
        self._threads = 0
        self._idle = 0
        self._begun = 0
        self._is_shut = False
        _every.add(self)

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way, or waits for its turn."""
        with self._news.lock:
            return bool(self.waiting) or self._idle < self._threads

    def progress(self) -> int:
        """Return a number that grows with every call that begins."""
        return self._begun

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call.

        Raises :class:`RuntimeError` after ``shutdown``, and if the system has no thread for it.
        """
        future: Future[T] = Future()
        self.begin(partial(fn, *args, **kwargs), future)
        return future

    def begin(self, call: Callable[[], Any], future: "Future[Any] | None" = None) -> None:
        """Queue a call. Without a future, which takes its outcome, it must not raise.

        Raises as ``submit``.
        """
        with self._news.lock:
            if self._is_shut:
                raise RuntimeError("cannot submit a call after shutdown")
            self.waiting.append((future, call))
            if self._idle >= len(self.waiting):
                self._news.notify()
            elif self._threads < self._most:
                self._start_thread()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls. With ``wait``, give running and queued calls time to return."""
        with self._news.lock:
            self._is_shut = True
            if cancel_futures:
                for future, _ in self.waiting:
                    if future is not None:
                        future.cancel()
                self.waiting.clear()
            self._news.notify_all()
        if wait:
            self.join(monotonic() + _PATIENCE)

    def join(self, until: float) -> None:
        """Wait for the threads after ``shutdown``, up to a time of the monotonic clock."""
        with self._news.lock:
            while self._threads and (left := until - monotonic()) > 0:
                self._news.wait(left)

    def _start_thread(self) -> None:
        """Start one more thread. If the system has none, the last call waits for another one."""
        try:
            threading.Thread(target=self._run, name="kps-callback", daemon=True).start()
        except RuntimeError:
            if not self._threads:
                self.waiting.pop()
                raise
        else:
            self._threads += 1

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            future, call = waiting
            if future is None:
                call()
            elif future.set_running_or_notify_cancel():
                try:
                    result = call()
                except StopIteration as error:  # a coroutine that awaits the future cannot get it
                    future.set_exception(RuntimeError(f"it raised {error!r}"))
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del waiting, future, call  # an idle thread keeps nothing alive

    def _next(self) -> tuple[Future[Any] | None, Callable[[], Any]] | None:
        with self._news.lock:
            self._idle += 1
            while not self.waiting and not self._is_shut:
                self._news.wait()
            self._idle -= 1
            if self.waiting:
                self._begun += 1
                return self.waiting.popleft()
            self._threads -= 1
            self._news.notify_all()
            return None


_every: WeakSet[CallbackThreads] = WeakSet()  # a running thread keeps its pool alive


if hasattr(os, "register_at_fork"):  # a forked child has none of their threads
    os.register_at_fork(after_in_child=_every.clear)


@atexit.register
def _finish() -> None:
    """Give the running calls of all pools some time at the end of the program."""
    until = monotonic() + _PATIENCE
    every = list(_every)
    for threads in every:
        threads.shutdown(wait=False)
    for threads in every:
        threads.join(until)
