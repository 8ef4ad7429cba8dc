"""Finds the first of very many things in an order, a few at a time."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Order = Callable[[T], tuple[Any, str] | None]
"""Returns by what a thing is put in order: a value, and a name that decides among equal values;
``None`` for a thing that is not wanted."""

_STEP = 64  # things between two chances for others
_KEPT = 4  # so many times the wanted ones are kept until they are put in order
_DIGITS = re.compile(r"\d+")
_WIDTH = 12  # digits of a number in a name, with zeros in front


class Search(Generic[T]):
    """Looks at ``things`` for the first ``most`` in an order, and calls ``done`` with itself.

    The largest values are the first ones if ``descending``. Among equal ones the names decide, up
    from the smallest in any case.
    """

    def __init__(
        self,
        things: Sequence[T],
        order: Order[T],
        most: int,
        *,
        descending: bool,
        done: Callable[["Search[T]"], object],
    ) -> None:
        self.found = 0
        """How many things are wanted, the first ones and all others."""
        self._things = things
        self._order = order
        self._most = most
        self._descending = descending
        self._done: Callable[[Search[T]], object] | None = done
        self._place = 0  # of the next thing
        self._best: list[tuple[Any, str, T]] = []

    def first(self) -> list[T]:
        """Return the first things in order."""
        self._cut()
        return [thing for _, _, thing in self._best]

    def steps(self) -> Iterator[int]:
        """Do the work, as one of ``bus.slices``. Another call goes on with what is left."""
        while self._place < len(self._things):
            self._look()
            yield _STEP
        if self._done is None:
            return
        yield min(self.found, self._most)  # for what is done with the first ones
        done, self._done = self._done, None
        if done is not None:
            done(self)

    def _look(self) -> None:
        """Look at the next few things."""
        things = self._things[self._place : self._place + _STEP]
        chosen = [(place, thing) for thing in things if (place := self._order(thing)) is not None]
        self._best += [(value, name, thing) for (value, name), thing in chosen]
        self._place += len(things)
        self.found += len(chosen)
        if len(self._best) > _KEPT * self._most + _STEP:
            self._cut()

    def _cut(self) -> None:
        """Keep only the first things, in order."""
        put_in_order(self._best, descending=self._descending)
        del self._best[self._most :]


def put_in_order(found: list[tuple[Any, str, T]], *, descending: bool) -> None:
    """Sort things, each behind its value and its name, by these, as :class:`Search` says."""
    found.sort(key=lambda one: one[1])
    found.sort(key=lambda one: one[0], reverse=descending)


def natural(name: str) -> str:
    """Return by what a name is put in order: ``a2`` before ``A10``."""
    folded = name.casefold()
    return _DIGITS.sub(_padded, folded) if _DIGITS.search(folded) else folded


def _padded(match: re.Match[str]) -> str:
    return match[0].zfill(_WIDTH)
