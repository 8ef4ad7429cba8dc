"""What programs get to see of the bus: messages, and the answers to ack requests."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from kps.errors import InvalidArgument
from kps.protocol.dialect.outcome import AckResponse

if TYPE_CHECKING:
    # Type checkers know this module; it is never imported. It says what a plain name means.
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class Acknowledgement:
    """The answer that one message still needs, from all subscriptions that got it."""

    __slots__ = ("ack_id", "epoch", "error", "remaining", "result")

    def __init__(self, ack_id: str, epoch: int, remaining: int) -> None:
        self.ack_id = ack_id
        self.epoch = epoch
        """The connection that it came on; an answer on a later one would mean nothing."""
        self.remaining = remaining
        """Subscriptions that have not yet told how it went."""
        self.error: str | None = None
        """What the first of them that failed said."""
        self.result: Any = None
        """What the first of them that had a result gave."""


@dataclass(slots=True)
class Message(Generic[T]):
    """One message, as a callback or an iterator receives it.

    ``Message[Order]`` says of what type the payload is; plain ``Message`` says nothing about it.
    The type is the program's word: nothing checks the payload.
    """

    topic: str
    """The topic; empty for a direct message."""
    data: T
    """The payload: any JSON value."""
    sender: str
    """The id of who published it."""
    size: int = field(default=0, repr=False, compare=False)
    """Bytes of the WebSocket message that brought it; within one process, that would have."""
    acknowledgement: Acknowledgement | None = field(default=None, repr=False, compare=False)

    @property
    def wants_ack(self) -> bool:
        """Whether the publisher asked to be told how handling it went."""
        return self.acknowledgement is not None

    def reply(self, result: Any) -> None:
        """Give a publisher who wants an ack a result: any JSON value.

        It goes with the ack, when the message has been handled. What a callback returns does the
        same. Nothing happens when nobody wants an ack, or its publisher is on level 1.
        """
        if self.acknowledgement is not None and self.acknowledgement.result is None:
            self.acknowledgement.result = result


def make_messages(topic: str, payloads: Iterable[Any], sender: str, size: int) -> list[Message]:
    """Messages that want no ack, of ``size`` bytes each.

    They are made without the constructor, which would cost most of what receiving them does.
    """
    messages: list[Message] = []
    new = object.__new__
    for data in payloads:
        message = new(Message)
        message.topic = topic
        message.data = data
        message.sender = sender
        message.size = size
        message.acknowledgement = None
        messages.append(message)
    return messages


class AckHandle:
    """What a publisher knows of its ack request; filled in as answers come."""

    __slots__ = ("error", "finished", "id", "responses")

    def __init__(self, ack_id: str) -> None:
        self.id = ack_id
        self.responses: dict[str, AckResponse] = {}
        """The outcomes so far, by client id."""
        self.finished = False
        """Nothing more will come: complete, out of time, cancelled or lost."""
        self.error: Exception | None = None
        """Why it ended without the server's answer, if it did."""

    def known_status(self) -> dict[str, bool]:
        """Who was addressed and has answered, as far as the outcomes tell."""
        return {name: outcome.error != "timeout" for name, outcome in self.responses.items()}


@dataclass(frozen=True, slots=True)
class AckChanged:
    """An ack request of the program on this side got an answer, or ended."""

    handle: AckHandle


def check_topic(topic: Any) -> str:
    """Return a topic of the program's. Raises :class:`kps.InvalidArgument`."""
    if not isinstance(topic, str) or not topic:
        raise InvalidArgument("a topic is a string that is not empty")
    return topic


def check_timeout(seconds: Any) -> None:
    """Refuse what is no time to wait for answers. Raises :class:`kps.InvalidArgument`."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise InvalidArgument("timeout must be a number of seconds above 0")
