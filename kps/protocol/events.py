"""What the core tells its driver: nouns in the past tense, complete when emitted.

Drivers match them exhaustively, so that a new one breaks the type check and not
production.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kps.errors import KPSError, ServerError
from kps.protocol.envelope import Fields
from kps.protocol.messages import AckHandle
from kps.protocol.websocket import Closed

if TYPE_CHECKING:
    from kps.protocol.client_session import Barrier
    from kps.protocol.http import HttpRequest
    from kps.protocol.relay import RelayTarget
    from kps.protocol.server_session import ServerSession
    from kps.protocol.subscriptions import Mailbox

# -- of both ends -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AckChanged:
    """An ack request of the program on this side got an answer, or ended."""

    handle: AckHandle


# -- of the server -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpgradeRequested:
    """A client asks to connect; answer with ``session.accept`` or ``session.refuse``."""

    session: "ServerSession"
    request: "HttpRequest"


@dataclass(frozen=True, slots=True)
class TokenPresented:
    """A client showed a token; answer with ``session.identify``."""

    session: "ServerSession"
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientRegistered:
    """A client told its id, for the first time or anew."""

    session: "ServerSession"
    client_id: str
    previous: str
    """The id that this connection had before, or empty."""


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """A registered client is gone."""

    client_id: str
    closed: Closed
    dropped: int
    """Messages for it that its slow reading, or the connection's end, lost."""


@dataclass(frozen=True, slots=True)
class StrangerLeft:
    """A connection is gone over which nobody registered: refused, plain HTTP, or given up."""

    peer: str
    closed: Closed


@dataclass(frozen=True, slots=True)
class RelayRequested:
    """A client wants a message sent to another server; answer with ``relay_finished``."""

    session: "ServerSession"
    to: str
    target: "RelayTarget"
    data: Any
    sender: str
    secure: bool


@dataclass(frozen=True, slots=True)
class DirectMessageIgnored:
    """A direct message for the server came, and its program takes none."""

    sender: str


HubEvent = (
    UpgradeRequested
    | TokenPresented
    | ClientRegistered
    | ClientLeft
    | StrangerLeft
    | RelayRequested
    | AckChanged
    | DirectMessageIgnored
)


# -- of the client -----------------------------------------------------------------------


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
