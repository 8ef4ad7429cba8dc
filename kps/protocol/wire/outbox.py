"""The queue of data pending for one connection: bounded, with a named policy.

Every entry has a kind, and three rules depend on it: a policy may drop publications only;
reading pauses while many replies are pending, but never for entries of another kind; a
heartbeat overtakes the rest.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from itertools import chain

from kps.protocol.cost import ENTRY
from kps.protocol.limits import ConnectionLimits, Overflow
from kps.protocol.wire.taken import Taken

# Most bytes of an array of messages. It is large enough to make the cost per array negligible.
_LARGEST_ARRAY = 16 * 1024


class Kind(Enum):
    """What caused an entry."""

    CONTROL = auto()
    """The connection itself: handshake, heartbeat, close frame."""
    REPLY = auto()
    """A request of this peer. We pause reading from the peer while many replies are pending, so
    a peer that asks faster than it reads slows itself down."""
    FORWARDED = auto()
    """Another client, or the program on this side. Pausing would not reduce these, and two ends
    that paused for them would wait for each other."""
    DROPPABLE = auto()
    """A publication. A policy may drop it."""


_REPLY = Kind.REPLY
_FORWARDED = Kind.FORWARDED
_DROPPABLE = Kind.DROPPABLE


class Entry:
    """Whole frames, queued as one. The queues of all receivers share one object."""

    __slots__ = (
        "data",
        "frames",
        "kind",
        "messages",
        "reply_bytes",
        "size",
    )

    def __init__(self, data: bytes, kind: Kind, messages: int = 1, frames: int = 1) -> None:
        self.data = data
        self.kind = kind
        self.size = len(data) + ENTRY * frames
        """Bytes for which it counts: those of its frames, and what each takes as an entry of its
        own, so that it makes no difference which messages came together."""
        self.messages = messages
        """Number of messages in it; 0 for a control entry."""
        self.frames = frames
        """Number of frames in it."""
        self.reply_bytes = self.size if kind is _REPLY else 0
        """Bytes of replies in it; an array may hold replies beside other messages."""

    def parts(self) -> "Sequence[Entry]":
        """Return the entries of which it consists, if it can be taken and dropped in parts."""
        return (self,)


def control(data: bytes) -> Entry:
    """Make an entry of the connection itself."""
    return Entry(data, Kind.CONTROL, messages=0)


_NONE: deque[Entry] = deque()
"""Stands for an empty queue, and stays empty: a deque of its own takes more memory than all else
that an idle connection has here."""


class Push(Enum):
    """What an :class:`Outbox` did with an entry."""

    QUEUED = auto()
    DROPPED = auto()
    """Not queued, and counted as dropped."""
    OVERFLOW = auto()
    """Not queued: the connection must close."""


_QUEUED = Push.QUEUED


class Outbox:
    """A queue of entries with limits in messages and bytes.

    ``text_frame`` makes a frame of a text message. Once ``join`` is set, the queue gathers
    messages and joins them into one.
    """

    __slots__ = (
        "_entries",
        "_first",
        "_gathered_replies",
        "_gathered_size",
        "_largest_array",
        "_limits",
        "_most_gathered",
        "_others",
        "_pending_frames",
        "_room_for_array",
        "_settled",
        "dropped",
        "framed_bytes",
        "gathered",
        "gone",
        "join",
        "pending_replies",
        "taken",
        "text_frame",
    )

    def __init__(self, limits: ConnectionLimits, text_frame: Callable[[bytes], bytes]) -> None:
        self._settled = _NONE
        """The first entries: the policy has found that it may not drop them."""
        self._entries = _NONE
        """The entries behind them."""
        self._limits = limits
        self._room_for_array = limits.queue_bytes - _AROUND_ARRAY
        self.text_frame = text_frame
        self.join: tuple[bytes, bytes, bytes] | None = None
        """What goes in front of several messages, between two, and behind them, to join them."""
        self._most_gathered = -1  # bytes of a joined message, while no frame is pending
        self._largest_array = _LARGEST_ARRAY
        self.gathered = 0
        """Number of messages that are not in a frame yet."""
        self._first = b""  # the first of them; alone it usually leaves soon, and needs no copy
        self._others = bytearray()  # joined: each message of its own would take more memory
        self._gathered_size = 0
        self._gathered_replies = 0
        self.framed_bytes = 0
        """Bytes for which the entries count. If this and ``gathered`` are 0, nothing is pending."""
        self._pending_frames = 0
        self.pending_replies = 0
        """Bytes of replies that are pending."""
        self.dropped = 0
        """Messages dropped so far, by the policy or with the connection."""
        self.gone = 0
        """Bytes that have left the queue so far: taken, or dropped."""
        self.taken: Taken | None = None
        """Notes each take, for an owner that wants to know what was in the last ones."""

    # -- pending --------------------------------------------------------------------------

    @property
    def pending_bytes(self) -> int:
        """Bytes for which the pending data counts, each entry with what it takes in memory."""
        return self.framed_bytes + self._gathered_size

    @property
    def end(self) -> int:
        """The end of the queue, as ``gone`` will be when all of it has left."""
        return self.gone + self.framed_bytes + self._gathered_size

    @property
    def pending_messages(self) -> int:
        """Frames that are pending, and gathered messages that are not in a frame yet."""
        return self._pending_frames + self.gathered

    def has_room(self, size: int, count: int = 1) -> bool:
        """Whether an entry with ``count`` frames of ``size`` bytes in all fits.

        A single message that is larger than the limit fits into an empty queue.
        """
        size += ENTRY * count
        if self.gathered:  # these become a frame of their own
            return self._fits(self._gathered_size + _AROUND_ARRAY + size, count + 1)
        return not self.framed_bytes or self._fits(size, count)

    @property
    def room(self) -> int:
        """Bytes of the largest frame that fits, by the limit in bytes."""
        room = self._limits.queue_bytes - self.framed_bytes - ENTRY
        return room - self._gathered_size - _AROUND_ARRAY if self.gathered else room

    # -- adding ---------------------------------------------------------------------------

    def speak(self, join: tuple[bytes, bytes, bytes] | None, most: int | None = None) -> None:
        """Join messages from now on, if there is a ``join``, into up to ``most`` bytes."""
        self.join = join
        if most is not None:
            self._largest_array = min(self._largest_array, most - 2)
        if join is not None:
            self._most_gathered = min(self._largest_array, self._room_for_array)

    def send(self, message: bytes, kind: Kind) -> Push:
        """Queue one text message that no policy may drop."""
        own = len(message) + 1
        size = self._gathered_size + own
        if size > self._most_gathered or self.framed_bytes:
            if self.join is None:
                return self.push(Entry(self.text_frame(message), kind))
            if size > self._largest_array:
                self.seal()
                size = own
            if (
                self._pending_frames >= self._limits.queue_messages
                or self.framed_bytes + size > self._room_for_array
            ):
                return self.push(Entry(self.text_frame(message), kind))
        if self.gathered:
            others = self._others
            assert self.join is not None
            others += self.join[1]
            others += message
        else:
            self._first = message
        self.gathered += 1
        self._gathered_size = size
        if kind is _REPLY:
            self._gathered_replies += own
            self.pending_replies += own
        return _QUEUED

    def push(self, entry: Entry) -> Push:
        """Queue an entry, or tell why not."""
        if self.gathered:
            self.seal()
        size, frames = entry.size, entry.frames
        if (self._pending_frames or frames > 1) and not self._fits(size, frames):
            policy = self._limits.overflow
            is_droppable = entry.kind is _DROPPABLE
            if policy is Overflow.CLOSE:
                return Push.OVERFLOW
            # A larger one than the queue must not empty it.
            limits = self._limits
            is_too_large = size > limits.queue_bytes or frames > limits.queue_messages
            goes_itself = is_droppable and (policy is Overflow.DROP_NEWEST or is_too_large)
            if not goes_itself:
                self._drop_oldest_for(entry)
            if goes_itself or (self._pending_frames and not self._fits(size, frames)):
                if not is_droppable:
                    return Push.OVERFLOW
                self.dropped += entry.messages
                return Push.DROPPED
        if self._entries is _NONE:
            self._entries = deque()
        self._entries.append(entry)
        self.framed_bytes += size
        self._pending_frames += frames
        self.pending_replies += entry.reply_bytes
        return _QUEUED

    def push_whole(self, entry: Entry) -> bool:
        """Queue an entry if there is room for all its frames; tell whether there was."""
        if self.gathered:
            self.seal()
        size = entry.size
        limits = self._limits
        if (
            self._pending_frames + entry.frames > limits.queue_messages
            or self.framed_bytes + size > limits.queue_bytes
        ):
            return False
        if self._entries is _NONE:
            self._entries = deque()
        self._entries.append(entry)
        self.framed_bytes += size
        self._pending_frames += entry.frames
        self.pending_replies += entry.reply_bytes
        return True

    def push_anyway(self, entry: Entry) -> None:
        """Queue an entry that something else bounds, ignoring the limits."""
        self.seal()
        self._append(entry)

    def push_first(self, entry: Entry) -> None:
        """Queue a heartbeat in front of all other entries, ignoring the limits.

        It goes behind a control entry at the front, which may be the end of the opening
        handshake: no frame may precede that.
        """
        waiting = self._settled or self._entries
        ahead = waiting.popleft() if waiting and waiting[0].kind is Kind.CONTROL else None
        if self._settled is _NONE:
            self._settled = deque()
        self._settled.appendleft(entry)
        if ahead is not None:
            self._settled.appendleft(ahead)
        self._count(entry)

    def seal(self) -> None:
        """Make an entry of the gathered messages."""
        count = self.gathered
        if not count:
            return
        replies = self._gathered_replies
        kind = _REPLY if replies else _FORWARDED
        entry = Entry(self._take_gathered(), kind, count)
        if count > 1:
            entry.reply_bytes = replies
        self._append(entry)

    def _take_gathered(self) -> bytes:
        """Remove the gathered messages; return them as one frame."""
        message = self._first
        if self.gathered > 1:
            assert self.join is not None
            message = b"".join((self.join[0], message, self._others, self.join[2]))
            self._others = bytearray()
        self._first = b""
        self.pending_replies -= self._gathered_replies
        self.gathered = self._gathered_size = self._gathered_replies = 0
        return self.text_frame(message)

    # -- taking ---------------------------------------------------------------------------

    def take(self, limit: int) -> bytes:
        """Remove and return entries that count for up to ``limit`` bytes, or one larger entry."""
        if self.gathered:
            if not self._pending_frames and self._gathered_size < limit:
                self.gone += self._gathered_size
                count = self.gathered
                data = self._take_gathered()  # the common case needs no entry
                if self.taken is not None:
                    self.taken.note(len(data), count, 1)
                return data
            self.seal()
        if self.framed_bytes <= limit:
            if not self.framed_bytes:
                return b""
            if len(self._entries) == 1 and not self._settled:  # a request or its answer
                entry = self._entries[0]
                data = entry.data
                if self.taken is not None:
                    self.taken.note(len(data), entry.messages, entry.frames)
                self._reset()
                return data
            entries = list(self._all()) if self._settled else self._entries
            data = b"".join([entry.data for entry in entries])
            if self.taken is not None:
                self.taken.note_all(len(data), entries)
            self._reset()
            return data
        if (queue := self._settled or self._entries)[0].size > limit:
            _split_first(queue)
        taken: list[Entry] = []
        size = 0
        while (queue := self._settled or self._entries) and (
            not taken or size + queue[0].size <= limit
        ):
            entry = queue.popleft()
            size += entry.size
            taken.append(entry)
            self._discount(entry)
        data = b"".join([entry.data for entry in taken])
        if self.taken is not None:
            self.taken.note_all(len(data), taken)
        return data

    def take_droppable(self) -> list[Entry]:
        """Remove and return the droppable entries; keep the others."""
        self.seal()
        entries = list(self._all())
        self._reset()
        for entry in entries:
            if entry.kind is not _DROPPABLE:
                self._append(entry)
        return [entry for entry in entries if entry.kind is _DROPPABLE]

    def clear(self) -> None:
        """Drop everything that is pending, and count it as dropped."""
        self.dropped += sum([entry.messages for entry in self._all()]) + self.gathered
        self._first, self._others = b"", bytearray()
        self.gathered = self._gathered_size = self._gathered_replies = 0
        self._reset()

    # -- within ---------------------------------------------------------------------------

    def _fits(self, size: int, count: int = 1) -> bool:
        limits = self._limits
        return (
            self._pending_frames + count <= limits.queue_messages
            and self.framed_bytes + size <= limits.queue_bytes
        )

    def _all(self) -> Iterator[Entry]:
        return chain(self._settled, self._entries)

    def _reset(self) -> None:
        self.gone += self.framed_bytes
        self._settled = self._entries = _NONE  # not ``clear``, which keeps memory
        self.framed_bytes = self._pending_frames = self.pending_replies = 0

    def _append(self, entry: Entry) -> None:
        if self._entries is _NONE:
            self._entries = deque()
        self._entries.append(entry)
        self._count(entry)

    def _count(self, entry: Entry) -> None:
        self.framed_bytes += entry.size
        self._pending_frames += entry.frames
        self.pending_replies += entry.reply_bytes

    def _discount(self, entry: Entry) -> None:
        self.gone += entry.size
        self.framed_bytes -= entry.size
        self._pending_frames -= entry.frames
        self.pending_replies -= entry.reply_bytes

    def _drop_oldest_for(self, entry: Entry) -> None:
        """Drop droppable entries, oldest first, until an entry has room."""
        entries = self._entries
        while entries and not self._fits(entry.size, entry.frames):
            if entries[0].frames > 1:
                _split_first(entries)
            oldest = entries.popleft()
            if oldest.kind is _DROPPABLE:
                self._discount(oldest)
                self.dropped += oldest.messages
            else:
                if self._settled is _NONE:
                    self._settled = deque()
                self._settled.append(oldest)


def _split_first(entries: deque[Entry]) -> None:
    """Put the parts of the first entry in its place."""
    parts = entries[0].parts()
    others = parts[-2::-1]
    # Nothing is called between these two steps, so no signal handler comes in.
    entries[0] = parts[-1]
    entries.extendleft(others)


# Bytes that an array adds to its messages: the header of its frame, the brackets, and its entry.
_AROUND_ARRAY = 14 + 2 + ENTRY
