"""Input that waits: a driver in any order of its steps moves it, and it stays small."""

import gc
from typing import Any

import pytest

from kps.protocol.dialect import envelope
from kps.protocol.server import inbox as inbox_module
from kps.protocol.server.turns import TURN
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.websocket import State
from tests.protocol.helpers import PING, PONG, Peer, Stage, frame, json_frame

BACKLOG = 10_000


def member(stage: Stage, client_id: str = "me") -> Peer:
    """A client on level 2, in a new turn."""
    peer = stage.peer().upgrade()
    peer.ask({"action": "ping", "from": client_id, "proto": 2})
    stage.hub.take_unflushed()
    return peer


def questions(count: int, **fields: Any) -> list[dict[str, Any]]:
    asked = {"action": "get_ack_status", "ack_id": "a" * 40, **fields}
    return [asked] * count


def publications(count: int) -> list[dict[str, Any]]:
    return [{"action": "publish", "topic": "other", "data": 1}] * count


def test_a_driver_that_writes_before_it_pauses_hears_everything() -> None:
    """Pongs block the client; then all are written at once; only then the driver pauses."""
    stage = Stage(limits=ServerLimits(backlog_bytes=1000))
    hub, peer = stage.hub, member(stage)
    connection = peer.connection
    peer.feed((frame(b"x" * 100, opcode=PING) + json_frame(publications(1)[0])) * 60)
    assert not hub.state.turns.are_due, "it is blocked, and does not wait for a turn"
    reads = True
    for _ in range(200):
        for _number in hub.take_unflushed():
            peer.take()
            if reads is connection.wants_pause:
                reads = not reads
                connection.set_reading(reads, stage.clock.now)
        if not hub.state.turns.are_due:
            break
        hub.handle_timeout(stage.clock.now)
    assert len(peer.inbox.pongs) == 60
    assert peer.session.received == 1 + 60
    assert reads


def test_an_array_of_a_client_that_reads_no_replies_waits_as_bytes() -> None:
    stage = Stage(limits=ServerLimits(backlog_bytes=BACKLOG))
    peer = member(stage)
    peer.feed(json_frame(questions(2000, unknown=[[]] * 30)))
    stage.finish()
    inbox, outbox = peer.session.inbox, peer.connection._socket.outbox
    assert inbox.has_rest
    assert outbox.pending_replies > BACKLOG
    assert inbox._array is None, "its objects take many times as much"
    received = peer.session.received
    peer.connection.set_reading(False, stage.clock.now)
    peer.take()
    stage.finish()
    assert peer.session.received > received


def test_what_a_client_sent_that_reads_no_replies_is_handled_as_soon_as_it_leaves() -> None:
    stage = Stage(limits=ServerLimits(backlog_bytes=BACKLOG))
    peer, other = member(stage), member(stage, "other")
    stage.hub.state.bus.subscribe(other.session, "t")
    peer.feed(json_frame(questions(2000)) + json_frame(publications(1)[0]))
    stage.finish()
    assert peer.connection._intake.is_blocked
    peer.connection.connection_lost(stage.clock.now)
    stage.finish()
    assert list(stage.hub.connections.values()) == [other.connection]
    assert stage.hub.stats.published == 1


def test_what_is_to_be_handled_next_is_known_before_it_is_parsed() -> None:
    stage = Stage()
    peer = member(stage)
    intake = peer.connection._intake
    assert intake.waiting_bytes == 0
    message = json_frame({"action": "unknown", "text": "x" * 10_000})
    peer.feed(message[:3000])
    assert intake.waiting_bytes == 3000
    peer.feed(message[3000:])
    assert intake.waiting_bytes == 0
    array = json_frame(questions(5000))
    peer.feed(array)
    assert len(array) - 20 < intake.waiting_bytes < len(array)
    stage.hub.handle_timeout(stage.clock.now)  # now it is parsed
    assert intake.waits
    assert intake.waiting_bytes == 0
    peer.session.inbox.keep_bytes()  # it has to be parsed again
    assert len(array) - 20 < intake.waiting_bytes < len(array)


def test_replies_pass_the_backlog_by_one_at_most() -> None:
    stage = Stage(limits=ServerLimits(backlog_bytes=BACKLOG))
    peer = member(stage)
    peer.ask(questions(1)[0])
    longest = len(peer.raw)  # more than one reply
    peer.connection.set_reading(False, stage.clock.now)
    peer.feed(json_frame(questions(5000)))
    outbox, replies = peer.connection._socket.outbox, 0
    while True:
        stage.finish()
        assert outbox.pending_bytes <= BACKLOG + longest
        found = peer.take()
        if not found:
            break
        replies += len(found)
    assert replies == 5000


@pytest.mark.pure("it replaces a part of the core")
@pytest.mark.parametrize("is_collecting", [True, False])
def test_a_huge_array_is_parsed_again_without_collecting_garbage(
    is_collecting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(limits=ServerLimits(backlog_bytes=BACKLOG))
    peer = member(stage)
    peer.feed(json_frame(questions(2000)))
    stage.finish()
    assert peer.session.inbox._array is None
    seen: list[bool] = []
    load = envelope.load

    def watched(frame: bytes) -> Any:
        seen.append(gc.isenabled())
        return load(frame)

    monkeypatch.setattr(inbox_module, "load", watched)
    peer.connection.set_reading(False, stage.clock.now)
    before = gc.isenabled()
    (gc.enable if is_collecting else gc.disable)()
    try:
        peer.take()
        stage.hub.handle_timeout(stage.clock.now)
        assert gc.isenabled() is is_collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False]


def test_the_end_of_waiting_input_and_of_the_connection_may_be_due_together() -> None:
    """As after the process was stopped for a while."""
    stage = Stage(limits=ServerLimits(queue_messages=4))
    hub, peer = stage.hub, member(stage)
    peer.ask({"action": "subscribe", "topic": "t"})
    hub.take_unflushed()
    peer.feed(json_frame(publications(10_000)))
    assert hub.state.turns.are_due
    for number in range(10):
        hub.publish("t", number, stage.clock.now)
    assert peer.connection._socket.state is State.DRAINING, "a slow consumer"
    peer.connection.receive_eof(stage.clock.now)
    stage.clock.now += hub.limits.close_timeout
    hub.handle_timeout(stage.clock.now)
    assert peer.connection.output.name == "ABORT"


def test_a_server_that_stops_ends_a_client_that_takes_no_turn_in_time() -> None:
    stage = Stage()
    peer = member(stage)
    peer.feed(json_frame(publications(10_000)))
    stage.hub.shutdown(0.0, stage.clock.now)
    stage.clock.now += stage.hub.limits.close_timeout
    stage.hub.handle_timeout(stage.clock.now)
    stage.finish()
    assert peer.closed == (1001, "the server is stopping")


def test_only_a_delayed_client_gets_more_pings_than_the_heartbeat_sends() -> None:
    stage = Stage(limits=ServerLimits(message_rate=10))
    peer = member(stage)
    stage.advance(1.0)
    peer.send(*[{"action": "ping", "from": "me"}] * 30)
    stage.advance(4.0)
    peer.take()
    assert peer.session.throttle is not None
    assert peer.session.throttle.resume_at is None
    before, due = peer.inbox.pings, stage.hub.next_deadline()
    assert due is not None
    stage.advance(due - stage.clock.now)
    peer.take()
    assert peer.inbox.pings == before + 1


@pytest.mark.parametrize(
    ("tiny", "units"),
    [
        (frame(b"", opcode=PONG), 0.25),
        (frame(b"ab", opcode=PONG), 0.25),
        (frame(b"", opcode=PING), 20),
        (frame(b"[]"), 2),
        (frame(b""), 4),
        (frame(b"1"), 3),
        (frame(b"{}"), 3),
    ],
    ids=["pong", "longer pong", "ping", "empty array", "nothing", "number", "object"],
)
def test_the_shortest_frames_are_charged_for_their_work(tiny: bytes, units: float) -> None:
    """The units are microseconds on a machine of 2020; by their bytes they would cost nothing."""
    stage = Stage(limits=ServerLimits(backlog_bytes=1 << 30))
    peer = member(stage)
    intake = peer.connection._intake
    before, count = intake.used, 5000
    peer.feed(tiny * count)
    stage.finish()
    assert not intake.has_input
    assert peer.connection.closed is None
    assert intake.used - before >= units * count


def test_a_turn_reads_no_more_pongs_than_fit() -> None:
    stage = Stage()
    peer = member(stage)
    peer.feed(frame(b"", opcode=PONG) * 100_000)
    assert peer.connection._intake.waits
    assert 0 < peer.connection._socket.reader.controls <= TURN
    stage.finish()
    assert peer.connection._socket.reader.controls == 100_000
