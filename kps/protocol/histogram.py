"""Counts values by their size."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """The values since the start, counted between upper bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        """In order."""
        self.counts = [0] * (len(bounds) + 1)
        """How many values were at most each bound, and above the one before; last, above all."""
        self.total = 0.0
        """The sum of all values."""

    def note(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
