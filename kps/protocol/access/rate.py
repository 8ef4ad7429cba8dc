"""Rate limits: token buckets."""

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
        """Take tokens if enough are left; tell whether they were."""
        self._refill(now)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def spend(self, amount: float, now: float) -> float:
        """Take tokens, into debt if necessary; return the seconds until the debt is paid."""
        self._refill(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self._rate)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class RateLimiter:
    """Limits the messages and bytes of one connection."""

    __slots__ = ("_bytes", "_messages")

    def __init__(self, limits: ServerLimits, now: float) -> None:
        self._messages = _bucket(limits.message_rate, limits.rate_burst, now)
        self._bytes = _bucket(limits.byte_rate, limits.rate_burst, now)

    def take_messages(self, count: int, now: float) -> bool:
        """Count messages if the rate allows them; tell whether it does."""
        return self._messages is None or self._messages.take(count, now)

    def take_bytes(self, count: int, now: float) -> bool:
        """Count bytes if the rate allows them; tell whether it does."""
        return self._bytes is None or self._bytes.take(count, now)

    def spend(self, messages: int, size: int, now: float) -> float:
        """Count messages and bytes; return how many seconds too early they came."""
        wait = self._messages.spend(messages, now) if self._messages is not None else 0.0
        return max(wait, self._bytes.spend(size, now) if self._bytes is not None else 0.0)


def _bucket(rate: float, burst: float, now: float) -> Bucket | None:
    return Bucket(rate, max(1.0, rate * burst), now) if rate else None
