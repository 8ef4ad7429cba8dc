"""The heartbeat of one connection: when to ping, and when the peer counts as gone.

While both ends read, silence means something: after ``interval`` seconds of it we ping, and if
nothing arrives for ``timeout`` seconds after that, the peer is gone. If that is longer than the
interval, we ping once per interval meanwhile.

While we do not read (a backlog, a token that is being checked, a callback that is behind), we
cannot see pongs, so silence means nothing. We then ping once per interval all the same: writing
shows the network's errors, and the peer hears that we are alive. Only a peer that takes nothing
of what waits for it counts as gone.
"""

from enum import Enum, auto
from math import ceil

# Seconds after which a call counts as late: then the loop or the process stood still, and what
# the peer sent meanwhile may wait to be read.
_LATE = 1.0


class Beat(Enum):
    """What is due."""

    NOTHING = auto()
    PING = auto()
    GONE = auto()
    """The peer gives no sign of life."""


class Keepalive:
    """Decides when to ping. Times in seconds."""

    __slots__ = (
        "_asked_at",
        "_has_forgiven",
        "_heard_at",
        "_interval",
        "_paused",
        "_pinged_at",
        "_timeout",
        "_took",
    )

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._heard_at = now
        """When the peer last showed that it lives; while we do not read, when it last took
        something of what waits for it."""
        self._pinged_at: float | None = None
        self._asked_at = now  # the first of the pings that have no answer, while we read
        self._paused = False
        self._has_forgiven = False
        self._took = False  # whether the transport has taken something since the last check

    def heard(self, now: float) -> None:
        """Note that something arrived."""
        self._heard_at = now
        self._pinged_at = None

    def wrote(self) -> None:
        """Note that the transport took something of what waited."""
        self._took = True

    def pause(self, now: float) -> None:
        """Note that nothing is read for now."""
        if not self._paused:
            self._paused = True
            self._took = self._has_forgiven = False
            self._heard_at = now
            self._pinged_at = None

    def resume(self, now: float) -> None:
        """Note that reading goes on: what the peer sent meanwhile is still to come."""
        if self._paused:
            self._paused = False
            self.heard(now)

    def next_deadline(self) -> float:
        """When ``check`` is due. Whatever arrives only puts it off."""
        if self._pinged_at is not None:
            return min(self._pinged_at + self._interval, self._gone_at())
        if self._paused:
            return self._heard_at + self._interval
        # Many connections then have their heartbeats together: one wake-up for all of them.
        step = self._interval / 32
        return ceil((self._heard_at + self._interval) / step) * step

    def check(self, now: float, *, is_stuck: bool) -> Beat:
        """Say what is due, and take it as done.

        ``is_stuck`` tells whether something waits that the transport has not taken.
        """
        deadline = self.next_deadline()
        if now < deadline:
            return Beat.NOTHING
        if self._paused:
            if self._took or not is_stuck:
                self._heard_at = now
                self._took = self._has_forgiven = False
            elif now >= self._gone_at():
                if not self._forgives(now, deadline):
                    return Beat.GONE
                self._heard_at = now - self._interval
            if self._pinged_at is not None and now < self._pinged_at + self._interval:
                return Beat.NOTHING
        elif self._pinged_at is None:
            self._has_forgiven = False
            self._asked_at = now
        elif now >= self._gone_at():
            if not self._forgives(now, deadline):
                return Beat.GONE
            self._asked_at = now
        self._pinged_at = now
        return Beat.PING

    def _gone_at(self) -> float:
        if self._paused:
            return self._heard_at + self._interval + self._timeout
        return self._asked_at + self._timeout

    def _forgives(self, now: float, deadline: float) -> bool:
        """Whether the peer gets its time once more, because we stood still until now."""
        if self._has_forgiven or now < deadline + _LATE:
            return False
        self._has_forgiven = True
        return True
