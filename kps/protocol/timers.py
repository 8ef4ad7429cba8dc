"""The agenda of everything that has a deadline."""

import heapq
from math import inf
from typing import Protocol

# Items that one call handles. They take some milliseconds.
_AT_ONCE = 500


class Timed(Protocol):
    """An item with a deadline."""

    def next_deadline(self) -> float | None:
        """The time at which ``handle_timeout`` is due, or ``None``."""

    def handle_timeout(self, now: float) -> None:
        """Do what is due. May be called early, and must then do nothing."""


class Deadlines:
    """Calls :class:`Timed` items when they are due.

    The owner need not schedule an item again when its deadline moves *later* (each received
    byte postpones a heartbeat): when the old entry is due, we ask the item for its deadline
    and put it back into the heap. Postponing costs nothing, so each connection can have a
    deadline.

    An exception out of a signal handler may come in at any step. Then an item may have two
    entries, and is called early; but none is thought to be scheduled and has no entry.
    """

    def __init__(self) -> None:
        # An entry is a time and a number; the number breaks ties, so that items are never
        # compared. The heap has no items: an entry stays in it for long, and must not keep alive
        # what was cancelled, with all that it holds.
        self._heap: list[tuple[float, int]] = []
        self._items: dict[int, Timed] = {}
        self._scheduled: dict[Timed, tuple[float, int]] = {}
        self._count = 0
        self.earliest = inf
        """Nothing is due before this. It may be earlier than the first deadline."""

    def __len__(self) -> int:
        return len(self._scheduled)

    def schedule(self, item: Timed) -> None:
        """Enter an item whose deadline is new or has moved earlier."""
        when = item.next_deadline()
        if when is None:
            return
        known = self._scheduled.get(item)
        if known is None:
            self._push(when, item)
        elif when < known[0]:
            self._push(when, item)
            self._items.pop(known[1], None)
            if len(self._heap) > 64 + 2 * len(self._scheduled):
                self._compact()

    def cancel(self, item: Timed) -> None:
        """Remove an item. Its entry in the heap becomes stale."""
        known = self._scheduled.pop(item, None)
        if known is not None:
            self._items.pop(known[1], None)
            if len(self._heap) > 64 + 2 * len(self._scheduled):
                self._compact()

    def next_deadline(self) -> float | None:
        """The earliest time at which something may be due."""
        heap = self._heap
        while heap and heap[0][1] not in self._items:
            heapq.heappop(heap)
        self.earliest = heap[0][0] if heap else inf
        return heap[0][0] if heap else None

    def handle_timeout(self, now: float) -> None:
        """Call the items that are due, the earliest first.

        When very many are due, it calls some; ``next_deadline`` is then still due, and the
        caller gives others a turn before it calls again.
        """
        for _ in range(_AT_ONCE):
            when = self.next_deadline()
            if when is None or when > now:
                return
            number = self._heap[0][1]
            item = self._items[number]
            try:
                self._scheduled.pop(item, None)
                self._items.pop(number)  # ``next_deadline`` takes the stale entry out of the heap
                self._call(item, now)
            except Exception:
                raise
            except BaseException:  # out of a signal handler: the item is called again
                self.schedule(item)
                raise

    def _call(self, item: Timed, now: float) -> None:
        actual = item.next_deadline()
        if actual is not None and actual <= now:
            item.handle_timeout(now)
            actual = item.next_deadline()
            if actual is not None and actual <= now:
                raise AssertionError(f"{item!r} is still due after its timeout")
        if actual is not None and item not in self._scheduled:
            self._push(actual, item)

    def _push(self, when: float, item: Timed) -> None:
        count = self._count = self._count + 1
        entry = when, count
        self._scheduled[item] = entry
        self._items[count] = item
        if when < self.earliest:
            self.earliest = when
        heapq.heappush(self._heap, entry)

    def _compact(self) -> None:
        """Remove the stale entries from the heap, which are more than half of it."""
        self._heap = list(self._scheduled.values())
        heapq.heapify(self._heap)
