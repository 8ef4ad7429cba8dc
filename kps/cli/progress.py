"""Tells on a terminal how far something is that takes a while."""

import sys

_BAR = 30  # characters


class Progress:
    """A bar on standard error, if that is a terminal; else nothing."""

    def __init__(self, total: float = 0) -> None:
        self.total = total
        """How much there is to do."""
        self._done = 0.0
        self._is_seen = sys.stderr.isatty()

    def step(self, amount: float = 1) -> None:
        """Note that more is done."""
        self._done = min(self.total, self._done + amount)
        if self._is_seen:
            share = self._done / self.total if self.total else 0.0
            filled = int(share * _BAR)
            bar = "#" * filled + "." * (_BAR - filled)
            print(f"\r[{bar}] {share:4.0%} \x1b[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._is_seen:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
