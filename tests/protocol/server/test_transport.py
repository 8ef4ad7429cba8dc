"""A session without a WebSocket: whatever carries its messages, it takes part in the bus alike."""

import orjson

from kps.protocol.dialect.server import ServerLevel1
from kps.protocol.server.session import ServerSession
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.protocol.wire.outbox import Entry, Kind
from kps.protocol.wire.websocket import Closed, ClosedBy
from tests.protocol.helpers import Fields, Stage


class ListTransport:
    """A transport that keeps what it is to carry, as one of another server might."""

    host = "elsewhere"
    queued_bytes = 0
    queued_messages = 0
    dropped = 0

    def __init__(self) -> None:
        self.messages: list[Fields] = []
        self.kinds: list[Kind] = []
        self.is_accepted = False
        self.closed: Closed | None = None

    def send(self, message: bytes, kind: Kind) -> bool:
        self.messages.append(orjson.loads(message))
        self.kinds.append(kind)
        return True

    def queue(self, entry: Entry) -> bool:
        return self.queue_whole(entry)

    def queue_whole(self, entry: Entry) -> bool:
        assert entry.data[0] == 0x81  # one text frame, short or long
        start = 4 if entry.data[1] == 126 else 2
        return self.send(entry.data[start:], entry.kind)

    def speak(self, dialect: ServerLevel1) -> None:
        pass

    def accept(self) -> None:
        self.is_accepted = True

    def refuse(self, response: HttpResponse) -> None:
        self.closed = Closed(response.status, "refused", ClosedBy.LOCAL)

    def close(self, code: int, reason: str, grace: float = 0.0) -> None:
        self.closed = Closed(code, reason, ClosedBy.LOCAL)

    def fail(self, code: int, reason: str) -> None:
        self.closed = Closed(code, reason, ClosedBy.FAULT)

    def take(self) -> list[Fields]:
        messages, self.messages = self.messages, []
        return messages


def enter(stage: Stage, number: int) -> tuple[ServerSession, ListTransport]:
    """Let a client in that comes over a transport of another kind."""
    transport = ListTransport()
    session = ServerSession(stage.hub.state, stage.hub.delivery, number, "elsewhere:1", transport)
    session.gate.requested(HttpRequest("GET", "/ws/bus", (), "elsewhere:1"))
    assert transport.is_accepted
    return session, transport


def give(session: ServerSession, *messages: Fields) -> None:
    session.receive([orjson.dumps(message) for message in messages])


def test_it_takes_part_in_the_bus() -> None:
    stage = Stage()
    bob = stage.peer("bob")
    session, transport = enter(stage, 1000)
    give(session, {"action": "ping", "from": "alice", "proto": 2})
    give(session, {"action": "subscribe", "topic": "t"})
    assert [message["action"] for message in transport.take()] == ["pong", "subscribed"]
    bob.ask({"action": "publish", "topic": "t", "data": 1})
    assert transport.take() == [{"action": "publish", "topic": "t", "from": "bob", "data": 1}]
    give(session, {"action": "direct_message", "to": "bob", "data": 2})
    assert bob.take() == [{"action": "direct_message", "from": "alice", "data": 2}]
    assert transport.kinds == [Kind.REPLY, Kind.REPLY, Kind.DROPPABLE]


def test_it_answers_requests_and_its_end_is_an_outcome() -> None:
    stage = Stage()
    bob = stage.peer("bob")
    session, transport = enter(stage, 1000)
    give(session, {"action": "ping", "from": "alice", "proto": 2})
    transport.take()
    for number in range(2):
        request = {"action": "publish_to_id_with_ack", "to": "alice", "ack_id": str(number)}
        assert bob.ask(request | {"data": number}) == []
    first, _ = transport.take()
    give(session, {"action": "ack", "ack_id": first["ack_id"], "success": True})
    session.leave()
    one, two = bob.take()
    assert one["responses"]["alice"]["success"]
    assert two["responses"]["alice"]["error"] == "disconnected"
    assert "alice" not in stage.hub.clients


def test_another_connection_may_take_its_id() -> None:
    stage = Stage()
    session, transport = enter(stage, 1000)
    give(session, {"action": "ping", "from": "alice"})
    stage.peer("alice")
    assert transport.closed is not None
    assert transport.closed.code == 4001
    session.leave()
    assert list(stage.hub.clients) == ["alice"]
