"""A session without a WebSocket: whatever carries its messages, it takes part in the bus alike."""

from functools import partial

import orjson

from kps.protocol.access.identity import Identity
from kps.protocol.dialect.codes import EXPIRED
from kps.protocol.dialect.server import ServerLevel1
from kps.protocol.server.encodings import FRAMES, FrameEncoding
from kps.protocol.server.events import ClientLeft, TokenPresented, UpgradeRequested
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

    def speak(self, dialect: ServerLevel1) -> FrameEncoding:
        return FRAMES[dialect]

    def accept(self) -> None:
        self.is_accepted = True

    def refuse(self, response: HttpResponse, patience: float | None = None) -> None:
        self.closed = Closed(response.status, "refused", ClosedBy.LOCAL)

    def close(self, code: int, reason: str, grace: float = 0.0) -> None:
        self.closed = Closed(code, reason, ClosedBy.LOCAL)

    def fail(self, code: int, reason: str) -> None:
        self.closed = Closed(code, reason, ClosedBy.FAULT)

    def take(self) -> list[Fields]:
        messages, self.messages = self.messages, []
        return messages


class OtherConnection:
    """A connection of another kind: what such a carrier has to do for the hub."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.number = number
        self.transport = ListTransport()
        self.request = HttpRequest("GET", "/ws/bus", (("authorization", "Bearer t"),), "elsewhere")
        self.session = ServerSession(
            stage.hub.state, stage.hub.delivery, number, "elsewhere", self.transport
        )
        self.used, self.waits = 0, False
        self._stage = stage

    def open(self) -> None:
        self.session.gate.requested(self.request)

    def give(self, *messages: Fields) -> None:
        self.session.inbox.put([orjson.dumps(message) for message in messages])
        self._stage.hub.state.turns.enter(self)
        self._leave_if_closed()

    @property
    def waiting_bytes(self) -> int:
        return self.session.inbox.next_bytes or 0

    def work(self) -> bool:
        inbox, turns = self.session.inbox, self._stage.hub.state.turns
        while inbox.has_rest and turns.left > 0 and not self.session.gate.holds:
            inbox.go_on()
        return inbox.has_rest and not self.session.gate.holds

    @property
    def closed(self) -> Closed | None:
        return self.transport.closed

    @property
    def dropped(self) -> int:
        return self.transport.dropped

    def next_deadline(self) -> float | None:
        return None if self.closed else self.session.gate.next_deadline()

    def handle_timeout(self, now: float) -> None:
        self.session.gate.handle_timeout()
        self._leave_if_closed()

    def decide(self, verdict: object, now: float) -> None:
        self.session.gate.decide(verdict, self.request)
        self._stage.hub.state.deadlines.schedule(self)

    def judge(self, verdict: object, now: float) -> None:
        gate = self.session.gate
        if gate.holds:
            gate.judge(verdict)
            self._stage.hub.state.turns.enter(self)
        else:
            gate.judge_header(verdict, self.request)
        self._stage.hub.state.deadlines.schedule(self)
        self._leave_if_closed()

    def relay_finished(self, to: str, error: str | None) -> None:
        self.session.relay_finished(to, error)

    def shut_down(self, grace: float) -> None:
        self.transport.close(1001, "the server is stopping")
        self._leave_if_closed()

    def _leave_if_closed(self) -> None:
        if self.closed is not None:
            self.session.leave()
            self._stage.hub.forget(self)


def adopt(stage: Stage) -> OtherConnection:
    """A new client over a transport of another kind."""
    connection = stage.hub.adopt(partial(OtherConnection, stage), stage.clock.now)
    connection.open()
    return connection


def enter(stage: Stage, client_id: str) -> OtherConnection:
    """As ``adopt``; and it has registered."""
    connection = adopt(stage)
    assert connection.transport.is_accepted
    connection.give({"action": "ping", "from": client_id, "proto": 2})
    assert [message["action"] for message in connection.transport.take()] == ["pong"]
    return connection


def test_it_takes_part_in_the_bus() -> None:
    stage = Stage()
    bob, alice = stage.peer("bob"), enter(stage, "alice")
    alice.give({"action": "subscribe", "topic": "t"})
    assert alice.transport.take() == [{"action": "subscribed", "topic": "t"}]
    bob.ask({"action": "publish", "topic": "t", "data": 1})
    assert alice.transport.take() == [{"action": "publish", "topic": "t", "from": "bob", "data": 1}]
    alice.give({"action": "direct_message", "to": "bob", "data": 2})
    assert bob.take() == [{"action": "direct_message", "from": "alice", "data": 2}]
    assert alice.transport.kinds == [Kind.REPLY, Kind.REPLY, Kind.DROPPABLE]


def test_it_answers_requests_and_its_end_is_an_outcome() -> None:
    stage = Stage()
    bob, alice = stage.peer("bob"), enter(stage, "alice")
    for number in range(2):
        request = {"action": "publish_to_id_with_ack", "to": "alice", "ack_id": str(number)}
        assert bob.ask(request | {"data": number}) == []
    first, _ = alice.transport.take()
    alice.give({"action": "ack", "ack_id": first["ack_id"], "success": True})
    alice.session.leave()
    one, two = bob.take()
    assert one["responses"]["alice"]["success"]
    assert two["responses"]["alice"]["error"] == "disconnected"
    assert "alice" not in stage.hub.clients


def test_another_connection_may_take_its_id() -> None:
    stage = Stage()
    alice = enter(stage, "alice")
    stage.peer("alice")
    assert alice.closed is not None
    assert alice.closed.code == 4001
    alice.session.leave()
    assert list(stage.hub.clients) == ["alice"]


def test_hooks_decide_on_it_and_its_time_runs_out() -> None:
    stage = Stage(asks_upgrade=True, asks_token=True)
    alice = adopt(stage)
    (asked,) = stage.hub.events()
    assert isinstance(asked, UpgradeRequested)
    stage.hub.decide(asked.session, True, stage.clock.now)
    (shown,) = stage.hub.events()
    assert isinstance(shown, TokenPresented)
    stage.hub.judge(shown.session, Identity("alice", lifetime=30.0), stage.clock.now)
    alice.give({"action": "ping", "from": "a"})
    assert list(stage.hub.clients) == ["a"]
    stage.advance(29.9)
    assert alice.closed is None
    stage.advance(0.2)
    assert alice.closed is not None
    assert alice.closed.code == EXPIRED
    assert (stage.hub.clients, stage.hub.connections) == ({}, {})
    assert isinstance(stage.hub.events()[-1], ClientLeft)


def test_one_that_does_not_register_is_turned_away() -> None:
    stage = Stage()
    alice = adopt(stage)
    stage.hub.state.deadlines.schedule(alice)
    stage.advance(10)
    assert alice.closed is not None
    assert alice.closed.code == 1008


def test_it_ends_with_the_server() -> None:
    stage = Stage()
    alice = enter(stage, "alice")
    stage.hub.shutdown(1.0, stage.clock.now)
    assert alice.closed is not None
    assert alice.closed.code == 1001
    assert stage.hub.connections == {}
