"""The events that the client's core emits for its driver, as plain data.

Most are named tuples, which are made in a fraction of the time that a dataclass takes, classes and
objects alike.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from kps.errors import KPSError, ServerError, Unsupported
from kps.protocol.bus.ack_handle import AckChanged, AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.members import Presence
from kps.protocol.client.pending import Barrier
from kps.protocol.dialect.envelope import Fields
from kps.protocol.patterns import Key, group_of, scope_of
from kps.protocol.wire.websocket import Closed


@dataclass(frozen=True, slots=True)
class ConnectNeeded:
    """Open a transport to the server; answer with ``connected`` or ``connect_failed``."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The client is registered, and has sent its subscriptions."""

    client_id: str
    """The id under which it is registered."""
    again: bool
    """Whether this was a reconnect."""


class ConnectAttemptFailed(NamedTuple):
    """An attempt to connect failed; there will be another one."""

    reason: str
    retry_in: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection of the registered client ended."""

    closed: Closed
    """How it ended: ``code``, the close code of WebSocket (1006 without a close frame), and
    ``reason``, a text."""
    retry_in: float | None
    """Seconds to the next attempt, or ``None`` if there is none."""
    dropped: int
    """Messages that were accepted from the program and not written."""


class SubscriptionConfirmed(NamedTuple):
    """The server has answered all questions about a topic or pattern."""

    key: Key


class SubscriptionRefused(NamedTuple):
    """The server refused a topic or pattern for good, possibly after a reconnect."""

    mailboxes: "list[Mailbox]"
    """The subscriptions that this ended. Each has its ``error``, and keeps its messages."""


class Recovered(NamedTuple):
    """The client gets all that was published on a topic, or on those of a pattern, meanwhile.

    So it is after a reconnect, or at the place with which the program has subscribed.
    """

    topic: str
    """The topic, or the text of the pattern."""
    messages: int
    """How many messages come, before any new one."""


class Lost(NamedTuple):
    """Messages of a topic with history were published, and the client will not get them.

    The server has kept fewer than were missed, or has dropped some because the client reads too
    slowly, or it was restarted without a file for its history.
    """

    topic: str
    """The topic, or the text of the pattern."""
    messages: int | None
    """How many; ``None`` if nobody knows."""


class PresenceChanged(NamedTuple):
    """The members of a topic have changed, or have become known."""

    presence: Presence


class AckStatusReceived(NamedTuple):
    """The server sent the status of an ack request."""

    handle: AckHandle
    status: dict[str, bool]


class AckStatusRefused(NamedTuple):
    """The server refused to tell the status of an ack request."""

    handle: AckHandle
    error: KPSError


class BarrierPassed(NamedTuple):
    """The server has handled all messages before the barrier, or never will."""

    barrier: "Barrier"


class ErrorReceived(NamedTuple):
    """The server refused a message, or sent an unreadable one."""

    text: str
    code: str
    """The code, on which programs can rely. On level 1 it and the fields below are empty."""
    request: str = ""
    """The action that was refused."""
    topic: str = ""
    to: str = ""
    pattern: str = ""
    group: str = ""

    @classmethod
    def of(cls, error: ServerError) -> "ErrorReceived":
        """Make the event for an error that nobody waits for."""
        about = error.code, error.request, error.topic, error.to, error.pattern, error.group
        return cls(str(error), *about)

    @classmethod
    def about(cls, key: Key, error: Unsupported) -> "ErrorReceived":
        """Make the event for a subscription of which the server lacks something."""
        scope = scope_of(key)
        topic, pattern = (scope, "") if isinstance(scope, str) else ("", scope.text)
        return cls(str(error), "unsupported", "subscribe", topic, "", pattern, group_of(key))

    def error(self) -> ServerError:
        """Make the exception for the program."""
        return ServerError(
            self.text,
            self.code,
            request=self.request,
            topic=self.topic,
            to=self.to,
            pattern=self.pattern,
            group=self.group,
        )


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message of the server. Emitted only with ``reports_messages`` in the configuration."""

    fields: Fields
    size: int = field(default=0, compare=False)
    """Bytes of its JSON."""


class Ended(NamedTuple):
    """The client has ended for good; ``error`` says why, unless the program closed it."""

    error: KPSError | None


ClientEvent = (
    AckChanged
    | ConnectNeeded
    | Connected
    | ConnectAttemptFailed
    | Disconnected
    | SubscriptionConfirmed
    | SubscriptionRefused
    | Recovered
    | Lost
    | PresenceChanged
    | AckStatusReceived
    | AckStatusRefused
    | BarrierPassed
    | ErrorReceived
    | MessageReceived
    | Ended
)
