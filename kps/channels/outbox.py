"""Normal channels, from which workers receive: what is on its way to them waits at its sender.

All on the loop of the client. A line per channel offers its first message to the workers, as an
ack request to their group. A worker takes it if one of its receivers waits, so a message never lies
with a worker that is busy while another one is free. If nobody takes it, the line waits until a
worker says that it is free, and looks again now and then, for up to ``expiry`` seconds. A message
whose answer was lost is not offered again: it comes at most once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, NamedTuple

from kps.channels.bus import Bus
from kps.channels.counts import Counts
from kps.channels.names import WORKERS, Names
from kps.errors import KPSError, NotConnected
from kps.io_asyncio.subscription import Subscription
from kps.protocol.bus.message import UNSUBSCRIBED
from kps.protocol.dialect.outcome import NO_MEMBER, GroupResponse

_LOOKS = 1.0  # seconds after which a line looks again for workers of whom it was not told
_TRIES = 4  # workers that are asked at once, before the line waits
_BUSY = ("busy", "queue full", UNSUBSCRIBED)  # errors of a message that nobody has had


class Offer(Enum):
    """What became of a message that was offered to workers."""

    TAKEN = auto()
    BUSY = auto()
    NOBODY = auto()
    LOST = auto()


class _Entry(NamedTuple):
    ends: float
    message: dict[str, Any]


class _Line:
    """The messages of this process to one channel, in order."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.entries: deque[_Entry] = deque()
        self.somebody_is_free = asyncio.Event()
        self.subscription: Subscription[Any] | None = None
        self.task: asyncio.Task[None] | None = None

    def drop_expired(self, now: float, counts: Counts) -> None:
        while self.entries and self.entries[0].ends <= now:
            self.entries.popleft()
            counts.expired += 1


class Outbox:
    """What this process sends to normal channels.

    ``capacity`` tells how many messages of this process may wait for a channel, ``expiry`` for how
    many seconds; ``timeout`` is how many seconds a worker has to take one.
    """

    def __init__(
        self,
        bus: Bus,
        names: Names,
        counts: Counts,
        capacity: Callable[[str], int],
        expiry: float,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._names = names
        self._counts = counts
        self._capacity = capacity
        self._expiry = expiry
        self._timeout = timeout
        self._clock = clock
        self._lines: dict[str, _Line] = {}

    def put(self, channel: str, message: dict[str, Any]) -> bool:
        """Send a message, packed, to a channel; tell whether there was room for it."""
        now = self._clock()
        line = self._lines.get(channel)
        if line is None:
            line = self._lines[channel] = _Line(channel)
        capacity = self._capacity(channel)
        if len(line.entries) >= capacity:
            line.drop_expired(now, self._counts)
        if len(line.entries) >= capacity:
            return False
        line.entries.append(_Entry(now + self._expiry, message))
        if line.task is None:
            line.task = asyncio.get_running_loop().create_task(self._run(line))
        return True

    def clear(self) -> None:
        """Forget all messages."""
        for line in self._lines.values():
            line.entries.clear()
            line.somebody_is_free.set()  # so that it ends

    async def drain(self, seconds: float) -> None:
        """Wait until workers have taken all messages, for up to so many seconds."""
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        self._counts.lost += sum(len(line.entries) for line in self._lines.values())

    async def _run(self, line: _Line) -> None:
        tries = 0
        try:
            while line.entries:
                entry = line.entries[0]
                if entry.ends <= self._clock():
                    line.drop_expired(self._clock(), self._counts)
                    continue
                line.somebody_is_free.clear()
                offer = await self._offer(line.channel, entry.message)
                if offer in (Offer.TAKEN, Offer.LOST):
                    self._counts.lost += offer is Offer.LOST
                    if line.entries and line.entries[0] is entry:  # else all were forgotten
                        line.entries.popleft()
                    tries = 0
                    continue
                tries += 1
                if offer is Offer.NOBODY or tries % _TRIES == 0:
                    await self._wait(line, entry.ends)
        finally:
            del self._lines[line.channel]
            if line.subscription is not None:
                await line.subscription.unsubscribe()

    async def _offer(self, channel: str, message: dict[str, Any]) -> Offer:
        """Ask one worker to take a message."""
        topic = self._names.channel(channel)
        try:
            client = await self._bus.connected()
            ack = await client.publish_with_ack(
                topic, message, timeout=self._timeout, expect_groups=[WORKERS]
            )
            outcome = (await ack.wait()).get(f"{WORKERS} of {topic}")
        except NotConnected:
            return Offer.NOBODY
        except KPSError:  # the connection ended, no answer came, or the server refuses it
            return Offer.LOST
        if not isinstance(outcome, GroupResponse) or outcome.error == NO_MEMBER:
            return Offer.NOBODY
        if outcome.success:
            return Offer.TAKEN if outcome.result else Offer.BUSY
        return Offer.BUSY if outcome.error in _BUSY else Offer.LOST

    async def _wait(self, line: _Line, ends: float) -> None:
        """Wait until a worker is free, or it is time to look again."""
        if line.subscription is None:
            try:
                client = await self._bus.connected()
                line.subscription = client.subscribe(
                    self._names.free(line.channel),
                    lambda _: line.somebody_is_free.set(),
                    inline=True,
                )
                await line.subscription
                return  # one may have come just before
            except KPSError:  # it looks again now and then
                line.subscription = None
        try:
            async with asyncio.timeout(min(_LOOKS, max(0.0, ends - self._clock()))):
                await line.somebody_is_free.wait()
        except TimeoutError:
            return
