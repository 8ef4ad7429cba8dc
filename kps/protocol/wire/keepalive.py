"""The heartbeat of one connection: when to ping, and when the peer counts as gone.

While we read, we ping after ``interval`` seconds of silence. If nothing arrives for
``timeout`` seconds after that, the peer is gone. If ``timeout`` is longer than ``interval``,
we ping once per interval meanwhile.

While reading is paused (a backlog, a token that is being checked, a slow callback), we cannot
see pongs, so silence means nothing. We still ping once per interval: writing shows network
errors, and the peer hears that we are alive, though its pings wait unread. This holds for many
short pauses as for a long one. The peer counts as gone only if it takes nothing of the data
pending for it.
"""

from enum import Enum, auto
from math import ceil, inf

# Seconds after which a call counts as late. The loop or the process then stood still, and bytes
# that the peer sent meanwhile may still be unread.
_LATE = 1.0


class Beat(Enum):
    """What the keepalive asks its owner to do."""

    NOTHING = auto()
    PING = auto()
    GONE = auto()
    """Drop the connection: the peer gives no sign of life."""


class Keepalive:
    """Decides when to ping. Times in seconds."""

    __slots__ = (
        "_asked_at",
        "_beat_at",
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
        """When the peer last sent something; while reading is paused, when it last took
        something of the pending data."""
        self._pinged_at: float | None = None
        self._asked_at = now  # time of the first unanswered ping, while we read
        self._paused = False
        self._beat_at = inf
        """When to ping whether or not the peer is heard, because reading was paused."""
        self._has_forgiven = False
        self._took = False  # whether the transport took something since the last check

    def heard(self, now: float) -> None:
        """Note that something arrived."""
        self._heard_at = now
        self._pinged_at = None

    def wrote(self) -> None:
        """Note that the transport took some of the pending data."""
        self._took = True

    def pause(self, now: float) -> None:
        """Note that reading is paused."""
        if not self._paused:
            self._paused = True
            self._took = self._has_forgiven = False
            self._heard_at = now
            self._pinged_at = None
            self._beat_at = min(self._beat_at, now + self._interval)

    def resume(self, now: float) -> None:
        """Note that reading resumes. Bytes that the peer sent meanwhile are still unread."""
        if self._paused:
            self._paused = False
            self.heard(now)

    def next_deadline(self) -> float:
        """When ``check`` is due. Incoming data only postpones it."""
        if self._paused:
            return min(self._beat_at, self._gone_at())
        if self._pinged_at is not None:
            return min(self._pinged_at + self._interval, self._gone_at())
        # Rounding lets many connections share one wake-up.
        step = self._interval / 32
        return min(self._beat_at, ceil((self._heard_at + self._interval) / step) * step)

    def check(self, now: float, *, is_stuck: bool) -> Beat:
        """Return what is due, and count it as done.

        ``is_stuck`` tells whether data is pending that the transport has not taken.
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
            if now < self._beat_at:
                return Beat.NOTHING
            self._beat_at = now + self._interval
            return Beat.PING
        beat_at, self._beat_at = self._beat_at, inf
        if self._pinged_at is None:
            if beat_at <= now < self._heard_at + self._interval:
                return Beat.PING  # a sign of our life: the peer need not answer it in time
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
        """Grant the peer its timeout once more, if this call is late because we stood still."""
        if self._has_forgiven or now < deadline + _LATE:
            return False
        self._has_forgiven = True
        return True
