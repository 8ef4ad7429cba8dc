"""Publications on one topic that leave together: in one message, or in a frame each."""

from collections.abc import Sequence
from typing import Any

from kps.protocol.cost import ENTRY
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.envelope import load
from kps.protocol.wire.frames import (
    LONGEST_HEADER,
    SEPARATOR,
    Masker,
    read_texts,
    size_of_masked,
    split_frames,
)
from kps.protocol.wire.outbox import Entry, Kind

_DROPPABLE = Kind.DROPPABLE

LARGEST_BATCH = 64 * 1024
"""Most bytes of a batch. It is large enough to make the cost per batch negligible."""

LARGEST_ROW = 32 * 1024
"""Most bytes for which a row counts. Larger ones take longer to mask."""

_LONGEST_HEADER = size_of_masked(LARGEST_ROW) - LARGEST_ROW


class Gathering:
    """Publications on one topic that leave together.

    The caller that adds a payload appends it to ``gathered``, behind ``between``, increases
    ``count``, and ``size`` by its bytes and ``more``.
    """

    __slots__ = ("ahead", "between", "count", "first_frame", "gathered", "limit", "more", "size",
                 "topic")  # fmt: skip

    topic: str
    ahead: int
    """Bytes that were pending when it began."""
    limit: int
    """Most bytes for which it may count."""
    between: bytes
    """What stands between two payloads."""
    gathered: bytearray
    """The payloads so far."""
    count: int
    """Their number."""
    size: int
    """Bytes for which it counts, at most."""
    more: int
    """Bytes that each further payload adds to its own."""
    first_frame: int
    """Bytes of the frame of its first payload, at most."""

    @property
    def waiting(self) -> int:
        """Pending bytes, including its own."""
        return self.ahead + self.size

    def message(self) -> bytes:
        """Return the JSON of its message; of a row, while it has only one."""
        raise NotImplementedError

    def entry(self, masker: Masker) -> Entry:
        """Make its entry of the queue."""
        raise NotImplementedError


class Batch(Gathering):
    """Publications that share a message (spec, 12.3)."""

    __slots__ = ("_head",)

    def __init__(self, topic: str, payload: bytes, ahead: int, limit: int) -> None:
        self.topic, self.ahead, self.limit, self.count = topic, ahead, limit, 1
        self._head = level2.batch_head(topic)
        self.gathered = bytearray(self._head)
        self.gathered += payload
        self.between = b","
        self.size = len(self.gathered) + len(level2.BATCH_END) + LONGEST_HEADER
        self.first_frame = self.size
        self.more = 1

    def message(self) -> bytes:
        if self.count == 1:
            return level2.publish(self.topic, bytes(self.gathered[len(self._head) :]))
        return bytes(self.gathered) + level2.BATCH_END

    def entry(self, masker: Masker) -> Entry:
        return BatchEntry(masker.text_frame(self.message()), self)


class Row(Gathering):
    """Publications in a frame each, all of which are made at once (spec, 4.7).

    As entries of the queue, they count as if each came by itself.
    """

    __slots__ = ("_head", "_tail")

    def __init__(self, topic: str, sender: str, payload: bytes, ahead: int, limit: int) -> None:
        self.topic, self.ahead, self.limit, self.count = topic, ahead, limit, 1
        self._head, self._tail = level1.around_published(topic, sender)
        self.gathered = bytearray(payload)
        self.between = SEPARATOR
        around = len(self._head) + len(self._tail)
        self.first_frame = size_of_masked(around + len(payload))
        self.size = self.first_frame + ENTRY
        self.more = _LONGEST_HEADER + around + ENTRY

    def message(self) -> bytes:
        return b"".join((self._head, self.gathered, self._tail))

    def entry(self, masker: Masker) -> Entry:
        if self.count == 1:
            return Entry(masker.text_frame(self.message()), _DROPPABLE)
        frames = masker.text_frames(self._head, bytes(self.gathered), self._tail)
        return RowEntry(frames, _DROPPABLE, self.count, self.count)


class BatchEntry(Entry):
    """A queued batch, whose publications can still be read out of its frame."""

    __slots__ = ()

    def __init__(self, frame: bytes, batch: Batch) -> None:
        super().__init__(frame, _DROPPABLE, batch.count)

    def publications(self) -> tuple[str, list[Any]]:
        """Parse its message; return the topic and the payloads."""
        fields = load(messages_in(self)[0])
        return fields["topic"], fields["batch"] if "batch" in fields else [fields["data"]]


class RowEntry(Entry):
    """Queued frames of one publication each, which are taken and dropped one by one if need be."""

    __slots__ = ()

    def parts(self) -> Sequence[Entry]:
        return [Entry(frame, _DROPPABLE) for frame in split_frames(self.data)]


def messages_in(entry: Entry) -> list[bytes]:
    """Return the messages in an entry of our own."""
    messages: list[bytes] = []
    data = entry.data
    read_texts(data, 0, len(data), True, len(data), messages)
    return messages
