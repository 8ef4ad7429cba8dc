"""What the parts of the server need of each other, as small protocols.

So no part has to know a whole other one, and another kind of client or transport fits in.
"""

from typing import Any, Protocol

from kps.protocol.bus.acks import AckOwner
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.topics import Subscriber
from kps.protocol.dialect.server import ServerLevel1
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.outbox import Entry, Kind
from kps.protocol.wire.websocket import Closed


class Transport(Protocol):
    """What carries the messages of one session: a WebSocket of ours, or something like it.

    Whatever is queued may find no room, which may end the session before the call returns.
    """

    @property
    def host(self) -> str:
        """The host under which the client reached the server."""

    def send(self, message: bytes, kind: Kind) -> bool:
        """Queue a message that is not dropped; tell whether there was room."""

    def queue(self, entry: Entry) -> bool:
        """Queue publications; tell whether there was room, or the policy made some."""

    def queue_whole(self, entry: Entry) -> bool:
        """Queue publications if there is room for all of them; else do nothing."""

    def speak(self, dialect: ServerLevel1) -> None:
        """Write as a dialect asks for from now on."""

    def accept(self) -> None:
        """Let the client in: it may send messages from now on."""

    def refuse(self, response: HttpResponse) -> None:
        """Turn the client away, before it is let in."""

    def close(self, code: int, reason: str, grace: float = 0.0) -> None:
        """Begin the closing handshake, behind what is queued."""

    def fail(self, code: int, reason: str) -> None:
        """Close because the client is at fault, and listen to it no longer."""

    @property
    def closed(self) -> Closed | None:
        """How the connection ended, from the moment that it is known."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be written."""

    @property
    def queued_messages(self) -> int:
        """Messages that wait to be written."""

    @property
    def dropped(self) -> int:
        """Messages for this client that slow reading or a lost connection cost."""


class Client(Subscriber, AckOwner, Protocol):
    """A registered client, as other parts of the server see it."""

    @property
    def owner_name(self) -> str:
        """The name of the identity that its id belongs to; empty if it has none."""

    def deliver_direct(self, publication: Publication) -> None:
        """Take a message to its id that wants an answer."""

    def send_direct(self, sender: str, data: Any) -> None:
        """Take a direct message."""

    def replaced(self) -> None:
        """Close: another connection has taken its id."""

    def figures(self, now: float) -> dict[str, Any]:
        """What the server's figures tell of it."""
