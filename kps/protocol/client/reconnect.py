"""How long to wait before the next attempt to connect, as numbers."""

from dataclasses import dataclass

from kps.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with jitter. Times in seconds.

    The jitter spreads the clients of a server that was restarted, so that they do not
    all come back in the same instant. Raises :class:`kps.InvalidArgument` for numbers that make
    no sense.
    """

    first: float = 0.25
    """Before the first retry."""
    factor: float = 2.0
    longest: float = 30.0
    jitter: float = 0.5
    """Which part of the wait is random: 0.5 means between half of it and all of it."""

    def __post_init__(self) -> None:
        if not (0 <= self.first <= self.longest and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise InvalidArgument(
                "a backoff needs 0 <= first <= longest, factor >= 1, 0 <= jitter <= 1"
            )

    @classmethod
    def every(cls, seconds: float) -> "Backoff":
        """The same wait each time."""
        return cls(first=seconds, factor=1.0, longest=seconds, jitter=0.0)

    def delay(self, attempt: int, chance: float) -> float:
        """The wait before retry number ``attempt`` (from 0), ``chance`` being in [0, 1)."""
        longest = self.longest
        wait = self.first
        for _ in range(attempt):
            wait *= self.factor
            if wait >= longest:
                wait = longest
                break
        return wait * (1.0 - self.jitter * chance)
