"""Shares the time for writing among the connections of a server."""

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

# What one step writes, before other things that are due: bytes, where each connection counts for
# some more. uvloop writes small parts at the end of the turn, so their time is not seen here.
_MOST_WRITTEN = 2 * 1024 * 1024
_CONNECTION = 4 * 1024

_LITTLE = 256 * 1024  # pending bytes that do not wait for others'


class Flushes(Protocol):
    """What writes what is pending for it."""

    def flush(self) -> int:
        """Write pending data as far as possible; return the bytes that it wrote."""


F = TypeVar("F", bound=Flushes)


class Flushing(Generic[F]):
    """Writes what is pending for connections, and reads in between while that is very much.

    ``connections`` has them by number; ``pending`` returns the bytes that are pending for one.
    """

    def __init__(self, connections: Mapping[int, F], pending: Callable[[F], int]) -> None:
        self.waiting: list[int] = []
        """Connections to be flushed: new ones, behind those for which there was no time."""
        self._is_late = False
        self._connections = connections
        self._pending = pending
        self._much_first = True

    def flush(self) -> None:
        """Flush the connections that wait, as far as one step may."""
        numbers = self._in_order(self.waiting) if self._is_late else self.waiting
        written = done = 0
        try:
            for number in numbers:
                connection = self._connections.get(number)
                if connection is not None:
                    written += connection.flush() + _CONNECTION
                done += 1
                if written > _MOST_WRITTEN:
                    break
        finally:  # also after an exception out of a signal handler: the next step does the rest
            self.waiting = numbers[done:]
            self._is_late = done < len(numbers)

    def _in_order(self, numbers: list[int]) -> list[int]:
        """Put connections for which little is pending first, or every other time one more."""
        much: list[int] = []
        little: list[int] = []
        for number in dict.fromkeys(numbers):
            connection = self._connections.get(number)
            if connection is not None:
                (much if self._pending(connection) > _LITTLE else little).append(number)
        self._much_first = not self._much_first
        return [*much[:1], *little, *much[1:]] if self._much_first else [*little, *much]
