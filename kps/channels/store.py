"""The messages that wait in this process, by channel, and who waits for messages.

The client's thread puts messages in; any number of event loops, in any threads, take them out. A
message stays here until a receiver takes it, so a receiver that is cancelled loses none. All that
wait on one loop are woken with one call of it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from threading import RLock
from typing import Any, NamedTuple

from kps.channels.counts import Counts
from kps.errors import ClientClosed, InvalidArgument, KPSError
from kps.protocol.dialect.binary import unpack_bytes

Message = dict[str, Any]
Waiter = asyncio.Future[None]


class _Entry(NamedTuple):
    ends: float
    message: Message  # as it came; several channels may share it


class _Box:
    """One channel."""

    __slots__ = ("capacity", "entries", "waiters")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.entries: deque[_Entry] = deque()
        self.waiters: deque[Waiter] = deque()


class Store:
    """The channels of this process. Any thread may call it.

    ``capacity`` tells how many messages may wait in a channel, ``expiry`` for how many seconds.
    """

    def __init__(
        self,
        capacity: Callable[[str], int],
        expiry: float,
        counts: Counts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._expiry = expiry
        self._counts = counts
        self._clock = clock
        self._lock = RLock()  # a signal handler may send while its thread holds it
        self._boxes: dict[str, _Box] = {}
        self._announced: set[str] = set()
        self._reason: KPSError | None = None  # why nothing will come any more
        self._is_closed = False

    def put(self, channels: Iterable[str], message: Message) -> int:
        """Put a message into channels; return how many of these were full."""
        full = 0
        woken: list[Waiter] = []
        with self._lock:
            ends = self._clock() + self._expiry
            for channel in channels:
                box = self._box(channel)
                if len(box.entries) >= box.capacity:
                    self._drop_expired(box)
                if len(box.entries) >= box.capacity:
                    full += 1
                    continue
                box.entries.append(_Entry(ends, message))
                self._pick(box, woken)
        _wake(woken)
        return full

    def hand(self, channel: str, message: Message) -> bool:
        """Give a message to somebody who waits for one now; tell whether there was somebody.

        If not, the next one who waits announces it.
        """
        woken: list[Waiter] = []
        with self._lock:
            box = self._box(channel)
            self._pick(box, woken)
            if woken:
                box.entries.append(_Entry(self._clock() + self._expiry, message))
            else:
                self._announced.discard(channel)
                self._forget(channel, box)
        _wake(woken)
        return bool(woken)

    async def receive(
        self, channel: str, announce: Callable[[], Awaitable[object]] | None = None
    ) -> Message:
        """Take the next message of a channel, or wait for it.

        ``announce`` is awaited when those who send have to be told that somebody waits. Raises
        :class:`kps.ClientClosed` after ``close``, what ``announce`` raises, and what ``fail`` was
        told.
        """
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if self._is_closed:
                    raise ClientClosed("the channel layer was closed")
                box = self._box(channel)
                message = self._take(box)
                if message is not None:
                    self._forget(channel, box)
                    return message
                if self._reason is not None:
                    self._forget(channel, box)
                    raise copy(self._reason)  # each caller has its own traceback
                waiter = loop.create_future()
                box.waiters.append(waiter)
                is_due = announce is not None and channel not in self._announced
                if is_due:
                    self._announced.add(channel)
            try:
                if announce is not None and is_due:
                    await announce()
                await waiter
            except BaseException:  # cancelled, or the announcement has failed
                self._leave(channel, box, waiter, has_announced=is_due)
                raise

    def leave_unawaited(self, channel: str) -> bool:
        """Tell whether nobody waits; then the next one who does announces it."""
        with self._lock:
            box = self._boxes.get(channel)
            if box is not None and box.waiters:
                return False
            self._announced.discard(channel)
            return True

    def sweep(self) -> None:
        """Drop what has waited too long, also where nobody receives any more."""
        with self._lock:
            for channel, box in list(self._boxes.items()):
                self._drop_expired(box)
                self._forget(channel, box)

    def clear(self) -> None:
        """Forget all messages. Those who wait go on waiting."""
        with self._lock:
            for channel, box in list(self._boxes.items()):
                box.entries.clear()
                self._forget(channel, box)

    def fail(self, reason: KPSError) -> None:
        """End all waits, as nothing comes any more. What is here can still be received."""
        with self._lock:
            self._reason = reason
            woken = self._all_waiters()
        _wake(woken)

    def close(self) -> None:
        """End all waits, and forget all messages."""
        with self._lock:
            self._is_closed = True
            woken = self._all_waiters()
            self._boxes.clear()
        _wake(woken)

    # -- within, with the lock held -----------------------------------------------------------

    def _box(self, channel: str) -> _Box:
        box = self._boxes.get(channel)
        if box is None:
            box = self._boxes[channel] = _Box(self._capacity(channel))
        return box

    def _take(self, box: _Box) -> Message | None:
        self._drop_expired(box)
        while box.entries:
            packed = box.entries.popleft().message
            try:
                message: Message = unpack_bytes(packed)  # makes a copy of its own
            except InvalidArgument:
                self._counts.invalid += 1
                continue
            return message
        return None

    def _drop_expired(self, box: _Box) -> None:
        now = self._clock()
        while box.entries and box.entries[0].ends <= now:
            box.entries.popleft()
            self._counts.expired += 1

    def _forget(self, channel: str, box: _Box) -> None:
        """Let nothing remain of a channel that nobody uses."""
        if not box.entries and not box.waiters and self._boxes.get(channel) is box:
            del self._boxes[channel]

    def _pick(self, box: _Box, woken: list[Waiter]) -> None:
        """Move the first one who still waits to those who are to be woken."""
        while box.waiters:
            waiter = box.waiters.popleft()
            if not waiter.done() and not waiter.get_loop().is_closed():
                woken.append(waiter)
                return

    def _all_waiters(self) -> list[Waiter]:
        woken: list[Waiter] = []
        for box in self._boxes.values():
            woken += box.waiters
            box.waiters.clear()
        return woken

    # -- within, without the lock -------------------------------------------------------------

    def _leave(self, channel: str, box: _Box, waiter: Waiter, *, has_announced: bool) -> None:
        """Note that somebody waits no more.

        If it was woken, or was to announce that somebody waits, wake the next one in its place.
        """
        woken: list[Waiter] = []
        with self._lock:
            if waiter in box.waiters:
                box.waiters.remove(waiter)
            if has_announced:
                self._announced.discard(channel)
            if box.entries or has_announced:
                self._pick(box, woken)
            self._forget(channel, box)
        _wake(woken)


def _wake(waiters: list[Waiter]) -> None:
    """Wake those who wait, on each of their loops with one call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Waiter]] = {}
    for waiter in waiters:
        by_loop.setdefault(waiter.get_loop(), []).append(waiter)
    for loop, those in by_loop.items():
        try:
            loop.call_soon_threadsafe(_go_on, those)
        except RuntimeError:  # the loop has ended meanwhile; the messages are for the next ones
            continue


def _go_on(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
