"""What the server's core tells its driver: nouns in the past tense, as plain data.

A session is a number here; the driver answers with verbs of the hub that take it. Drivers match
events exhaustively, so that a new one breaks the type check and not production.
"""

from dataclasses import dataclass, field
from typing import Any

from kps.protocol.bus.message import AckChanged
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.wire.http import HttpRequest
from kps.protocol.wire.websocket import Closed


@dataclass(frozen=True, slots=True)
class UpgradeRequested:
    """A client asks to connect; answer with :meth:`Hub.decide`."""

    session: int
    request: HttpRequest


@dataclass(frozen=True, slots=True)
class TokenPresented:
    """A client showed a token; answer with :meth:`Hub.identify`."""

    session: int
    token: str = field(repr=False)
    peer: str = ""
    """Address of the client."""


@dataclass(frozen=True, slots=True)
class ClientRegistered:
    """A client told its id, for the first time or anew."""

    session: int
    client_id: str
    previous: str
    """The id that this connection had before, or empty."""
    peer: str
    """Address of the client."""


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
    """A client wants a message sent to another server; answer with :meth:`Hub.relay_finished`."""

    session: int
    to: str
    target: RelayTarget
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
