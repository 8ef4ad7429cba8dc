"""What waits to be written to one connection: bounded, with a named policy."""

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from itertools import chain
from typing import Self

from kps.protocol.limits import Limits, Overflow


class Frames(bytes):
    """Whole frames that are queued as one. Plain ``bytes`` are one frame with one message."""

    frames: int = 1
    """How many frames these are."""
    messages: int = 1
    """How many messages are in them."""

    @classmethod
    def of(cls, frames: Sequence[bytes]) -> Self:
        """Join frames of one message each."""
        joined = cls(b"".join(frames))
        joined.frames = joined.messages = len(frames)
        return joined

    @classmethod
    def holding(cls, frame: bytes, messages: int) -> Self:
        """One frame with several messages, or none: one of the connection itself."""
        batch = cls(frame)
        batch.messages = messages
        return batch


class Droppable(Frames):
    """Frames that carry publications, and may be dropped by the policy.

    All others are answers and requests: never dropped. One object is shared by the queues
    of all subscribers.
    """


class Push(Enum):
    """What became of a frame that was offered to an :class:`Outbox`."""

    QUEUED = auto()
    DROPPED = auto()
    """Not queued, and counted."""
    OVERFLOW = auto()
    """Not queued, and the connection must close."""


class Outbox:
    """A queue of whole frames with limits in messages and bytes."""

    __slots__ = (
        "_frames",
        "_limits",
        "_settled",
        "dropped",
        "pending_answers",
        "pending_bytes",
        "pending_frames",
    )

    def __init__(self, limits: Limits) -> None:
        self._settled: deque[bytes] = deque()
        """The first ones, which no policy can drop: they are looked at for that only once."""
        self._frames: deque[bytes] = deque()
        """Those behind them."""
        self._limits = limits
        self.pending_bytes = 0
        self.pending_frames = 0
        self.pending_answers = 0
        """Bytes of the waiting frames that are not droppable frames."""
        self.dropped = 0
        """Messages dropped so far, by the policy or with the connection."""

    def push(self, frame: bytes) -> Push:
        """Queue a frame, or say why not."""
        size = len(frame)
        if self.pending_frames and not self.has_room(size):
            policy = self._limits.overflow
            if policy is Overflow.CLOSE:
                return Push.OVERFLOW
            if policy is Overflow.DROP_NEWEST and isinstance(frame, Droppable):
                return self._drop(frame)
            self._drop_oldest_for(size)
            if self.pending_frames and not self.has_room(size):
                return self._drop(frame) if isinstance(frame, Droppable) else Push.OVERFLOW
        self._append(frame, size)
        return Push.QUEUED

    def push_all(self, frames: Frames) -> bool:
        """Queue several frames as one, if there is room for all; ``False`` if there is not."""
        size = len(frames)
        if not self.has_room(size, frames.frames):
            return False
        self._append(frames, size)
        return True

    def push_anyway(self, frame: bytes) -> None:
        """Queue a frame without regard to the limits: a close frame, which is the last one,
        or what something else bounds."""
        self._append(frame, len(frame))

    def take(self, limit: int) -> bytes:
        """Remove and return what waits, joined: up to ``limit`` bytes, or one entry if larger."""
        if self.pending_bytes <= limit:
            data = b"".join(self._all() if self._settled else self._frames)
            self._reset()
            return data
        taken: list[bytes] = []
        size = 0
        while (queue := self._settled or self._frames) and (
            not taken or size + len(queue[0]) <= limit
        ):
            frame = queue.popleft()
            size += len(frame)
            taken.append(frame)
            self._forget(frame)
        return b"".join(taken)

    def take_droppable(self) -> list[Droppable]:
        """Remove and return the droppable frames, and leave the others."""
        frames = list(self._all())
        self._reset()
        for frame in frames:
            if not isinstance(frame, Droppable):
                self._append(frame, len(frame))
        return [frame for frame in frames if isinstance(frame, Droppable)]

    def clear(self) -> None:
        """Give up on everything that waits, and count it as dropped."""
        self.dropped += sum(map(_messages, self._all()))
        self._reset()

    def give_up(self, frame: bytes) -> None:
        """Count a frame that is not queued as dropped."""
        self.dropped += _messages(frame)

    def has_room(self, size: int, count: int = 1) -> bool:
        """Whether so many frames of that size together fit beside what waits."""
        limits = self._limits
        return (
            self.pending_frames + count <= limits.queue_messages
            and self.pending_bytes + size <= limits.queue_bytes
        )

    def _all(self) -> Iterator[bytes]:
        return chain(self._settled, self._frames)

    def _reset(self) -> None:
        self._settled.clear()
        self._frames.clear()
        self.pending_bytes = self.pending_frames = self.pending_answers = 0

    def _append(self, frame: bytes, size: int) -> None:
        self._frames.append(frame)
        self.pending_bytes += size
        self.pending_frames += frame.frames if isinstance(frame, Frames) else 1
        if not isinstance(frame, Droppable):
            self.pending_answers += size

    def _forget(self, frame: bytes) -> None:
        size = len(frame)
        self.pending_bytes -= size
        self.pending_frames -= frame.frames if isinstance(frame, Frames) else 1
        if not isinstance(frame, Droppable):
            self.pending_answers -= size

    def _drop(self, frame: Droppable) -> Push:
        self.dropped += frame.messages
        return Push.DROPPED

    def _drop_oldest_for(self, size: int) -> None:
        """Drop droppable frames, the oldest first, until one more of that size has room."""
        frames = self._frames
        while frames and not self.has_room(size):
            frame = frames.popleft()
            if isinstance(frame, Droppable):
                self._forget(frame)
                self.dropped += frame.messages
            else:
                self._settled.append(frame)


def _messages(frame: bytes) -> int:
    return frame.messages if isinstance(frame, Frames) else 1
