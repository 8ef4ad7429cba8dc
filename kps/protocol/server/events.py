"""The events that the server's core emits for its driver, as plain data.

Events name a session by its number; the driver answers with a verb of the hub. Drivers match
events exhaustively, so that a new one breaks the type check and not production.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kps.protocol.bus.ack_handle import AckChanged
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.patterns import Scope
from kps.protocol.wire.http import HttpRequest
from kps.protocol.wire.websocket import Closed


class UpgradeRequested(NamedTuple):
    """A client asks to connect; answer with :meth:`Hub.decide`."""

    session: int
    request: HttpRequest


@dataclass(frozen=True, slots=True)
class TokenPresented:
    """A client showed a token; answer with :meth:`Hub.judge`."""

    session: int
    token: str = field(repr=False)
    peer: str = ""
    """Address of the client."""


class ConnectedClient(NamedTuple):
    """A client, as the program of the server sees it."""

    id: str
    """The id under which it is registered, or for which it asks."""
    name: str
    """The name of its identity; empty for an anonymous client."""
    address: str
    """``host:port`` of its connection or, behind a known proxy, the address that this gives."""
    level: int
    """The level of the protocol."""
    previous: str = ""
    """The id that it had before, if it asks for another one."""
    age: float = 0.0
    """Seconds since it connected."""
    topics: int = 0
    """How many topics and patterns it is subscribed to."""


class ConnectRequested(NamedTuple):
    """A client wants to register, or to have another id; answer with :meth:`Hub.judge`."""

    session: int
    client: ConnectedClient


class Subscribing(NamedTuple):
    """A client that wants to subscribe."""

    client: ConnectedClient
    """Who wants to."""
    topic: Scope
    """The topic, or the pattern."""
    info: Any
    """What the client says about itself, or ``None``."""
    group: str = ""
    """The group of which it wants to be a member; empty: none."""


class SubscriptionRequested(NamedTuple):
    """A client wants to subscribe; answer with :meth:`Hub.judge`."""

    session: int
    asked: Subscribing


class Unsubscribed(NamedTuple):
    """A subscription of a client has ended."""

    client: ConnectedClient
    """Whose it was."""
    topic: Scope
    """The topic, or the pattern."""
    reason: str
    """``unsubscribed``, or how the connection ended: ``closed``, ``lost``, ``replaced``."""
    group: str = ""
    """The group of which it was a member; empty: none."""


class OriginRefused(NamedTuple):
    """A page may not connect, because of its origin. Told once for each origin."""

    peer: str
    """Address of the client."""
    origin: str
    """Empty if the browser does not tell it."""


class LoginRefused(NamedTuple):
    """A client may not connect, not have an id, or not renew its identity."""

    peer: str
    """Address of the client."""
    reason: str
    """Why, as the client is told."""
    why: str = ""
    """What the hook that refused it says about that, or which id it was; for the log only."""


class ClientRegistered(NamedTuple):
    """A client registered, or changed its id."""

    session: int
    client_id: str
    previous: str
    """The id that this connection had before, or empty."""
    peer: str
    """Address of the client."""


class ClientLeft(NamedTuple):
    """A registered client is gone."""

    client: ConnectedClient
    """Who is gone."""
    closed: Closed
    """How its connection ended: ``code``, the close code of WebSocket (1006 without a close
    frame), and ``reason``, a text."""
    dropped: int
    """Messages for it that were dropped: it read too slowly, or was disconnected."""


class ClientDismissed(NamedTuple):
    """A client has asked to disconnect another one, which is done."""

    client_id: str
    """Who is disconnected."""
    by: str
    """The id of the client that asked for it."""
    identity: str
    """The name of that one's identity; empty for an anonymous client."""
    by_address: str = ""
    """The address of that one, which alone tells anonymous clients apart; empty for the program."""


class StrangerLeft(NamedTuple):
    """An unregistered connection is gone: refused, plain HTTP, or abandoned by the client."""

    peer: str
    closed: Closed


class RelayRequested(NamedTuple):
    """A client wants a message sent to another server; answer with :meth:`Hub.relay_finished`."""

    session: int
    to: str
    target: RelayTarget
    data: Any
    sender: str
    secure: bool
    shows_token: bool = False
    """Whether this server's token may go there: the client chose the address."""
    owner: tuple[str, str] = ("", "")
    """Whose links the message needs: the name of the client's identity, or its address."""


class SessionFailed(NamedTuple):
    """The server itself has a fault, which struck one connection, or one deadline, and no other."""

    where: str
    error: Exception


class DirectMessageIgnored(NamedTuple):
    """A client sent the server a direct message, and its program accepts none."""

    sender: str


HubEvent = (
    UpgradeRequested
    | TokenPresented
    | ConnectRequested
    | SubscriptionRequested
    | Unsubscribed
    | OriginRefused
    | LoginRefused
    | ClientRegistered
    | ClientLeft
    | ClientDismissed
    | StrangerLeft
    | RelayRequested
    | AckChanged
    | DirectMessageIgnored
    | SessionFailed
)
