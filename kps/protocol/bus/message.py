"""Messages, as programs see them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from kps.protocol.dialect.envelope import Fields, load
from kps.protocol.dialect.places import Position

if TYPE_CHECKING:
    # Only type checkers read this import. The default is the meaning of a plain ``Message``.
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class NotBegun(str):
    """The error of a message that the program has not begun to handle."""

    __slots__ = ()


UNSUBSCRIBED = NotBegun("unsubscribed")
QUEUE_FULL = NotBegun("queue full")


class Acknowledgement:
    """The ack that is due for one message, once all subscriptions have handled it."""

    __slots__ = ("ack_id", "epoch", "error", "has_begun", "is_for_member", "remaining", "result")

    def __init__(self, ack_id: str, epoch: int, remaining: int) -> None:
        self.ack_id = ack_id
        self.is_for_member = False
        """Whether the program has it as a member of a group: then another one may handle it."""
        self.has_begun = True
        """Whether the program may have begun to handle it."""
        self.epoch = epoch
        """Number of the connection that brought it; on a later one the ack would be void."""
        self.remaining = remaining
        """Number of subscriptions that have not handled it yet."""
        self.error: str | None = None
        """The error of the first subscription that failed."""
        self.result: Any = None
        """The first result of a subscription."""


@dataclass(slots=True)
class Message(Generic[T]):
    """One message, as a callback or an iterator receives it.

    ``Message[Order]`` declares the type of the payload; plain ``Message`` means any. It is for
    type checkers only: KPS does not check the payload.
    """

    topic: str
    """The topic; empty for a direct message."""
    data: T
    """The payload: any JSON value."""
    sender: str
    """The id of the publisher."""
    size: int = field(default=0, repr=False, compare=False)
    """Bytes of the message's JSON; within one process, of the JSON that it would have."""
    acknowledgement: Acknowledgement | None = field(default=None, repr=False, compare=False)
    """For KPS itself: a program asks ``wants_ack``, and calls ``reply``."""
    _epoch: str = field(init=False, repr=False, compare=False)  # of its position, if it has one
    _offset: int = field(init=False, repr=False, compare=False)
    _headers: Mapping[str, str] = field(init=False, repr=False, compare=False)  # if it has some
    _attempt: int = field(init=False, repr=False, compare=False)  # if it is above 1

    @property
    def position(self) -> Position | None:
        """Its place in the history of its topic, to resume behind it; ``None``: there is none."""
        try:
            return Position(self._epoch, self._offset)
        except AttributeError:
            return None

    @property
    def offset(self) -> int | None:
        """Its number among all messages of its topic, from 1; ``None`` if that has no history."""
        try:
            return self._offset
        except AttributeError:
            return None

    @property
    def headers(self) -> Mapping[str, str]:
        """The texts that the publisher has sent beside the payload; empty if there are none."""
        try:
            return dict(self._headers)
        except AttributeError:
            return {}

    @property
    def attempt(self) -> int:
        """How many members of a group have been asked to handle it, with this one (spec, 18.3).

        Above 1, it may have been handled before, in part or wholly, by a member that has vanished
        or failed.
        """
        try:
            return self._attempt
        except AttributeError:
            return 1

    @property
    def wants_ack(self) -> bool:
        """Whether the publisher wants an ack."""
        return self.acknowledgement is not None

    def reply(self, result: Any) -> None:
        """Set the result of an ack: any JSON value.

        The result goes with the ack, once the message has been handled. The return value of a
        callback does the same. Without effect if the publisher wants no ack, or is on level 1.
        """
        if self.acknowledgement is not None and self.acknowledgement.result is None:
            self.acknowledgement.result = result


def make_messages(topic: str, payloads: Iterable[Any], sender: str, size: int) -> list[Message]:
    """Make messages that want no ack, of ``size`` bytes each.

    This bypasses the constructor, which would take most of the time of receiving them.
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


def place_messages(messages: Iterable[Message], first: Position) -> None:
    """Give messages their places in the history of their topic, one behind the other."""
    epoch = first.epoch
    for offset, message in enumerate(messages, first.offset):
        message._epoch = epoch
        message._offset = offset


_NO_HEADERS: Mapping[str, str] = {}


def add_headers(messages: Iterable[Message], headers: bytes) -> None:
    """Give messages their headers, which are the JSON of an object, or empty for none."""
    if headers:
        put_headers(messages, read_headers({"headers": load(headers)}))


def put_headers(messages: Iterable[Message], headers: Mapping[str, str]) -> None:
    """Give messages their headers."""
    if headers:
        for message in messages:
            message._headers = headers


def read_headers(fields: Fields) -> Mapping[str, str]:
    """Return the headers in a message; what is no text counts as missing."""
    headers = fields.get("headers")
    if type(headers) is not dict:
        return _NO_HEADERS
    return {name: one for name, one in headers.items() if type(one) is str}
