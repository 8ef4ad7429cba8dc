"""Who is subscribed to a topic, as the server tells it (spec, 17)."""

from typing import Any

import orjson
import pytest

from kps.errors import InvalidArgument, QueueFull
from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.limits import Overflow
from kps.protocol.patterns import Pattern
from kps.protocol.server import presence as module
from kps.protocol.server_limits import ServerLimits
from tests.fuzz.work import Calls
from tests.protocol.helpers import Fields, Peer, Stage, close_frame, dismiss, frame
from tests.protocol.server.test_permissions_and_limits import codes, peer2

TICK, SLOW_TICK = 0.1 + 1e-6, 1.0 + 1e-6  # with something for rounding
GRACE = ServerLimits().presence_grace


def subscribe(topic: str = "room", **fields: Any) -> Fields:
    return {"action": "subscribe", "topic": topic, **fields}


def unsubscribe(topic: str = "room") -> Fields:
    return {"action": "unsubscribe", "topic": topic}


def look(topic: str = "room", nonce: str = "n") -> Fields:
    return {"action": "presence", "topic": topic, "nonce": nonce}


def member(stage: Stage, client_id: str, **fields: Any) -> Peer:
    """A peer that is subscribed to the topic."""
    peer = peer2(stage, client_id)
    assert codes(peer.ask(subscribe(**fields))) == ["subscribed"]
    return peer


def observer(stage: Stage, client_id: str = "watch", topic: str = "room") -> Peer:
    """A peer that observes who is subscribed to the topic."""
    peer = peer2(stage, client_id)
    assert codes(peer.ask(subscribe(topic, presence=True))) == ["subscribed"]
    return peer


def there(peer: Peer, *messages: Fields) -> Fields:
    """Who is there, as one answer tells it, without the version."""
    (answer,) = peer.ask(*messages)
    told: Fields = answer["presence"] if answer["action"] == "subscribed" else answer
    return {name: told[name] for name in ("count", "members") if name in told}


def told(peer: Peer) -> list[Fields]:
    """What a peer was told meanwhile: the messages, without topic and version."""
    messages = [message for message in peer.take() if message["action"] == "presence"]
    assert all(message["topic"] == "room" for message in messages)
    return [
        {
            name: value
            for name, value in message.items()
            if name not in ("action", "topic", "version")
        }
        for message in messages
    ]


def after(stage: Stage, peer: Peer, seconds: float = TICK) -> list[Fields]:
    stage.advance(seconds)
    return told(peer)


def joined(count: int, *members: Fields) -> Fields:
    return {"count": count, "joined": list(members)}


def left(count: int, *pairs: tuple[str, str]) -> Fields:
    return {"count": count, "left": [{"id": name, "reason": reason} for name, reason in pairs]}


def spent(stage: Stage, peer: Peer, *messages: Fields) -> int:
    """Units of work that messages are charged."""
    stage.finish()
    peer.ask(*messages)
    turns = stage.hub.state.turns
    return turns._turn - turns._of_turn


def check_nothing_left(stage: Stage) -> None:
    """Nothing is kept of members, observers and infos."""
    presence = stage.hub.state.presence
    assert (presence._rosters, presence._infos) == ({}, {})
    scheduled = stage.hub.state.deadlines._scheduled
    assert not any(isinstance(item, module.Roster) for item in scheduled)


class TestMembers:
    def test_a_confirmation_tells_who_is_there(self) -> None:
        stage = Stage()
        member(stage, "a", info={"name": "Ann", "n": 1.50})
        member(stage, "b")
        watch = peer2(stage, "watch")
        (answer,) = watch.ask(subscribe(presence=True, info={"name": "Will"}))
        assert answer["action"] == "subscribed"
        assert answer["presence"]["members"] == [
            {"id": "a", "info": {"name": "Ann", "n": 1.5}},
            {"id": "b"},
            {"id": "watch", "info": {"name": "Will"}},
        ]
        assert answer["presence"].keys() == {"count", "version", "members"}
        assert answer["presence"]["count"] == 3
        assert after(stage, watch) == [], "it knows all that already"

    def test_who_comes_and_goes(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a", info={"x": 1})
        assert told(watch) == []
        assert after(stage, watch) == [joined(2, {"id": "a", "info": {"x": 1}})]
        peer.ask(unsubscribe())
        assert after(stage, watch) == [left(1, ("a", "unsubscribed"))]
        assert after(stage, watch, 60.0) == []

    def test_members_on_level_1_are_like_others_and_see_none(self) -> None:
        stage = Stage()
        watch = observer(stage)
        old = stage.peer("old")
        assert old.ask(subscribe(info={"x": 1}, presence=True)) == [
            {"action": "subscribed", "topic": "room"}
        ]
        assert after(stage, watch) == [joined(2, {"id": "old"})]
        assert old.ask(look()) == [{"action": "error", "error": "unknown action: presence"}]
        member(stage, "a")
        stage.advance(TICK)
        assert old.take() == []

    def test_who_subscribes_to_a_pattern_is_none(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer2(stage, "a").ask({"action": "subscribe", "pattern": "r*"})
        stage.hub.local.subscribe(Pattern("**"))
        assert after(stage, watch) == []
        assert there(watch, look()) == {"count": 1, "members": [{"id": "watch"}]}

    def test_the_servers_own_program_is_one(self) -> None:
        stage = Stage()
        watch = observer(stage)
        local = stage.hub.local
        first = local.subscribe("room", b'{"host":true}')
        second = local.subscribe("room")
        assert after(stage, watch) == [joined(2, {"id": "server", "info": {"host": True}})]
        local.subscribe("room", b'{"host":false}')
        assert after(stage, watch) == [joined(2, {"id": "server", "info": {"host": False}})]
        assert local.presence("room").members == {"watch": None, "server": {"host": False}}
        extra = local.subscribe("room", b"{}")
        assert after(stage, watch) == [joined(2, {"id": "server"})]
        local.unsubscribe(extra)
        for mailbox in (first, second):
            local.unsubscribe(mailbox)
        assert after(stage, watch) == []
        stage.hub.local.unsubscribe(local.subscriptions.mailboxes("room")[0])
        assert after(stage, watch) == [left(1, ("server", "unsubscribed"))]
        with pytest.raises(QueueFull, match="more than 1024 bytes"):
            local.subscribe("room", b'"' + b"x" * 1023 + b'"')
        assert local.subscriptions.keys == []
        with pytest.raises(InvalidArgument):
            local.presence("")

    def test_each_topic_has_its_own(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer2(stage, "a").ask(subscribe("hall", info={"x": 1}), subscribe("attic"))
        assert after(stage, watch) == []
        assert there(watch, look("hall")) == {
            "count": 1,
            "members": [{"id": "a", "info": {"x": 1}}],
        }


class TestInfo:
    def test_it_is_replaced_and_kept_and_removed(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a", info={"x": 1})
        stage.advance(TICK)
        told(watch)
        (answer,) = peer.ask(subscribe(info={"x": 2}))
        assert answer == {"action": "subscribed", "topic": "room"}
        assert after(stage, watch) == [joined(2, {"id": "a", "info": {"x": 2}})]
        peer.ask(subscribe(), subscribe(info=None), subscribe(info={"x": 2}))
        assert after(stage, watch) == []
        peer.ask(subscribe(info={}))
        assert after(stage, watch) == [joined(2, {"id": "a"})]
        assert there(watch, look())["members"] == [{"id": "watch"}, {"id": "a"}]

    def test_it_ends_with_the_subscription(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a", info={"x": 1})
        peer.ask(unsubscribe())
        stage.advance(TICK)
        told(watch)
        peer.ask(subscribe())
        assert after(stage, watch) == [joined(2, {"id": "a"})]

    def test_it_is_kept_while_nobody_observes(self) -> None:
        stage = Stage()
        peer = member(stage, "a", info={"x": 1})
        peer.ask(subscribe(info={"x": 2}))
        watch = peer2(stage, "watch")
        assert there(watch, subscribe(presence=True))["members"] == [
            {"id": "a", "info": {"x": 2}},
            {"id": "watch"},
        ]

    def test_it_is_passed_on_as_it_was_written(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = peer2(stage, "a")
        info = b'{ "n": 1.500, "big": 12345678901234567890123, "\\u0041": 1 }'
        message = b'{"action":"subscribe","topic":"room","info":%b}' % info
        peer.feed(frame(message))
        stage.advance(TICK)
        assert b'"info":' + info in watch.read()

    @pytest.mark.parametrize("size", [1024, 1025])
    def test_its_bytes_are_bounded(self, size: int) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        info = {"x": "y" * (size - len('{"x":""}'))}
        (answer,) = peer.ask(subscribe(info=info))
        if size == 1024:
            assert answer["action"] == "subscribed"
        else:
            assert answer["code"] == "bad_request"
            assert answer["error"] == "the info has more than 1024 bytes"
            assert "room" not in peer.session.topics
            check_nothing_left(stage)

    def test_a_refused_one_changes_nothing(self) -> None:
        stage = Stage(limits=ServerLimits(max_info=10))
        watch = observer(stage)
        peer = member(stage, "a", info={"x": 1})
        stage.advance(TICK)
        told(watch)
        assert codes(peer.ask(subscribe(info={"x": "long"}, presence=True))) == ["bad_request"]
        assert after(stage, watch) == []
        assert there(watch, look())["members"][1] == {"id": "a", "info": {"x": 1}}
        assert told(peer) == []

    def test_those_of_one_client_are_bounded_together(self) -> None:
        stage = Stage(limits=ServerLimits(max_info=7))
        peer = peer2(stage, "a")
        topics = [f"t{number}" for number in range(64)]
        assert set(codes(peer.ask(*[subscribe(t, info={"x": 1}) for t in topics]))) == {
            "subscribed"
        }
        (answer,) = peer.ask(subscribe("more", info={"x": 1}))
        assert answer["code"] == "limit_reached"
        assert answer["error"] == "the infos of this client have too many bytes"
        assert (
            codes(peer.ask(subscribe("t1", info={"x": 2}), subscribe("more"))) == ["subscribed"] * 2
        )
        assert codes(peer.ask(subscribe("more", info={"x": 1}))) == ["limit_reached"]
        peer.ask(subscribe("t1", info={}))
        assert codes(peer.ask(subscribe("more", info={"x": 1}))) == ["subscribed"]
        assert codes(peer.ask(subscribe("t1", info={"x": 1}))) == ["limit_reached"]
        peer.ask(unsubscribe("t2"))
        assert codes(peer.ask(subscribe("t1", info={"x": 1}))) == ["subscribed"]
        assert codes(peer2(stage, "b").ask(subscribe(info={"x": 1}))) == ["subscribed"]

    @pytest.mark.parametrize("info", ["text", 5, [1], True])
    def test_it_is_an_object(self, info: Any) -> None:
        stage = Stage()
        (answer,) = peer2(stage, "a").ask(subscribe(info=info))
        assert answer["error"] == "field info must be an object"
        assert answer["code"] == "bad_message"

    def test_it_is_nested_like_a_payload(self) -> None:
        stage = Stage(limits=ServerLimits(max_depth=2))
        peer = peer2(stage, "a")
        assert codes(peer.ask(subscribe(info={"x": {}}))) == ["subscribed"]
        (answer,) = peer.ask(subscribe("hall", info={"x": {"y": []}}))
        assert (answer["code"], answer["error"]) == ("bad_message", "message nested too deeply")
        assert "hall" not in peer.session.topics

    def test_to_check_one_costs_no_look_at_the_others(self) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        for number in range(2000):
            peer.send(subscribe(f"t{number}", info={"x": 1}))
        stage.finish()
        peer.take()
        calls = Calls()
        with calls.counted():
            peer.send(subscribe("t1", info={"x": 2}))
        assert codes(peer.take()) == ["subscribed"]
        assert calls.calls < 500


class TestObserving:
    def test_without_a_word_nothing_changes(self) -> None:
        stage = Stage()
        watch = observer(stage)
        assert (
            watch.ask(subscribe(), subscribe(presence=None))
            == [{"action": "subscribed", "topic": "room"}] * 2
        )
        peer = member(stage, "a")
        assert after(stage, watch) == [joined(2, {"id": "a"})]
        assert told(peer) == []

    def test_it_begins_later_and_ends_before_the_subscription(self) -> None:
        stage = Stage()
        peer = member(stage, "a")
        assert there(peer, subscribe(presence=True)) == {"count": 1, "members": [{"id": "a"}]}
        assert peer.ask(subscribe(presence=False)) == [{"action": "subscribed", "topic": "room"}]
        member(stage, "b")
        assert after(stage, peer) == []
        check_nothing_left(stage)
        peer.ask({"action": "publish", "topic": "room", "data": 1, "receipt": "r"})
        assert "room" in peer.session.topics

    def test_it_ends_with_the_subscription(self) -> None:
        stage = Stage()
        watch = observer(stage)
        watch.ask(unsubscribe())
        watch.ask(subscribe())
        member(stage, "a")
        assert after(stage, watch) == []
        check_nothing_left(stage)

    def test_to_begin_again_tells_who_is_there(self) -> None:
        stage = Stage()
        watch = observer(stage)
        member(stage, "a")
        assert there(watch, subscribe(presence=True)) == {
            "count": 2,
            "members": [{"id": "watch"}, {"id": "a"}],
        }
        assert after(stage, watch) == [joined(2, {"id": "a"})], "which may be known already"

    def test_all_observers_are_told_the_same(self) -> None:
        stage = Stage()
        watchers = [observer(stage, f"w{number}") for number in range(3)]
        stage.advance(TICK)
        for watch in watchers:
            told(watch)
        member(stage, "a")
        stage.advance(TICK)
        raw = {watch.read() for watch in watchers}
        assert len(raw) == 1

    @pytest.mark.parametrize("value", ["yes", 1, [], {}])
    def test_presence_is_true_or_false(self, value: Any) -> None:
        (answer,) = peer2(Stage(), "a").ask(subscribe(presence=value))
        assert answer["error"] == "field presence must be true or false"

    @pytest.mark.parametrize("field", [{"presence": True}, {"info": {}}, {"info": {"x": 1}}])
    def test_patterns_have_no_presence(self, field: Fields) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        (answer,) = peer.ask({"action": "subscribe", "pattern": "r*", **field})
        assert answer["code"] == "bad_request"
        assert answer["error"] == "presence is that of a topic, not of a pattern"
        assert answer["pattern"] == "r*"
        assert peer.session.topics == {}
        false = {"action": "subscribe", "pattern": "r*", "presence": False, "info": None}
        assert codes(peer.ask(false)) == ["subscribed"]

    def test_it_needs_the_permission(self) -> None:
        stage = Stage(permissions=Permissions(subscribe=["**"], presence=["room"]))
        peer = peer2(stage, "a")
        (answer,) = peer.ask(subscribe("hall", presence=True))
        assert answer["code"] == "forbidden"
        assert answer["error"] == "this client may not see who is subscribed to this topic"
        assert peer.session.topics == {}
        assert codes(peer.ask(subscribe("hall", presence=False, info={"x": 1}))) == ["subscribed"]
        assert codes(peer.ask(subscribe("hall", presence=True))) == ["forbidden"]
        assert codes(peer.ask(subscribe(presence=True))) == ["subscribed"]

    def test_an_identity_has_the_permission_only_if_it_says_so(self) -> None:
        stage = Stage(asks_token=True)
        for permissions, code in (
            (None, "forbidden"),
            (Permissions(presence=["**"]), "subscribed"),
        ):
            peer = stage.peer().upgrade()
            peer.send({"action": "ping", "from": "a", "token": "t", "proto": 2})
            peer.identify(Identity("ann", permissions) if permissions else Identity("ann"))
            peer.take()
            assert codes(peer.ask(subscribe(presence=True))) == [code]


class TestTicks:
    def test_changes_are_gathered(self) -> None:
        stage = Stage()
        watch = observer(stage)
        a = member(stage, "a")
        stage.advance(TICK)
        told(watch)
        a.ask(unsubscribe())
        stage.advance(TICK / 2)
        member(stage, "b", info={"x": 1})
        assert told(watch) == []
        assert after(stage, watch, TICK / 2) == [
            {
                "count": 2,
                "joined": [{"id": "b", "info": {"x": 1}}],
                "left": [{"id": "a", "reason": "unsubscribed"}],
            }
        ]

    def test_who_leaves_and_joins_in_between_is_there(self) -> None:
        stage = Stage()
        peer = member(stage, "a", info={"x": 1})
        watch = observer(stage)
        peer.ask(unsubscribe(), subscribe(info={"x": 2}))
        assert after(stage, watch) == [joined(2, {"id": "a", "info": {"x": 2}})]

    def test_a_tick_comes_at_most_ten_times_a_second(self) -> None:
        stage = Stage()
        watch = observer(stage)
        messages = 0
        for number in range(100):
            member(stage, f"m{number}")
            messages += len(after(stage, watch, 0.01))
        assert 9 <= messages <= 11

    def test_an_observer_that_comes_within_one_is_told_what_it_knows(self) -> None:
        stage = Stage()
        watch = observer(stage)
        member(stage, "a")
        b = observer(stage, "b")
        member(stage, "c")
        messages = after(stage, watch)
        assert messages == [joined(4, {"id": "a"}, {"id": "b"}, {"id": "c"})]
        assert told(b) == messages

    def test_those_that_come_not_back_are_told_with_others(self) -> None:
        """A network that fails for many takes them away one by one, but not one by one told."""
        stage = Stage()
        watch = observer(stage)
        peers = [member(stage, f"m{number}") for number in range(20)]
        stage.advance(TICK)
        told(watch)
        for peer in peers:
            lose(stage, peer)
            stage.advance(0.01)
        messages = after(stage, watch, GRACE + TICK)
        assert len(messages) <= 4
        assert sum(len(message["left"]) for message in messages) == 20


class TestVersions:
    def versions(self, peer: Peer) -> list[int]:
        return [message["version"] for message in peer.take() if message["action"] == "presence"]

    def test_they_grow_with_each_change(self) -> None:
        stage = Stage()
        watch = peer2(stage, "watch")
        (answer,) = watch.ask(subscribe(presence=True))
        seen = [answer["presence"]["version"]]
        for number in range(3):
            peer = member(stage, "a", info={"x": number})
            stage.advance(TICK)
            seen += self.versions(watch)
            for message in (subscribe(info={"y": number}), unsubscribe()):
                peer.ask(message)
                stage.advance(TICK)
                seen += self.versions(watch)
        assert len(seen) == 10
        assert seen == sorted(set(seen))
        assert seen[0] > 0

    def test_they_do_not_begin_anew(self) -> None:
        """Nobody observes the topic meanwhile."""
        stage = Stage()
        watch = peer2(stage, "watch")
        versions = []
        for _ in range(3):
            (answer,) = watch.ask(subscribe(presence=True))
            versions.append(answer["presence"]["version"])
            watch.ask(unsubscribe())
        assert versions == sorted(set(versions))

    def test_an_ack_response_tells_that_of_its_message(self) -> None:
        stage = Stage()
        watch = observer(stage)
        publisher = peer2(stage, "p")
        ask = {"action": "publish_with_ack", "topic": "room", "data": 1, "timeout": 1}
        publisher.send({**ask, "ack_id": "1"})
        version = stage.hub.state.presence.version("room")
        assert version > 0
        member(stage, "late")
        stage.advance(1.0)
        (response,) = [m for m in publisher.take() if m["action"] == "ack_response"]
        assert response["presence"] == version
        assert stage.hub.state.presence.version("room") > version
        watch.ask(unsubscribe())
        publisher.send({**ask, "ack_id": "2"})
        stage.advance(1.0)
        (response,) = [m for m in publisher.take() if m["action"] == "ack_response"]
        assert "presence" not in response

    def test_the_programs_own_ack_tells_it_too(self) -> None:
        stage = Stage()
        observer(stage)
        handle = stage.hub.publish_with_ack("room", 1, 1.0, stage.clock.now)
        version = stage.hub.state.presence.version("room")
        stage.advance(1.0)
        assert handle.finished
        assert handle.presence == version


def lose(stage: Stage, peer: Peer) -> None:
    """Break the connection of a peer."""
    peer.connection.connection_lost(stage.clock.now)


class TestReasons:
    """Why somebody has left: at once if it said so, or after the grace."""

    @pytest.mark.parametrize(
        ("code", "wait"), [(1000, TICK), (1005, TICK), (1001, GRACE), (3000, GRACE)]
    )
    def test_closed(self, code: int, wait: float) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a")
        stage.advance(TICK)
        told(watch)
        peer.feed(close_frame(code) if code != 1005 else frame(b"", opcode=0x8))
        lose(stage, peer)
        assert after(stage, watch, wait - 0.01) == []
        assert after(stage, watch, 0.01 + TICK) == [left(1, ("a", "closed"))]

    def test_closed_by_the_program_of_the_server(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a")
        stage.advance(TICK)
        told(watch)
        assert dismiss(stage.hub, "a", "enough", stage.clock.now)
        assert peer.closed == (4003, "enough")
        assert after(stage, watch) == [left(1, ("a", "closed"))]

    def test_lost(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a")
        stage.advance(TICK)
        told(watch)
        lose(stage, peer)
        assert after(stage, watch, GRACE - 0.01) == []
        assert there(watch, look())["count"] == 2
        assert after(stage, watch, 0.01 + TICK) == [left(1, ("a", "lost"))]

    def test_a_dead_peer_is_lost(self) -> None:
        stage = Stage()
        observer(stage)
        member(stage, "a")
        stage.advance(60.0 + GRACE)
        assert stage.hub.clients == {}, "as the observer is"
        check_nothing_left(stage)

    def test_replaced(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a")
        stage.advance(TICK)
        told(watch)
        peer2(stage, "a")
        assert peer.closed is not None
        assert after(stage, watch, GRACE - 0.01) == []
        assert after(stage, watch, 0.01 + TICK) == [left(1, ("a", "replaced"))]

    def test_renamed(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a", info={"x": 1})
        stage.advance(TICK)
        told(watch)
        peer.ask({"action": "ping", "from": "b"})
        assert after(stage, watch) == [
            {
                "count": 2,
                "joined": [{"id": "b", "info": {"x": 1}}],
                "left": [{"id": "a", "reason": "renamed"}],
            }
        ]
        peer.ask(unsubscribe())
        assert after(stage, watch) == [left(1, ("b", "unsubscribed"))]

    def test_renamed_and_back_within_a_tick(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a")
        stage.advance(TICK)
        told(watch)
        peer.ask({"action": "ping", "from": "b"}, {"action": "ping", "from": "a"})
        assert after(stage, watch) == [
            {
                "count": 2,
                "joined": [{"id": "a"}],
                "left": [{"id": "b", "reason": "renamed"}],
            }
        ], "who is in left may not be known"

    def test_an_observer_that_is_renamed_goes_on(self) -> None:
        stage = Stage()
        watch = observer(stage)
        watch.ask({"action": "ping", "from": "eyes"})
        assert after(stage, watch) == [
            {
                "count": 1,
                "joined": [{"id": "eyes"}],
                "left": [{"id": "watch", "reason": "renamed"}],
            }
        ]

    def test_an_id_that_another_member_takes_by_its_name(self) -> None:
        stage = Stage()
        watch = observer(stage)
        member(stage, "a", info={"x": "a"})
        b = member(stage, "b", info={"x": "b"})
        stage.advance(TICK)
        told(watch)
        b.ask({"action": "ping", "from": "a"})
        assert after(stage, watch, GRACE + 1.0) == [
            {
                "count": 2,
                "joined": [{"id": "a", "info": {"x": "b"}}],
                "left": [{"id": "b", "reason": "renamed"}],
            }
        ]

    def test_the_last_reason_counts(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a")
        stage.advance(TICK)
        told(watch)
        peer.ask(unsubscribe(), subscribe())
        peer.feed(close_frame(1000))
        assert after(stage, watch) == [left(1, ("a", "closed"))]

    def test_many_topics_of_one_that_leaves(self) -> None:
        """Its subscriptions end in slices, and it may be back before the last of them."""
        stage = Stage()
        watch = peer2(stage, "watch")
        topics = [f"t{number}" for number in range(2000)]
        peer = peer2(stage, "a")
        for topic in (topics[0], topics[-1]):
            watch.ask(subscribe(topic, presence=True))
        peer.ask(*[subscribe(topic) for topic in topics])
        stage.finish()
        peer.take()
        stage.advance(TICK)
        watch.take()
        lose(stage, peer)
        back = peer2(stage, "a")
        assert codes(back.ask(subscribe(topics[-1]))) == ["subscribed"]
        stage.advance(GRACE + 1.0)
        messages = watch.take()
        assert [(m["topic"], m.get("left")) for m in messages] == [
            (topics[0], [{"id": "a", "reason": "lost"}])
        ]


class TestGrace:
    def away(self, **limits: Any) -> tuple[Stage, Peer]:
        stage = Stage(limits=ServerLimits(**limits))
        watch = observer(stage)
        peer = member(stage, "a", info={"x": 1})
        stage.advance(TICK)
        told(watch)
        lose(stage, peer)
        return stage, watch

    def test_who_comes_back_neither_left_nor_joins(self) -> None:
        stage, watch = self.away()
        stage.advance(GRACE - 0.01)
        member(stage, "a", info={"x": 1})
        assert after(stage, watch, 2 * GRACE) == []
        assert there(watch, look())["count"] == 2

    def test_with_something_else_to_say(self) -> None:
        stage, watch = self.away()
        member(stage, "a", info={"x": 2})
        assert after(stage, watch, 2 * GRACE) == [joined(2, {"id": "a", "info": {"x": 2}})]

    def test_without_an_info(self) -> None:
        stage, watch = self.away()
        member(stage, "a")
        assert after(stage, watch, 2 * GRACE) == [joined(2, {"id": "a"})]

    def test_who_comes_back_too_late_joins(self) -> None:
        stage, watch = self.away()
        assert after(stage, watch, GRACE + TICK) == [left(1, ("a", "lost"))]
        member(stage, "a", info={"x": 1})
        assert after(stage, watch) == [joined(2, {"id": "a", "info": {"x": 1}})]

    def test_who_is_away_twice_has_the_whole_of_it_each_time(self) -> None:
        stage, watch = self.away()
        stage.advance(GRACE - 1.0)
        lose(stage, member(stage, "a", info={"x": 1}))
        assert after(stage, watch, GRACE - 0.01) == []
        assert after(stage, watch, 0.01 + TICK) == [left(1, ("a", "lost"))]

    def test_who_comes_back_and_leaves_has_none(self) -> None:
        stage, watch = self.away()
        peer = member(stage, "a", info={"x": 1})
        peer.ask(unsubscribe())
        assert after(stage, watch) == [left(1, ("a", "unsubscribed"))]
        assert after(stage, watch, 2 * GRACE) == []

    def test_several_are_away_at_once(self) -> None:
        stage, watch = self.away()
        stage.advance(1.0)
        lose(stage, member(stage, "b"))
        stage.advance(1.0)
        member(stage, "a", info={"x": 1})
        assert after(stage, watch, GRACE) == [joined(3, {"id": "b"}), left(2, ("b", "lost"))]

    def test_an_observer_that_comes_meanwhile_is_told_of_it(self) -> None:
        stage, watch = self.away()
        other = peer2(stage, "other")
        assert there(other, subscribe(presence=True))["count"] == 3
        watch.take()
        assert after(stage, other, GRACE + TICK)[-1] == left(2, ("a", "lost"))

    def test_another_one(self) -> None:
        stage, watch = self.away(presence_grace=0.5)
        assert after(stage, watch, 0.49) == []
        assert after(stage, watch, 0.01) == [left(1, ("a", "lost"))]

    def test_acks_do_not_wait_for_who_is_away(self) -> None:
        stage, watch = self.away()
        ask = {"action": "publish_with_ack", "topic": "room", "data": 1, "ack_id": "1"}
        watch.send({**ask, "timeout": 1})
        stage.advance(1.0)
        (response,) = [m for m in watch.take() if m["action"] == "ack_response"]
        assert response["missing"] == ["watch"]
        assert "responses" not in response


class TestTooMany:
    def crowd(self, count: int, **limits: Any) -> tuple[Stage, Peer, list[Peer]]:
        stage = Stage(limits=ServerLimits(**{"max_members": 4, **limits}))
        watch = observer(stage)
        return stage, watch, [member(stage, f"m{number}") for number in range(count)]

    def test_as_many_as_there_may_be(self) -> None:
        stage, watch, _ = self.crowd(3)
        assert len(after(stage, watch)[0]["joined"]) == 3
        assert len(there(watch, look())["members"]) == 4

    def test_only_their_number_is_told(self) -> None:
        stage, watch, _ = self.crowd(4)
        assert after(stage, watch) == [{"count": 5}]
        assert there(watch, look()) == {"count": 5}
        assert there(peer2(stage, "x"), subscribe(presence=True)) == {"count": 6}

    def test_and_that_at_most_once_a_second(self) -> None:
        stage, watch, peers = self.crowd(8)
        stage.advance(TICK)
        told(watch)
        for peer in peers[:3]:
            peer.ask(unsubscribe())
            assert after(stage, watch, 0.3) == []
        assert after(stage, watch, TICK) == [{"count": 6}]
        assert after(stage, watch, 60.0) == []

    def test_also_of_those_that_do_not_come_back(self) -> None:
        stage, watch, peers = self.crowd(20)
        stage.advance(TICK)
        told(watch)
        stage.advance(1.0)
        for peer in peers[:10]:
            lose(stage, peer)
            stage.advance(0.05)
        assert len(after(stage, watch, GRACE + 1.0)) <= 2

    def test_there_is_a_list_again_when_half_as_many_are_left(self) -> None:
        stage, watch, peers = self.crowd(4)
        stage.advance(TICK)
        told(watch)
        for peer, count in zip(peers[:2], (4, 3), strict=True):
            peer.ask(unsubscribe())
            assert after(stage, watch, SLOW_TICK) == [{"count": count}]
        peers[2].ask(unsubscribe())
        assert after(stage, watch, SLOW_TICK) == [
            {"count": 2, "members": [{"id": "watch"}, {"id": "m3"}]}
        ]
        member(stage, "n", info={"x": 1})
        assert after(stage, watch) == [joined(3, {"id": "n", "info": {"x": 1}})]

    def test_a_number_that_moves_around_the_limit_makes_no_lists(self) -> None:
        stage, watch, peers = self.crowd(4)
        stage.advance(TICK)
        for _ in range(5):
            peers[0].ask(unsubscribe())
            stage.advance(SLOW_TICK)
            peers[0].ask(subscribe())
            stage.advance(SLOW_TICK)
        assert not any("members" in message or "joined" in message for message in told(watch))

    def test_none_is_named_before_the_next_tick_either(self) -> None:
        """Very many come at once, and ask who is there."""
        stage, watch, _ = self.crowd(30)
        assert there(watch, look()) == {"count": 31}
        assert there(watch, subscribe(presence=True)) == {"count": 31}
        assert after(stage, watch) == [{"count": 31}]

    def test_who_was_told_the_number_in_between_gets_a_list(self) -> None:
        stage, watch, peers = self.crowd(5)
        assert there(watch, subscribe(presence=True)) == {"count": 6}
        for peer in peers[1:]:
            peer.ask(unsubscribe())
        assert after(stage, watch) == [{"count": 2, "members": [{"id": "watch"}, {"id": "m0"}]}]

    def test_they_are_too_many_at_the_beginning(self) -> None:
        stage = Stage(limits=ServerLimits(max_members=2))
        for number in range(3):
            member(stage, f"m{number}")
        peer = peer2(stage, "x")
        assert there(peer, look()) == {"count": 3}
        assert there(peer, subscribe(presence=True)) == {"count": 4}
        stage.advance(SLOW_TICK)
        told(peer)
        check = stage.hub.state.presence._rosters["room"]
        assert check.is_long

    @pytest.mark.parametrize("letter", ["x", "\N{GRINNING FACE}"])
    def test_bytes_of_a_list(self, letter: str) -> None:
        """It is never much longer than 256 KiB, whatever the ids and the infos."""
        stage = Stage()
        watch = observer(stage)
        info = {"x": letter * (1000 // len(letter.encode()))}
        longest = 0
        for number in range(300):
            member(stage, (letter * 250) + str(number), info=info)
            (answer,) = watch.ask(look())
            longest = max(longest, len(orjson.dumps(answer)))
        assert "members" not in answer
        assert 200_000 < longest < 280_000
        stage.advance(TICK)
        assert told(watch) == [{"count": 301}]

    def test_a_list_leaves_room_in_a_small_queue(self) -> None:
        stage = Stage(limits=ServerLimits(queue_bytes=64 * 1024))
        watch = observer(stage)
        for number in range(30):
            member(stage, f"m{number}", info={"x": "y" * 900})
        assert after(stage, watch) == [{"count": 31}]
        assert there(watch, look()) == {"count": 31}

    def test_only_the_latest_info_counts(self) -> None:
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a")
        for number in range(500):
            peer.ask(subscribe(info={"x": "y" * 1000, "n": number}))
        assert there(watch, look())["members"][1]["info"]["n"] == 499
        for _ in range(500):
            peer.ask(unsubscribe(), subscribe(info={"x": "y" * 1000}))
        assert len(there(watch, look())["members"]) == 2

    def test_bytes_of_the_changes(self) -> None:
        """One member takes very many ids in no time. Its observers get a list in place of all."""
        stage = Stage()
        watch = observer(stage)
        peer = member(stage, "a")
        stage.advance(TICK)
        told(watch)
        names = [f"{'x' * 250}{number}" for number in range(5000)]
        for start in range(0, len(names), 100):
            peer.ask(*[{"action": "ping", "from": name} for name in names[start : start + 100]])
            stage.hub.take_unflushed()
        stage.finish()
        peer.take()
        stage.advance(TICK)
        raw = watch.read()
        assert len(raw) < 300_000
        watch.inbox.feed(raw)
        assert told(watch) == [{"count": 2, "members": [{"id": "watch"}, {"id": names[-1]}]}]


class TestSlowObservers:
    def crowded(self, **limits: Any) -> tuple[Stage, Peer, Peer]:
        """A stage, an observer whose queue is a quarter full, and one that reads."""
        stage = Stage(limits=ServerLimits(queue_bytes=40_000, **limits))
        slow, watch = observer(stage, "slow"), observer(stage)
        stage.advance(TICK)
        told(slow)
        told(watch)
        stage.hub.publish_to_id("slow", "x" * 10_000, stage.clock.now)
        return stage, slow, watch

    def test_it_gets_one_list_in_place_of_all_that_it_missed(self) -> None:
        stage, slow, watch = self.crowded()
        for number in range(5):
            member(stage, f"m{number}", info={"x": number})
            stage.advance(1.0)
        assert len(told(watch)) == 5
        assert stage.hub.state.presence._rosters["room"].behind == {slow.session}
        assert told(slow) == []
        assert after(stage, slow, SLOW_TICK) == [
            {
                "count": 7,
                "members": [
                    {"id": "slow"},
                    {"id": "watch"},
                    *[{"id": f"m{number}", "info": {"x": number}} for number in range(5)],
                ],
            }
        ]
        assert told(watch) == []
        member(stage, "n")
        assert after(stage, slow) == [joined(8, {"id": "n"})]
        assert told(watch) == [joined(8, {"id": "n"})]

    def test_it_gets_it_soon_if_it_reads_soon(self) -> None:
        stage, slow, _ = self.crowded()
        member(stage, "a")
        stage.advance(TICK)
        assert told(slow) == []
        assert after(stage, slow)[0]["count"] == 3

    def test_the_others_do_not_wait_for_it(self) -> None:
        stage, _, watch = self.crowded()
        member(stage, "a")
        stage.advance(3.05)
        assert len(told(watch)) == 1
        member(stage, "b")
        assert after(stage, watch) == [joined(4, {"id": "b"})]

    @pytest.mark.pure("it replaces a part of the core")
    def test_nothing_is_written_for_it_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stage, _, _ = self.crowded()
        member(stage, "a")
        stage.advance(TICK)
        written: list[str] = []
        tells, describe = module.Roster._tell, module.Roster.describe

        def tell(self: Any, now: float) -> None:
            written.append("look")
            tells(self, now)

        def describe_it(self: Any) -> Fields:
            written.append("list")
            return describe(self)

        monkeypatch.setattr(module.Roster, "_tell", tell)
        monkeypatch.setattr(module.Roster, "describe", describe_it)
        stage.advance(10.0)
        assert "list" not in written
        assert 5 < len(written) < 15, "and it is looked at now and then only"

    def test_the_number_if_they_are_too_many_then(self) -> None:
        stage, slow, _ = self.crowded(max_members=4)
        for number in range(5):
            member(stage, f"m{number}")
        stage.advance(3.0)
        assert told(slow) == []
        assert after(stage, slow, SLOW_TICK) == [{"count": 7}]

    def test_it_may_begin_anew(self) -> None:
        stage, slow, _ = self.crowded()
        member(stage, "a")
        stage.advance(1.0)
        slow.send(subscribe(presence=True))
        (_, confirmation) = slow.take()
        assert confirmation["presence"]["count"] == 3
        assert after(stage, slow, 5.0) == []

    def test_it_may_end_it(self) -> None:
        stage, slow, watch = self.crowded()
        member(stage, "a")
        stage.advance(1.0)
        slow.send(subscribe(presence=False))
        assert stage.hub.state.presence._rosters["room"].behind == set()
        slow.take()
        assert after(stage, slow, 5.0) == []
        watch.ask(unsubscribe())
        check_nothing_left(stage)

    def test_it_may_leave(self) -> None:
        stage, slow, watch = self.crowded()
        member(stage, "a")
        stage.advance(1.0)
        lose(stage, slow)
        watch.take()
        assert after(stage, watch, GRACE + TICK) == [left(2, ("slow", "lost"))]
        watch.ask(unsubscribe())
        check_nothing_left(stage)

    def test_a_policy_drops_no_changes(self) -> None:
        stage = Stage(
            limits=ServerLimits(queue_messages=8, overflow=Overflow.DROP_OLDEST),
        )
        slow = observer(stage, "slow")
        member(stage, "a")
        stage.advance(TICK)
        for number in range(100):
            stage.hub.publish("room", number, stage.clock.now)
        messages = slow.take()
        assert [m for m in messages if m["action"] == "presence"]
        assert len(messages) == 8

    def test_a_message_for_which_there_is_no_room_ends_nothing_else(self) -> None:
        """The last observer leaves at its own message."""
        stage = Stage(limits=ServerLimits(queue_messages=4))
        slow = observer(stage, "slow")
        away = member(stage, "a")
        stage.advance(TICK)
        assert len(told(slow)) == 1
        lose(stage, away)
        for number in range(4):
            stage.hub.publish_to_id("slow", f"{number}" * 20_000, stage.clock.now)
        member(stage, "b")
        stage.advance(TICK)
        assert slow.closed is not None
        assert "slow" not in stage.hub.clients
        stage.advance(GRACE)
        check_nothing_left(stage)


class TestAsking:
    def test_without_a_subscription(self) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        assert peer.ask(look(nonce="1")) == [
            {"action": "presence", "topic": "room", "nonce": "1", "count": 0, "members": []}
        ]
        member(stage, "b", info={"x": 1})
        assert peer.ask(look(nonce="2")) == [
            {
                "action": "presence",
                "topic": "room",
                "nonce": "2",
                "count": 1,
                "members": [{"id": "b", "info": {"x": 1}}],
            }
        ]
        assert stage.hub.state.presence._rosters == {}

    def test_a_version_if_somebody_observes_the_topic(self) -> None:
        stage = Stage()
        observer(stage)
        peer = peer2(stage, "a")
        (answer,) = peer.ask(look())
        assert answer["version"] == stage.hub.state.presence.version("room") > 0

    def test_answers_wait_for_a_client_that_reads_none(self) -> None:
        stage = Stage()
        for number in range(200):
            member(stage, f"m{number}", info={"x": "y" * 1000})
        peer = peer2(stage, "a")
        peer.send([look()] * 100)
        stage.finish()
        backlog = stage.hub.limits.backlog_bytes
        assert backlog < peer.session.transport.queued_bytes < backlog + 300_000
        assert peer.connection.wants_pause
        peer.connection.set_reading(False, stage.clock.now)
        got = 0
        while messages := peer.take():
            got += len(messages)
            stage.finish()
        assert got == 100

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"topic": "t"}, "missing nonce"),
            ({"topic": "t", "nonce": ""}, "missing nonce"),
            ({"nonce": "n"}, "missing or invalid topic"),
            ({"topic": "", "nonce": "n"}, "missing or invalid topic"),
            ({"pattern": "*", "nonce": "n"}, "missing or invalid topic"),
        ],
    )
    def test_what_it_needs(self, fields: Fields, error: str) -> None:
        (answer,) = peer2(Stage(), "a").ask({"action": "presence", **fields})
        assert answer["error"] == error
        assert answer["code"] == "bad_request"

    def test_before_the_registration(self) -> None:
        (answer,) = Stage().peer().upgrade().ask(look())
        assert answer["error"] == "client not registered"

    @pytest.mark.parametrize(
        ("permissions", "error"),
        [
            (
                Permissions(subscribe=["**"], presence=["hall"]),
                "this client may not see who is subscribed to this topic",
            ),
            (
                Permissions(subscribe=["hall"], presence=["**"]),
                "this client may not subscribe to this topic",
            ),
        ],
    )
    def test_it_needs_both_permissions(self, permissions: Permissions, error: str) -> None:
        stage = Stage(permissions=permissions)
        peer = peer2(stage, "a")
        (answer,) = peer.ask(look(nonce="7"))
        assert (answer["code"], answer["error"], answer["nonce"]) == ("forbidden", error, "7")
        assert codes(peer.ask(look("hall"))) == ["presence"]


class TestNothingIsLeft:
    @pytest.mark.parametrize("end", ["unsubscribe", "presence", "close", "lose", "take", "dismiss"])
    def test_when_the_last_observer_goes(self, end: str) -> None:
        stage = Stage()
        peer, away = member(stage, "a"), member(stage, "away")
        watch = peer2(stage, "watch")
        watch.ask(subscribe(presence=True, info={"x": 1}))
        peer.ask(subscribe(info={"y": 1}), subscribe(info={}))
        lose(stage, away)
        now = stage.clock.now
        match end:
            case "unsubscribe":
                watch.ask(unsubscribe())
            case "presence":
                watch.ask(subscribe(presence=False, info={}))
            case "close":
                watch.feed(close_frame(1000))
            case "lose":
                lose(stage, watch)
            case "take":
                peer2(stage, "watch")
            case "dismiss":
                dismiss(stage.hub, "watch", "", now)
        if end in ("lose", "take"):
            assert stage.hub.state.presence._rosters  # it may come back to what it knew
            stage.advance(GRACE)
        check_nothing_left(stage)

    def test_when_all_observers_are_lost_and_come_back_nobody_has_left(self) -> None:
        stage = Stage()
        peers = [observer(stage, name) for name in "abc"]
        stage.advance(TICK)
        for peer in peers:
            lose(stage, peer)
        stage.advance(GRACE / 2)
        back = [peer2(stage, name) for name in "abc"]
        for peer in back:
            (confirmed,) = peer.ask(subscribe(presence=True))
            assert confirmed["presence"]["count"] == 3
        for peer in back:
            assert after(stage, peer, 2 * GRACE) == []

    def test_of_those_that_are_still_away_then(self) -> None:
        stage = Stage()
        peer, watch = member(stage, "a"), observer(stage)
        lose(stage, watch)
        stage.advance(1.0)
        lose(stage, peer)
        stage.advance(GRACE - 1.0 + TICK)
        check_nothing_left(stage)

    def test_when_the_last_one_comes_back_and_does_not_observe(self) -> None:
        stage = Stage()
        lose(stage, observer(stage))
        back = member(stage, "watch")
        stage.advance(GRACE)
        check_nothing_left(stage)
        assert there(back, look())["count"] == 1

    def test_one_of_two_observers(self) -> None:
        stage = Stage()
        one, two = observer(stage, "one"), observer(stage, "two")
        one.ask(unsubscribe())
        assert after(stage, two)[-1]["count"] == 1
        two.ask(unsubscribe())
        check_nothing_left(stage)

    def test_when_all_have_left(self) -> None:
        stage = Stage()
        peers = [peer2(stage, f"m{number}") for number in range(5)]
        for number, peer in enumerate(peers):
            for topic in ("room", "hall", f"own{number}"):
                peer.ask(subscribe(topic, presence=True, info={"n": number}))
        stage.advance(TICK)
        for peer in peers:
            lose(stage, peer)
        stage.advance(GRACE)
        check_nothing_left(stage)
        assert len(stage.hub.state.deadlines) == 0


class TestWork:
    """What is done for each of many is charged to the turn of who causes it."""

    def test_a_list(self) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        few = spent(stage, peer, look())
        for number in range(300):
            member(stage, f"m{number}")
        assert spent(stage, peer, look()) >= few + 600, "to find the members, and to write them"
        assert spent(stage, peer, subscribe(presence=True)) >= 600
        assert spent(stage, peer, subscribe(presence=True)) >= 300
        assert spent(stage, peer, look()) >= few + 300

    def test_a_new_id_with_many_topics(self) -> None:
        stage = Stage()
        observer(stage, topic="elsewhere")
        peer = peer2(stage, "a")
        ping = {"action": "ping", "from": "b"}
        few = spent(stage, peer, ping)
        peer.ask(*[subscribe(f"t{number}") for number in range(300)])
        assert spent(stage, peer, {**ping, "from": "c"}) >= few + 300

    def test_what_many_are_told(self) -> None:
        """Who causes that they are told pays for all; what comes until then costs no more."""
        stage = Stage()
        first, second = peer2(stage, "a"), peer2(stage, "b")
        few = spent(stage, first, subscribe())
        first.ask(unsubscribe())
        for number in range(100):
            observer(stage, f"w{number}")
        stage.advance(TICK)
        assert spent(stage, first, subscribe()) >= few + 100
        assert spent(stage, second, subscribe()) == few
