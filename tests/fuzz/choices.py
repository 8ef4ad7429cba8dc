"""An input as a row of decisions."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_LONG = 255
"""As a length: two bytes follow that say it."""


class Choices:
    """Decisions and bytes, taken from an input one after the other.

    Small changes of the input are small changes of the scenario: a decision is one byte. When
    the input is used up, everything is the first choice.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        """Whether there is more."""
        return self._position < len(self._data)

    def byte(self) -> int:
        taken = self.take(1)
        return taken[0] if taken else 0

    def below(self, count: int) -> int:
        """A number from 0 up to ``count - 1``."""
        return self.byte() % count

    def flag(self) -> bool:
        return self.byte() % 2 == 1

    def pick(self, choice: Sequence[T]) -> T:
        return choice[self.below(len(choice))]

    def take(self, count: int) -> bytes:
        """So many bytes, or as many as there are."""
        taken = self._data[self._position : self._position + count]
        self._position += len(taken)
        return taken

    def chunk(self) -> bytes:
        """Bytes of a length that is said before them."""
        count = self.byte()
        if count == _LONG:
            count = int.from_bytes(self.take(2), "big")
        return self.take(count)

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def sizes(self) -> list[int]:
        """Sizes of the pieces in which bytes arrive: up to three, each up to 256."""
        return [self.byte() + 1 for _ in range(self.below(4))]


def sparing(sizes: Sequence[int], length: int) -> Sequence[int]:
    """Sizes of pieces that are not too many for so many bytes."""
    return sizes if length < 500 else [64 * size for size in sizes]


def chunk(data: bytes) -> bytes:
    """What :meth:`Choices.chunk` takes for these bytes; for seeds."""
    if len(data) < _LONG:
        return bytes([len(data)]) + data
    return bytes([_LONG]) + len(data).to_bytes(2, "big") + data
