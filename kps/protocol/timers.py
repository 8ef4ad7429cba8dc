"""The agenda of everything that has a deadline."""

import heapq
from itertools import islice
from math import inf
from typing import Protocol

# Items that one call handles. They take some milliseconds.
_AT_ONCE = 500

PAUSE = 0.001
"""Seconds between two slices of work that time made due."""

_QUEUES = 4  # so many durations, about, may be mixed


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


class _Queue:
    """Items in the order in which they are due."""

    __slots__ = ("_deadlines", "due", "items", "last")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self.due: float | None = None
        """When we look at the first items, perhaps too early."""
        self.items: dict[Timed, None] = {}
        self.last = 0.0
        """The deadline of the item that came last, if there are any."""

    def look_at(self, when: float) -> None:
        """Look at the items at ``when`` at the latest, as one of them is about to come."""
        self.due = when
        try:
            self._deadlines.schedule(self)
        except BaseException:  # out of a signal handler
            self.due = None
            raise

    def rest(self) -> None:
        """Leave the agenda if no item is here."""
        if not self.items:
            self.due = None
            self._deadlines.cancel(self)

    def next_deadline(self) -> float | None:
        return self.due

    def handle_timeout(self, now: float) -> None:
        if self.due is None or now < self.due:
            return
        items = self.items
        try:
            for item in list(islice(items, _AT_ONCE)):
                when = item.next_deadline()
                if when is not None:
                    if when > now:
                        break
                    self._call(item, now)
                items.pop(item, None)
        finally:  # also after an exception, be it of an item or out of a signal handler
            self._look_again(now)

    def _call(self, item: Timed, now: float) -> None:
        try:
            item.handle_timeout(now)
            self._deadlines.schedule(item)  # if it has another deadline
        except Exception:
            self.items.pop(item, None)
            raise

    def _look_again(self, now: float) -> None:
        for item in self.items:
            when = item.next_deadline()
            if when is not None:
                self.due = when if when > now else now + PAUSE
                self._deadlines.schedule(self)
                return
        self.due = None
        self.items.clear()  # also the memory that very many have taken


class Expiries:
    """Items that are mostly over before they are due, and come mostly in the order of deadlines.

    So it is with the timeouts of requests, since few durations are in use. An item goes to the end
    of a queue whose other items are due before it, and each queue is one item of the agenda. That
    takes a fraction of the time that the agenda takes to sort items. What fits into no queue goes
    into the agenda itself.

    The deadline of an item here does not change until it is due, except to ``None``.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._queues = tuple(_Queue(deadlines) for _ in range(_QUEUES))

    def __len__(self) -> int:
        return sum(len(queue.items) for queue in self._queues)

    def schedule(self, item: Timed) -> None:
        """Enter an item."""
        when = item.next_deadline()
        if when is None:
            return
        for queue in self._queues:
            if when >= queue.last or not queue.items:
                if queue.due is None or when < queue.due:  # there are no others
                    queue.look_at(when)
                queue.last = when
                queue.items[item] = None  # last: whatever is there is looked at in time
                return
        self._deadlines.schedule(item)

    def cancel(self, item: Timed) -> None:
        """Remove an item."""
        for queue in self._queues:
            if item in queue.items:
                del queue.items[item]
                return
        self._deadlines.cancel(item)

    def rest(self) -> None:
        """Make no more calls for items that are gone, because others may not follow soon."""
        for queue in self._queues:
            queue.rest()
