"""Slows down or refuses clients that exceed their rate limits (spec, 13.6)."""

from kps.protocol.access.rate import RateLimiter
from kps.protocol.dialect.codes import RATE_LIMITED
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.server_limits import RatePolicy, ServerLimits

# Seconds.
_PROBE_INTERVAL = 2.0
_LEAST_PAUSE = 0.01  # a pause costs more than a message

TOO_FAST = "too many messages in too short a time"


class Throttle:
    """Counts the messages and bytes of one client.

    Under the policy ``DELAY`` it tells how long reading is paused; under the others it refuses.
    """

    __slots__ = ("_probe_at", "closes", "limiter", "refuses", "resume_at")

    def __init__(self, limits: ServerLimits, now: float) -> None:
        self.limiter = RateLimiter(limits, now)
        """What it counts with. Another connection of the same address may have used it before."""
        self.refuses = limits.rate_policy is not RatePolicy.DELAY
        """Whether excess messages are refused, rather than read later."""
        self.closes = limits.rate_policy is RatePolicy.CLOSE
        """Whether the first excess message also closes the connection."""
        self.resume_at: float | None = None
        """When reading resumes; ``None`` while it is not paused."""
        self._probe_at: float | None = None

    def delays(self, size: int, now: float) -> bool:
        """Tell whether a message of ``size`` bytes has to wait, until ``resume_at``."""
        if self.refuses:
            return False
        wait = self.limiter.wait(1, size, now)
        if wait:
            self._pause(wait, now)
        return wait > 0

    def wait_for_burst(self, now: float) -> None:
        """Pause, unless the policy refuses excess, until a full burst is allowed."""
        if not self.refuses:
            self._pause(self.limiter.full_at(now) - now, now)

    def charge(self, messages: int, size: int, now: float) -> None:
        """Count messages or bytes.

        Raises :class:`InvalidMessage` if the policy refuses excess, and they are too many.
        """
        limiter = self.limiter
        if not self.refuses:
            limiter.spend(messages, size, now)
        elif not (limiter.take_messages(messages, now) and limiter.take_bytes(size, now)):
            raise InvalidMessage(TOO_FAST, RATE_LIMITED)

    def charge_extra(self, controls: int, size: int, now: float) -> bool:
        """Count what no answer can refuse; tell whether the connection is to be closed for it.

        If it is too much, reading pauses, whatever the policy.
        """
        self.limiter.spend(controls, size, now)
        wait = self.limiter.wait(0, 0, now)
        if wait and not self.closes:
            self._pause(wait, now)
        return wait > 0 and self.closes

    def next_deadline(self) -> float | None:
        """When ``probes`` or ``handle_timeout`` is due."""
        if self.resume_at is None:
            return None
        return self.resume_at if self._probe_at is None else min(self.resume_at, self._probe_at)

    def probes(self, now: float) -> bool:
        """Tell whether to find out if the client is still there, and count that as done.

        While the server does not read, only writing shows that a client has gone.
        """
        if self.resume_at is None or self._probe_at is None or now < self._probe_at:
            return False
        self._probe_at = now + _PROBE_INTERVAL
        return True

    def handle_timeout(self, now: float) -> bool:
        """End the pause if its time is over; tell whether it is."""
        if self.resume_at is None or now < self.resume_at:
            return False
        self.resume_at = None
        return True

    def _pause(self, seconds: float, now: float) -> None:
        self.resume_at = now + max(seconds, _LEAST_PAUSE)
        if self._probe_at is None or self._probe_at < now:
            self._probe_at = now + _PROBE_INTERVAL


def throttle(limits: ServerLimits, now: float) -> Throttle | None:
    """Make the throttle of one client, if there is a limit."""
    return Throttle(limits, now) if limits.message_rate or limits.byte_rate else None
