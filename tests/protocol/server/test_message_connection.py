"""A connection that another program carries: requests and messages come as values."""

from typing import Any

import orjson

from kps.protocol.limits import Overflow
from kps.protocol.server.message_connection import MessageConnection, connect
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.controls import CloseReceived
from kps.protocol.wire.http import HttpRequest
from kps.protocol.wire.websocket import ClosedBy, Output
from tests.protocol.helpers import Fields, Stage

UPGRADE = (("host", "bus.example"), ("upgrade", "websocket"))


class Carried:
    """A client whose messages another program carries."""

    def __init__(self, stage: Stage, *headers: tuple[str, str]) -> None:
        self.stage = stage
        self.connection: MessageConnection = connect(stage.hub, "192.0.2.1:5", stage.clock.now)
        self.closed: CloseReceived | None = None
        request = HttpRequest("GET", "/anything?a=b", (*UPGRADE, *headers), "192.0.2.1:5")
        self.connection.begin(request, stage.clock.now)

    def ask(self, **fields: Any) -> list[Fields]:
        self.say(orjson.dumps(fields).decode())
        return self.take()

    def say(self, text: str) -> None:
        self.connection.receive_text(text, self.stage.clock.now)

    def take(self) -> list[Fields]:
        found: list[Fields] = []
        while items := list(self.connection.take(64 * 1024)):
            for item in items:
                if isinstance(item, CloseReceived):
                    self.closed = item
                else:
                    message = orjson.loads(item)
                    found += message if isinstance(message, list) else [message]
        return found

    @property
    def is_dropped(self) -> bool:
        return self.connection.output is Output.ABORT

    def register(self, name: str) -> "Carried":
        assert self.connection.is_accepted
        assert self.ask(action="ping", **{"from": name}, proto=2)[0]["action"] == "pong"
        return self


def test_it_takes_part_in_the_bus() -> None:
    stage = Stage()
    bob, alice = stage.peer("bob"), Carried(stage).register("alice")
    assert alice.ask(action="subscribe", topic="t") == [{"action": "subscribed", "topic": "t"}]
    bob.ask({"action": "publish", "topic": "t", "data": "é"})
    assert alice.take() == [{"action": "publish", "topic": "t", "from": "bob", "data": "é"}]
    assert alice.connection.session.host == "bus.example"


def test_a_binary_message_is_read_as_text_and_what_is_no_text_ends_it() -> None:
    alice = Carried(Stage()).register("alice")
    message = orjson.dumps({"action": "subscribe", "topic": "t"})
    alice.connection.receive_bytes(message, alice.stage.clock.now)
    assert alice.take() == [{"action": "subscribed", "topic": "t"}]
    alice.say('"\ud800"')
    assert alice.take() == []
    assert alice.closed is not None
    assert alice.closed.code == 1007


def test_a_message_that_is_too_long_ends_it() -> None:
    alice = Carried(Stage(limits=ServerLimits(max_message=5000))).register("alice")
    alice.say('{"action":"publish","topic":"t","data":"' + "x" * 5000 + '"}')
    assert alice.take() == []
    assert alice.closed is not None
    assert alice.closed.code == 1009
    assert alice.stage.hub.clients == {}


def test_a_message_from_before_it_was_accepted_counts_for_nothing() -> None:
    stage = Stage(asks_upgrade=True)
    alice = Carried(stage)
    assert not alice.connection.is_accepted
    assert alice.connection.wants_pause
    alice.say('{"action":"ping","from":"alice"}')
    stage.hub.decide(alice.connection.number, True, stage.clock.now)
    assert alice.connection.is_accepted
    assert alice.take() == []
    alice.register("alice")


def test_requests_that_are_refused() -> None:
    stage = Stage()
    foreign = Carried(stage, ("origin", "https://elsewhere.example"))
    assert foreign.connection.answer is not None
    assert foreign.connection.answer.status == 403
    twice = Carried(stage, ("authorization", "Bearer a"), ("authorization", "Bearer b"))
    assert twice.connection.answer is not None
    assert twice.connection.answer.status == 400
    assert not twice.connection.is_accepted
    for one in (foreign, twice):
        one.connection.connection_lost(stage.clock.now)
    assert stage.hub.connections == {}


def test_the_end_of_the_peer() -> None:
    stage = Stage()
    for code, by in ((1000, ClosedBy.PEER), (1005, ClosedBy.PEER), (1006, ClosedBy.LOST)):
        alice = Carried(stage).register("alice")
        alice.connection.peer_closed(code, "", stage.clock.now)
        alice.connection.connection_lost(stage.clock.now)
        closed = alice.connection.closed
        assert closed is not None
        assert (closed.code, closed.by) == (code, by)
        assert (stage.hub.clients, stage.hub.connections) == ({}, {})


def test_what_came_before_the_end_is_handled() -> None:
    stage = Stage()
    bob, alice = stage.peer("bob"), Carried(stage).register("alice")
    bob.ask({"action": "subscribe", "topic": "t"})
    alice.say('{"action":"publish","topic":"t","data":1}')
    alice.connection.peer_closed(1001, "", stage.clock.now)
    alice.connection.connection_lost(stage.clock.now)
    assert [message["data"]["data"] for message in bob.take()] == [1]


def test_a_queue_that_nobody_takes_from_overflows_by_its_policy() -> None:
    for policy, code in ((Overflow.DROP_OLDEST, None), (Overflow.CLOSE, 1008)):
        limits = ServerLimits(queue_messages=4, overflow=policy)
        stage = Stage(limits=limits)
        bob, alice = stage.peer("bob"), Carried(stage).register("alice")
        alice.ask(action="subscribe", topic="t")
        for number in range(10):
            bob.ask({"action": "publish", "topic": "t", "data": number})
        came = [message["data"] for message in alice.take()]
        assert came == ([6, 7, 8, 9] if code is None else [])
        assert (alice.closed and alice.closed.code) == code


def test_silence_means_nothing_but_a_peer_that_takes_nothing_is_gone() -> None:
    limits = ServerLimits(heartbeat_interval=10.0, heartbeat_timeout=5.0)
    stage = Stage(limits=limits)
    bob, alice = stage.peer("bob"), Carried(stage).register("alice")
    alice.ask(action="subscribe", topic="t")
    alice.connection.set_reading(False, stage.clock.now)
    alice.connection.set_reading(True, stage.clock.now)
    for _ in range(20):
        stage.advance(7.0)
        bob.ask({"action": "ping", "from": "bob"})
    assert alice.take() == []
    assert not alice.is_dropped
    bob.ask({"action": "publish", "topic": "t", "data": 1})
    for _ in range(4):
        stage.advance(7.0)
        bob.ask({"action": "ping", "from": "bob"})
    assert alice.is_dropped
    assert "alice" not in stage.hub.clients


def test_it_ends_with_the_server() -> None:
    stage = Stage()
    alice = Carried(stage).register("alice")
    waiting = Carried(stage)
    stage.hub.shutdown(1.0, stage.clock.now)
    stage.finish()
    alice.take()
    waiting.take()
    assert alice.closed is not None
    assert waiting.closed is not None
    late = Carried(stage)
    assert late.connection.answer is not None
    assert late.connection.answer.status == 503


def test_plain_requests() -> None:
    stage = Stage()
    for path, status in (("/healthz", 200), ("/nothing", 404)):
        connection = connect(stage.hub, "192.0.2.1:5", stage.clock.now)
        connection.begin(HttpRequest("GET", path, UPGRADE[:1], "192.0.2.1:5"), stage.clock.now)
        assert connection.answer is not None
        assert connection.answer.status == status
        assert connection.output is not Output.KEEP


def test_a_request_beyond_the_limit_of_connections() -> None:
    stage = Stage(limits=ServerLimits(max_connections=1))
    Carried(stage).register("alice")
    late = Carried(stage)
    assert late.connection.answer is not None
    assert late.connection.answer.status == 503
