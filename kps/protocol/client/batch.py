"""Publications on one topic that leave in one message (spec, 12.3)."""

from typing import Any

from kps.protocol.dialect import level2
from kps.protocol.dialect.envelope import load
from kps.protocol.wire.frames import LONGEST_HEADER
from kps.protocol.wire.outbox import Entry, Kind

LARGEST_BATCH = 64 * 1024
"""Bytes of a message that is formed of several publications, at most: enough to make what is
done once for all of them cheap."""

_AROUND = 1 + len(level2.BATCH_END) + LONGEST_HEADER


class Batch:
    """Publications on one topic that will leave in one message."""

    __slots__ = ("_head", "_message", "ahead", "count", "limit", "topic")

    def __init__(self, topic: str, payload: bytes, *, ahead: int, limit: int) -> None:
        self.topic = topic
        self.count = 1
        self.ahead = ahead
        """Bytes that waited before it was begun."""
        self.limit = limit
        """What its message and frame together may grow to, in bytes."""
        self._head = level2.batch_head(topic)
        self._message = bytearray(self._head)
        self._message += payload

    @property
    def size(self) -> int:
        """Bytes of its frame, at most."""
        return len(self._message) + len(level2.BATCH_END) + LONGEST_HEADER

    @property
    def waiting(self) -> int:
        """Bytes that wait, its own included."""
        return self.ahead + self.size

    def add(self, payload: bytes) -> int:
        """Add a payload, if it has room; return the bytes that wait then, or 0 if not."""
        message = self._message
        size = len(message) + len(payload) + _AROUND
        if size > self.limit:
            return 0
        message += b","
        message += payload
        self.count += 1
        return self.ahead + size

    def message(self) -> bytes:
        """The JSON of its message."""
        if self.count == 1:
            return level2.publish(self.topic, bytes(self._message[len(self._head) :]))
        return bytes(self._message) + level2.BATCH_END

    def payloads(self) -> list[Any]:
        """The payloads in it, read again."""
        loaded: list[Any] = load(b"[" + self._message[len(self._head) :] + b"]")
        return loaded


class BatchEntry(Entry):
    """A batch that waits to be written, from which its payloads can be taken again."""

    __slots__ = ("batch",)

    def __init__(self, frame: bytes, batch: Batch) -> None:
        super().__init__(frame, Kind.DROPPABLE, batch.count)
        self.batch = batch
