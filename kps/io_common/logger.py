"""The logger ``kps``, whose lines no peer can forge and whose log no peer can flood.

What a peer sent may be in any line: an id, a topic, the reason of a close, the text of an
exception. So a filter looks at all lines. It writes characters that cannot be printed as escapes,
and cuts long texts. Of one kind of warning it lets through ``MOST`` lines in ``INTERVAL`` seconds;
one more line then says how many others there were.

Each line has the name of an event, which does not change with its words: the attribute ``event`` of
the record. What the line is about are its fields: ``args`` of the record, by name.

A handler of the program may fail, and then KPS goes on: :func:`write` never raises.
"""

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Protocol

INTERVAL = 10.0
"""Seconds."""
MOST = 100
"""Warnings and errors of one kind within ``INTERVAL``."""
MOST_CHARACTERS = 200
"""Characters of one text in a line, and of one line of a traceback."""
_MOST_LINES = 200
"""Lines of a traceback."""

_LEFT_OUT = "%(count)d more lines of this kind were left out: %(kind)s"


def shown(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a peer's text on one line, cut to ``most`` characters, all of it visible."""
    cut = f"… ({len(text)} characters)" if len(text) > most else ""
    text = text[:most]
    return (text if text.isprintable() else repr(text)) + cut


class _Shown:
    """An argument of a line, whose text is made when the line is written."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return shown(_text_of(str, self._value))

    def __repr__(self) -> str:
        return shown(_text_of(repr, self._value))


class Guard(logging.Filter):
    """Makes the lines of one logger safe, and limits how many there are of each kind.

    A kind is what a line says, without its arguments. Any thread may log.
    """

    def __init__(self, target: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._target = target
        self._clock = clock
        self.forked()
        self._counts: dict[tuple[str, int], int] = {}  # lines by kind in this interval
        self._ends = 0.0

    def forked(self) -> None:
        """In a forked child: renew the lock. The thread that may have held it is gone."""
        self._lock = threading.RLock()  # a signal handler may log while this thread does

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line has room, and make it safe."""
        if record.msg is not _LEFT_OUT:
            if self._clock() >= self._ends:
                self.tell()
            if record.levelno >= logging.WARNING and not self._has_room(record):
                return False
        if isinstance(record.args, tuple):
            record.args = tuple(_safe(value) for value in record.args)
        elif record.args:
            record.args = {name: _safe(value) for name, value in record.args.items()}
        if record.exc_info and not record.exc_text:
            record.exc_text = _traceback(record.exc_info)
        return True

    def tell(self, log: "Write | None" = None) -> None:
        """Log how many lines were left out since the last call, and begin a new interval.

        ``log`` writes the lines; by default they go to the logger.
        """
        log = log or partial(_log, self._target)
        with self._lock:
            counts, self._counts = self._counts, {}
            self._ends = self._clock() + INTERVAL
        for (kind, level), count in counts.items():
            if count > MOST:
                log(level, "lines_left_out", _LEFT_OUT, count=count - MOST, kind=kind)

    def _has_room(self, record: logging.LogRecord) -> bool:
        kind = (str(record.msg), record.levelno)
        with self._lock:
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
        return count <= MOST


def _safe(value: object) -> object:
    if type(value) in (int, float, bool) or value is None:
        return value
    is_plain = type(value) is str and len(value) <= MOST_CHARACTERS and value.isprintable()
    return value if is_plain else _Shown(value)


def _text_of(convert: Callable[[object], str], value: object) -> str:
    try:
        return convert(value)
    except BaseException:  # a program's exception may be broken itself
        return f"<{type(value).__name__} without a text>"


def _traceback(exc_info: Any) -> str:
    """Return a traceback whose every line is indented: the text of an exception may have lines."""
    try:
        lines = logging.Formatter().formatException(exc_info).split("\n")
    except BaseException:  # a program's exception may be broken itself
        return f"  {exc_info[0].__name__} without a text"
    left_out = len(lines) - _MOST_LINES
    if left_out > 0:
        half = _MOST_LINES // 2
        lines[half:-half] = [f"… ({left_out} more lines)"]
    return "\n".join(f"  {shown(line)}" for line in lines)


class Write(Protocol):
    """Writes a line. Each driver has one: in its module ``log``."""

    def __call__(
        self,
        level: int,
        event: str,
        text: str,
        *,
        failure: BaseException | None = None,
        **fields: object,
    ) -> None: ...


def write(
    level: int, event: str, text: str, *, failure: BaseException | None = None, **fields: object
) -> None:
    """Write a line, with the traceback of ``failure``. All lines of KPS come this way.

    ``text`` names the ``fields`` that it shows: ``%(address)s``.

    Whatever a handler raises costs that line only, also ``SystemExit`` and ``KeyboardInterrupt``:
    they would end the event loop or the thread that happens to log. ``sys.stderr`` gets the
    handler's failure, as from the handlers of :mod:`logging` itself.
    """
    _log(logger, level, event, text, failure=failure, **fields)


def trace_of(failure: BaseException) -> TracebackType | None:
    """Return the traceback of a program's exception, whose own attributes may be broken."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(failure)
    return trace


def _log(
    target: logging.Logger,
    level: int,
    event: str,
    text: str,
    *,
    failure: BaseException | None = None,
    **fields: object,
) -> None:
    args, extra = (fields,) if fields else (), {"event": event}
    exc_info = None if failure is None else (type(failure), failure, trace_of(failure))
    try:
        target.log(level, text, *args, exc_info=exc_info, extra=extra)
    except BaseException:
        with contextlib.suppress(BaseException):  # there may be nothing to write to
            record = target.makeRecord(target.name, level, __file__, 0, text, (), None)
            logging.Handler().handleError(record)


logger = logging.getLogger("kps")
"""Only for the level, and for the tests: its own methods raise what a handler raises."""
guard = Guard(logger)
logger.addFilter(guard)
atexit.register(guard.tell)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=guard.forked)
