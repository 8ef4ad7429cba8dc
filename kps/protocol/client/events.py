"""What the client's core tells its driver: nouns in the past tense, complete when emitted."""

from dataclasses import dataclass

from kps.errors import KPSError, ServerError
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import AckChanged, AckHandle
from kps.protocol.client.pending import Barrier
from kps.protocol.dialect.envelope import Fields
from kps.protocol.wire.websocket import Closed


@dataclass(frozen=True, slots=True)
class ConnectNeeded:
    """Open a transport to the server: then ``connected``, or else ``connect_failed``."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The server knows this client, and its subscriptions are on their way."""

    client_id: str
    again: bool
    """Whether this was a reconnect."""


@dataclass(frozen=True, slots=True)
class ConnectAttemptFailed:
    """No connection came about; there will be another attempt."""

    reason: str
    retry_in: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """An established connection ended."""

    closed: Closed
    retry_in: float | None
    """Seconds to the next attempt, or ``None`` when there is none."""
    dropped: int
    """Messages that had been accepted from the program and were not written."""


@dataclass(frozen=True, slots=True)
class SubscriptionConfirmed:
    """The server has answered all that was asked of it about a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class SubscriptionRefused:
    """The server does not let this client have a topic, also one that it had before."""

    mailboxes: "list[Mailbox]"
    """The subscriptions that this ended. Each has its ``error``, and keeps what waits in it."""


@dataclass(frozen=True, slots=True)
class AckStatusReceived:
    """The server told who has answered an ack request."""

    handle: AckHandle
    status: dict[str, bool]


@dataclass(frozen=True, slots=True)
class BarrierPassed:
    """The server has handled everything sent before the barrier, or never will."""

    barrier: "Barrier"


@dataclass(frozen=True, slots=True)
class ErrorReceived:
    """The server refused something, or sent something unreadable."""

    text: str
    code: str
    """What a program can rely on; empty from a server on level 1, as all that follows."""
    request: str = ""
    """The action that was refused."""
    topic: str = ""
    to: str = ""

    @classmethod
    def of(cls, error: ServerError) -> "ErrorReceived":
        """Tell of an error that nobody waits for."""
        return cls(str(error), error.code, error.request, error.topic, error.to)

    def error(self) -> ServerError:
        """The exception for the program."""
        about = {"request": self.request, "topic": self.topic, "to": self.to}
        return ServerError(self.text, self.code, **about)


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """Any message of the server, as it came. Emitted only for who asked for all."""

    fields: Fields


@dataclass(frozen=True, slots=True)
class Ended:
    """The client is closed and stays so; ``error`` tells why, unless the program did it."""

    error: KPSError | None


ClientEvent = (
    AckChanged
    | ConnectNeeded
    | Connected
    | ConnectAttemptFailed
    | Disconnected
    | SubscriptionConfirmed
    | SubscriptionRefused
    | AckStatusReceived
    | BarrierPassed
    | ErrorReceived
    | MessageReceived
    | Ended
)
