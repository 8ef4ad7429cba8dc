"""What a server did in the last minutes, second by second (spec, 12.8).

The recorder looks once a second while there are connections. A server without any is not woken:
what its own program published meanwhile is spread evenly over the time since the last look.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from kps.protocol.dialect.envelope import Fields
from kps.protocol.server.state import ServerState

SECONDS = 300
"""Seconds that are kept. They take about 55 KB."""

NAMES = ("published", "delivered", "bytes_in", "bytes_out")
"""What is recorded: how much of it there was in each second."""


_EPSILON = 1e-6  # seconds; a time that has come must not be a little before itself


class Recorder:
    """Records what happens in each second. ``is_idle()`` tells whether there is no connection."""

    def __init__(self, state: ServerState, is_idle: Callable[[], bool]) -> None:
        self._state = state
        self._is_idle = is_idle
        self._until = state.now  # the end of the last second that is recorded
        self._counts = self._count()
        self._kept: deque[tuple[float, ...]] = deque(maxlen=SECONDS)
        self._is_awake = False

    def wake(self) -> None:
        """Look once a second from now on, because there is a connection."""
        if not self._is_awake:
            self._record()
            self._is_awake = True
            self._state.deadlines.schedule(self)

    def next_deadline(self) -> float | None:
        return self._until + 1.0 if self._is_awake else None

    def handle_timeout(self, now: float) -> None:
        """Record the second that has passed."""
        self._record()
        self._is_awake = not self._is_idle()

    def describe(self) -> Fields:
        """Return the record as columns, the oldest second first.

        ``age`` tells how many seconds ago the last one ended.
        """
        self._record()
        columns = zip(*self._kept, strict=True) if self._kept else ((),) * len(NAMES)
        age = round(self._state.now - self._until, 3)
        return {"age": age, **{name: list(one) for name, one in zip(NAMES, columns, strict=True)}}

    def _count(self) -> tuple[int, ...]:
        """Return what has been counted, but for the figures themselves."""
        stats = self._state.stats
        published = stats.published - stats.own_published
        delivered = stats.delivered - stats.own_delivered
        return published, delivered, stats.bytes_in, stats.bytes_out

    def _record(self) -> None:
        """Record the whole seconds that have passed since the last look."""
        passed = int(self._state.now - self._until + _EPSILON)
        if passed < 1:
            return
        before, self._counts = self._counts, self._count()
        pairs = zip(self._counts, before, strict=True)
        each = tuple([round((now - then) / passed, 1) for now, then in pairs])
        self._kept.extend([each] * min(passed, SECONDS))
        self._until += passed


def add_up(records: Iterable[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Add up the records of several servers, whose last seconds are the same, about."""
    found = list(records)
    if len(found) == 1:
        return {name: found[0][name] for name in NAMES}
    total: dict[str, list[float]] = {}
    for name in NAMES:
        columns = [record[name] for record in found]
        length = max(map(len, columns), default=0)
        padded = [[0.0] * (length - len(one)) + one for one in columns]
        total[name] = [round(sum(each), 1) for each in zip(*padded, strict=True)]
    return total
