"""The backoff between attempts to connect."""

from dataclasses import dataclass
from math import inf

from kps.errors import InvalidArgument
from kps.protocol.limits import check_seconds, shown

LEAST = 0.01
"""The shortest wait, in seconds. With none at all a client would try in a busy loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with jitter. Times in seconds.

    The jitter spreads the clients of a restarted server, so that they do not all return in
    the same instant. Raises :class:`kps.InvalidArgument` for numbers out of range.
    """

    first: float = 0.25
    """The wait before the first retry, at least 0.01."""
    factor: float = 2.0
    """How many times as long as the one before each wait is, until ``longest``."""
    longest: float = 30.0
    """The longest wait. The waits start anew after a connection, but behind the fifth one in a row
    that lived for less than this, and behind each further one, they start one step later."""
    jitter: float = 0.5
    """The random part of the wait: with 0.5 it is between half of the wait and all of it."""

    def __post_init__(self) -> None:
        check_seconds("first of a backoff", self.first, LEAST)
        check_seconds("longest of a backoff", self.longest, LEAST)
        for name in ("factor", "jitter"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidArgument(f"{name} of a backoff is a number, not {shown(value)}")
        if not (self.first <= self.longest and 1 <= self.factor < inf and 0 <= self.jitter <= 1):
            raise InvalidArgument("a backoff needs first <= longest, factor >= 1, 0 <= jitter <= 1")

    @classmethod
    def every(cls, seconds: float) -> "Backoff":
        """Make a backoff that always waits the same time."""
        return cls(first=seconds, factor=1.0, longest=seconds, jitter=0.0)

    def delay(self, attempt: int, chance: float) -> float:
        """Return the wait before retry number ``attempt`` (from 0); ``chance`` is in [0, 1)."""
        longest = self.longest
        wait = self.first
        for _ in range(attempt):
            wait *= self.factor
            if wait >= longest:
                wait = longest
                break
        return wait * (1.0 - self.jitter * chance)
