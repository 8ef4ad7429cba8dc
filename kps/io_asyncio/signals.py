"""Handlers for the system's signals."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping


@contextlib.contextmanager
def on_signals(handlers: Mapping[signal.Signals, Callable[[], Awaitable[None]]]) -> Iterator[None]:
    """Within the context, start a coroutine function as a task for each signal.

    Without effect where the loop cannot do this: on Windows.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Future[None]] = set()

    def start(handler: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(handler())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number, handler in handlers.items():
        with contextlib.suppress(NotImplementedError, RuntimeError):
            loop.add_signal_handler(number, start, handler)
    try:
        yield
    finally:
        for number in handlers:
            with contextlib.suppress(NotImplementedError, RuntimeError):
                loop.remove_signal_handler(number)
