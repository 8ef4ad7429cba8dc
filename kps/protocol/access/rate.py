"""How much a client may send in a time: token buckets."""

from kps.protocol.limits import ServerLimits


class Bucket:
    """Holds up to ``burst`` tokens, and gets ``rate`` new ones per second."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take tokens if there are so many."""
        self._refill(now)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def spend(self, amount: float, now: float) -> float:
        """Take tokens, also those that are still to come; return the seconds until they have."""
        self._refill(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self._rate)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class RateLimiter:
    """The messages and the bytes of one connection."""

    __slots__ = ("_bytes", "_messages")

    def __init__(self, limits: ServerLimits, now: float) -> None:
        self._messages = _bucket(limits.message_rate, limits.rate_burst, now)
        self._bytes = _bucket(limits.byte_rate, limits.rate_burst, now)

    def take_messages(self, count: int, now: float) -> bool:
        """Count messages, unless they are too many."""
        return self._messages is None or self._messages.take(count, now)

    def take_bytes(self, count: int, now: float) -> bool:
        """Count bytes, unless they are too many."""
        return self._bytes is None or self._bytes.take(count, now)

    def spend(self, messages: int, size: int, now: float) -> float:
        """Count what has come; return the seconds that it should have taken longer."""
        wait = self._messages.spend(messages, now) if self._messages is not None else 0.0
        return max(wait, self._bytes.spend(size, now) if self._bytes is not None else 0.0)


def _bucket(rate: float, burst: float, now: float) -> Bucket | None:
    return Bucket(rate, max(1.0, rate * burst), now) if rate else None
