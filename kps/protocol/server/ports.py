"""Small protocols for what the parts of the server need of each other.

With them no part depends on a whole other one, and another kind of client or transport fits in.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from kps.protocol.access.identity import Permissions
from kps.protocol.bus.ack_request import AckOwner, AckRequest, Keeper
from kps.protocol.bus.message_ids import Owner
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.dialect.envelope import Fields, InvalidMessage
from kps.protocol.dialect.requests import Ask
from kps.protocol.dialect.server import ServerLevel1
from kps.protocol.server.encodings import FrameEncoding
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.outbox import Entry, Kind, Outbox
from kps.protocol.wire.websocket import Closed


class Transport(Protocol):
    """Carries the messages of one session: our WebSocket, or something like it.

    When a message has no room, the session may end before the call returns.
    """

    @property
    def host(self) -> str:
        """The host by which the client reached the server."""

    def send(self, message: bytes, kind: Kind) -> bool:
        """Queue a message that no policy may drop; tell whether it had room."""

    def queue(self, entry: Entry) -> bool:
        """Queue publications; tell whether they had room or the policy made room."""

    def queue_whole(self, entry: Entry) -> bool:
        """Queue an entry if all its frames have room, else do nothing; tell which."""

    def speak(self, dialect: ServerLevel1) -> FrameEncoding:
        """Switch to a dialect; return the encoding in which it then takes publications."""

    def accept(self) -> None:
        """Accept the client, which may then send messages."""

    def refuse(self, response: HttpResponse, patience: float | None = None) -> None:
        """Refuse the client before it is accepted. It has ``patience`` seconds to read that."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake, behind the queued data."""

    def fail(self, code: int, reason: str) -> None:
        """Close because the client is at fault, and ignore its further input."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that are pending."""

    @property
    def queued_messages(self) -> int:
        """Messages that are pending."""

    @property
    def dropped(self) -> int:
        """Messages for this client that were dropped: it read too slowly, or was disconnected."""


class HttpCarrier(Protocol):
    """Carries one HTTP request and its answer: over our connection, or as a framework does."""

    def read_body(self, receive: Callable[[bytes], None], end: Callable[[], None]) -> None:
        """Let the body come: ``receive`` takes each part, and ``end`` comes behind the last one.

        Either may be called within this call.
        """

    def respond(self, response: HttpResponse) -> None:
        """Give the answer, and end the exchange."""

    def stream(self, head: HttpResponse, outbox: Outbox) -> None:
        """Begin an answer without an end: take its bytes from an outbox, with ``take``."""

    def touch(self) -> None:
        """Note that there is something in the outbox."""

    def end_stream(self, closed: Closed) -> None:
        """End such an answer, behind what is in the outbox."""

    def abort(self) -> None:
        """Drop the connection: nobody is there, or a fault of the server has struck it."""


class Names(Protocol):
    """The ids that are in use in a cluster."""

    def claim(self, number: int, client_id: str, identity: str) -> bool | None:
        """Ask for an id for the session of that number, whose identity has a name.

        Return whether it gets it; ``None`` if the verdict comes later, by the session's gate.
        """

    def locate(self, number: int, client_id: str, *, anew: bool = False) -> bool:
        """Tell whether the node of a client is known, or has to be found ``anew``.

        If not, the session of that number gets a verdict: ``False`` if nobody has the id.
        """

    def left(self, client_id: str) -> None:
        """Note that no client of this server has an id any more."""

    def is_node(self, client_id: str) -> bool:
        """Tell whether an id is that of a server of the cluster."""


class Recall(Protocol):
    """What is known in a cluster of messages with ids that requests over HTTP bring."""

    def ask(
        self,
        number: int,
        client_id: str,
        owner: Owner,
        message_id: str,
        ready: Callable[[InvalidMessage | None], object],
    ) -> None:
        """Find out if a message was handled on any node; call ``ready`` at once or later.

        It gets why the message cannot be handled now, if it cannot. If it was handled, that is
        known here then. ``number`` is that of the request.
        """

    def over(self, number: int, client_id: str, message_id: str) -> None:
        """Note that a request has ended."""


class Dismissal(Protocol):
    """Ends connections of clients of a cluster's other nodes."""

    def ask(self, client_id: str, reason: str, done: Callable[[bool], object]) -> None:
        """Let the node of a client end its connection for good.

        Call ``done``, at once or later, with whether a node has told that it had the client.
        """


class Asker(Protocol):
    """The client that asks the server about itself."""

    id: str

    @property
    def permissions(self) -> Permissions:
        """What it may do."""

    @property
    def owner_name(self) -> str:
        """The name of its identity; empty for an anonymous client."""

    @property
    def peer(self) -> str:
        """Its address; empty for the server's own program."""


class Opens(Protocol):
    """Opens ack requests."""

    def open_request(
        self, owner: AckOwner, ask: Ask, receivers: Sequence[Subscriber], keeper: Keeper | None
    ) -> AckRequest:
        """Open a request. Raises ``DuplicateAckId`` and :class:`kps.QueueFull`."""


Answer = Callable[[Fields | str], object]
"""Gets an answer, or a text that says why there is none."""
Question = Callable[[Answer], None]
"""Finds the answer to a question that was read, at once or later."""


class Desk(Protocol):
    """Answers what clients ask the server about itself."""

    def read(self, asker: Asker, ask: Ask) -> Question:
        """Read a question, and check whether the client may ask it. Raises ``InvalidMessage``."""

    def answer(
        self, question: Question, owner: AckOwner, sender: str, ask: Ask, keeper: Keeper | None
    ) -> None:
        """Answer a question that was read.

        Raises ``DuplicateAckId`` and :class:`kps.QueueFull`, and then has done nothing.
        """


class Client(Subscriber, AckOwner, Protocol):
    """A registered client, as other parts of the server see it."""

    number: int
    """The number of its session."""
    peer: str
    dialect: ServerLevel1
    since: float
    """When it connected."""
    received: int
    """Number of messages that it sent."""
    delivered: int
    """Number of publications and direct messages for it."""

    @property
    def transport(self) -> Transport:
        """What carries its messages."""

    @property
    def owner_name(self) -> str:
        """The name of its identity, which owns its id; empty for an anonymous client."""

    def deliver_direct(self, publication: Publication) -> None:
        """Take a direct message that wants an ack."""

    def send_direct(self, sender: str, data: bytes, headers: bytes) -> None:
        """Take a direct message."""

    def replaced(self) -> None:
        """Close, because another connection took over its id."""
