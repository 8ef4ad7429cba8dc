"""Handlers for the system's signals."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kps.io_sync.log import write


@contextlib.contextmanager
def on_signals(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Within the context, call a function in a new thread for each signal.

    The new thread can take the lock, which the interrupted main thread may hold. Without effect
    outside the main thread.
    """
    previous: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            previous[number] = signal.signal(number, _starter(handler))
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _starter(handler: Callable[[], object]) -> Callable[..., None]:
    def start(*_: object) -> None:
        try:
            threading.Thread(target=handler, daemon=True).start()
        except RuntimeError as error:  # no thread is left; this must not end the main thread
            text = "cannot handle a signal: %(reason)s"
            write(logging.ERROR, "signal_failed", text, reason=error)

    return start
