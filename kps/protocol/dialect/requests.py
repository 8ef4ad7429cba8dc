"""What clients ask a server for, read and checked: the typed form of each action's fields."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from kps.protocol.dialect.outcome import AckResponse

Publish = tuple[str, list[Any], str | None]
"""Publications on one topic: that, the payloads, and what the client wants its receipt to be
called, if it wants one. A plain tuple, because there is one for nearly every message."""


class Ask(NamedTuple):
    """A message whose receivers are to answer."""

    target: str
    """The topic, or the id of the one receiver."""
    ack_id: str
    """The publisher's own id of the request."""
    data: Any
    timeout: float | None
    """Seconds, if the publisher says."""
    wants_updates: bool
    """Whether the publisher is told each outcome as soon as it is known."""


class Answer(NamedTuple):
    """How a subscriber fared with a message that wants an answer."""

    ack_id: str
    error: str | None
    """Why it failed, which may be empty; ``None`` if it did not."""
    result: Any


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
    """Who sent it there, as that server says; empty if it does not."""
    data: Any

    @property
    def topic(self) -> str:
        """The topic of this server on which it is to be published, or empty."""
        topic = self.data.get("topic") if type(self.data) is dict else None
        return topic if type(topic) is str else ""


class Outcomes(Protocol):
    """The outcomes of an ack request that has ended."""

    id: str
    owner_ack_id: str
    tells_timeouts: bool

    @property
    def responses(self) -> Mapping[str, AckResponse]:
        """All outcomes, by client id."""

    def untold(self) -> Sequence[AckResponse]:
        """The outcomes that the publisher does not know yet; from now on it does."""

    def missing(self) -> Sequence[str]:
        """Who has not answered."""
