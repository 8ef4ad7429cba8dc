"""Threads for callbacks that are plain functions."""

import atexit
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from time import monotonic
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 5.0  # seconds that calls under way may take at the end of the program


class CallbackThreads(Executor):
    """Makes calls on up to ``most`` threads, which are begun when they are needed.

    As ``ThreadPoolExecutor``, except that a call which never returns does not keep the program
    from ending: the interpreter waits for the threads of that one, however long it takes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._news = threading.Condition()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        self._idle = 0
        self._is_shut = False
        _every.add(self)

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way, or waits for its turn."""
        with self._news:
            return bool(self._calls) or self._idle < self._threads

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Make a call soon. Raises :class:`RuntimeError` after ``shutdown``."""
        future: Future[T] = Future()
        with self._news:
            if self._is_shut:
                raise RuntimeError("there are no calls after the end")
            self._calls.append((future, partial(fn, *args, **kwargs)))
            if self._idle >= len(self._calls):
                self._news.notify()
            elif self._threads < self._most:
                threading.Thread(target=self._run, name="kps-callback", daemon=True).start()
                self._threads += 1
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With ``wait``, give those that there are some time to return."""
        with self._news:
            self._is_shut = True
            if cancel_futures:
                for future, _ in self._calls:
                    future.cancel()
                self._calls.clear()
            self._news.notify_all()
        if wait:
            self.join(monotonic() + _PATIENCE)

    def join(self, until: float) -> None:
        """After ``shutdown``: wait for the threads, up to a time of the monotonic clock."""
        with self._news:
            while self._threads and (left := until - monotonic()) > 0:
                self._news.wait(left)

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            future, call = waiting
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except StopIteration as error:  # which a coroutine cannot be given
                    future.set_exception(RuntimeError(f"it raised {error!r}"))
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del waiting, future, call  # nothing is kept alive while there is nothing to do

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._news:
            self._idle += 1
            while not self._calls and not self._is_shut:
                self._news.wait()
            self._idle -= 1
            if self._calls:
                return self._calls.popleft()
            self._threads -= 1
            self._news.notify_all()
            return None


_every: WeakSet[CallbackThreads] = WeakSet()  # a thread keeps its own alive


@atexit.register
def _finish() -> None:
    """At the end of the program: what is under way in threads gets a little time, together."""
    until = monotonic() + _PATIENCE
    every = list(_every)
    for threads in every:
        threads.shutdown(wait=False)
    for threads in every:
        threads.join(until)
