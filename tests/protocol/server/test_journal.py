"""The latest events of a server, and its refusals: what is kept of them, and how much."""

from typing import Any

import pytest

from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.server.events import (
    ClientDismissed,
    ClientRegistered,
    LoginRefused,
    OriginRefused,
    SessionFailed,
)
from kps.protocol.server.journal import KEPT, REFUSALS, Journal
from kps.protocol.server_limits import RatePolicy, ServerLimits
from tests.protocol.helpers import Fields, Stage, close_frame, frame, upgrade


def journal_of(stage: Stage) -> Journal:
    journal = stage.hub.state.journal
    assert journal is not None
    return journal


def told(stage: Stage, number: int = 0) -> list[Fields]:
    """The events, without what tells one of them."""
    events = journal_of(stage).since(number)
    return [
        {name: value for name, value in event.items() if name not in _OF_EACH} for event in events
    ]


_OF_EACH = ("id", "ago", "address", "network")


def test_clients_that_come_and_go() -> None:
    stage = Stage(is_monitored=True)
    alice = stage.peer("alice")
    stage.clock.now += 2
    assert alice.ask({"action": "ping", "from": "eve"})[0]["action"] == "pong"
    alice.feed(close_frame(1000, "bye"))
    alice.connection.connection_lost(stage.clock.now)
    assert told(stage) == [
        {"event": "connected", "client": "alice"},
        {"event": "renamed", "client": "eve", "before": "alice"},
        {"event": "left", "client": "eve", "code": 1000, "reason": "bye"},
    ]
    first, *_ = journal_of(stage).since(0)
    assert (first["ago"], first["address"]) == (2.0, "192.0.2.1:40000")
    assert first["network"] == "192.0.2.1"


def test_equal_refusals_are_one_that_is_counted() -> None:
    stage = Stage(is_monitored=True, permissions=Permissions(publish=[], subscribe=[]))
    alice = stage.peer("alice")
    before = journal_of(stage).number
    for _ in range(3):
        alice.ask({"action": "publish", "topic": "t", "data": 1})
    alice.ask({"action": "subscribe", "topic": "t"})
    alice.ask({"action": "publish", "topic": "t", "data": 2})
    subscription, publication = told(stage, before)
    assert publication == {
        "event": "refused",
        "client": "alice",
        "code": "forbidden",
        "error": "this client may not publish on this topic",
        "request": "publish",
        "topic": "t",
        "count": 4,
    }
    assert subscription["request"] == "subscribe"
    assert journal_of(stage).number == before + 5


@pytest.mark.parametrize("request_", [b"[1]", b'{"action": 5, "topic": 7}', b"nonsense"])
def test_what_cannot_be_read_is_a_refusal_as_well(request_: bytes) -> None:
    stage = Stage(is_monitored=True)
    alice = stage.peer("alice")
    before = journal_of(stage).number

    alice.feed(frame(request_))
    (event,) = told(stage, before)
    assert (event["event"], event["client"]) == ("refused", "alice")


def test_logins_and_origins_that_are_refused() -> None:
    stage = Stage(is_monitored=True, asks_token=True)
    for _ in range(2):
        peer = stage.peer()
        peer.feed(upgrade("/ws/bus?token=x"))
        peer.identify(None)
    stage.peer().feed(upgrade(changed={"origin": "https://evil.example"}))
    assert told(stage) == [
        {"event": "login_refused", "reason": "the token is not valid", "count": 2},
        {"event": "origin_refused", "origin": "https://evil.example"},
    ]


@pytest.mark.parametrize("is_registered", [False, True])
def test_a_wrong_token_of_a_page_is_told_once(is_registered: bool) -> None:
    """It is a refused login, and not a refused message besides."""
    stage = Stage(is_monitored=True, asks_token=True)
    peer = stage.peer().upgrade()
    if is_registered:
        peer.send({"action": "ping", "from": "a", "token": "right"})
        peer.identify(Identity("alice"))
    before = journal_of(stage).number
    peer.send({"action": "ping", "from": "a", "token": "wrong"})
    peer.identify(None)
    assert [event["event"] for event in told(stage, before)] == ["login_refused"]


def test_an_id_that_a_client_may_not_change_to_is_told_once() -> None:
    stage = Stage(is_monitored=True)
    alice = stage.peer("alice")
    before = journal_of(stage).number
    assert alice.ask({"action": "ping", "from": "server"})[0]["action"] == "error"
    assert [event["event"] for event in told(stage, before)] == ["login_refused"]


def test_a_ping_that_is_no_login_is_a_refused_message() -> None:
    """One that makes no sense, and one too many."""
    limits = ServerLimits(message_rate=2.0, rate_policy=RatePolicy.ERROR)
    stage = Stage(is_monitored=True, asks_token=True, limits=limits)
    peer = stage.peer().upgrade()
    peer.send({"action": "ping", "from": "a", "token": "right"})
    peer.identify(Identity("alice"))
    before = journal_of(stage).number
    peer.ask({"action": "ping", "token": 5}, {"action": "ping", "from": "server"})
    events = told(stage, before)
    assert [(one["event"], one["code"]) for one in events] == [
        ("refused", "bad_message"),
        ("refused", "rate_limited"),
    ]


def test_the_name_of_who_left() -> None:
    stage = Stage(is_monitored=True, asks_token=True)
    peer = stage.peer().upgrade()
    peer.send({"action": "ping", "from": "a", "token": "right"})
    peer.identify(Identity("alice"))
    peer.take()
    peer.connection.connection_lost(stage.clock.now)
    *_, left = told(stage)
    assert (left["identity"], left["code"]) == ("alice", 1006)


def test_floods_push_out_their_like_only() -> None:
    clock: list[float] = [0.0]
    journal = Journal(lambda: clock[0])
    stage = Stage(is_monitored=True, permissions=Permissions(publish=[]))
    alice = stage.peer("alice")
    for number in range(3 * KEPT):
        alice.ask({"action": "publish", "topic": f"t{number}", "data": 1})
    events = told(stage)
    assert len(events) == 1 + KEPT
    assert events[0]["event"] == "connected"
    assert events[-1]["topic"] == f"t{3 * KEPT - 1}"
    for number in range(3 * KEPT):
        journal.note("connected", client=f"c{number}")
    kept = journal.since(0)
    assert (len(kept), kept[0]["client"]) == (KEPT, f"c{2 * KEPT}")


@pytest.mark.parametrize("flood", ["192.0.2.66:{}", "[2001:db8:0:6::{:x}]:1"])
def test_a_flood_of_one_address_pushes_out_nothing_of_others(flood: str) -> None:
    journal = Journal(lambda: 0.0)
    refusal = InvalidMessage("no", "forbidden")
    journal.note("node_down", other="n2", reason="silent")
    journal.take(ClientDismissed("a", "b", ""))
    journal.note("connected", client="victim", address="192.0.2.1:1")
    journal.refused("victim", "192.0.2.1:1", refusal, {})
    journal.take(SessionFailed("here", ValueError()))
    for number in range(3 * KEPT):
        address = flood.format(number)
        journal.note("connected", client=f"c{number}", address=address)
        journal.refused(f"c{number}", address, refusal, {})
        journal.take(LoginRefused(address, "no"))
    kept = journal.since(0)
    assert [event["event"] for event in kept[:5]] == [
        "node_down",
        "dismissed",
        "connected",
        "refused",
        "fault",
    ]
    assert len(kept) == 2 * KEPT


def test_which_are_refusals() -> None:
    """Whoever puts events of several nodes together asks for that."""
    journal = Journal(lambda: 0.0)
    journal.refused("a", "192.0.2.1:1", InvalidMessage("no", "forbidden"), {})
    for event in (
        ClientRegistered(1, "a", "", "192.0.2.1:1"),
        ClientDismissed("a", "b", ""),
        LoginRefused("192.0.2.1:1", "no"),
        OriginRefused("192.0.2.1:1", "https://evil.example"),
        SessionFailed("here", ValueError()),
    ):
        journal.take(event)
    kinds = {one["event"] for one in journal.since(0)}
    assert kinds == REFUSALS | {"connected", "dismissed"}
    assert {one.kind for one in journal._refusals} == REFUSALS


def test_long_texts_are_cut() -> None:
    journal = Journal(lambda: 0.0)
    journal.note("left", client="x" * 10_000, reason="", dropped=0)
    (event,) = journal.since(0)
    assert event == {"id": 1, "event": "left", "ago": 0.0, "client": "x" * 256}


@pytest.mark.parametrize(
    ("text", "length"),
    [("\x01" * 1000, 48), ("\x01" * 48 + "x" * 1000, 256), ("a\u200b" * 500, 256), ("é" * 9, 9)],
)
def test_texts_are_cut_by_what_json_makes_of_them(text: str, length: int) -> None:
    journal = Journal(lambda: 0.0)
    journal.note("left", client=text)
    (event,) = journal.since(0)
    assert event["client"] == text[:length]


def test_since_tells_what_is_new() -> None:
    stage = Stage(is_monitored=True)
    stage.peer("a")
    seen = journal_of(stage).number
    stage.peer("b")
    assert [event["client"] for event in told(stage, seen)] == ["b"]
    assert told(stage, journal_of(stage).number) == []


def test_it_is_there_only_where_figures_are() -> None:
    stage: Any = Stage()
    stage.peer("a")
    assert stage.hub.state.journal is None
