"""The requests of clients in typed form: the checked fields of each action."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from kps.protocol.dialect.envelope import Fields
from kps.protocol.dialect.outcome import AckResponse, as_json

Publish = tuple[str, list[Any] | None, str | None]
"""Publications on one topic: the topic, the payloads of a batch, and the client's name for its
receipt, or ``None`` if it wants none. A plain tuple, because nearly every message makes one."""


class Demands(NamedTuple):
    """What an ack request wants of its receivers."""

    expected: tuple[str, ...] = ()
    """Ids that must be among them, or get the outcome ``absent``."""
    groups: tuple[str, ...] = ()
    """Names of groups of the topic that must have members, or get the outcome ``no member``."""
    message_key: str = ""
    """A group gives messages with the same text to the same member; empty: to any."""
    retries: int = 0
    """How often the message may fail in a group without an end."""

    def fields(self) -> Fields:
        """Return the fields of a request that tell it."""
        fields: Fields = {}
        if self.expected or self.groups:
            fields["expect"] = [*self.expected, *[{"group": name} for name in self.groups]]
        if self.message_key:
            fields["key"] = self.message_key
        if self.retries:
            fields["retry"] = self.retries
        return fields


NO_DEMANDS = Demands()


class MessageId(NamedTuple):
    """The id of a message that is to be handled once."""

    text: str
    until: float | None = None
    """The server's time, past which it may have forgotten that it has handled the message."""


class Ask(NamedTuple):
    """An ack request: a message that its receivers must answer."""

    target: str
    """The topic, or the id of the one receiver."""
    ack_id: str
    """The publisher's own id of the request."""
    data: bytes
    """The payload, as JSON."""
    timeout: float | None
    """Seconds, if the publisher names a timeout."""
    wants_updates: bool
    """Whether the server sends the publisher each outcome at once."""
    demands: Demands = NO_DEMANDS
    headers: bytes = b""
    """Texts beside the payload, as the JSON of an object; empty for none."""
    message_id: MessageId | None = None
    """The publisher's id of the message, if it is to be handled once."""


class Window(NamedTuple):
    """For how long a server knows which messages it has handled."""

    name: str
    """Another one after a restart, with which it has forgotten all."""
    seconds: float
    most: int
    """Messages of one client that it remembers."""
    time: float
    """The time of the server, in seconds."""


class PresenceWish(NamedTuple):
    """What a subscription has to do with presence."""

    info: bytes | None = None
    """What the client says about itself, as JSON; ``None``: as before."""
    observes: bool | None = None
    """Whether it wants to know who is subscribed; ``None``: as before."""

    def fields(self) -> Fields:
        """Return the fields of a request that tell it."""
        fields: Fields = {} if self.info is None else {"info": as_json(self.info)}
        if self.observes is not None:
            fields["presence"] = self.observes
        return fields


NO_WISH = PresenceWish()


class Answer(NamedTuple):
    """A subscriber's answer to an ack request."""

    ack_id: str
    error: str | None
    """Why handling the message failed, which may be empty; ``None`` if it succeeded."""
    result: Any
    has_begun: bool = True
    """Whether handling it may have begun."""


class Relay(NamedTuple):
    """A message for another server."""

    to: str
    data: Any
    secure: bool


class FromServer(NamedTuple):
    """A message from another server."""

    to: str
    proxied: str
    origin: str
    """The sender, as the other server names it; empty if it names none."""
    data: Any

    @property
    def topic(self) -> str:
        """The topic on which this server should publish it, or empty."""
        topic = self.data.get("topic") if type(self.data) is dict else None
        return topic if type(topic) is str else ""


class Outcomes(Protocol):
    """The outcomes of an ack request that has ended."""

    id: str
    owner_ack_id: str
    tells_timeouts: bool
    is_late: bool
    """Whether the time of a group was over."""
    presence: int
    """The number of the latest change of the topic's members before it; 0: nobody observes it."""
    is_degraded: bool
    """Whether only this node's clients were asked, because the others could not be reached."""

    @property
    def responses(self) -> Mapping[str, AckResponse]:
        """All outcomes, by client id."""

    def untold(self) -> Sequence[AckResponse]:
        """Return the outcomes that the publisher has not been sent, and count them as sent."""

    def missing(self) -> Sequence[str]:
        """Return the ids of the clients that have not answered."""
