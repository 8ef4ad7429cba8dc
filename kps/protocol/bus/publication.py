"""Messages of one sender on their way to any number of subscribers."""

from typing import Any, Protocol, TypeVar

from kps.protocol.dialect.texts import split_joined
from kps.protocol.patterns import InGroup

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Publication:
    """Messages of one sender on one topic, whose payloads are JSON.

    Usually there is one message. Several that came together share a publication, so that each
    subscriber's queue is touched once for all. A publication is encoded once for each
    :class:`Encoding` among its subscribers, and their queues share the result.
    """

    __slots__ = ("_encoded", "ack_id", "attempt", "count", "epoch", "group", "headers",
                 "is_direct", "offset", "partial", "sender", "texts", "topic")  # fmt: skip

    is_forwarded = False
    """Whether it has come from another node of the cluster."""
    receipt = 0
    """The number by which other nodes tell how many subscribers got it; 0: nobody asks."""

    def __init__(
        self, topic: str, sender: str, *payloads: bytes, ack_id: str = "", is_direct: bool = False
    ) -> None:
        self.topic = topic
        self.sender = sender
        self.count = len(payloads)
        """Number of messages."""
        self.texts = list(payloads)
        """The payloads, in order. A text may hold several of them, with commas in between."""
        self.ack_id = ack_id
        """The server's id of the ack request; empty if the publisher wants no ack."""
        self.is_direct = is_direct
        """Whether it is a direct message, which has a ``topic`` for level 1 only."""
        self.headers = b""
        """Texts beside the payloads, as the JSON of an object; empty for none."""
        self.group: InGroup | None = None
        """The group for whose member it is, if it is."""
        self.attempt: int
        """How many members have been asked with this one, if it is for a member of a group."""
        self.offset = 0
        """The offset of the first message, if the topic has history; else 0."""
        self.epoch = ""
        """The epoch of the offsets, if that is not the server's usual one."""
        self.partial = 0
        """Correction of the count of delivered messages: ``deliver`` tells whether the last
        message had room, and others may have fared differently."""
        self._encoded: dict[object, Any] = {}

    def add(self, texts: list[bytes], count: int) -> None:
        """Add messages, whose payloads are in ``texts``."""
        self.texts += texts
        self.count += count

    def payloads(self) -> list[bytes]:
        """Return the payloads one by one."""
        texts = self.texts
        if len(texts) != self.count:
            self.texts = texts = [one for text in texts for one in split_joined(text)]
        return texts

    def encoded(self, encoding: "Encoding[T]") -> T:
        """Return the publication in an encoding, made on first use."""
        encoded: T | None = self._encoded.get(encoding)
        if encoded is None:
            encoded = self._encoded[encoding] = encoding.encode(self)
        return encoded


class ForwardedPublication(Publication):
    """A publication that has come from another node of the cluster, and goes to no further one."""

    __slots__ = ()

    is_forwarded = True


class CountedPublication(Publication):
    """A publication whose receivers on other nodes of the cluster are counted."""

    __slots__ = ("receipt",)

    def __init__(self, topic: str, sender: str) -> None:
        super().__init__(topic, sender)
        self.receipt = 0


class Encoding(Protocol[T_co]):
    """A form in which publications are queued; equal to itself only.

    It stands for everything that changes the bytes: the dialect and the transport.
    """

    def encode(self, publication: Publication) -> T_co:
        """Encode a publication."""
