"""Rate limits: token buckets."""

from bisect import bisect_left, insort
from collections import deque
from typing import NamedTuple

from kps.protocol.server_limits import ServerLimits

_ALL = 1 << 62  # tokens: as many as there ever are

# Tokens that time, as a number of floating point, may have cost.
_ROUNDING = 1e-6


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

    def spend(self, amount: float, now: float) -> None:
        """Take tokens, into debt if necessary."""
        self._refill(now)
        self._tokens -= amount

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until so many tokens are there, or a full burst."""
        self._refill(now)
        missing = min(amount, self._burst) - self._tokens
        return missing / self._rate if missing > _ROUNDING else 0.0

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

    def spend(self, messages: int, size: int, now: float) -> None:
        """Count messages and bytes, into debt if necessary."""
        if self._messages is not None:
            self._messages.spend(messages, now)
        if self._bytes is not None:
            self._bytes.spend(size, now)

    def wait(self, messages: int, size: int, now: float) -> float:
        """Return in how many seconds the rates allow messages and bytes; 0 if they do now."""
        wait = self._messages.wait(messages, now) if self._messages is not None else 0.0
        return max(wait, self._bytes.wait(size, now) if self._bytes is not None else 0.0)

    def full_at(self, now: float) -> float:
        """Return when all tokens are back."""
        return now + self.wait(_ALL, _ALL, now)


class _Used(NamedTuple):
    """A limiter between two connections. It is another one each time that it is kept."""

    full_at: float
    number: int
    """Breaks ties, so that limiters are never compared."""
    origin: str
    limiter: RateLimiter


class UsedLimiters:
    """The limiters of connections that ended, until all their tokens are back.

    A new connection from the same address goes on with one of them. Otherwise a client that
    connects again and again would always have a full burst.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._by_origin: dict[str, list[_Used]] = {}  # sorted: the one that lacks most is last
        self._in_order: deque[_Used] = deque()  # also such as were taken, until it is their turn

    def __len__(self) -> int:
        return len(self._in_order)

    def put(self, origin: str, limiter: RateLimiter, now: float) -> None:
        """Keep the limiter of a connection that ended, if tokens are missing."""
        full_at = limiter.full_at(now)
        self._drop_old(now)
        if full_at > now:
            self._count += 1
            used = _Used(full_at, self._count, origin, limiter)
            insort(self._by_origin.setdefault(origin, []), used)
            self._in_order.append(used)

    def take(self, origin: str, now: float) -> RateLimiter | None:
        """Return the one of an address that lacks most, if any."""
        kept = self._by_origin.get(origin)
        if kept is None:
            return None
        used = kept[-1]
        self._forget(used)
        return used.limiter if used.full_at > now else None

    def _drop_old(self, now: float) -> None:
        order = self._in_order
        for _ in range(2):  # more than are added, so that all go in time
            if order and (order[0].full_at <= now or len(order) >= self._most):
                self._forget(order.popleft())

    def _forget(self, used: _Used) -> None:
        kept = self._by_origin.get(used.origin, [])
        place = bisect_left(kept, used)
        if kept[place : place + 1] == [used]:
            del kept[place]
            if not kept:
                del self._by_origin[used.origin]


def _bucket(rate: float, burst: float, now: float) -> Bucket | None:
    return Bucket(rate, max(1.0, rate * burst), now) if rate else None
