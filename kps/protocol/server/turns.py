"""Shares the server's time fairly: work is weighed, and everybody gets a turn.

One unit of work takes about a microsecond. A connection handles what it received at once, if the
turn has work left. Otherwise it waits, and is not read from. Waiting connections go on in the
order of the work that they have caused, and of that which is known to wait (fair queueing): a
connection that causes little does not wait for one that causes much, and none waits
for ever.
"""

import heapq
from typing import Protocol

TURN = 5_000
"""Units of one turn, after which the driver does everything else that is due."""

SHARE = 200
"""Units for which a connection need not wait, unless it has caused more work than others."""

LONG = 4096
"""Bytes from which a message is long, and so takes long before anything is known of it."""

_PATIENCE = 16  # turns between two looks for one that has waited for so many, and goes first

_UNPARSED = 64  # bytes that count as one unit before they are parsed


class Worker(Protocol):
    """A connection with input to handle."""

    used: int
    """Up to where it has used its share of all work."""
    waits: bool
    """Whether it waits for its turn."""
    number: int
    """Its number."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes that it is known to handle next."""

    def work(self) -> bool:
        """Handle input while ``Turns.left`` is above 0; tell whether some is left."""


class Turns:
    """The turns of one server's connections."""

    __slots__ = ("_count", "_is_first", "_looked", "_most", "_now", "_of_turn", "_turn",
                 "_turns", "_unused", "_waiting", "_working", "left")  # fmt: skip

    def __init__(self, turn: int = TURN) -> None:
        self.left = turn
        """Units left for the connection that works now. Whatever causes work subtracts it."""
        self._turn = turn
        self._of_turn = turn  # units left in this turn
        self._now = 0  # up to here every connection has used its share, or did not want it
        self._most = 0  # the most that a connection has used
        self._unused = 0  # units that ``stop`` took from the connection that works
        self._waiting: list[tuple[int, int, int, int, Worker]] = []
        self._count = 0
        self._is_first = True  # whether the next long message is handled in any case
        self._working = 0  # the number of the connection that works, or was the last to do so
        self._turns = 0  # number of turns so far
        self._looked = 0  # the turn of the last look for one that has waited for long

    @property
    def are_due(self) -> bool:
        """Whether connections wait, so that ``go_on`` should be called without delay."""
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many connections wait."""
        return len(self._waiting)

    @property
    def start(self) -> int:
        """What ``used`` is for a new connection: those that are known come first."""
        return self._now + 2 * SHARE

    def enter(self, worker: Worker) -> None:
        """Let a connection handle new input now, or wait."""
        if not worker.waits:
            share = self._of_turn
            if share <= 0 or self._waiting:
                # However many connections cause little, their turn must end.
                if worker.used > self._now + SHARE or share <= -self._turn:
                    self.wait(worker)
                    return
                share = SHARE
            self._give(worker, share, False)

    def wait(self, worker: Worker) -> None:
        """Let a connection wait for its turn."""
        if not worker.waits:
            worker.waits = True
            self._count += 1  # breaks ties: first come, first served
            start = max(worker.used, self._now)
            # By what it will have used: so little things go before much that came first.
            ahead = worker.waiting_bytes // _UNPARSED
            entry = (start + ahead, self._count, self._turns, start, worker)
            heapq.heappush(self._waiting, entry)

    def go_on(self) -> None:
        """Let waiting connections work for the rest of this turn; one of them in any case."""
        if self._waiting and self._turns - self._looked >= _PATIENCE:
            self._put_oldest_first()
        while self._waiting:
            _, _, _, start, worker = heapq.heappop(self._waiting)
            self._now = max(self._now, start)
            worker.waits = False
            share = self._of_turn // (len(self._waiting) + 1)
            self._give(worker, max(SHARE, share), True)
            if self._of_turn <= 0:
                return

    def end(self) -> None:
        """Begin a new turn."""
        self._of_turn = self._turn
        self._turns += 1
        if not self._waiting:
            self._now = self._most  # nobody waited, so nobody owes anything

    def takes(self, size: int) -> bool:
        """Tell whether the connection that works now may handle a long message of ``size`` bytes.

        If not, this ends its share. The first long message of a connection that has waited is
        handled in any case.
        """
        if not self._is_first and size // _UNPARSED > self.left:
            self._stop()
            return False
        self._is_first = False
        return True

    def lend(self, units: int) -> None:
        """Let the connection that works now go on beyond its share. It will wait for longer."""
        self.left += units
        self._unused -= units

    def stop(self, number: int) -> None:
        """Let a connection handle no further message, if it is the one that works now."""
        if number == self._working:
            self._stop()

    def _stop(self) -> None:
        if self.left > 0:
            self._unused += self.left
            self.left = 0

    def _put_oldest_first(self) -> None:
        """Put the one that waits longest first, if new ones have overtaken it for many turns."""
        waiting, self._looked = self._waiting, self._turns
        place = min(range(len(waiting)), key=lambda place: waiting[place][1])
        _, _, since, start, worker = waiting[place]
        if self._turns - since >= _PATIENCE:
            waiting[place] = (self._now, 0, since, start, worker)
            heapq.heapify(waiting)

    def _give(self, worker: Worker, share: int, is_first: bool) -> None:
        self.left = share
        self._unused = 0
        self._is_first = is_first
        self._working = worker.number
        is_unfinished = worker.work()
        spent = share - self.left - self._unused
        self._of_turn -= spent
        used, now = worker.used, self._now
        if used < now:
            used = now
        worker.used = used = used + spent
        if used > self._most:
            self._most = used
        if is_unfinished:
            self.wait(worker)
