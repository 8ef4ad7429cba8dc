"""Clients that are as light as can be: real sessions, whose messages nobody carries.

A client here is the server's own session: its messages are read, weighed and answered as any
other's. It has no WebSocket, no frames, no queue and no program. What is written to it is counted,
and only the latest message is kept.
"""

from collections.abc import Iterable
from functools import partial

import orjson

from kps.protocol.access.identity import Identity
from kps.protocol.dialect.server import ServerLevel1
from kps.protocol.server.encodings import FRAMES, FrameEncoding
from kps.protocol.server.session import ServerSession
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.protocol.wire.outbox import Entry, Kind
from kps.protocol.wire.websocket import Closed, ClosedBy
from planning.mesh import Mesh, Server, Works, cpu

Fields = dict[str, object]

_REQUEST = HttpRequest("GET", "/ws/bus", (), "memory")
_FORWARDED = Kind.FORWARDED


class Client:
    """One session, and what stands for its connection and its transport."""

    __slots__ = ("asked", "closed", "got", "node", "number", "replied", "session", "used", "waits")

    host = "memory"
    queued_bytes = queued_messages = dropped = 0

    def __init__(self, node: Works, number: int) -> None:
        self.number = number
        self.node = node
        self.closed: Closed | None = None
        self.got = 0
        """Messages for it that others have caused."""
        self.asked: bytes = b""
        """The latest of them that is not for others as well: a message that wants an ack."""
        self.replied: bytes = b""
        """The latest answer to a message of its own."""
        self.used, self.waits = node.hub.state.turns.start, False
        state = node.hub.state
        self.session = ServerSession(state, node.hub.delivery, number, "memory", self)

    # -- the client -------------------------------------------------------------------------

    def say(self, messages: Iterable[Fields]) -> None:
        """Send messages."""
        written = [orjson.dumps(message) for message in messages]
        began = cpu()
        self.session.inbox.put(written)
        self.node.hub.state.turns.enter(self)
        self.node.work += cpu() - began

    def acknowledge(self) -> None:
        """Answer the latest message that wants an ack."""
        asked, self.asked = self.asked, b""
        ack_id = orjson.loads(asked)["ack_id"]
        self.say([{"action": "ack", "ack_id": ack_id, "success": True}])

    # -- its transport ----------------------------------------------------------------------

    def send(self, message: bytes, kind: Kind) -> bool:
        if kind is _FORWARDED:
            self.got += 1
            self.asked = message
        else:
            self.replied = message
        return True

    def queue(self, entry: Entry) -> bool:
        return self.queue_whole(entry)

    def queue_whole(self, entry: Entry) -> bool:
        self.got += entry.messages
        return True

    def speak(self, dialect: ServerLevel1) -> FrameEncoding:
        return FRAMES[dialect]

    def accept(self) -> None:
        """Nothing is to be carried."""

    def refuse(self, response: HttpResponse, patience: float | None = None) -> None:
        self._end(response.status, "refused")

    def close(self, code: int, reason: str) -> None:
        self._end(code, reason)

    def fail(self, code: int, reason: str) -> None:
        self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        self.closed = Closed(code, reason, ClosedBy.LOCAL)
        self.session.leave(self.closed)
        self.node.hub.forget(self)

    # -- its connection ---------------------------------------------------------------------

    @property
    def waiting_bytes(self) -> int:
        return self.session.inbox.next_bytes or 0

    def work(self) -> bool:
        inbox, gate, turns = self.session.inbox, self.session.gate, self.node.hub.state.turns
        before = turns.left
        while inbox.has_rest and turns.left > 0 and not gate.holds:
            inbox.go_on()
        self.node.charged += before - turns.left
        return inbox.has_rest and not gate.holds

    def next_deadline(self) -> float | None:
        return None

    def handle_timeout(self, now: float) -> None:
        """Nothing is ever due."""

    def decide(self, verdict: object, now: float) -> None:
        self.session.gate.decide(verdict, _REQUEST)

    def judge(self, verdict: object, now: float) -> None:
        self.session.gate.judge(verdict)
        self.node.hub.state.turns.enter(self)

    def relay_finished(self, to: str, error: str | None) -> None:
        """Nobody relays."""

    def shut_down(self, grace: float) -> None:
        """No server stops."""


def join(
    mesh: Mesh | Server, node: Works, client_id: str, *messages: Fields, identity: str = ""
) -> Client:
    """Connect a client with a node; it registers, and sends messages at once."""
    began = cpu()
    client = node.hub.adopt(partial(Client, node), mesh.now)
    client.session.gate.requested(_REQUEST)
    if identity:
        node.hub.decide(client.number, Identity(identity), mesh.now)
    node.work += cpu() - began
    client.say([{"action": "ping", "from": client_id, "proto": 2}, *messages])
    return client


def subscribe(topic: str, **fields: object) -> Fields:
    """Return the message that subscribes to a topic."""
    return {"action": "subscribe", "topic": topic, **fields}


def client_id(number: int) -> str:
    """Return the id of a client by its number."""
    return f"client-{number:07}"


def own_topic(number: int) -> str:
    """Return the topic that only one client has."""
    return f"inbox/{client_id(number)}"
