"""How fast the counts of very many things grow, while somebody asks for the fastest.

A count alone tells no rate. So a search for the fastest notes all counts that it sees, and the next
one compares. They are forgotten soon after nobody asks any more.
"""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from kps.protocol.timers import Deadlines

K = TypeVar("K", bound=Hashable)

MOST = 65_536
"""Things of which counts are noted, those that are 0 left out. The others have no rate. They take
about 22 MB, and twice as much during a search."""

_LEAST = 0.8  # seconds between two looks that are compared
_FORGET = 15.0  # seconds after which nobody seems to ask any more


class Noted(Generic[K]):
    """The counts of things at one time, and how fast they grew before it."""

    def __init__(self, time: float, before: "Noted[K] | None") -> None:
        self.time = time
        self._before = before
        self._counts: dict[K, tuple[int, int]] = {}
        self._rates: dict[K, tuple[float, float]] = {}
        self._is_whole = True  # whether it has all things whose counts are not 0

    def note(self, thing: K, one: int, other: int = 0) -> tuple[float, float]:
        """Note two counts of a thing; return how much they grow in a second, or 0."""
        if not (one or other):
            return _NOTHING
        if len(self._counts) >= MOST:
            self._is_whole = False
            return _NOTHING
        self._counts[thing] = one, other
        before = self._before
        if before is None:
            return _NOTHING
        then = before._counts.get(thing, _ZEROS if before._is_whole else None)
        if then is None:
            return _NOTHING
        elapsed = self.time - before.time
        rates = round((one - then[0]) / elapsed, 1), round((other - then[1]) / elapsed, 1)
        if rates != _NOTHING:
            self._rates[thing] = rates
        return rates

    def rates_of(self, thing: K) -> tuple[float, float]:
        """Return what ``note`` returned."""
        return self._rates.get(thing, _NOTHING)

    def end(self) -> "Noted[K]":
        """Note nothing more."""
        self._before = None
        return self


_ZEROS = 0, 0
_NOTHING = 0.0, 0.0


class Rates(Generic[K]):
    """Compares the counts that searches see. ``now()`` tells the time."""

    def __init__(self, deadlines: Deadlines, now: Callable[[], float]) -> None:
        self._deadlines = deadlines
        self._now = now
        self._asked: float | None = None
        self._latest: Noted[K] | None = None

    def look(self) -> tuple[Callable[..., tuple[float, float]], Callable[[], object]]:
        """Begin a look at all things.

        Return a function that gets each thing with one or two counts, and returns how much they
        grow in a second, as far as is known; and one to be called at the end.
        """
        now, latest = self._now(), self._latest
        self._asked = now
        self._deadlines.schedule(self)
        if latest is not None and now - latest.time < _LEAST:  # it is for somebody else as well
            return (lambda thing, *_: latest.rates_of(thing)), (lambda: None)
        noted = Noted(now, latest)

        def end() -> None:
            self._latest = noted.end()

        return noted.note, end

    def next_deadline(self) -> float | None:
        return None if self._asked is None else self._asked + _FORGET

    def handle_timeout(self, now: float) -> None:
        """Forget all counts if nobody asks any more."""
        if self._asked is not None and now >= self._asked + _FORGET:
            self._asked = self._latest = None
