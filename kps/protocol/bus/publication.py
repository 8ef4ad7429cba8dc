"""Messages of one sender on their way to any number of subscribers."""

from typing import Any, Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Publication:
    """Messages of one sender on one topic.

    Usually it is one; there are several when they came together, so that each subscriber's
    queue is touched once for all of them. What a subscriber's queue holds is made once for each
    :class:`Encoding` that is among the subscribers, and all of them share it.
    """

    __slots__ = ("_encoded", "ack_id", "is_direct", "partial", "payloads", "sender", "topic")

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
        self.partial = 0
        """Messages to be counted as delivered beyond what ``deliver`` tells by the last one."""
        self._encoded: dict[object, Any] = {}

    def encoded(self, encoding: "Encoding[T]") -> T:
        """This in the form of an encoding, made when it is first asked for."""
        encoded: T | None = self._encoded.get(encoding)
        if encoded is None:
            encoded = self._encoded[encoding] = encoding.encode(self)
        return encoded


class Encoding(Protocol[T_co]):
    """A form in which publications are queued; equal to itself only.

    It stands for all that makes a difference in the bytes: the dialect, and what carries them.
    """

    def encode(self, publication: Publication) -> T_co:
        """Make the form. Raises what the dialect raises for payloads that it cannot write."""
