"""What waits to be written to one connection: bounded, with a named policy."""

from collections import deque
from enum import Enum, auto

from kps.protocol.limits import Limits, Overflow


class Droppable(bytes):
    """A frame that carries a publication, and may be dropped by the policy.

    All other frames (plain ``bytes``) are answers and requests: never dropped.
    One object is shared by the queues of all subscribers.
    """

    __slots__ = ()


class Push(Enum):
    """What became of a frame that was offered to an :class:`Outbox`."""

    QUEUED = auto()
    DROPPED = auto()
    """Not queued, and counted."""
    OVERFLOW = auto()
    """Not queued, and the connection must close."""


class Outbox:
    """A queue of whole frames with limits in messages and bytes."""

    __slots__ = ("_frames", "_limits", "dropped", "pending_answers", "pending_bytes")

    def __init__(self, limits: Limits) -> None:
        self._frames: deque[bytes] = deque()
        self._limits = limits
        self.pending_bytes = 0
        self.pending_answers = 0
        """Bytes of the waiting frames that are not droppable frames."""
        self.dropped = 0
        """Frames dropped so far, by the policy or with the connection."""

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: bytes) -> Push:
        """Queue a frame, or say why not."""
        size = len(frame)
        frames = self._frames
        droppable = isinstance(frame, Droppable)
        if frames and not self.has_room(size):
            policy = self._limits.overflow
            if policy is Overflow.CLOSE:
                return Push.OVERFLOW
            if policy is Overflow.DROP_NEWEST and droppable:
                self.dropped += 1
                return Push.DROPPED
            self._drop_oldest_for(size)
            if frames and not self.has_room(size):
                if droppable:
                    self.dropped += 1
                    return Push.DROPPED
                return Push.OVERFLOW
        frames.append(frame)
        self.pending_bytes += size
        if not droppable:
            self.pending_answers += size
        return Push.QUEUED

    def push_anyway(self, frame: bytes) -> None:
        """Queue a frame without regard to the limits: a close frame, which is the last one,
        or what something else bounds."""
        size = len(frame)
        self._frames.append(frame)
        self.pending_bytes += size
        if not isinstance(frame, Droppable):
            self.pending_answers += size

    def take(self, limit: int) -> bytes:
        """Remove and return whole frames, joined: at least one, else up to ``limit`` bytes."""
        frames = self._frames
        if self.pending_bytes <= limit:
            data = b"".join(frames)
            frames.clear()
            self.pending_bytes = self.pending_answers = 0
            return data
        taken: list[bytes] = []
        size = 0
        while frames and (not taken or size + len(frames[0]) <= limit):
            frame = frames.popleft()
            size += len(frame)
            if not isinstance(frame, Droppable):
                self.pending_answers -= len(frame)
            taken.append(frame)
        self.pending_bytes -= size
        return b"".join(taken)

    def take_droppable(self) -> list[Droppable]:
        """Remove and return the droppable frames, and leave the others."""
        frames = list(self._frames)
        taken = [frame for frame in frames if isinstance(frame, Droppable)]
        self._frames = deque(frame for frame in frames if not isinstance(frame, Droppable))
        self.pending_bytes = self.pending_answers
        return taken

    def clear(self) -> None:
        """Give up on everything that waits, and count it as dropped."""
        self.dropped += len(self._frames)
        self._frames.clear()
        self.pending_bytes = self.pending_answers = 0

    def has_room(self, size: int) -> bool:
        """Whether a frame of that size fits beside what waits."""
        limits = self._limits
        return (
            len(self._frames) < limits.queue_messages
            and self.pending_bytes + size <= limits.queue_bytes
        )

    def _drop_oldest_for(self, size: int) -> None:
        kept: list[bytes] = []
        frames = self._frames
        while frames and not self._fits_with(kept, size):
            frame = frames.popleft()
            if isinstance(frame, Droppable):
                self.pending_bytes -= len(frame)
                self.dropped += 1
            else:
                kept.append(frame)
        frames.extendleft(reversed(kept))

    def _fits_with(self, kept: list[bytes], size: int) -> bool:
        limits = self._limits
        return (
            len(self._frames) + len(kept) < limits.queue_messages
            and self.pending_bytes + size <= limits.queue_bytes
        )
