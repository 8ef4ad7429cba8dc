"""What the program of a server decides on its clients, and hears of them (spec, 13.7 and 2.8)."""

from typing import Any

import pytest

from kps.errors import Refused
from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.patterns import Pattern
from kps.protocol.server.events import (
    ClientLeft,
    ClientRegistered,
    ConnectedClient,
    ConnectRequested,
    LoginRefused,
    Subscribing,
    SubscriptionRequested,
    Unsubscribed,
)
from kps.protocol.server.gate import Phase
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.http import HttpResponse
from tests.protocol.helpers import ADDRESS, Fields, Peer, Stage, close_frame, dismiss
from tests.protocol.server.test_identity import ALICE, ping
from tests.protocol.server.test_permissions_and_limits import codes, peer2

UNDECIDED = "the server could not decide on this"
FAILED = HttpResponse(500, b"a hook failed")
"""What a driver answers for a hook that raised something."""


def subscribe(topic: str = "t", **fields: Any) -> Fields:
    return {"action": "subscribe", "topic": topic, **fields}


def events(stage: Stage, *types: type[Any]) -> list[Any]:
    return [event for event in stage.hub.events() if isinstance(event, types)]


def judge(peer: Peer, verdict: object) -> list[Fields]:
    """Answer for the hook; return what the peer is sent then."""
    peer.identify(verdict)
    return peer.take()


class TestConnect:
    def asked(self, stage: Stage, client_id: str = "a", *more: Any, **fields: Any) -> Peer:
        """A peer that has asked for an id, and waits."""
        peer = stage.peer().upgrade()
        assert peer.ask(ping(client_id, **fields), *more) == []
        assert peer.connection.wants_pause
        assert not stage.hub.clients
        return peer

    def test_what_the_hook_is_told(self) -> None:
        stage = Stage(asks_connect=True)
        peer = self.asked(stage, proto=2)
        number = peer.connection.number
        assert stage.hub.events() == [
            ConnectRequested(number, ConnectedClient("a", "", ADDRESS, 2))
        ]
        assert codes(judge(peer, True)) == ["pong"]
        assert stage.hub.events() == [ClientRegistered(number, "a", "", ADDRESS)]
        assert not peer.connection.wants_pause
        assert stage.hub.clients == {"a": peer.session}

    def test_an_id_that_the_server_chooses(self) -> None:
        stage = Stage(asks_connect=True)
        peer = self.asked(stage, "")
        (event,) = events(stage, ConnectRequested)
        assert event.client.id == "generated-2"
        assert judge(peer, True) == [{"action": "pong", "id": "generated-2"}]

    def test_what_is_behind_it_is_handled_afterwards_in_order(self) -> None:
        stage = Stage(asks_connect=True)
        behind = [subscribe(), {"action": "x"}, subscribe("u")]
        peer = self.asked(stage, "a", *behind)
        peer.send({"action": "y"})
        assert peer.session.received == 1
        assert judge(peer, True) == [
            {"action": "pong", "id": "a"},
            {"action": "subscribed", "topic": "t"},
            {"action": "error", "error": "unknown action: x"},
            {"action": "subscribed", "topic": "u"},
            {"action": "error", "error": "unknown action: y"},
        ]

    def test_what_is_behind_a_refused_one_is_not_handled(self) -> None:
        stage = Stage(asks_connect=True)
        peer = self.asked(stage, "a", subscribe())
        assert judge(peer, Refused()) == [{"action": "error", "error": "the server refused this"}]
        assert peer.closed == (1008, "the server refused this")
        assert peer.session.received == 1
        assert not stage.hub.clients

    @pytest.mark.parametrize("proto", [1, 2])
    def test_the_text_of_a_refusal_is_the_hooks(self, proto: int) -> None:
        """It has a code for a client that offers a level on which errors have codes."""
        stage = Stage(asks_connect=True)
        peer = self.asked(stage, proto=proto)
        code = {"code": "forbidden", "request": "ping"} if proto == 2 else {}
        assert judge(peer, Refused("banned")) == [{"action": "error", "error": "banned", **code}]
        assert peer.closed == (1008, "banned")
        assert events(stage, LoginRefused) == [LoginRefused(ADDRESS, "banned")]

    def test_a_long_text_is_cut_in_the_close_frame_only(self) -> None:
        stage = Stage(asks_connect=True)
        peer = self.asked(stage)
        reason = "é" * 1000
        assert judge(peer, Refused(reason)) == [{"action": "error", "error": reason}]
        assert peer.closed == (1008, "é" * 61)

    @pytest.mark.parametrize("verdict", [FAILED, HttpResponse(503, b"x"), None, False, "yes", 1])
    def test_undecided(self, verdict: object) -> None:
        """It is not refused, so that the client comes back."""
        stage = Stage(asks_connect=True)
        peer = self.asked(stage)
        assert judge(peer, verdict) == []
        assert peer.closed == (1011, UNDECIDED)
        assert events(stage, LoginRefused) == [LoginRefused(ADDRESS, UNDECIDED)]

    def test_an_id_that_is_refused_anyway_is_not_asked_about(self) -> None:
        stage = Stage(asks_connect=True, permissions=Permissions(ids=["a*"]))
        for client_id in ("server", "b", "a" * 1000):
            peer = stage.peer().upgrade()
            assert codes(peer.ask(ping(client_id))) == ["error"]
        assert events(stage, ConnectRequested) == []
        assert peer.session.gate.phase is Phase.ADMITTED

    def test_an_id_that_is_taken_meanwhile(self) -> None:
        """Two ask for one id at once: the one on whom the hook decides later has it."""
        stage = Stage(asks_connect=True)
        first, second = self.asked(stage), self.asked(stage)
        assert codes(judge(second, True)) == ["pong"]
        assert codes(judge(first, True)) == ["pong"]
        assert second.closed == (4001, "another connection took this id")
        assert stage.hub.clients == {"a": first.session}

    def test_the_holder_of_an_id_keeps_it_until_the_hook_agrees(self) -> None:
        stage = Stage(asks_connect=True)
        first = self.asked(stage)
        judge(first, True)
        second = stage.peer().upgrade()
        second.send(ping("a"))
        judge(second, Refused())
        assert first.closed is None
        assert stage.hub.clients == {"a": first.session}

    def test_the_time_for_the_registration_goes_on(self) -> None:
        stage = Stage(asks_connect=True)
        peer = self.asked(stage)
        stage.advance(stage.hub.limits.register_timeout)
        assert peer.closed == (1008, "there was no ping in time")
        peer.identify(True)
        assert not stage.hub.clients
        assert events(stage, ClientRegistered) == []

    def test_silence_means_nothing_meanwhile(self) -> None:
        """A peer that is not read from cannot show that it is alive."""
        stage = Stage(asks_connect=True, limits=ServerLimits(register_timeout=1000.0))
        peer = self.asked(stage)
        peer.connection.set_reading(False, stage.clock.now)
        for _ in range(10):
            stage.advance(50.0)
            assert peer.closed is None
        assert peer.inbox.pings >= 10, "it hears that we are alive"
        assert codes(judge(peer, True)) == ["pong"]


class TestLate:
    """A verdict that nobody waits for has no effect."""

    def test_the_client_has_gone(self) -> None:
        stage = Stage(asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a"))
        peer.connection.connection_lost(stage.clock.now)
        for verdict in (True, Refused(), None):
            peer.identify(verdict)
        assert (stage.hub.clients, stage.hub.connections) == ({}, {})
        assert events(stage, ClientRegistered) == []

    def test_the_client_has_said_goodbye(self) -> None:
        """Its close frame is behind what waits, so it is heard when the hook has decided."""
        stage = Stage(asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a"))
        peer.feed(close_frame(1000))
        assert codes(judge(peer, True)) == ["pong"]
        assert peer.closed is not None
        assert not stage.hub.clients

    def test_the_server_stops(self) -> None:
        stage = Stage(asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a"))
        stage.hub.shutdown(1.0, stage.clock.now)
        stage.advance(0.5)
        peer.identify(True)
        assert not stage.hub.clients
        assert peer.closed is not None

    def test_it_comes_twice(self) -> None:
        stage = Stage(asks_connect=True, asks_subscribe=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a"))
        judge(peer, True)
        assert judge(peer, Refused()) == []
        peer.send(subscribe())
        judge(peer, Refused())
        assert judge(peer, True) == []
        assert peer.session.topics == {}
        assert peer.closed is None

    def test_of_a_subscription(self) -> None:
        stage = Stage(asks_subscribe=True)
        peer = stage.peer("a")
        peer.send(subscribe(info={"x": 1}, presence=True))
        stage.peer("a")
        assert peer.closed is not None
        peer.identify(True)
        assert len(stage.hub.state.bus) == 0
        assert stage.hub.state.presence._infos == {}


class TestRename:
    def renaming(self, **config: Any) -> tuple[Stage, Peer]:
        """A registered peer on level 2 that has asked for another id, and waits."""
        stage = Stage(asks_connect=True, **config)
        peer = stage.peer().upgrade()
        peer.send(ping("a", proto=2))
        assert codes(judge(peer, True)) == ["pong"]
        stage.hub.events()
        assert peer.ask(ping("b", nonce="n"), {"action": "x"}) == []
        return stage, peer

    def test_agreed(self) -> None:
        stage, peer = self.renaming()
        number = peer.connection.number
        assert stage.hub.events() == [
            ConnectRequested(number, ConnectedClient("b", "", ADDRESS, 2, previous="a"))
        ]
        assert stage.hub.clients.keys() == {"a"}
        pong, error = judge(peer, True)
        assert (pong["id"], pong["nonce"]) == ("b", "n")
        assert error["code"] == "unknown_action"
        assert stage.hub.clients == {"b": peer.session}
        assert stage.hub.events() == [ClientRegistered(number, "b", "a", ADDRESS)]

    @pytest.mark.parametrize(
        ("verdict", "code", "text"),
        [
            (Refused("not you"), "forbidden", "not you"),
            (FAILED, "unavailable", UNDECIDED),
            (None, "unavailable", UNDECIDED),
        ],
    )
    def test_refused(self, verdict: object, code: str, text: str) -> None:
        stage, peer = self.renaming()
        refusal, behind = judge(peer, verdict)
        assert refusal == {
            "action": "error", "error": text, "code": code, "request": "ping", "nonce": "n",
        }  # fmt: skip
        assert behind["code"] == "unknown_action"
        assert peer.closed is None
        assert stage.hub.clients == {"a": peer.session}
        assert events(stage, LoginRefused) == [LoginRefused(ADDRESS, text)]

    @pytest.mark.parametrize("proto", [1, 2])
    def test_the_same_id_is_not_asked_about(self, proto: int) -> None:
        stage = Stage(asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a", proto=proto))
        judge(peer, True)
        stage.hub.events()
        again = [ping("a"), {"action": "ping"}] if proto == 2 else [ping("a")]
        assert codes(peer.ask(*again)) == ["pong"] * len(again)
        assert events(stage, ConnectRequested) == []

    def test_an_id_that_another_identity_takes_meanwhile(self) -> None:
        stage = Stage(asks_connect=True, asks_token=True)
        peer, other = (self.registered(stage, name) for name in "ao")
        peer.send(ping("b"))
        other.send(ping("c", "token"))
        other.identify(Identity("o"))
        other.identify(True)
        assert other.take()[-1]["id"] == "c"
        other.send(ping("b"))
        other.identify(True)
        assert other.take()[-1]["id"] == "b"
        (answer,) = judge(peer, True)
        assert answer["code"] == "id_unavailable"
        assert stage.hub.clients == {"a": peer.session, "b": other.session}

    def registered(self, stage: Stage, name: str) -> Peer:
        """A peer that its token and its id have let in."""
        peer = stage.peer().upgrade()
        peer.send(ping(name, "token", proto=2))
        peer.identify(Identity(name))
        assert codes(judge(peer, True)) == ["pong"]
        return peer


class TestTokenAndId:
    """A ping with a token and an id: one hook after the other, and all of it or nothing."""

    def test_both_agree(self) -> None:
        stage = Stage(asks_token=True, asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a", "token", proto=2), subscribe())
        assert events(stage, ConnectRequested) == []
        assert judge(peer, ALICE) == []
        (event,) = events(stage, ConnectRequested)
        assert event.client == ConnectedClient("a", "alice", ADDRESS, 2)
        assert codes(judge(peer, True)) == ["pong", "subscribed"]

    def test_no_id_is_asked_about_without_a_valid_token(self) -> None:
        stage = Stage(asks_token=True, asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a", "token"))
        assert codes(judge(peer, None)) == ["error"]
        assert events(stage, ConnectRequested) == []
        assert peer.closed is not None

    def test_the_first_id_is_refused(self) -> None:
        stage = Stage(asks_token=True, asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a", "token"))
        judge(peer, Identity("alice", lifetime=5.0))
        assert codes(judge(peer, Refused())) == ["error"]
        assert peer.session.gate.identity is None
        assert peer.closed is not None
        assert stage.hub.state.owners.may_use("a", "bob"), "nobody has it"

    @pytest.mark.parametrize("verdict", [Refused(), FAILED, None])
    def test_a_refused_rename_leaves_the_former_identity(self, verdict: object) -> None:
        before = Identity("alice", Permissions(publish=["old"]), 20.0)
        stage = Stage(asks_token=True, asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a", "token", proto=2))
        peer.identify(before)
        assert codes(judge(peer, True)) == ["pong"]
        new = {"action": "publish", "topic": "new"}
        peer.send(ping("b", "better"), new)
        judge(peer, Identity("alice", Permissions(publish=["new"]), 1000.0))
        assert [m.get("request") for m in judge(peer, verdict)] == ["ping", "publish"]
        assert peer.session.gate.identity == before
        assert peer.session.id == "a"
        stage.advance(20.0)
        assert peer.closed == (4002, "the time of the token is over")

    def test_an_agreed_rename_has_the_new_one(self) -> None:
        stage = Stage(asks_token=True, asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a", "token", proto=2))
        peer.identify(Identity("alice", Permissions(publish=[]), 20.0))
        judge(peer, True)
        peer.send(ping("b", "better"), {"action": "publish", "topic": "new", "receipt": "r"})
        peer.identify(Identity("alice", Permissions(publish=["new"]), 1000.0))
        assert codes(judge(peer, True)) == ["pong", "published"]
        stage.advance(20.0)
        assert peer.closed is None

    def test_a_time_that_is_over_when_the_hook_has_decided(self) -> None:
        stage = Stage(asks_token=True, asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a", "token", proto=2))
        peer.identify(Identity("alice", lifetime=5.0))
        judge(peer, True)
        peer.send(ping("b", "better"))
        peer.identify(Identity("alice", lifetime=1000.0))
        stage.advance(10.0)
        assert peer.closed is None
        judge(peer, Refused())
        stage.advance(0.0)
        assert peer.closed == (4002, "the time of the token is over")

    def test_an_upgrade_that_tells_the_identity(self) -> None:
        stage = Stage(asks_upgrade=True, asks_connect=True)
        peer = stage.peer()
        peer.feed(b"GET /ws/bus HTTP/1.1\r\n" + _UPGRADE)
        peer.decide(Identity("alice"))
        peer.read_upgrade()
        peer.send(ping("a"))
        (event,) = events(stage, ConnectRequested)
        assert event.client.name == "alice"
        assert codes(judge(peer, True)) == ["pong"]


_UPGRADE = (
    b"Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class TestSubscribe:
    def asked(self, *more: Any, **config: Any) -> tuple[Stage, Peer]:
        """A peer on level 2 that has asked for a subscription, and waits."""
        stage = Stage(asks_subscribe=True, **config)
        peer = peer2(stage, "a")
        stage.hub.events()
        assert peer.ask(subscribe(info={"x": 1}, presence=True), *more) == []
        assert peer.connection.wants_pause
        return stage, peer

    def test_what_the_hook_is_told(self) -> None:
        stage, peer = self.asked()
        client = ConnectedClient("a", "", ADDRESS, 2)
        assert stage.hub.events() == [
            SubscriptionRequested(peer.connection.number, Subscribing(client, "t", {"x": 1}))
        ]
        assert len(stage.hub.state.bus) == 0
        (answer,) = judge(peer, True)
        assert answer["presence"]["members"] == [{"id": "a", "info": {"x": 1}}]
        assert not peer.connection.wants_pause

    def test_a_pattern_without_info(self) -> None:
        stage = Stage(asks_subscribe=True)
        peer = peer2(stage, "a")
        peer.send({"action": "subscribe", "pattern": "t/*"})
        (event,) = events(stage, SubscriptionRequested)
        assert (event.asked.topic, event.asked.info) == (Pattern("t/*"), None)
        assert judge(peer, True) == [{"action": "subscribed", "pattern": "t/*"}]

    def test_the_client_tells_how_long_it_is_there_and_with_how_much(self) -> None:
        stage = Stage(asks_subscribe=True)
        peer = peer2(stage, "a")
        peer.send(subscribe("u"))
        judge(peer, True)
        stage.advance(3.0)
        stage.hub.events()
        peer.send(subscribe())
        (event,) = events(stage, SubscriptionRequested)
        assert (event.asked.client.age, event.asked.client.topics) == (3.0, 1)

    def test_what_is_behind_it_is_handled_afterwards_in_order(self) -> None:
        stage, peer = self.asked(
            {"action": "publish", "topic": "t", "data": 1}, {"action": "unsubscribe", "topic": "t"}
        )
        stage.hub.publish("t", 0, stage.clock.now)
        answers = judge(peer, True)
        assert [m["action"] for m in answers] == ["subscribed", "publish", "unsubscribed"]
        assert answers[1]["data"] == 1

    def test_what_is_before_it_is_delivered_at_once(self) -> None:
        """Publications of one message are gathered, and do not wait for a hook."""
        stage = Stage(asks_subscribe=True)
        reader, writer = peer2(stage, "r"), peer2(stage, "w")
        reader.send(subscribe())
        judge(reader, True)
        publish = {"action": "publish", "topic": "t", "data": 1}
        writer.send([publish, publish, subscribe("u"), publish])
        assert len(reader.take()[0]["batch"]) == 2
        assert codes(judge(writer, True)) == ["subscribed"]
        assert [m["data"] for m in reader.take()] == [1]

    def test_in_an_array_of_messages(self) -> None:
        stage = Stage(asks_subscribe=True)
        peer = peer2(stage, "a")
        topics = ["t", "u", "v"]
        peer.send([{"action": "x"}, *[subscribe(topic) for topic in topics], {"action": "y"}])
        assert codes(peer.take()) == ["unknown_action"]
        verdicts: list[object] = [True, Refused("no"), None]
        for topic, verdict, code in zip(
            topics, verdicts, ["subscribed", "forbidden", "unavailable"], strict=True
        ):
            (event,) = events(stage, SubscriptionRequested)
            assert event.asked.topic == topic
            peer.identify(verdict)
            answers = peer.take()
            assert codes(answers[:1]) == [code]
        assert codes(answers[1:]) == ["unknown_action"]
        assert list(peer.session.topics) == ["t"]

    @pytest.mark.parametrize(
        ("verdict", "code", "text"),
        [
            (Refused("members only"), "forbidden", "members only"),
            (Refused(), "forbidden", "the server refused this"),
            (FAILED, "unavailable", UNDECIDED),
            (None, "unavailable", UNDECIDED),
        ],
    )
    def test_refused(self, verdict: object, code: str, text: str) -> None:
        stage, peer = self.asked({"action": "x"})
        refusal, behind = judge(peer, verdict)
        assert refusal == {
            "action": "error", "error": text, "code": code, "request": "subscribe", "topic": "t",
        }  # fmt: skip
        assert behind["code"] == "unknown_action"
        assert peer.closed is None
        assert peer.session.topics == {}
        assert stage.hub.state.presence._infos == {}
        assert events(stage, LoginRefused) == [], "it is no login"

    def test_refused_on_level_1(self) -> None:
        stage = Stage(asks_subscribe=True)
        peer = stage.peer("a")
        peer.send(subscribe())
        assert judge(peer, Refused("no")) == [{"action": "error", "error": "no"}]

    def test_refused_to_a_pattern(self) -> None:
        stage = Stage(asks_subscribe=True)
        peer = peer2(stage, "a")
        peer.send({"action": "subscribe", "pattern": "t/*"})
        (answer,) = judge(peer, Refused("no"))
        assert (answer["pattern"], answer["code"]) == ("t/*", "forbidden")

    def test_what_the_rules_refuse_is_not_asked_about(self) -> None:
        stage = Stage(
            asks_subscribe=True,
            limits=ServerLimits(max_info=10, max_topic=10),
            permissions=Permissions(subscribe=["t", "u"], presence=["t"]),
        )
        peer = peer2(stage, "a")
        stage.hub.events()
        refused = [
            subscribe("x"),
            subscribe("t" * 11),
            subscribe("u", presence=True),
            subscribe(info={"x": "too long"}),
            subscribe(info=5),
            {"action": "subscribe", "pattern": "**"},
        ]
        assert {m["action"] for m in peer.ask(*refused)} == {"error"}
        assert stage.hub.events() == []

    def test_what_the_client_has_is_not_asked_about(self) -> None:
        stage, peer = self.asked()
        judge(peer, True)
        stage.hub.events()
        again = [subscribe(), subscribe(presence=False), subscribe(presence=True)]
        assert codes(peer.ask(*again)) == ["subscribed"] * 3
        assert stage.hub.events() == []
        peer.send({"action": "unsubscribe", "topic": "t"}, subscribe())
        assert len(events(stage, SubscriptionRequested)) == 1

    def test_what_the_client_says_about_itself_is(self) -> None:
        stage, peer = self.asked()
        judge(peer, True)
        stage.hub.events()
        for verdict, code, kept in (
            (Refused("no names"), "forbidden", {"x": 1}),
            (None, "unavailable", {"x": 1}),
            (True, "subscribed", {"x": 2}),
        ):
            assert peer.ask(subscribe(info={"x": 2})) == []
            (event,) = events(stage, SubscriptionRequested)
            assert event.asked.info == {"x": 2}
            assert event.asked.client.topics == 1
            assert codes(judge(peer, verdict)) == [code]
            assert stage.hub.local.presence("t").members == {"a": kept}

    def test_limits_are_those_at_the_verdict(self) -> None:
        stage, peer = self.asked(limits=ServerLimits(max_topics=2))
        for topic in ("one", "another"):
            stage.hub.local.subscribe(topic)
        (answer,) = judge(peer, True)
        assert (answer["code"], answer["topic"]) == ("limit_reached", "t")
        assert peer.session.topics == {}
        assert stage.hub.state.presence._infos == {}

    def test_those_of_one_client_too(self) -> None:
        _, peer = self.asked(subscribe("u"), limits=ServerLimits(max_subscriptions=1))
        assert codes(judge(peer, True)) == ["subscribed"]
        assert codes(judge(peer, True)) == ["limit_reached"]

    def test_several_clients_are_judged_independently(self) -> None:
        stage = Stage(asks_subscribe=True)
        peers = [peer2(stage, name) for name in "abc"]
        for peer in peers:
            peer.send(subscribe())
        assert codes(judge(peers[2], True)) == ["subscribed"]
        assert codes(judge(peers[0], Refused())) == ["forbidden"]
        assert peers[1].take() == []
        stage.hub.publish("t", 1, stage.clock.now)
        assert [codes(peer.take()) for peer in peers] == [[], [], ["publish"]]

    def test_a_client_that_is_taken_over_meanwhile(self) -> None:
        stage, peer = self.asked()
        other = peer2(stage, "a")
        assert judge(peer, True) == []
        assert peer.closed is not None
        assert len(stage.hub.state.bus) == 0
        assert stage.hub.clients == {"a": other.session}


class TestUnsubscribed:
    def stage(self, **config: Any) -> tuple[Stage, Peer]:
        stage = Stage(tells_unsubscribe=True, **config)
        peer = peer2(stage, "a")
        peer.ask(subscribe(), {"action": "subscribe", "pattern": "u/*"})
        stage.hub.events()
        return stage, peer

    def told(self, stage: Stage) -> list[tuple[str, str, str]]:
        return [
            (event.client.id, str(event.topic), event.reason)
            for event in events(stage, Unsubscribed)
        ]

    def test_it_unsubscribes(self) -> None:
        stage, peer = self.stage()
        peer.ask({"action": "unsubscribe", "topic": "t"}, {"action": "unsubscribe", "topic": "x"})
        (event,) = events(stage, Unsubscribed)
        assert event == Unsubscribed(
            ConnectedClient("a", "", ADDRESS, 2, topics=1), "t", "unsubscribed"
        )
        peer.ask({"action": "unsubscribe", "pattern": "u/*"})
        (event,) = events(stage, Unsubscribed)
        assert event.topic == Pattern("u/*")

    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            ("1000", "closed"),
            ("1001", "closed"),
            ("lost", "lost"),
            ("taken", "replaced"),
            ("dismissed", "closed"),
            ("stopped", "closed"),
        ],
    )
    def test_its_connection_ends(self, end: str, reason: str) -> None:
        stage, peer = self.stage()
        match end:
            case "lost":
                peer.connection.connection_lost(stage.clock.now)
            case "taken":
                peer2(stage, "a")
            case "dismissed":
                dismiss(stage.hub, "a", "", stage.clock.now)
            case "stopped":
                stage.hub.shutdown(1.0, stage.clock.now)
            case code:
                peer.feed(close_frame(int(code)))
        assert self.told(stage) == [("a", "t", reason), ("a", "u/*", reason)]
        assert peer.session.topics == {}

    def test_how_old_it_was(self) -> None:
        stage, _ = self.stage()
        stage.clock.advance(3.0)
        dismiss(stage.hub, "a", "", stage.clock.now)
        assert [event.client.age for event in events(stage, Unsubscribed)] == [3.0, 3.0]

    def test_a_new_id(self) -> None:
        """Its subscriptions go on."""
        stage, peer = self.stage()
        peer.ask(ping("b"))
        assert self.told(stage) == []
        peer.ask({"action": "unsubscribe", "topic": "t"})
        assert self.told(stage) == [("b", "t", "unsubscribed")]

    def test_the_program_itself_is_not_told_of_its_own(self) -> None:
        stage, _ = self.stage()
        stage.hub.local.unsubscribe(stage.hub.local.subscribe("t"))
        assert self.told(stage) == []

    def test_nobody_is_told_unless_it_wants_to_know(self) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        peer.ask(subscribe(), {"action": "unsubscribe", "topic": "t"})
        assert self.told(stage) == []

    def test_who_subscribed_is_told_of_once(self) -> None:
        stage, peer = self.stage()
        peer.connection.connection_lost(stage.clock.now)
        peer.connection.connection_lost(stage.clock.now)
        stage.advance(60.0)
        (left,) = [e for e in stage.hub.events() if isinstance(e, ClientLeft)]
        assert (left.client.id, left.closed.code) == ("a", 1006)


class TestDirectory:
    def test_all_clients_are_described(self) -> None:
        stage = Stage(asks_token=True)
        first = stage.peer().upgrade()
        first.send(ping("a", "token"))
        judge(first, ALICE)
        stage.advance(2.0)
        second = stage.peer().upgrade()
        second.send(
            ping("b", "token", proto=2), subscribe(), {"action": "subscribe", "pattern": "*"}
        )
        judge(second, Identity("bob"))
        stage.peer().upgrade()
        assert stage.hub.directory.all(stage.clock.now + 0.5) == [
            ConnectedClient("a", "alice", ADDRESS, 1, age=2.5),
            ConnectedClient("b", "bob", ADDRESS, 2, age=0.5, topics=2),
        ]

    @pytest.mark.parametrize(
        ("reason", "told"), [("enough", "enough"), ("é" * 100, "é" * 61), ("", "")]
    )
    def test_a_client_is_dismissed(self, reason: str, told: str) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        peer.ask(subscribe())
        stage.hub.publish("t", 1, stage.clock.now)
        assert dismiss(stage.hub, "a", reason, stage.clock.now)
        assert codes(peer.take()) == ["publish"], "what was queued comes first"
        assert peer.closed == (4003, told)
        assert not stage.hub.clients
        assert len(stage.hub.state.bus) == 0
        assert not dismiss(stage.hub, "a", reason, stage.clock.now)
        peer.feed(close_frame(4003))
        peer.connection.connection_lost(stage.clock.now)
        (left,) = events(stage, ClientLeft)
        assert (left.client.id, left.closed.code, left.closed.reason) == ("a", 4003, reason)

    def test_nobody_has_the_id(self) -> None:
        stage = Stage()
        stage.peer().upgrade()
        for client_id in ("", "a", "server"):
            assert not dismiss(stage.hub, client_id, "", stage.clock.now)

    def test_a_client_that_waits_for_a_hook(self) -> None:
        stage = Stage(asks_subscribe=True)
        peer = peer2(stage, "a")
        peer.send(subscribe())
        assert dismiss(stage.hub, "a", "enough", stage.clock.now)
        assert judge(peer, True) == []
        assert peer.closed == (4003, "enough")
        assert len(stage.hub.state.bus) == 0

    def test_the_id_is_free_at_once(self) -> None:
        stage = Stage()
        peer2(stage, "a")
        dismiss(stage.hub, "a", "", stage.clock.now)
        again = peer2(stage, "a")
        assert stage.hub.clients == {"a": again.session}
