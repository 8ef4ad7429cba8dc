"""Keeps the latest of very many things, in which nobody who causes most pushes out the others."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Keeps up to ``most`` things, each of them from a source, under a key of its own.

    When there is one too many, the oldest one goes of the source that has most. So a source loses
    nothing to a busier one. Of sources with as many, the one goes first that was quiet for longest.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        # By source; that which was heard last is at the end, and so is the latest of its things.
        self._of: dict[str, OrderedDict[Hashable, T]] = {}

    def __iter__(self) -> Iterator[T]:
        """Yield all things, in no order."""
        for of in self._of.values():
            yield from of.values()

    def add(self, source: str, key: Hashable, thing: T) -> None:
        """Keep a thing under a key that is not in use."""
        of = self._of.pop(source, None)
        if of is None:
            of = OrderedDict()
        self._of[source] = of
        of[key] = thing
        self._count += 1
        if self._count > self._most:
            of_busiest = max(self._of.values(), key=len)
            of_busiest.popitem(last=False)  # it has another one, unless all have only one
            self._count -= 1
            if not of_busiest:
                self._forget_empty()

    def take(self, source: str, key: Hashable) -> T | None:
        """Remove a thing, and return it if it is there. It is to be added again."""
        of = self._of.get(source)
        thing = None if of is None else of.pop(key, None)
        if thing is not None:
            self._count -= 1
        return thing

    def _forget_empty(self) -> None:
        """Forget the source whose only thing has gone: the one that was quiet for longest."""
        del self._of[next(iter(self._of))]
