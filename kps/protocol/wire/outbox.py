"""What waits to be written to one connection: bounded, with a named policy.

Every entry has a kind, because three rules depend on it: a policy may drop publications only;
reading pauses while many replies wait, and for nothing else; and a heartbeat overtakes the rest.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from itertools import chain

from kps.protocol.limits import ConnectionLimits, Overflow

# Bytes of a message that is formed of several: enough to make cheap what is done once for all
# of them.
_LARGEST_ARRAY = 16 * 1024


class Kind(Enum):
    """Why an entry waits."""

    CONTROL = auto()
    """It belongs to the connection itself: handshake, heartbeat, close frame."""
    REPLY = auto()
    """It answers what this peer sent. Reading from the peer pauses while many of them wait, so
    a peer that asks faster than it reads slows itself down."""
    FORWARDED = auto()
    """Somebody else caused it: another client, or the program on this side. A pause of reading
    would not make it fewer, and two ends that paused for it would wait for each other."""
    DROPPABLE = auto()
    """It carries publications, and a policy may drop it."""


_REPLY = Kind.REPLY
_DROPPABLE = Kind.DROPPABLE


class Entry:
    """Whole frames that are queued as one. One object is shared by the queues of all receivers."""

    __slots__ = ("data", "frames", "kind", "messages", "reply_bytes", "size")

    def __init__(self, data: bytes, kind: Kind, messages: int = 1, frames: int = 1) -> None:
        self.data = data
        self.kind = kind
        self.size = size = len(data)
        self.messages = messages
        """How many messages are in it; none in one of the connection itself."""
        self.frames = frames
        """How many frames it is."""
        self.reply_bytes = size if kind is _REPLY else 0
        """How many of its bytes are replies, which an array may hold beside others."""


def control(data: bytes) -> Entry:
    """An entry of the connection itself."""
    return Entry(data, Kind.CONTROL, messages=0)


class Push(Enum):
    """What became of an entry that was offered to an :class:`Outbox`."""

    QUEUED = auto()
    DROPPED = auto()
    """Not queued, and counted."""
    OVERFLOW = auto()
    """Not queued, and the connection must close."""


_QUEUED = Push.QUEUED


class Outbox:
    """A queue of entries with limits in messages and bytes.

    ``text_frame`` makes a whole frame of a text message. ``join``, once it is set, makes one
    message of several: those that wait together then leave together.
    """

    __slots__ = (
        "_entries",
        "_gathered",
        "_gathered_replies",
        "_gathered_size",
        "_limits",
        "_pending_bytes",
        "_pending_frames",
        "_pending_replies",
        "_settled",
        "dropped",
        "join",
        "largest_array",
        "text_frame",
    )

    def __init__(self, limits: ConnectionLimits, text_frame: Callable[[bytes], bytes]) -> None:
        self._settled: deque[Entry] = deque()
        """The first entries, which no policy can drop: it looks at them only once."""
        self._entries: deque[Entry] = deque()
        """The entries behind them."""
        self._limits = limits
        self.text_frame = text_frame
        self.join: Callable[[Sequence[bytes]], bytes] | None = None
        self.largest_array = _LARGEST_ARRAY
        """Bytes of a message that is formed of several."""
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._gathered_replies = 0
        self._pending_bytes = 0
        self._pending_frames = 0
        self._pending_replies = 0
        self.dropped = 0
        """Messages dropped so far, by the policy or with the connection."""

    # -- what waits -----------------------------------------------------------------------

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be written."""
        return self._pending_bytes + self._gathered_size

    @property
    def pending_messages(self) -> int:
        """Frames, and messages that are not yet in one, that wait to be written."""
        return self._pending_frames + len(self._gathered)

    @property
    def pending_replies(self) -> int:
        """Bytes of replies that wait to be written."""
        return self._pending_replies + self._gathered_replies

    def has_room(self, size: int, count: int = 1) -> bool:
        """Whether so many frames of that size together fit behind what waits.

        A single message that is larger than the limit fits into an empty queue.
        """
        if self._gathered:  # and become a frame of their own before it
            return self._fits(self._gathered_size + _AROUND_ARRAY + size, count + 1)
        return not self._pending_bytes or self._fits(size, count)

    # -- adding ---------------------------------------------------------------------------

    def send(self, message: bytes, kind: Kind) -> Push:
        """Queue one text message that no policy may drop."""
        if self.join is None:
            return self.push(Entry(self.text_frame(message), kind))
        size = self._gathered_size + len(message) + 1
        if size > self.largest_array:
            self.seal()
            size = len(message) + 1
        limits = self._limits
        if (
            self._pending_frames >= limits.queue_messages
            or self._pending_bytes + size + _AROUND_ARRAY > limits.queue_bytes
        ):
            return self.push(Entry(self.text_frame(message), kind))
        self._gathered.append(message)
        self._gathered_size = size
        if kind is _REPLY:
            self._gathered_replies += len(message) + 1
        return _QUEUED

    def push(self, entry: Entry) -> Push:
        """Queue an entry, or say why not."""
        if self._gathered:
            self.seal()
        size = entry.size
        if self._pending_frames and not self._fits(size):
            policy = self._limits.overflow
            is_droppable = entry.kind is _DROPPABLE
            if policy is Overflow.CLOSE:
                return Push.OVERFLOW
            if policy is Overflow.DROP_NEWEST and is_droppable:
                return self._drop(entry)
            self._drop_oldest_for(size)
            if self._pending_frames and not self._fits(size):
                return self._drop(entry) if is_droppable else Push.OVERFLOW
        self._entries.append(entry)
        self._pending_bytes += size
        self._pending_frames += entry.frames
        self._pending_replies += entry.reply_bytes
        return _QUEUED

    def push_whole(self, entry: Entry) -> bool:
        """Queue an entry if there is room for all its frames; ``False`` if there is not."""
        if self._gathered:
            self.seal()
        size = entry.size
        limits = self._limits
        if (
            self._pending_frames + entry.frames > limits.queue_messages
            or self._pending_bytes + size > limits.queue_bytes
        ):
            return False
        self._entries.append(entry)
        self._pending_bytes += size
        self._pending_frames += entry.frames
        self._pending_replies += entry.reply_bytes
        return True

    def push_anyway(self, entry: Entry) -> None:
        """Queue an entry without regard to the limits: what something else bounds."""
        self.seal()
        self._append(entry)

    def push_first(self, entry: Entry) -> None:
        """Queue an entry in front of all others, without regard to the limits: a heartbeat.

        Only an entry of the connection itself that is the next one stays so: the end of the
        opening handshake, before which there are no frames.
        """
        waiting = self._settled or self._entries
        ahead = waiting.popleft() if waiting and waiting[0].kind is Kind.CONTROL else None
        self._settled.appendleft(entry)
        if ahead is not None:
            self._settled.appendleft(ahead)
        self._count(entry)

    def seal(self) -> None:
        """Make an entry of the messages that have been gathered; nothing more joins them."""
        gathered = self._gathered
        if not gathered:
            return
        replies = self._gathered_replies
        kind = Kind.REPLY if replies else Kind.FORWARDED
        entry = Entry(self._take_gathered(), kind, len(gathered))
        if len(gathered) > 1:
            entry.reply_bytes = replies
        self._append(entry)

    def _take_gathered(self) -> bytes:
        """Remove the messages that have been gathered; return a frame of them."""
        gathered = self._gathered
        self._gathered = []
        self._gathered_size = self._gathered_replies = 0
        if len(gathered) == 1:
            return self.text_frame(gathered[0])
        assert self.join is not None
        return self.text_frame(self.join(gathered))

    # -- taking ---------------------------------------------------------------------------

    def take(self, limit: int) -> bytes:
        """Remove and return what waits, joined: up to ``limit`` bytes, or one entry if larger."""
        if self._gathered:
            if not self._pending_frames and self._gathered_size < limit:
                return self._take_gathered()  # nearly always, so without making an entry
            self.seal()
        if self._pending_bytes <= limit:
            if not self._pending_bytes:
                return b""
            entries = self._all() if self._settled else self._entries
            data = b"".join([entry.data for entry in entries])
            self._reset()
            return data
        taken: list[bytes] = []
        size = 0
        while (queue := self._settled or self._entries) and (
            not taken or size + queue[0].size <= limit
        ):
            entry = queue.popleft()
            size += entry.size
            taken.append(entry.data)
            self._discount(entry)
        return b"".join(taken)

    def take_droppable(self) -> list[Entry]:
        """Remove and return the droppable entries, and leave the others."""
        self.seal()
        entries = list(self._all())
        self._reset()
        for entry in entries:
            if entry.kind is not Kind.DROPPABLE:
                self._append(entry)
        return [entry for entry in entries if entry.kind is Kind.DROPPABLE]

    def clear(self) -> None:
        """Give up on everything that waits, and count it as dropped."""
        self.dropped += sum([entry.messages for entry in self._all()]) + len(self._gathered)
        self._gathered = []
        self._gathered_size = self._gathered_replies = 0
        self._reset()

    # -- within ---------------------------------------------------------------------------

    def _fits(self, size: int, count: int = 1) -> bool:
        limits = self._limits
        return (
            self._pending_frames + count <= limits.queue_messages
            and self._pending_bytes + size <= limits.queue_bytes
        )

    def _all(self) -> Iterator[Entry]:
        return chain(self._settled, self._entries)

    def _reset(self) -> None:
        self._settled.clear()
        self._entries.clear()
        self._pending_bytes = self._pending_frames = self._pending_replies = 0

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._count(entry)

    def _count(self, entry: Entry) -> None:
        self._pending_bytes += entry.size
        self._pending_frames += entry.frames
        self._pending_replies += entry.reply_bytes

    def _discount(self, entry: Entry) -> None:
        self._pending_bytes -= entry.size
        self._pending_frames -= entry.frames
        self._pending_replies -= entry.reply_bytes

    def _drop(self, entry: Entry) -> Push:
        self.dropped += entry.messages
        return Push.DROPPED

    def _drop_oldest_for(self, size: int) -> None:
        """Drop droppable entries, the oldest first, until one more of that size has room."""
        entries = self._entries
        while entries and not self._fits(size):
            entry = entries.popleft()
            if entry.kind is Kind.DROPPABLE:
                self._discount(entry)
                self.dropped += entry.messages
            else:
                self._settled.append(entry)


# Bytes of an array that are not its messages: the header of its frame, and the brackets.
_AROUND_ARRAY = 14 + 2
