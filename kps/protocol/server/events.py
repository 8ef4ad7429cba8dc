"""What the core tells its driver: nouns in the past tense, complete when emitted.

Drivers match them exhaustively, so that a new one breaks the type check and not
production.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kps.protocol.bus.message import AckChanged
from kps.protocol.wire.websocket import Closed

if TYPE_CHECKING:
    from kps.protocol.dialect.address import RelayTarget
    from kps.protocol.server.session import ServerSession
    from kps.protocol.wire.http import HttpRequest

# -- of both ends -------------------------------------------------------------------------


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
