"""Publications on one topic that leave in one message (spec, 12.3)."""

from typing import Any

from kps.protocol.dialect import level2
from kps.protocol.dialect.envelope import load
from kps.protocol.wire.frames import LONGEST_HEADER, read_texts
from kps.protocol.wire.outbox import Entry, Kind

_DROPPABLE = Kind.DROPPABLE

LARGEST_BATCH = 64 * 1024
"""Most bytes of a batch. It is large enough to make the cost per batch negligible."""


class Batch:
    """Publications on one topic that will share a message."""

    __slots__ = ("_head", "ahead", "count", "gathered", "limit", "size", "topic")

    def __init__(self, topic: str, payload: bytes, *, ahead: int, limit: int) -> None:
        self.topic = topic
        self.count = 1
        self.ahead = ahead
        """Bytes that were pending when the batch began."""
        self.limit = limit
        """Most bytes of its frame."""
        self._head = level2.batch_head(topic)
        self.gathered = bytearray(self._head)
        """Its message so far. The caller that adds a payload increases ``count`` and ``size``."""
        self.gathered += payload
        self.size = len(self.gathered) + len(level2.BATCH_END) + LONGEST_HEADER
        """Bytes of its frame, at most."""

    @property
    def waiting(self) -> int:
        """Pending bytes, including its own."""
        return self.ahead + self.size

    def message(self) -> bytes:
        """Return the JSON of its message."""
        if self.count == 1:
            return level2.publish(self.topic, bytes(self.gathered[len(self._head) :]))
        return bytes(self.gathered) + level2.BATCH_END


class BatchEntry(Entry):
    """A queued batch, whose publications can still be read out of its frame."""

    __slots__ = ()

    def __init__(self, frame: bytes, batch: Batch) -> None:
        super().__init__(frame, _DROPPABLE, batch.count)

    def publications(self) -> tuple[str, list[Any]]:
        """Parse its message; return the topic and the payloads."""
        fields = load(message_in(self))
        return fields["topic"], fields["batch"] if "batch" in fields else [fields["data"]]


def message_in(entry: Entry) -> bytes:
    """Return the message in an entry of one frame of our own."""
    messages: list[bytes] = []
    read_texts(entry.data, 0, 1, True, len(entry.data), messages)
    return messages[0]
