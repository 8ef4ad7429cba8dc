"""Ends a server once, however many callers wait for that."""

import threading
from collections.abc import Callable
from functools import partial

from kps.io_common.condition import Condition

End = Callable[[], None]


class Ending:
    """Lets one caller run the end. When that is interrupted, another one runs it again.

    ``put_off`` is that of the driver. ``is_awaited`` tells whether the end waits for the calling
    thread, which therefore must not wait for it.
    """

    def __init__(self, put_off: Callable[[End], bool], is_awaited: Callable[[], bool]) -> None:
        self._put_off = put_off
        self._is_awaited = is_awaited
        self._news = Condition()
        self._runs_on: threading.Thread | None = None
        self._is_done = False

    @property
    def is_under_way(self) -> bool:
        """Whether the end has begun, and is not over."""
        return self._runs_on is not None

    def finish(self, end: End, shorten: End) -> None:
        """Wait for the end, and run it if nobody does; if somebody does, call ``shorten``.

        Return before the end in three threads: that which runs it, which comes here again in a
        signal handler; one for which it waits; and one that was interrupted with the lock held.
        """
        if self._put_off(partial(self.finish, end, shorten)):
            return
        this = threading.current_thread()
        runs_it = has_shortened = False
        try:
            while not runs_it:
                if self.is_under_way and not has_shortened:
                    shorten()  # without the lock
                    has_shortened = True
                with self._news.lock:
                    if not self.is_under_way:
                        if self._is_done:
                            return
                        self._runs_on, runs_it = this, True
                    elif has_shortened:  # else it has begun just now
                        if self._runs_on is this or self._is_awaited():
                            return
                        self._news.wait()
            end()
            self._is_done = True
        finally:
            if runs_it:
                with self._news.lock:
                    self._runs_on = None
                    self._news.notify_all()
