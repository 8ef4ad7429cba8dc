"""Slows down or refuses clients that exceed their rate limits (spec, 13.6)."""

from kps.protocol.access.rate import RateLimiter
from kps.protocol.dialect.codes import RATE_LIMITED
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.limits import RatePolicy, ServerLimits

TOO_FAST = "too many messages in too short a time"


class Throttle:
    """Counts the messages and bytes of one client.

    Under the policy ``DELAY`` it tells how long reading is paused; under the others it refuses.
    """

    __slots__ = ("_limiter", "closes", "refuses", "resume_at")

    def __init__(self, limits: ServerLimits, now: float) -> None:
        self._limiter = RateLimiter(limits, now)
        self.refuses = limits.rate_policy is not RatePolicy.DELAY
        """Whether excess messages are refused, rather than read later."""
        self.closes = limits.rate_policy is RatePolicy.CLOSE
        """Whether the first excess message also closes the connection."""
        self.resume_at: float | None = None
        """When reading resumes; ``None`` while it is not paused."""

    def spend(self, messages: int, size: int, now: float) -> bool:
        """Count messages and bytes; tell whether reading is paused from now on."""
        if self.refuses:
            return False
        wait = self._limiter.spend(messages, size, now)
        if not wait or self.resume_at is not None:
            return False
        self.resume_at = now + wait
        return True

    def check(self, messages: int, size: int, now: float) -> None:
        """Count messages or bytes. Raises :class:`InvalidMessage` if they are too many."""
        limiter = self._limiter
        if not (limiter.take_messages(messages, now) and limiter.take_bytes(size, now)):
            raise InvalidMessage(TOO_FAST, RATE_LIMITED)

    def charge(self, messages: int, now: float) -> None:
        """Count messages, if the policy refuses excess. Raises the same as ``check``."""
        if self.refuses:
            self.check(messages, 0, now)

    def handle_timeout(self, now: float) -> bool:
        """End the pause if its time is over; tell whether it is."""
        if self.resume_at is None or now < self.resume_at:
            return False
        self.resume_at = None
        return True


def throttle(limits: ServerLimits, now: float) -> Throttle | None:
    """Make the throttle of one client, if there is a limit."""
    return Throttle(limits, now) if limits.message_rate or limits.byte_rate else None
