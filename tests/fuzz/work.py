"""Work, measured without a clock: how many functions of Python are called.

The server charges what clients cause in units of about a microsecond (``turns``). A call takes
about a tenth of that, on any machine alike. So the calls that the input of a client causes must
stay below a multiple of the units that it is charged: whatever the core does for each of many
things, and does not charge, is found as soon as there are some of them.
"""

import gc
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import kps.protocol.wire.others  # noqa: F401  # now, as the calls of its import would count
from kps.protocol.server.intake import Intake
from kps.protocol.server.turns import TURN, Turns, Worker
from kps.protocol.wire.reader import FrameReader

CALLS_PER_UNIT = 15
FREE_CALLS = 200
"""Calls that are not charged: the end of a connection, for instance."""
CALLS_PER_BYTE = 6
CALLS_PER_FRAME = 60
"""Of a frame that wsproto reads, with its pong."""
CALLS_OF_A_READ = 30
"""Calls that are not charged, each time that a connection may work."""

READ_AHEAD = 10
"""How much more may be read at a time than will be handled: whole frames are read by their bytes,
and the smallest have six."""
LONGEST_STEP = 150
"""Units of what the inputs here can make that is not divided, such as a publication to all."""


class Calls:
    """Counts the calls within ``counted``. Those of built-in functions do not count.

    No garbage is collected meanwhile, as the calls that end what others have left are not meant.
    """

    def __init__(self) -> None:
        self.calls = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        before, collects = sys.gettrace(), gc.isenabled()
        gc.disable()
        sys.settrace(self._note)  # which is told of calls only, and so takes less than a profiler
        try:
            yield
        finally:
            sys.settrace(before)
            if collects:
                gc.enable()

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        self.calls += 1


@contextmanager
def weighed(size: int, reader: FrameReader, besides: int = 0) -> Iterator[None]:
    """Check the work for bytes that arrive, where nothing is charged; and for things ``besides``.

    It grows with their number, and with that of the frames for which ``reader`` needs wsproto.
    """
    count, frames = Calls(), reader.frames
    with count.counted():
        yield
    most = CALLS_PER_BYTE * size + CALLS_PER_FRAME * (reader.frames - frames)
    most += CALLS_PER_UNIT * besides + FREE_CALLS
    assert count.calls <= most, f"{count.calls} calls for {size} bytes"


class Weighed(Turns):
    """Turns in which nobody does much more work than it is charged for, or than it may do."""

    __slots__ = ("_calls", "_charged")

    def __init__(self, turn: int = TURN) -> None:
        super().__init__(turn)
        # Of each connection, since it last had nothing to do: what it reads is charged then, also
        # if it waits.
        self._calls = Counter[Worker]()
        self._charged = Counter[Worker]()

    def _give(self, worker: Worker, share: int, is_first: bool) -> None:
        assert isinstance(worker, Intake)
        share = min(share, self._turn)  # also where it has a least number of units
        before, count = self._of_turn, Calls()
        with count.counted():
            super()._give(worker, share, is_first)
        charged = before - self._of_turn
        assert charged <= READ_AHEAD * share + LONGEST_STEP, (
            f"{charged} units of work at a time, instead of {share}"
        )
        self._calls[worker] += max(0, count.calls - CALLS_OF_A_READ)
        self._charged[worker] += charged
        calls, paid = self._calls[worker], self._charged[worker]
        assert calls <= CALLS_PER_UNIT * paid + FREE_CALLS, f"{calls} calls for {paid} units"
        if not worker.has_input:
            del self._calls[worker], self._charged[worker]
