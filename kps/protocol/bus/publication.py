"""Messages of one sender on their way to any number of subscribers."""

from collections.abc import Sequence
from typing import Any

from kps.protocol.dialect import level1, level2
from kps.protocol.wire.frames import text_frame
from kps.protocol.wire.outbox import Droppable


class Publication:
    """Messages of one sender on one topic, on their way to any number of subscribers.

    Usually it is one; there are several when they came together, so that each subscriber's
    queue is touched once for all of them. Their bytes are made once for each level of the
    protocol that is among the subscribers, and the same object is queued for all.
    """

    __slots__ = (
        "_joined",
        "_messages",
        "_plain",
        "_single",
        "ack_id",
        "is_direct",
        "payloads",
        "sender",
        "topic",
    )

    def __init__(
        self, topic: str, sender: str, *payloads: Any, ack_id: str = "", is_direct: bool = False
    ) -> None:
        self.topic = topic
        self.sender = sender
        self.payloads = list(payloads)
        self.ack_id = ack_id
        """The server's id of the ack request; empty when no answer is wanted."""
        self.is_direct = is_direct
        """Whether it was sent to an id, and ``topic`` only names that for level 1."""
        self._joined: dict[int, bytes] = {}
        self._messages: dict[int, bytes] = {}
        self._plain: list[bytes] = []  # the frames of level 1, each as it is
        self._single: dict[int, list[bytes]] = {}

    def make(self, level: int) -> bytes:
        """Make the bytes for a level, once; return them."""
        return self.message(level) if self.ack_id else self.frame(level)

    def frame(self, level: int) -> bytes:
        """All messages in one piece, as whole WebSocket frames."""
        joined = self._joined.get(level)
        if joined is None:
            joined = self._joined[level] = self._join(level)
        return joined

    def message(self, level: int) -> bytes:
        """The one message, which wants an answer, as JSON."""
        message = self._messages.get(level)
        if message is None:
            (data,) = self.payloads
            if level == 1:
                message = level1.delivery_with_ack(self.topic, self.sender, data, self.ack_id)
            else:
                topic = "" if self.is_direct else self.topic
                message = level2.delivery_with_ack(topic, self.sender, data, self.ack_id)
            self._messages[level] = message
        return message

    def frames(self, level: int) -> Sequence[bytes]:
        """The WebSocket frame of each message, for a queue without room for all of them."""
        if len(self.payloads) == 1:
            return (self.frame(level),)
        if level == 1 and level not in self._single:
            self.frame(level)
            self._single[level] = [Droppable(frame) for frame in self._plain]
        elif level not in self._single:
            alone = [Publication(self.topic, self.sender, data) for data in self.payloads]
            self._single[level] = [publication.frame(level) for publication in alone]
        return self._single[level]

    def _join(self, level: int) -> bytes:
        if self.ack_id:
            return text_frame(self.message(level))
        if level == 1:
            frames = [
                text_frame(level1.delivery(self.topic, self.sender, d)) for d in self.payloads
            ]
            self._plain = frames
            return Droppable.of(frames)
        batch = level2.delivery(self.topic, self.sender, self.payloads)
        return Droppable.holding(text_frame(batch), len(self.payloads))
