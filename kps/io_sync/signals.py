"""Signals of the system, while a program has nothing else to do."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def on_signals(handlers: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Call a function in a thread for each signal that comes meanwhile.

    In a thread, since a signal may interrupt one that has the lock. Without effect outside the
    main thread.
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


def _starter(handler: Callable[[], None]) -> Callable[..., None]:
    def start(*_: object) -> None:
        threading.Thread(target=handler, daemon=True).start()

    return start
