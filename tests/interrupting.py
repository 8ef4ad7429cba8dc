"""What a signal handler does, at every place where the interpreter lets one in.

It runs signal handlers in the main thread when a function begins, and when a call of a built-in
function returns. The profiler of the interpreter comes at the same places, so a test can raise or
do something else at each of them in turn, without signals and without chance.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupt(KeyboardInterrupt):
    """What the handler of Ctrl-C raises."""


class Interruption:
    """Calls a handler once, at the n-th place within the given sources.

    The default one raises :class:`Interrupt`.
    """

    def __init__(self, at: int, *sources: str, handler: Callable[[], object] | None = None) -> None:
        self._left = at
        self._sources = sources
        self._handler = handler or self._raise
        self.place = ""
        """Where it came, if it did."""

    def during(self, call: Callable[[], object]) -> None:
        """Make a call in this thread, and swallow the exception."""
        sys.setprofile(self._profile)
        try:
            call()
        except Interrupt:
            pass
        finally:
            sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "c_return") or self.place:
            return
        # Behind a compiled method of the core, what it has returned would be lost. A driver drops
        # the connection then, so nothing goes on as these tests want it.
        if event == "c_return" and type(argument.__self__).__module__.startswith("kps.protocol."):
            return
        file = frame.f_code.co_filename.replace("\\", "/")
        if any(source in file for source in self._sources):
            self._left -= 1
            if self._left < 0:
                after = "" if event == "call" else f" after {argument.__name__}"
                self.place = f"{file}:{frame.f_lineno} {frame.f_code.co_name}{after}"
                self._handler()

    def _raise(self) -> None:
        raise Interrupt(self.place)


def at_every_place(run: Callable[[Interruption], object], *sources: str) -> int:
    """Call ``run`` with an interruption at each place in turn; return how many there are."""
    count = 0
    while True:
        interruption = Interruption(count, *sources)
        try:
            run(interruption)
        except Exception as error:
            raise AssertionError(f"interrupted at {interruption.place}") from error
        if not interruption.place:
            return count
        count += 1
