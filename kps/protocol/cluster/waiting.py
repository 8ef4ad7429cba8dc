"""What waits for other nodes, but for no longer than a while."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, TypeVar

from kps.protocol.timers import Deadlines

T = TypeVar("T")


class Waiting(Generic[T]):
    """Items, in the order in which they came, each until somebody takes it.

    After ``patience`` seconds, ``give_up`` gets the item. If it raises, the others wait on.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        now: Callable[[], float],
        patience: float,
        give_up: Callable[[T], object],
    ) -> None:
        self._deadlines = deadlines
        self._now = now
        self._patience = patience
        self._give_up = give_up
        self._numbers = count(1)
        self._items: dict[int, tuple[float, T]] = {}  # with when they are due

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[tuple[int, T]]:
        """Yield the items, with their numbers; meanwhile they may come and go."""
        return iter([(number, item) for number, (_, item) in self._items.items()])

    def add(self, item: T) -> int:
        """Let an item wait; return its number, by which others find it."""
        number = next(self._numbers)
        self._items[number] = self._now() + self._patience, item
        self._deadlines.schedule(self)
        return number

    def get(self, number: int) -> T | None:
        """Return an item that waits."""
        found = self._items.get(number)
        return None if found is None else found[1]

    def take(self, number: int) -> T | None:
        """Return an item, which waits no longer; ``None`` if it does not wait."""
        found = self._items.pop(number, None)
        return None if found is None else found[1]

    def first(self) -> T | None:
        """Return the item that has waited longest."""
        return next((item for _, item in self._items.values()), None)

    def take_first(self) -> T:
        """Return the item that has waited longest, which waits no longer."""
        return self._items.pop(next(iter(self._items)))[1]

    def next_deadline(self) -> float | None:
        return next((due for due, _ in self._items.values()), None)

    def handle_timeout(self, now: float) -> None:
        """Give up what has waited too long."""
        try:
            while (due := self.next_deadline()) is not None and due <= now:
                self._give_up(self.take_first())
        finally:
            self._deadlines.schedule(self)
