"""Writes lines of the log in a thread of its own.

``logging`` waits for locks that the program may hold: its handlers may call a client and wait for
the answer, or be slow, and ``logging.config`` holds a lock while it makes handlers. So no thread
that holds a driver's lock, or that others wait for, writes to the log itself.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable
from functools import partial

from kps.io_common import logger
from kps.io_common.condition import Condition
from kps.io_common.notices import Notices

_MOST = 1000  # lines that wait for the handlers
_MOST_CHARACTERS = 1024 * 1024  # of their texts

# Seconds for the handlers: at the end of the program, and of a client or server.
_PATIENCE = 5.0
_MOMENT = 0.1

_LEFT_OUT = "%(count)d lines were left out: the handlers of the log are too slow"


class LogThread:
    """Writes lines in order. Any thread may give it some, with any lock held."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._news = Condition()
        self._lines = Notices(_MOST, _MOST_CHARACTERS)
        self._left_out = 0
        self._is_writing = False
        self._thread: threading.Thread | None = None

    def write(
        self,
        level: int,
        event: str,
        text: str,
        *,
        failure: BaseException | None = None,
        **fields: object,
    ) -> None:
        """Write a line soon, unless the log does not want its level."""
        if level < logger.logger.getEffectiveLevel():  # takes no lock, unlike ``isEnabledFor``
            return
        size = sum(len(value) for value in fields.values() if isinstance(value, str))
        with self._news.lock:
            if not self._lines.has_room(size):
                self._left_out += 1
                return

            def line() -> None:
                logger.write(level, event, text, failure=failure, **fields)

            self._lines.append((line, ()), size)
            self._start()
            self._news.notify_all()

    def catch_up(self) -> None:
        """Give the handlers a moment, so that mostly a caller finds what happened in the log."""
        if threading.current_thread() is not self._thread:
            with self._news.lock:
                self._news.wait_for(self._is_done, _MOMENT)

    def finish(self, timeout: float = _PATIENCE) -> bool:
        """Wait until all lines are written; tell whether they are."""
        with self._news.lock:
            if self._thread is not None:
                return self._news.wait_for(self._is_done, timeout)
        while (line := self._next()) is not None:  # the system has no thread for them
            line()
        return True

    def forked(self) -> None:
        """In a forked child: begin anew. The thread, and who held the lock, are gone."""
        self._begin()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kps-log", daemon=True)
            try:
                self._thread.start()
            except BaseException as error:  # the next line tries again
                self._thread = None
                if not isinstance(error, RuntimeError):  # which says that there are no more threads
                    raise

    def _run(self) -> None:
        while True:
            with self._news.lock:
                if self._thread is not threading.current_thread():
                    return  # an exception out of a signal handler came in as it started
                while (line := self._next()) is None:
                    self._news.wait()
                self._is_writing = True
            line()
            del line
            with self._news.lock:
                self._is_writing = False
                self._news.notify_all()

    def _next(self) -> Callable[[], None] | None:
        if self._lines:
            line, _ = self._lines.popleft()
            return line
        if self._left_out:
            count, self._left_out = self._left_out, 0
            line = partial(logger.write, logging.WARNING, "lines_left_out", _LEFT_OUT)
            return partial(line, count=count)
        return None

    def _is_done(self) -> bool:
        return not (self._lines or self._left_out or self._is_writing)


log_thread = LogThread()
write, catch_up = log_thread.write, log_thread.catch_up
atexit.register(log_thread.finish)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=log_thread.forked)
