"""Messages of one sender on their way to any number of subscribers."""

from typing import Any, Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Publication:
    """Messages of one sender on one topic.

    Usually there is one message. Several that came together share a publication, so that each
    subscriber's queue is touched once for all. A publication is encoded once for each
    :class:`Encoding` among its subscribers, and their queues share the result.
    """

    __slots__ = ("_encoded", "ack_id", "is_direct", "partial", "payloads", "sender", "topic")

    def __init__(
        self, topic: str, sender: str, *payloads: Any, ack_id: str = "", is_direct: bool = False
    ) -> None:
        self.topic = topic
        self.sender = sender
        self.payloads = list(payloads)
        self.ack_id = ack_id
        """The server's id of the ack request; empty if the publisher wants no ack."""
        self.is_direct = is_direct
        """Whether it is a direct message, which has a ``topic`` for level 1 only."""
        self.partial = 0
        """Correction of the count of delivered messages: ``deliver`` tells whether the last
        message had room, and others may have fared differently."""
        self._encoded: dict[object, Any] = {}

    def encoded(self, encoding: "Encoding[T]") -> T:
        """Return the publication in an encoding, made on first use."""
        encoded: T | None = self._encoded.get(encoding)
        if encoded is None:
            encoded = self._encoded[encoding] = encoding.encode(self)
        return encoded


class Encoding(Protocol[T_co]):
    """A form in which publications are queued; equal to itself only.

    It stands for everything that changes the bytes: the dialect and the transport.
    """

    def encode(self, publication: Publication) -> T_co:
        """Encode a publication. Raises the dialect's errors for payloads it cannot write."""
