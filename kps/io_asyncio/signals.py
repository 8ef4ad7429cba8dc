"""Handlers for the system's signals."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from kps.io_asyncio.log import write
from kps.io_asyncio.workers import ends_task

Handler = Callable[[], Awaitable[object]]


class _Signals:
    """The handlers of one loop, which has room for a single one of each signal."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handlers: dict[signal.Signals, list[Handler]] = {}
        self._before: dict[signal.Signals, Any] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    @property
    def is_idle(self) -> bool:
        return not self._handlers

    def add(self, number: signal.Signals, handler: Handler) -> None:
        if number not in self._handlers:
            before = signal.getsignal(number)
            self._loop.add_signal_handler(number, self._start, number)
            self._before[number] = before
        self._handlers.setdefault(number, []).append(handler)

    def remove(self, number: signal.Signals, handler: Handler) -> None:
        handlers = self._handlers.get(number, [])
        if handler in handlers:
            handlers.remove(handler)
            if not handlers:
                del self._handlers[number]
                self._loop.remove_signal_handler(number)
                before = self._before.pop(number)
                if before is not None:  # it was set from C, and cannot be restored
                    signal.signal(number, before)

    def _start(self, number: signal.Signals) -> None:
        for handler in list(self._handlers.get(number, [])):
            task = asyncio.ensure_future(_logged(handler))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _logged(handler: Handler) -> None:
    """Run a handler. Its failure must not end the loop, as ``SystemExit`` in a task does."""
    try:
        await handler()
    except BaseException as failure:
        if ends_task(failure):
            raise
        text = "the handler of a signal failed"
        write(logging.ERROR, "signal_failed", text, failure=failure)


_of_loops: dict[asyncio.AbstractEventLoop, _Signals] = {}


@contextlib.contextmanager
def on_signals(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Within the context, start a coroutine function as a task for each signal.

    Several contexts on one loop each get the signal. Behind the last one the program's own handler
    is back. Without effect where the loop cannot do this: on Windows.
    """
    loop = asyncio.get_running_loop()
    signals = _of_loops.setdefault(loop, _Signals(loop))
    for number, handler in handlers.items():
        with contextlib.suppress(NotImplementedError, RuntimeError):
            signals.add(number, handler)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            with contextlib.suppress(NotImplementedError, RuntimeError):
                signals.remove(number, handler)
        if signals.is_idle:
            _of_loops.pop(loop, None)
