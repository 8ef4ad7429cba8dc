"""A table of patterns that finds those which have a topic, without a look at all others."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Generic, TypeVar

from kps.protocol.patterns import Pattern

V = TypeVar("V")

MOST_ALIKE = 16_384
"""Characters at most, in all, of patterns that begin and end with the same characters: a search
looks at each of them."""

# Looks into the table, and characters of patterns that are tried, that count as one unit of work.
_LOOKS = 8
_CHARACTERS = 16

_RECENT = 64  # changes of which a topic may be told one by one


class _Lengths:
    """How long the texts of a set are, and how many texts have each length."""

    __slots__ = ("_counts", "ordered")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.ordered: list[int] = []

    def add(self, length: int) -> None:
        count = self._counts.get(length, 0)
        self._counts[length] = count + 1
        if not count:
            self.ordered.insert(bisect_right(self.ordered, length), length)

    def remove(self, length: int) -> None:
        self._counts[length] -= 1
        if not self._counts[length]:
            del self._counts[length]
            self.ordered.remove(length)


class _Alike:
    """Patterns that begin and end with the same characters."""

    __slots__ = ("characters", "patterns")

    def __init__(self) -> None:
        self.patterns: dict[Pattern, None] = {}
        self.characters = 0


class _Head:
    """The patterns that begin with the same characters, by those with which they end."""

    __slots__ = ("lengths", "tails")

    def __init__(self) -> None:
        self.tails: dict[str, _Alike] = {}
        self.lengths = _Lengths()


class PatternTable(Generic[V]):
    """Values by pattern.

    A pattern begins with the characters before its first star, and ends with those behind its last
    one. So a search looks at the beginnings of a topic, of each length that there is, and for each
    of them at its ends. What it costs does not depend on how many other patterns there are.
    """

    def __init__(self) -> None:
        self._values: dict[Pattern, V] = {}
        self._heads: dict[str, _Head] = {}
        self._lengths = _Lengths()
        self.changes = 0
        """Grows with each pattern that is added or removed."""
        self._recent: deque[tuple[Pattern, V, bool]] = deque(maxlen=_RECENT)

    def __len__(self) -> int:
        return len(self._values)

    def __setitem__(self, pattern: Pattern, value: V) -> None:
        if pattern not in self._values:
            head = self._heads.get(pattern.head)
            if head is None:
                head = self._heads[pattern.head] = _Head()
                self._lengths.add(len(pattern.head))
            alike = head.tails.get(pattern.tail)
            if alike is None:
                alike = head.tails[pattern.tail] = _Alike()
                head.lengths.add(len(pattern.tail))
            alike.patterns[pattern] = None
            alike.characters += len(pattern.text)
            self._values[pattern] = value
            self._change(pattern, value, is_there=True)
        self._values[pattern] = value

    def __delitem__(self, pattern: Pattern) -> None:
        value = self._values.pop(pattern)
        head = self._heads[pattern.head]
        alike = head.tails[pattern.tail]
        del alike.patterns[pattern]
        alike.characters -= len(pattern.text)
        if not alike.patterns:
            del head.tails[pattern.tail]
            head.lengths.remove(len(pattern.tail))
        if not head.tails:
            del self._heads[pattern.head]
            self._lengths.remove(len(pattern.head))
        self._change(pattern, value, is_there=False)

    def _change(self, pattern: Pattern, value: V, *, is_there: bool) -> None:
        self.changes += 1
        self._recent.append((pattern, value, is_there))
        if not self._values:
            self._recent.clear()  # which would keep them

    def get(self, pattern: Pattern) -> V | None:
        return self._values.get(pattern)

    def keys(self) -> Iterator[Pattern]:
        return iter(self._values)

    def values(self) -> Iterator[V]:
        return iter(self._values.values())

    def is_crowded(self, pattern: Pattern) -> bool:
        """Tell whether a new pattern begins and ends like too many others."""
        if pattern in self._values:
            return False
        head = self._heads.get(pattern.head)
        alike = None if head is None else head.tails.get(pattern.tail)
        return alike is not None and alike.characters + len(pattern.text) > MOST_ALIKE

    def find(self, topic: str) -> tuple[list[V], int]:
        """Return the values of the patterns that have a topic, the shortest beginnings first.

        The second value is the work that it took, in units of ``server.turns``.
        """
        size, looks, characters = len(topic), 0, 0
        found: list[V] = []
        for length in takewhile(size.__ge__, self._lengths.ordered):
            head = self._heads.get(topic[:length])
            looks += 1
            if head is None:
                continue
            for end in takewhile((size - length).__ge__, head.lengths.ordered):
                alike = head.tails.get(topic[size - end :])
                looks += 1
                if alike is not None:
                    values = self._values
                    found += [values[one] for one in alike.patterns if one.selects(topic)]
                    characters += alike.characters
        return found, 1 + looks // _LOOKS + characters // _CHARACTERS

    def find_again(self, topic: str, found: list[V], changes: int) -> tuple[list[V], int]:
        """Return what ``find`` does, out of what it found when there had been so many changes.

        So a pattern that somebody adds or removes costs others a look at this one only.
        """
        new = self.changes - changes
        if changes < 0 or new > len(self._recent):
            return self.find(topic)
        found = list(found)
        work = 1
        for pattern, value, is_there in islice(self._recent, len(self._recent) - new, None):
            work += len(pattern.text) // _CHARACTERS
            if not is_there:
                found = [one for one in found if one is not value]
            elif pattern.selects(topic):
                found.append(value)
        return found, work
