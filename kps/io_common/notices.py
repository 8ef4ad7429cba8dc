"""The notices that wait for a program's hooks: bounded in number and in bytes."""

from collections import deque
from collections.abc import Callable
from typing import Any

Notice = tuple[Callable[..., Any], tuple[Any, ...]]
"""A hook and its arguments."""


class Notices:
    """A queue of notices, in order. Each counts some bytes besides its size."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._notices: deque[tuple[Notice, int]] = deque()
        self.size = 0
        """Bytes that are pending."""

    def __len__(self) -> int:
        return len(self._notices)

    def has_room(self, size: int) -> bool:
        """Whether a notice of ``size`` bytes fits. A single larger one fits into an empty queue."""
        return not self._notices or (
            len(self._notices) < self._most and self.size + size + _AROUND <= self._most_bytes
        )

    def append(self, notice: Notice, size: int) -> None:
        """Add a notice."""
        self._notices.append((notice, size))
        self.size += size + _AROUND

    def popleft(self) -> Notice:
        """Remove and return the oldest notice."""
        notice, size = self._notices.popleft()
        self.size -= size + _AROUND
        return notice

    def clear(self) -> None:
        """Drop all notices."""
        self._notices.clear()
        self.size = 0


_AROUND = 200  # bytes of memory that a notice takes besides, roughly
