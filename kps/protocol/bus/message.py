"""The values that programs see: messages, and the answers to ack requests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from kps.errors import InvalidArgument
from kps.protocol.cost import compact
from kps.protocol.dialect.envelope import Fields, compose, load
from kps.protocol.dialect.outcome import AckResponse, by_name
from kps.protocol.dialect.places import LARGEST, Position
from kps.protocol.dialect.requests import Demands
from kps.protocol.limits import ProgramLimits, shown
from kps.protocol.patterns import InGroup, Key, Pattern

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


def check_headers(headers: Any) -> bytes:
    """Return the headers that a program gave, as JSON. Raises :class:`kps.InvalidArgument`."""
    if headers is None:
        return b""
    if not isinstance(headers, Mapping) or not all(
        isinstance(name, str) and isinstance(one, str) for name, one in headers.items()
    ):
        raise InvalidArgument(f"headers is a dictionary of texts, not {shown(headers)}")
    return compact(compose(dict(headers))) if headers else b""


class AckHandle:
    """An ack request, as its publisher sees it; answers fill it in."""

    __slots__ = ("error", "finished", "id", "is_degraded", "outcomes", "presence")

    def __init__(self, ack_id: str) -> None:
        self.id = ack_id
        self.outcomes: dict[str, AckResponse] = {}
        """The outcomes so far, by their keys."""
        self.presence: int | None = None
        """The number of the latest change of the topic's members before the message."""
        self.is_degraded = False
        """Whether the server could not reach the other nodes of its cluster, nor ask there."""
        self.finished = False
        """Whether it has ended: complete, timed out, cancelled or lost."""
        self.error: Exception | None = None
        """Why it ended without the server's answer, if it did."""

    @property
    def responses(self) -> dict[str, AckResponse]:
        """The outcomes so far, by client id, and of groups by ``GROUP of TOPIC``."""
        return by_name(self.outcomes)

    def known_status(self) -> dict[str, bool]:
        """Return the clients with a known outcome, and whether each answered in time."""
        return {outcome.name: outcome.error != "timeout" for outcome in self.outcomes.values()}


class AckChanged(NamedTuple):
    """An ack request of the program got an answer, or ended."""

    handle: AckHandle


LONGEST_ADDRESS = 1024
"""Characters of the address of another server: two hosts with their ports, and a path."""


def check_topic(topic: Any, limits: ProgramLimits) -> str:
    """Return a topic that the program gave. Raises :class:`kps.InvalidArgument`."""
    if type(topic) is str and 0 < len(topic) <= limits.max_topic and topic.isprintable():
        return topic  # the usual case, at once
    return check_text("a topic", topic, limits.max_topic)


def check_key(key: Any, limits: ProgramLimits) -> Key:
    """Return a topic or pattern that the program gave. Raises :class:`kps.InvalidArgument`."""
    if isinstance(key, InGroup):
        check_key(key.scope, limits)
        check_text("a group", key.group, limits.max_topic)
        return key
    if isinstance(key, Pattern):
        check_text("a pattern", key.text, limits.max_topic)
        return key
    return check_topic(key, limits)


def check_demands(
    expect: Any, expect_groups: Any, key: Any, retry: Any, limits: ProgramLimits
) -> Demands:
    """Return what a program wants of the receivers. Raises :class:`kps.InvalidArgument`."""
    if not isinstance(key, str):
        raise InvalidArgument(f"key is a text, not {shown(key)}")
    if key:
        check_text("a key", key, limits.max_topic)
    if type(retry) is not int or not 0 <= retry <= LARGEST:
        raise InvalidArgument(f"retry is a number of times, not {shown(retry)}")
    ids, groups = _names("expect", "ids", expect), _names("expect_groups", "groups", expect_groups)
    return Demands(ids, groups, key, retry)


def _names(option: str, what: str, names: Any) -> tuple[str, ...]:
    is_list = isinstance(names, Iterable) and not isinstance(names, str)
    expected = tuple(names) if is_list else ("",)
    if not all(isinstance(one, str) and one for one in expected):
        raise InvalidArgument(f"{option} takes a list of {what}, not {shown(names)}")
    return expected


def check_id(client_id: Any, limits: ProgramLimits) -> str:
    """Return an id that the program gave. Raises :class:`kps.InvalidArgument`."""
    return check_text("an id", client_id, limits.max_id)


def check_message_id(message_id: Any, limits: ProgramLimits) -> str:
    """Return the id of a message that the program gave; ``""`` stands for none.

    Raises :class:`kps.InvalidArgument`.
    """
    return "" if message_id == "" else check_text("a message id", message_id, limits.max_id)


def check_text(what: str, given: Any, most: int) -> str:
    """Return a text of the program that goes into messages as a name.

    Raises :class:`kps.InvalidArgument` unless it has 1 to ``most`` characters, none of them a
    control character, and can be written in UTF-8.
    """
    if not isinstance(given, str) or not given:
        raise InvalidArgument(f"{what} is a text that is not empty, not {shown(given)}")
    if len(given) > most:
        raise InvalidArgument(f"{what} has at most {most} characters, and this has {len(given)}")
    if not given.isprintable():
        if has_controls(given):
            raise InvalidArgument(f"{what} has no control characters, unlike {shown(given)}")
        try:
            given.encode()
        except UnicodeError:
            raise InvalidArgument(
                f"{what} can be written in UTF-8, unlike {shown(given)}"
            ) from None
    return given


def has_controls(text: str) -> bool:
    """Tell whether a text has a control character in it."""
    return any(c < " " or "\x7f" <= c <= "\x9f" for c in text)
