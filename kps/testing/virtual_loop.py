"""An event loop whose time passes when nobody has anything to do, and without sockets."""

import asyncio
from typing import Any


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what needs neither the network nor other threads, and never waits.

    When only timers are left, the time moves to the earliest one. So a program that sleeps for an
    hour takes no longer than one that does not, and what happens does not depend on the machine's
    speed. Where there is no timer either, everybody waits for ever: that raises
    :class:`RuntimeError`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._clock_resolution = 1e-6  # that of a real one is lost beside the seconds of a year
        self._selector = self  # the base class asks it for what has happened

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Let the time pass for which the base class would wait."""
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing can happen any more")
        self._now += timeout
        return []

    def _process_events(self, events: list[Any]) -> None: ...

    def _write_to_self(self) -> None: ...
