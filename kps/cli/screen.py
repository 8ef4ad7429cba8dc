"""The terminal, while a program fills it."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from kps.cli.figures_view import Line

if sys.platform != "win32":
    import termios
    import tty

_ENTER = "\x1b[?1049h\x1b[?25l"  # another page, without a cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Screen:
    """A page of the terminal, which is as before when it ends, stands still or fails.

    Keys come one by one, and are not shown. Another thread may fill it; once it has ended, or
    stands still, that does nothing.
    """

    def __init__(self, output: int = 1, keys: int = 0) -> None:
        self.keys = keys
        """Where keys are read."""
        self._output = output
        self._before: list[Any] | None = None
        self._is_open = False
        self._lock = threading.Lock()

    @property
    def has_keys(self) -> bool:
        """Whether somebody may type."""
        return os.isatty(self.keys)

    def __enter__(self) -> "Screen":
        with self._lock:
            if self.has_keys:
                self._before = termios.tcgetattr(self.keys)
                tty.setcbreak(self.keys, termios.TCSADRAIN)
            self._write(_ENTER)
            self._is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            with contextlib.suppress(OSError):  # it has been closed
                self._write(_LEAVE)
            if self._before is not None:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self.keys, termios.TCSADRAIN, self._before)

    def stand_still(self) -> None:
        """Stop this process as Ctrl-Z does; return when it goes on."""
        self.__exit__()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.__enter__()

    def size(self) -> tuple[int, int]:
        """Return the columns and the lines."""
        try:
            size = os.get_terminal_size(self._output)
        except OSError:
            return 80, 24
        return max(20, size.columns), max(4, size.lines)

    def show(self, lines: Sequence[Line]) -> None:
        """Fill the page, in one writing. It may block while the terminal is held."""
        written = [f"\x1b[1m{one.text}\x1b[m" if one.is_strong else one.text for one in lines]
        with self._lock:
            if self._is_open:
                self._write("\x1b[H" + "\x1b[K\r\n".join(written) + "\x1b[K\x1b[J")

    def _write(self, text: str) -> None:
        data = memoryview(text.encode())
        while data:
            try:
                data = data[os.write(self._output, data) :]
            except BlockingIOError:  # whoever shares the terminal has set it so
                select.select([], [self._output], [])
