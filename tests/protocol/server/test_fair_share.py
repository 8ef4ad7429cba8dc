"""Work of clients is done in turns: others are answered between two, and nothing changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.dialect import envelope
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.limits import Overflow
from kps.protocol.server import inbox as inbox_module
from kps.protocol.server import turns as turns_module
from kps.protocol.server.turns import TURN, Turns
from kps.protocol.server_limits import RatePolicy, ServerLimits
from kps.testing.network import split
from tests.protocol.helpers import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    Stage,
    close_frame,
    frame,
    json_frame,
    upgrade,
)

LEVEL_2 = {"proto": 2}


def member(stage: Stage, client_id: str) -> Peer:
    """A client on level 2."""
    peer = stage.peer().upgrade()
    peer.ask({"action": "ping", "from": client_id, **LEVEL_2})
    return peer


def publications(count: int, topic: str = "t") -> list[dict[str, Any]]:
    return [{"action": "publish", "topic": topic, "data": number} for number in range(count)]


def turn(stage: Stage) -> bool:
    """End a turn and begin another one; tell whether somebody waited for it."""
    hub = stage.hub
    hub.take_unflushed()
    if not hub.state.turns.are_due:
        return False
    hub.handle_timeout(stage.clock.now)
    return True


def finish(stage: Stage, most: int = 100_000) -> int:
    """Go on until nobody waits; return how many turns that took."""
    for count in range(most):
        if not turn(stage):
            return count
    raise AssertionError("somebody waits for ever")


def numbers(peer: Peer) -> list[int]:
    found: list[int] = []
    for fields in peer.take():
        if fields["action"] == "publish":
            found += fields["batch"] if "batch" in fields else [fields["data"]]
    return found


FLOODS = {
    "array": json_frame(publications(20_000)),
    "frames": b"".join(map(json_frame, publications(10_000))),
    "garbage": frame(b"x") * 10_000,
    "pings": frame(b"p", opcode=PING) * 5_000,
    "pongs": frame(b"", opcode=PONG) * 20_000,
    "pongs and fragments": (frame(b"", fin=False) + frame(opcode=CONTINUATION)) * 3_000,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_others_are_answered_between_the_turns_of_a_flood(flood: str) -> None:
    stage = Stage()
    subscribers = [member(stage, f"s{number}") for number in range(50)]
    for subscriber in subscribers:
        subscriber.ask({"action": "subscribe", "topic": "t"})
    finish(stage)
    heavy, light = member(stage, "heavy"), member(stage, "light")
    turn(stage)
    heavy.feed(FLOODS[flood])
    count = 0
    while turn(stage):
        count += 1
        answer = light.ask({"action": "ping", "from": "light", **LEVEL_2})
        assert [fields["action"] for fields in answer] == ["pong"]
        heavy.take()  # or its replies would be too many
    assert count > 2
    expected = {"array": 20_000, "frames": 10_000}.get(flood, 0)
    for subscriber in subscribers:
        assert numbers(subscriber) == list(range(expected))


def test_pongs_stay_between_the_answers() -> None:
    stage = Stage()
    peer = member(stage, "me")
    peer.feed(
        b"".join(
            json_frame({"action": "subscribe", "topic": f"t{number}"})
            + frame(str(number).encode(), opcode=PING)
            for number in range(500)
        )
    )
    finish(stage)
    topics = [fields["topic"] for fields in peer.take()]
    assert topics == [f"t{number}" for number in range(500)]
    assert peer.inbox.pongs == [str(number).encode() for number in range(500)]
    first, second = peer.raw.index(b'"t7"'), peer.raw.index(b'"t8"')
    assert peer.raw[first:second].count(b"\x8a\x017") == 1


# -- what is charged ---------------------------------------------------------------------------


def charged(stage: Stage, peer: Peer, message: Any) -> int:
    """Send a message; return the units of work that it was charged."""
    turn(stage)
    turns = stage.hub.state.turns
    before = turns._of_turn
    peer.feed(json_frame(message))
    return before - turns._of_turn


def test_a_batch_that_slow_subscribers_have_no_room_for_is_queued_in_parts() -> None:
    limits = ServerLimits(queue_messages=10, overflow=Overflow.DROP_NEWEST)
    stage = Stage(limits=limits)
    slow = [stage.peer(f"s{number}") for number in range(20)]
    for peer in slow:
        peer.ask({"action": "subscribe", "topic": "t"})
    peer = member(stage, "me")
    batch = {"action": "publish", "topic": "t", "batch": [0] * 500}
    assert 20 * 60 <= charged(stage, peer, batch) < 20 * 500  # in 63 parts
    assert stage.hub.dropped() == 20 * 492  # the next part has no room beside the first


def test_copies_for_further_subscriptions_of_the_program_are_charged() -> None:
    stage = Stage()
    peer = member(stage, "me")
    message = {"action": "publish", "topic": "t", "data": [[]] * 1000}
    before = charged(stage, peer, message)
    for count in range(1, 6):
        stage.hub.local.subscribe("t")
        copies = (count - 1) * 3000 // 16
        assert copies <= charged(stage, peer, message) - before <= 1.2 * copies + 10


def test_each_message_of_a_refused_array_is_charged() -> None:
    stage = Stage(limits=ServerLimits(max_batch=10))
    assert charged(stage, member(stage, "me"), [{}] * 1000) >= 1000


# -- frames of one message ------------------------------------------------------------------


def test_a_message_may_not_have_many_empty_frames() -> None:
    stage = Stage()
    peer = member(stage, "me")
    peer.feed(frame(b"", fin=False) + frame(opcode=CONTINUATION, fin=False) * 1023)
    finish(stage)
    assert peer.closed is None
    peer.feed(frame(opcode=CONTINUATION, fin=False))
    finish(stage)
    assert peer.closed == (1008, "too many frames in a message")


def test_empty_frames_of_one_message_do_not_count_for_the_next() -> None:
    stage = Stage()
    peer = member(stage, "me")
    ping = orjson.dumps({"action": "ping", "from": "me", **LEVEL_2})
    for _ in range(3):
        peer.feed(frame(b"", fin=False) + frame(opcode=CONTINUATION, fin=False) * 1000)
        peer.feed(frame(ping, opcode=CONTINUATION))
        finish(stage)
        assert len(peer.take()) == 1


def test_a_long_message_may_have_many_frames() -> None:
    stage = Stage()
    peer, other = member(stage, "me"), member(stage, "other")
    other.ask({"action": "subscribe", "topic": "t"})
    data = orjson.dumps({"action": "publish", "topic": "t", "data": "x" * (2**20 - 100)})
    parts = [data[start : start + 64] for start in range(0, len(data), 64)]
    peer.feed(frame(parts[0], fin=False))
    for part in parts[1:-1]:
        peer.feed(frame(part, opcode=CONTINUATION, fin=False))
        finish(stage)
    peer.feed(frame(parts[-1], opcode=CONTINUATION))
    finish(stage)
    assert len(other.take()) == 1


# -- the same bytes, however short the turns ---------------------------------------------------


@contextmanager
def short_turns(stage: Stage, units: int) -> Iterator[None]:
    """Turns, and shares of those that come in between, of so many units."""
    stage.hub.state.turns = Turns(units)
    before, turns_module.SHARE = turns_module.SHARE, min(units, turns_module.SHARE)
    try:
        yield
    finally:
        turns_module.SHARE = before


def messages() -> st.SearchStrategy[Any]:
    topics = st.sampled_from(["t", "u", ""])
    return st.one_of(
        st.builds(
            lambda t, n: {"action": "publish", "topic": t, "data": n}, topics, st.integers(0, 9)
        ),
        st.builds(lambda t: {"action": "subscribe", "topic": t}, topics),
        st.builds(lambda t: {"action": "unsubscribe", "topic": t}, topics),
        st.builds(lambda t: {"action": "get_ack_status", "ack_id": t}, topics),
        st.builds(
            lambda t, n: {"action": "publish", "topic": t, "batch": [*range(n)], "receipt": "r"},
            topics,
            st.integers(0, 5),
        ),
        st.builds(lambda t: {"action": "direct_message", "to": t, "data": 1}, st.just("me")),
        st.sampled_from([5, None, {}, {"action": "what"}, {"action": "ping", "from": "me"}]),
    )


def parts() -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.builds(json_frame, messages()),
        st.builds(json_frame, st.lists(messages(), max_size=12)),
        st.builds(lambda m: frame(orjson.dumps(m), opcode=BINARY), messages()),
        st.builds(
            lambda m, at: (
                frame(orjson.dumps(m)[:at], fin=False)
                + frame(b"between", opcode=PING)
                + frame(orjson.dumps(m)[at:], opcode=CONTINUATION)
            ),
            messages(),
            st.integers(0, 20),
        ),
        st.binary(max_size=9).map(lambda data: frame(data, opcode=PING)),
        st.binary(max_size=9).map(lambda data: frame(data, opcode=PONG)),
        st.binary(max_size=9).map(lambda data: frame(data, opcode=TEXT)),
        st.just(close_frame(1000)),
    )


def played(data: bytes, sizes: list[int], level: int, units: int) -> bytes:
    """What a client gets that sends these bytes, behind its registration."""
    stage = Stage()
    peer = stage.peer()
    with short_turns(stage, units):
        ping = json_frame({"action": "ping", "from": "me", "proto": level})
        for piece in split(upgrade() + ping + data, sizes):
            peer.feed(piece)
            finish(stage)
        peer.read()
    return peer.raw


@given(
    st.lists(parts(), max_size=12).map(b"".join),
    st.lists(st.integers(1, 60), max_size=6),
    st.sampled_from([1, 2]),
    st.integers(1, 60),
)
def test_short_turns_change_no_byte(data: bytes, sizes: list[int], level: int, units: int) -> None:
    def content(raw: bytes) -> list[Any]:
        stage = Stage()
        peer = stage.peer()
        peer.raw, start = raw, raw.index(b"\r\n\r\n") + 4
        peer.inbox.feed(raw[start:])
        return [
            fields_of(peer.inbox.take()), peer.inbox.pongs, peer.inbox.closed
        ]  # fmt: skip

    assert content(played(data, sizes, level, units)) == content(
        played(data, sizes, level, 1 << 40)
    )


def fields_of(found: list[Any]) -> list[Any]:
    """Messages, with each batch as its publications: how many share a message is not promised."""
    flat: list[Any] = []
    for fields in found:
        if fields.get("action") == "publish" and "batch" in fields:
            rest = {name: value for name, value in fields.items() if name != "batch"}
            flat += [{**rest, "data": value} for value in fields["batch"]]
        else:
            flat.append(fields)
    return flat


# -- the end, while input waits -----------------------------------------------------------------


def waiting(stage: Stage, count: int = 20_000) -> tuple[Peer, Peer]:
    """A client whose input waits, and a subscriber."""
    other = member(stage, "other")
    other.ask({"action": "subscribe", "topic": "t"})
    peer = member(stage, "me")
    finish(stage)
    peer.feed(json_frame(publications(count)))
    assert stage.hub.state.turns.are_due
    return peer, other


def test_what_was_read_is_handled_before_the_end_of_file() -> None:
    stage = Stage()
    peer, other = waiting(stage)
    peer.connection.receive_eof(stage.clock.now)
    finish(stage)
    assert numbers(other) == list(range(20_000))
    assert peer.connection.closed is not None


def test_a_lost_connection_is_forgotten_once_its_input_is_handled() -> None:
    stage = Stage()
    peer, other = waiting(stage)
    peer.connection.receive_eof(stage.clock.now)
    peer.connection.connection_lost(stage.clock.now)
    peer.connection.connection_lost(stage.clock.now)
    assert peer.connection.number in stage.hub.connections
    finish(stage)
    assert numbers(other) == list(range(20_000))
    assert peer.connection.number not in stage.hub.connections


def test_a_connection_that_was_lost_before_the_server_stops_is_forgotten() -> None:
    stage = Stage()
    peer, other = waiting(stage)
    peer.connection.connection_lost(stage.clock.now)
    stage.hub.shutdown(5.0, stage.clock.now)
    finish(stage)
    assert peer.connection.number not in stage.hub.connections
    assert other.closed == (1001, "the server is stopping")
    assert set(stage.hub.take_unflushed()) <= set(stage.hub.connections)


def test_a_server_that_stops_handles_what_it_read_first() -> None:
    stage = Stage()
    peer, _ = waiting(stage)
    stage.hub.shutdown(5.0, stage.clock.now)
    assert peer.connection.closed is None
    finish(stage)
    assert peer.closed == (1001, "the server is stopping")
    assert peer.session.received == 20_001


def test_waiting_input_delays_the_end_by_the_close_timeout_at_most() -> None:
    stage = Stage()
    peer, _ = waiting(stage)
    peer.connection.connection_lost(stage.clock.now)
    stage.clock.now += stage.hub.limits.close_timeout
    stage.hub.handle_timeout(stage.clock.now)
    assert peer.connection.number not in stage.hub.connections


@pytest.mark.parametrize("grace", [0.0, 0.5, 2.0, 5.0, 8.0, 30.0])
def test_a_stop_lasts_no_longer_because_input_waits(grace: float) -> None:
    """Neither the end of the input nor the closing handshake has a time of its own."""
    stage = Stage()
    peer, _ = waiting(stage)
    connection, begun = peer.connection, stage.clock.now
    stage.hub.shutdown(grace, begun)
    until = begun + max(grace, stage.hub.limits.close_timeout)
    while connection.closed is None:  # it gets no turn
        due = connection.next_deadline()
        assert due is not None
        assert stage.clock.now < due <= begun + grace / 2
        stage.clock.now = due
        connection.handle_timeout(due)
    assert peer.closed == (1001, "the server is stopping")
    assert connection.output.name == "KEEP", "it has time to take what is queued, and to answer"
    assert connection.next_deadline() == until
    connection.handle_timeout(until)
    assert connection.output.name == "ABORT"


@pytest.mark.parametrize("grace", [0.0, 1.0])
def test_a_connection_that_is_dropped_when_the_grace_is_over_is_forgotten(grace: float) -> None:
    """Nobody would keep its deadline any more."""
    stage = Stage()
    peer, _ = waiting(stage)
    stage.hub.shutdown(grace, stage.clock.now)
    stage.clock.now += grace
    peer.connection.connection_lost(stage.clock.now)
    assert peer.connection.number not in stage.hub.connections


# -- rates -----------------------------------------------------------------------------------


def throttled(policy: RatePolicy = RatePolicy.DELAY, **limits: Any) -> tuple[Stage, Peer]:
    stage = Stage(limits=ServerLimits(message_rate=10, rate_policy=policy, **limits))
    peer = member(stage, "me")
    stage.advance(1.0)
    finish(stage)
    return stage, peer


def test_no_more_than_a_burst_of_an_array_is_handled_however_short_the_turns() -> None:
    stage, peer = throttled()
    with short_turns(stage, 1):  # each message uses up a turn
        peer.feed(json_frame(publications(100)))
        finish(stage)
        assert peer.session.received == 1 + 10
        stage.clock.now += 0.5
        stage.hub.handle_timeout(stage.clock.now)
        finish(stage)
        assert peer.session.received <= 1 + 15


def test_a_delayed_client_whose_connection_is_lost_is_forgotten_at_once() -> None:
    stage, peer = throttled()
    peer.feed(json_frame(publications(100)))
    finish(stage)
    peer.connection.connection_lost(stage.clock.now)
    assert peer.connection.number not in stage.hub.connections


def test_the_close_frame_of_a_delayed_client_is_heard_after_ours() -> None:
    stage, peer = throttled()
    peer.feed(b"".join(map(json_frame, publications(100))))
    finish(stage)
    assert peer.connection.wants_pause
    stage.hub.shutdown(60.0, stage.clock.now)
    assert peer.closed is not None
    finish(stage)
    assert not peer.connection.wants_pause
    peer.feed(close_frame(1001))
    assert peer.connection.output.name != "KEEP"


@pytest.mark.parametrize("policy", [RatePolicy.CLOSE])
def test_pings_count(policy: RatePolicy) -> None:
    stage, peer = throttled(policy)
    peer.feed(frame(b"", opcode=PING) * 10)
    finish(stage)
    assert peer.closed is None
    peer.feed(frame(b"", opcode=PING) * 10)
    finish(stage)
    assert peer.closed is not None
    assert peer.closed[0] == 1008


def test_a_delayed_client_gets_pings() -> None:
    stage, peer = throttled()
    peer.feed(json_frame(publications(100)))
    finish(stage)
    peer.take()
    before = peer.inbox.pings
    for _ in range(7):
        stage.advance(1.0)
        finish(stage)
    peer.take()
    assert 2 <= peer.inbox.pings - before <= 4


# -- the first message, replies, connections --------------------------------------------------


def test_the_first_message_may_not_be_long_but_the_one_behind_it_may() -> None:
    stage = Stage()
    bound = 4 * stage.hub.limits.max_head
    long = json_frame({"action": "publish", "topic": "t", "data": "x" * bound})
    peer = stage.peer().upgrade()
    peer.feed(long)
    assert peer.closed == (1009, "message too big")
    peer = stage.peer().upgrade()
    peer.feed(json_frame({"action": "ping", "from": "me", **LEVEL_2}) + long)
    finish(stage)
    assert [fields["action"] for fields in peer.take()] == ["pong"]
    assert peer.session.received == 2


def test_replies_that_nobody_reads_stop_the_work_for_them() -> None:
    stage = Stage(limits=ServerLimits(backlog_bytes=2000))
    peer = member(stage, "me")
    asked = [{"action": "get_ack_status", "ack_id": str(number)} for number in range(1000)]
    peer.feed(json_frame(asked))
    peer.connection.set_reading(not peer.connection.wants_pause, stage.clock.now)
    finish(stage)
    assert peer.session.received < 100
    seen: list[str] = []
    while found := peer.take():
        seen += [fields["ack_id"] for fields in found]
        assert len(found) < 100
        finish(stage)
    assert seen == [str(number) for number in range(1000)]


def test_those_that_are_turned_away_take_no_place_and_are_few() -> None:
    stage = Stage(limits=ServerLimits(max_connections=2))
    first, _second = stage.peer("one"), stage.peer("two")
    away = [stage.peer() for _ in range(70)]
    outputs = [peer.connection.output.name for peer in away]
    assert outputs.count("ABORT") == 6
    assert b" 503 " in away[0].read()
    first.connection.connection_lost(stage.clock.now)
    assert stage.peer("three").session.id == "three"  # though all of those are still there
    stage.advance(1.0)
    assert all(peer.connection.output.name == "ABORT" for peer in away)
    for peer in away:
        peer.connection.connection_lost(stage.clock.now)
    assert stage.peer().connection.output.name != "ABORT"


# -- what is weighed besides messages ---------------------------------------------------------


def units_of_turn(stage: Stage) -> int:
    """Units that the turn under way has used."""
    turns = stage.hub.state.turns
    return turns._turn - turns._of_turn


def test_pongs_of_a_stranger_are_weighed() -> None:
    stage = Stage()
    strangers = [stage.peer().upgrade() for _ in range(20)]
    stage.hub.take_unflushed()
    for stranger in strangers:
        stranger.feed(frame(b"", opcode=PONG) * 40_000)
    assert units_of_turn(stage) <= 3 * TURN
    count = finish(stage)
    read = sum(peer.connection._socket.reader.controls for peer in strangers)
    assert read == 20 * 40_000
    assert count * TURN > read / 4, "a pong takes a quarter of a microsecond"


def test_pongs_behind_our_close_frame_are_weighed() -> None:
    stage = Stage()
    peer = member(stage, "me")
    peer.connection.shut_down(10.0)
    stage.hub.take_unflushed()
    peer.feed(frame(b"", opcode=PONG) * 40_000)
    assert peer.connection._intake.waits
    assert units_of_turn(stage) <= 2 * TURN


@pytest.mark.parametrize("kind", ["upgrades", "plain"])
def test_a_turn_answers_only_some_of_many_requests(kind: str) -> None:
    stage = Stage()
    fields = "".join(f"x{number}: y\r\n" for number in range(1000))
    plain = f"GET /healthz HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()
    peers = [stage.peer() for _ in range(200)]
    stage.hub.take_unflushed()
    for peer in peers:
        peer.feed(upgrade() if kind == "upgrades" else plain)
    answered = [peer for peer in peers if peer.read()]
    assert answered
    assert len(answered) < 100
    assert units_of_turn(stage) <= 3 * TURN
    waiting = next(peer for peer in peers if peer not in answered)
    assert waiting.connection.wants_pause
    finish(stage)
    assert all(peer.raw or peer.read() for peer in peers)


def test_a_request_in_pieces_may_wait_too() -> None:
    stage = Stage()
    heavy, peer = member(stage, "heavy"), stage.peer()
    heavy.feed(json_frame(publications(20_000)))
    peer.feed(upgrade(), [7, 1, 50])
    peer.feed(json_frame({"action": "ping", "from": "me"}))
    finish(stage)
    peer.read_upgrade()
    assert [fields["action"] for fields in peer.take()] == ["pong"]


def test_those_that_cause_little_are_handled_in_turns_too() -> None:
    stage = Stage()
    crowd = [member(stage, f"c{number}") for number in range(500)]
    for _ in range(2):
        finish(stage)
        for peer in crowd:
            peer.feed(json_frame(publications(50)))
        assert units_of_turn(stage) <= 3 * TURN
    finish(stage)
    assert stage.hub.stats.published == 2 * 500 * 50


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("end", ["connection_lost", "receive_eof"])
def test_what_a_publisher_sent_before_it_left_is_handled(level: int, end: str) -> None:
    """Also if it reads no confirmations, of which there are more than the backlog may have."""
    stage = Stage(limits=ServerLimits(backlog_bytes=10_000))
    peer = stage.peer().upgrade()
    peer.ask({"action": "ping", "from": "me", "proto": level})
    sent = [publications(1, "ab"[number % 2])[0] for number in range(2_000)]
    peer.feed(b"".join(map(json_frame, sent)))
    getattr(peer.connection, end)(stage.clock.now)
    finish(stage)
    assert stage.hub.stats.published == 2_000


def test_the_backlog_of_one_client_does_not_stop_another() -> None:
    stage = Stage(limits=ServerLimits(backlog_bytes=1_000))
    subscriber, publisher = member(stage, "subscriber"), member(stage, "publisher")
    subscriber.ask({"action": "subscribe", "topic": "t"})
    asked = {"action": "publish_with_ack", "topic": "t", "data": 1, "timeout": 300}
    publisher.feed(json_frame([{**asked, "ack_id": f"q{number}"} for number in range(300)]))
    finish(stage)
    publisher.feed(json_frame([{"action": "subscribe", "topic": "x" * 200}] * 20))
    finish(stage)
    assert publisher.connection._intake.is_blocked
    ack = {"action": "ack", "success": True}
    subscriber.feed(json_frame([{**ack, "ack_id": f"ack_{1 + number}"} for number in range(300)]))
    assert not subscriber.connection._intake.waits
    assert not len(stage.hub.state.acks)


def test_a_refused_array_names_its_first_messages_only() -> None:
    stage = Stage(limits=ServerLimits(max_batch=10))
    peer = member(stage, "me")
    stage.hub.take_unflushed()
    [error] = peer.ask([{"action": "unsubscribe", "topic": "t"}] * 5_000)
    assert error["code"] == "limit_reached"
    assert len(error["refused"]) == 1_000
    assert units_of_turn(stage) >= 1_000


def test_one_array_in_a_message_does_not_hide_the_rest_of_it() -> None:
    stage = Stage()
    peer = member(stage, "me")
    message = {f"field {number}": number for number in range(4_000)}
    costs = [charged(stage, peer, message), charged(stage, peer, message | {"z": []})]
    assert costs[1] >= costs[0] > 4_000 // 16


def test_few_arrays_wait_as_objects() -> None:
    stage = Stage()
    peers = [member(stage, f"m{number}") for number in range(9)]
    array = json_frame([{"action": "unsubscribe", "topic": "t" * 200}] * 4_000)
    stage.hub.take_unflushed()
    for peer in peers:
        peer.feed(array)
    for _ in range(9):
        turn(stage)
    inboxes = [peer.session.inbox for peer in peers]
    kept = [inbox for inbox in inboxes if inbox._array is not None]
    assert all(inbox.has_rest for inbox in inboxes)
    assert 0 < len(kept) < 9
    assert stage.hub.state.parsed == sum(len(inbox._frame) for inbox in kept)
    for peer in peers[:5]:
        peer.connection.connection_lost(stage.clock.now)
    count = 0
    while turn(stage):
        count += 1
        for peer in peers:
            peer.take()  # or its replies would be too many
    assert count < 400, "each parses its array a few times"
    assert stage.hub.state.parsed == 0
    assert all(peer.session.received == 4_001 for peer in peers[5:])


def test_each_update_of_an_ack_request_costs_the_same() -> None:
    class Outcomes(dict[str, AckResponse]):
        """Counts how often all outcomes are looked at."""

        looks = 0

        def values(self) -> Any:
            Outcomes.looks += 1
            return super().values()

    stage = Stage()
    subscribers = [member(stage, f"s{number}") for number in range(50)]
    for subscriber in subscribers:
        subscriber.ask({"action": "subscribe", "topic": "t"})
    asker = member(stage, "asker")
    asker.ask(
        {"action": "publish_with_ack", "topic": "t", "data": 1, "ack_id": "1", "updates": True}
    )
    finish(stage)
    acks, turns = stage.hub.state.acks, stage.hub.state.turns
    (owner,) = acks.owners()
    request = acks.find(owner, "1")
    assert request is not None
    request.responses = Outcomes()
    costs = []
    for number, subscriber in enumerate(subscribers[:-1]):
        turns.end()
        before = turns._of_turn
        subscriber.send({"action": "ack", "ack_id": "ack_1", "success": True})
        costs.append(before - turns._of_turn)
        (update,) = asker.take()
        assert list(update["responses"]) == [f"s{number}"]
    assert Outcomes.looks == 0
    subscribers[-1].send({"action": "ack", "ack_id": "ack_1", "success": True})
    (last,) = asker.take()
    assert (last["action"], list(last["responses"])) == ("ack_response", ["s49"])
    assert set(costs) == {costs[0]}
    plain = member(stage, "plain")
    plain.ask({"action": "publish_with_ack", "topic": "t", "data": 1, "ack_id": "2"})
    turns.end()
    before = turns._of_turn
    subscribers[0].send({"action": "ack", "ack_id": "ack_2", "success": True})
    assert costs[0] > before - turns._of_turn, "the work of an update is not charged"


@pytest.mark.parametrize(("topics", "charged"), [(0, 0), (300, 300), (3000, 500)])
def test_what_a_client_leaves_is_work_of_its_turn(topics: int, charged: int) -> None:
    stage = Stage()
    peer = member(stage, "me")
    for number in range(topics):
        stage.hub.state.bus.subscribe(peer.session, f"t{number}")
    turns = stage.hub.state.turns
    turns.end()
    before = turns._of_turn
    peer.feed(frame(b"?", reserved=1))
    assert peer.closed is not None
    assert charged <= before - turns._of_turn < charged + 60  # there is a frame, too


@pytest.mark.parametrize("array", [False, True])
def test_a_payload_that_is_too_deep_is_not_kept(array: bool) -> None:
    stage = Stage()
    peer = member(stage, "me")
    stage.hub.take_unflushed()
    deep = b"[" * 200 + b"]" * 200
    message = b'{"action":"publish","topic":"t","data":[%b]}' % b",".join([deep] * 20)
    peer.feed(frame(b"[%b]" % message if array else message))
    [error] = peer.take()
    assert error["error"] == "message nested too deeply"
    assert peer.session.deep is None


@pytest.mark.pure("it replaces a part of the core")
def test_one_look_tells_that_a_payload_is_too_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at a megabyte of containers takes some twenty milliseconds."""
    looks, measure = 0, envelope.measure

    def counted(loaded: Any, most: int) -> tuple[int, bool]:
        nonlocal looks
        looks += 1
        return measure(loaded, most)

    for module in (envelope, inbox_module):
        monkeypatch.setattr(module, "measure", counted)
    stage = Stage()
    peer = member(stage, "me")
    stage.hub.take_unflushed()
    deep = b"[" * 200 + b"]" * 200
    peer.feed(frame(b'{"action":"direct_message","to":"me","data":%b}' % deep))
    [error] = peer.take()
    assert error["error"] == "message nested too deeply"
    assert looks == 1
