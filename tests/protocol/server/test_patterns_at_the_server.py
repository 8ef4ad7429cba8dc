"""Subscriptions to patterns, as the server grants them (spec, 14)."""

import pytest

from kps.errors import QueueFull
from kps.protocol.access.identity import Permissions
from kps.protocol.bus import matching
from kps.protocol.patterns import Pattern
from kps.protocol.server_limits import ServerLimits
from tests.protocol.helpers import Fields, Stage
from tests.protocol.server.test_permissions_and_limits import codes, peer2


def subscribe(pattern: str) -> Fields:
    return {"action": "subscribe", "pattern": pattern}


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        ("sensors/*", "subscribed"),
        ("sensors/7*", "subscribed"),
        ("sensors/**", "forbidden"),
        ("**", "forbidden"),
        ("news", "subscribed"),
        ("new*", "forbidden"),
        ("__kps/*", "forbidden"),
        ("__kps/stats", "forbidden"),
        ("__own/a/b*", "subscribed"),
    ],
)
def test_a_permission_must_cover_the_pattern(pattern: str, answer: str) -> None:
    stage = Stage(permissions=Permissions(subscribe=["sensors/*", "news", "__own/**"]))
    peer = peer2(stage, "a")
    answers = peer.ask(subscribe(pattern))
    assert codes(answers) == [answer]
    if answer == "forbidden":
        assert answers[0]["error"] == "this client may not subscribe to this pattern"
        assert answers[0]["pattern"] == pattern


def test_the_server_s_own_topics_need_the_console() -> None:
    stage = Stage(is_monitored=True, permissions=Permissions(subscribe=[], console=True))
    peer = peer2(stage, "a")
    assert codes(peer.ask(subscribe("__kps/**"), subscribe("__kp*"), subscribe("**"))) == [
        "subscribed", "forbidden", "forbidden",
    ]  # fmt: skip
    stage.advance(2.5)
    assert {m["topic"] for m in peer.take()} == {"__kps/stats"}


def test_subscriptions_to_patterns_count_with_the_others() -> None:
    stage = Stage(limits=ServerLimits(max_subscriptions=2, max_topics=3))
    peers = [peer2(stage, name) for name in "ab"]
    topic = {"action": "subscribe", "topic": "t"}
    assert codes(peers[0].ask(subscribe("a*"), topic, subscribe("a*"), subscribe("b*"))) == [
        "subscribed", "subscribed", "subscribed", "limit_reached",
    ]  # fmt: skip
    assert codes(peers[1].ask(subscribe("b*"))) == ["subscribed"]
    assert codes(peers[1].ask(subscribe("c*"))) == ["limit_reached"]
    assert codes(peers[1].ask(topic)) == ["subscribed"]


@pytest.mark.pure("it replaces a part of the core")
def test_too_many_that_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "MOST_ALIKE", 3 * len("a*0*b"))
    stage = Stage()
    peer = peer2(stage, "a")
    assert codes(peer.ask(*[subscribe(f"a*{number}*b") for number in range(4)])) == [
        *["subscribed"] * 3,
        "limit_reached",
    ]
    assert codes(peer.ask(subscribe("a*1*b"), subscribe("a*3*c"))) == ["subscribed"] * 2
    with pytest.raises(QueueFull, match="too many patterns"):
        stage.hub.local.subscribe(Pattern("a*9*b"))
    assert stage.hub.local.subscriptions.keys == []


def test_the_program_of_the_server_takes_part() -> None:
    stage = Stage()
    peer = peer2(stage, "a")
    local = stage.hub.local
    exact, pattern = local.subscribe("t/1"), local.subscribe(Pattern("t/*"))
    peer.ask({"action": "publish", "topic": "t/1", "batch": [1, [2]]})
    peer.ask({"action": "publish", "topic": "t/2", "data": 3})
    assert [message.data for message in exact.take_all()] == [1, [2]]
    assert [(m.topic, m.data) for m in pattern.take_all()] == [
        ("t/1", 1), ("t/1", [2]), ("t/2", 3),
    ]  # fmt: skip
    assert stage.hub.publish("t/3", 4, stage.clock.now) == 1
    assert stage.hub.count_subscribers("t/1") == (2, 0, 2)
    assert stage.hub.count_subscribers("t/2") == (1, 0, 1)
    local.unsubscribe(pattern)
    assert stage.hub.publish("t/3", 4, stage.clock.now) == 0
    assert stage.hub.publish("t/1", 5, stage.clock.now) == 1


def test_a_search_is_charged_to_the_turn() -> None:
    stage = Stage()
    peer = peer2(stage, "a")
    for number in range(900):
        stage.hub.local.subscribe(Pattern(f"a*{number}*b"))

    def spent(topic: str) -> int:
        before = stage.hub.state.turns.left
        peer.ask({"action": "publish", "topic": topic, "data": 1})
        return before - stage.hub.state.turns.left

    cold, warm = spent("axb"), spent("axb")
    assert cold > warm + 100
