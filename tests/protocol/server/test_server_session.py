"""What each action of a client does, and how a connection to the server ends."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import InvalidArgument
from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.dialect.envelope import compose
from kps.protocol.dialect.server import LEVEL_1, LEVEL_2
from kps.protocol.limits import Overflow
from kps.protocol.server.config import HubConfig
from kps.protocol.server.encodings import FRAMES
from kps.protocol.server.events import ClientLeft, ClientRegistered, RelayRequested, StrangerLeft
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.websocket import Closed, ClosedBy, Output
from tests.protocol.helpers import (
    ADDRESS,
    CLOSE,
    PING,
    Peer,
    Stage,
    close_frame,
    frame,
    json_frame,
    output,
    upgrade,
)

Fields = dict[str, Any]


def ping(client_id: str) -> Fields:
    return {"action": "ping", "from": client_id}


def pong(client_id: str) -> Fields:
    return {"action": "pong", "id": client_id}


def subscribe(topic: str) -> Fields:
    return {"action": "subscribe", "topic": topic}


def publish(topic: str, data: Any) -> Fields:
    return {"action": "publish", "topic": topic, "data": data}


def delivery(topic: str, sender: str, data: Any) -> Fields:
    return {"action": "publish", "topic": topic, "data": {"data": data, "from": sender}}


def refusal(text: str) -> Fields:
    return {"action": "error", "error": text}


def ask_for_ack(topic: str, ack_id: str, data: Any = None, **more: Any) -> Fields:
    return {
        "action": "publish_with_ack",
        "topic": topic,
        "ack_id": ack_id,
        "data": data,
        "timeout": 5,
        **more,
    }


def ack(asked: Fields, error: str | None = None) -> Fields:
    """A subscriber's answer to a ``publish_ack``."""
    outcome = {"ack_id": asked["ack_id"], "client_id": "anyone", "success": error is None}
    if error is not None:
        outcome["error"] = error
    return {"action": "ack", "ack_id": asked["ack_id"], "data": outcome}


def outcomes(response: Fields) -> dict[str, str | None]:
    """Who is in an ``ack_response``: ``None`` for success, or else the error."""
    assert response["action"] == "ack_response"
    by_id = response.get("responses", {})
    assert all(item["client_id"] == client_id for client_id, item in by_id.items())
    assert all(item["success"] is ("error" not in item) for item in by_id.values())
    return {client_id: item.get("error") for client_id, item in by_id.items()}


def check_nothing_left(stage: Stage) -> None:
    """After every connection is gone, nothing of them is."""
    hub = stage.hub
    assert hub.clients == {}
    assert hub.connections == {}
    assert len(hub.state.bus) == len(hub.state.acks) == len(hub.state.deadlines) == 0
    assert hub.state.acks._by_owner == {}
    assert hub.state.acks._by_subscriber == {}
    assert hub.take_unflushed() == []
    assert hub.next_deadline() is None


class TestRegistration:
    def test_ping_registers(self) -> None:
        stage = Stage()
        peer = stage.peer().upgrade()
        assert peer.ask(ping("alice")) == [pong("alice")]
        assert stage.hub.clients == {"alice": peer.session}
        assert stage.hub.events() == [
            ClientRegistered(peer.connection.number, "alice", "", ADDRESS)
        ]
        assert peer.ask(ping("alice")) == [pong("alice")]
        assert stage.hub.events() == []

    @pytest.mark.parametrize(
        "first", [{"action": "ping"}, ping(""), {"action": "ping", "from": None}]
    )
    def test_without_an_id_one_is_made(self, first: Fields) -> None:
        stage = Stage()
        assert stage.peer().upgrade().ask(first) == [pong("generated-2")]
        assert stage.peer().upgrade().ask(first) == [pong("generated-3")]
        assert set(stage.hub.clients) == {"generated-2", "generated-3"}

    def test_id_of_any_characters(self) -> None:
        for client_id in ('"}{', "é😀", "\xa0", " ", "x" * 256):
            assert Stage().peer().upgrade().ask(ping(client_id)) == [pong(client_id)]

    @pytest.mark.parametrize("client_id", ["\x00", "a\nb", "\x7f", "a\x9f", "\x1b[31m"])
    def test_id_with_a_control_character(self, client_id: str) -> None:
        """No program could send a message to it."""
        refusal = {"action": "error", "error": "the id has a control character in it"}
        peer = Stage().peer().upgrade()
        assert peer.ask(ping(client_id)) == [refusal]
        assert peer.ask(ping("a")) == [pong("a")]
        assert peer.ask(ping(client_id)) == [refusal]
        assert peer.session.id == "a"

    def test_id_of_the_server_is_its_own(self) -> None:
        stage = Stage()
        peer = stage.peer().upgrade()
        assert peer.ask(ping("server")) == [refusal("this id is the server's own")]
        assert stage.hub.clients == {}
        assert peer.ask(ping("alice")) == [pong("alice")]

    @pytest.mark.parametrize(
        "action",
        [
            "unsubscribe", "publish", "direct_message", "publish_to_server", "server-to-server",
            "publish_with_ack", "publish_to_id_with_ack", "ack", "get_ack_status", "cancel_ack",
        ],
    )  # fmt: skip
    def test_everything_else_comes_after_it(self, action: str) -> None:
        stage = Stage()
        peer = stage.peer().upgrade()
        message = {"action": action, "topic": "t", "to": "server", "ack_id": "1", "data": 1}
        assert peer.ask(message) == [refusal("client not registered")]
        assert peer.ask(subscribe("t")) == [refusal("client not registered, send ping first")]
        assert len(stage.hub.state.bus) == 0
        assert peer.ask(ping("alice")) == [pong("alice")]

    def test_again_with_another_id_renames(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        alice.ask(subscribe("news"))
        stage.hub.events()
        assert alice.ask(ping("anna")) == [pong("anna")]
        assert stage.hub.events() == [
            ClientRegistered(alice.connection.number, "anna", "alice", ADDRESS)
        ]
        assert set(stage.hub.clients) == {"anna", "bob"}
        assert stage.hub.stats.connections == 2
        bob.ask(publish("news", 1))
        assert alice.take() == [delivery("news", "bob", 1)]  # it is still subscribed
        alice.ask(publish("news", 2))
        assert bob.ask({"action": "direct_message", "to": "alice", "data": 1}) == [
            refusal("no client has the id alice")
        ]

    def test_id_of_another_moves_to_the_new_connection(self) -> None:
        stage = Stage()
        old = stage.peer("alice")
        old.ask(subscribe("news"))
        stage.hub.events()
        new = stage.peer("alice")
        assert old.closed == (4001, "another connection took this id")
        assert stage.hub.clients == {"alice": new.session}
        assert stage.hub.state.bus.subscribers("news") == []  # subscriptions are the connection's
        assert stage.hub.events() == [ClientRegistered(new.connection.number, "alice", "", ADDRESS)]
        old.feed(close_frame(4001))
        old.connection.connection_lost(stage.clock.now)
        assert stage.hub.clients == {"alice": new.session}
        (left,) = stage.hub.events()
        assert isinstance(left, ClientLeft)
        assert left.closed.code == 4001

    def test_renaming_may_take_the_id_of_another(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        assert bob.ask(ping("alice")) == [pong("alice")]
        assert alice.closed == (4001, "another connection took this id")
        assert stage.hub.clients == {"alice": bob.session}

    def test_connection_that_was_replaced_is_not_heard_any_more(self) -> None:
        stage = Stage()
        old = stage.peer("alice")
        bob = stage.peer("bob")
        bob.ask(subscribe("news"))
        stage.peer("alice")
        old.send(publish("news", "late"), ping("carol"))
        assert bob.take() == []
        assert set(stage.hub.clients) == {"alice", "bob"}


class TestNonce:
    def test_one_that_is_refused_changes_nothing(self) -> None:
        stage = Stage()
        peer = stage.peer().upgrade()
        (answer,) = peer.ask({"action": "ping", "from": "a", "proto": 2, "nonce": 5})
        assert answer["error"] == "field nonce must be a string"
        assert (peer.session.id, dict(stage.hub.clients)) == ("", {})


class TestUnreadable:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (frame(b"no json"), "message is not valid JSON"),
            (frame(b""), "message is not valid JSON"),
            (frame(b"[]"), "message is not a JSON object"),
            (frame(b"[" * 5000), "message is not valid JSON"),
            (frame(b"\xff\xfe", opcode=2), "message is not valid JSON"),
            (json_frame({}), "missing or invalid action"),
            (json_frame({"action": ""}), "missing or invalid action"),
            (json_frame({"action": None}), "missing or invalid action"),
            (json_frame({"action": 5}), "field action must be a string"),
            (json_frame({"action": 'a"b'}), 'unknown action: a"b'),
            (json_frame({"action": "PING"}), "unknown action: PING"),
            (json_frame({"action": "ping", "from": 5}), "field from must be a string"),
            (json_frame({"action": "subscribe", "topic": ["t"]}), "field topic must be a string"),
        ],
    )
    @pytest.mark.parametrize("registered", [True, False])
    def test_is_answered_and_survived(self, data: bytes, text: str, registered: bool) -> None:
        stage = Stage()
        peer = stage.peer("alice") if registered else stage.peer().upgrade()
        peer.feed(data)
        assert peer.take() == [refusal(text)]
        assert peer.ask(ping("alice")) == [pong("alice")]
        assert stage.hub.stats.refused == 1

    @pytest.mark.parametrize(
        ("message", "text"),
        [
            ({"action": "subscribe"}, "missing or invalid topic"),
            ({"action": "subscribe", "topic": ""}, "missing or invalid topic"),
            ({"action": "unsubscribe"}, "missing or invalid topic"),
            ({"action": "publish", "data": 1}, "missing or invalid topic"),
            ({"action": "direct_message", "data": 1}, "missing target ID"),
            ({"action": "publish_to_server"}, "missing target server address"),
            ({"action": "publish_to_server", "to": "/"}, "failed to relay to server: not a"),
            ({"action": "server-to-server", "to": "other"}, "addressed to another server"),
            ({"action": "publish_with_ack", "ack_id": "1"}, "missing or invalid topic"),
            ({"action": "publish_with_ack", "topic": "t"}, "missing ack_id"),
            ({"action": "publish_to_id_with_ack", "ack_id": "1"}, "missing target ID"),
            ({"action": "publish_to_id_with_ack", "to": "x"}, "missing ack_id"),
            ({"action": "ack"}, "missing ack data"),
            ({"action": "ack", "data": {}}, "missing ack_id"),
            ({"action": "ack", "data": {"ack_id": 5}}, "missing ack_id"),
            ({"action": "get_ack_status"}, "missing ack_id"),
            ({"action": "cancel_ack"}, "missing ack_id"),
            (ask_for_ack("t", "1", timeout=0), "timeout must be a number"),
            (ask_for_ack("t", "1", timeout=-1), "timeout must be a number"),
            (ask_for_ack("t", "1", timeout="5"), "timeout must be a number"),
            (ask_for_ack("t", "1", timeout=True), "timeout must be a number"),
            ({"action": "publish_to_id_with_ack", "to": "x", "ack_id": "1", "timeout": []},
             "timeout must be a number"),
        ],
    )  # fmt: skip
    def test_what_is_missing_is_named(self, message: Fields, text: str) -> None:
        stage = Stage()
        (answer,) = stage.peer("alice").ask(message)
        assert answer["action"] == "error"
        assert text in answer["error"]
        assert len(stage.hub.state.acks) == 0

    def test_array_of_messages_is_for_clients_only(self) -> None:
        stage = Stage()
        peer = stage.peer("alice")
        assert peer.ask([subscribe("a")]) == [refusal("message is not a JSON object")]

    def test_payload_that_cannot_be_written_again(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("t"))
        deep = "[" * 300 + "]" * 300
        for message in (
            '{"action":"publish","topic":"t","data":%s}',
            '{"action":"direct_message","to":"bob","data":%s}',
            '{"action":"publish_with_ack","topic":"t","ack_id":"1","data":%s}',
            '{"action":"publish_to_id_with_ack","to":"bob","ack_id":"1","data":%s}',
        ):
            alice.feed(frame((message % deep).encode()))
            assert alice.take() == [refusal("message nested too deeply")]
        assert bob.take() == []
        assert len(stage.hub.state.acks) == 0
        assert stage.hub.stats.published == 0


class TestTopics:
    def test_publish_and_subscribe(self) -> None:
        stage = Stage()
        alice, bob, carol = stage.peer("alice"), stage.peer("bob"), stage.peer("carol")
        assert bob.ask(subscribe("news")) == [{"action": "subscribed", "topic": "news"}]
        assert carol.ask(subscribe("weather")) == [{"action": "subscribed", "topic": "weather"}]
        for number in range(3):
            assert alice.ask(publish("news", number)) == [{"action": "published", "topic": "news"}]
        assert bob.take() == [delivery("news", "alice", number) for number in range(3)]
        assert carol.take() == []

    def test_publisher_gets_its_own_before_the_confirmation(self) -> None:
        peer = Stage().peer("alice")
        peer.ask(subscribe("news"))
        assert peer.ask(publish("news", 1)) == [
            delivery("news", "alice", 1),
            {"action": "published", "topic": "news"},
        ]

    def test_subscribing_twice_delivers_once(self) -> None:
        peer = Stage().peer("alice")
        assert len(peer.ask(subscribe("news"), subscribe("news"))) == 2
        assert len(peer.ask(publish("news", 1))) == 2

    def test_unsubscribe(self) -> None:
        stage = Stage()
        peer = stage.peer("alice")
        peer.ask(subscribe("news"))
        for topic in ("news", "news", "never subscribed"):
            assert peer.ask({"action": "unsubscribe", "topic": topic}) == [
                {"action": "unsubscribed", "topic": topic}
            ]
        assert peer.ask(publish("news", 1)) == [{"action": "published", "topic": "news"}]
        assert len(stage.hub.state.bus) == 0

    def test_sender_cannot_be_forged(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("news"))
        alice.ask({**publish("news", 1), "from": "mallory", "id": "mallory"})
        assert bob.take() == [delivery("news", "alice", 1)]
        alice.ask({"action": "direct_message", "to": "bob", "data": 2, "from": "mallory"})
        assert bob.take() == [{"action": "direct_message", "from": "alice", "data": 2}]

    @pytest.mark.parametrize(
        "data", [None, 0, "", [], {}, {"data": 5}, {"data": 1, "from": "x"}, 2**63, "\u2028\x00"]
    )
    def test_payload_arrives_as_it_was(self, data: Any) -> None:
        peer = Stage().peer("alice")
        peer.ask(subscribe("t"))
        assert peer.ask(publish("t", data))[0] == delivery("t", "alice", data)

    def test_publication_without_data(self) -> None:
        peer = Stage().peer("alice")
        peer.ask(subscribe("t"))
        assert peer.ask({"action": "publish", "topic": "t"})[0] == delivery("t", "alice", None)


class TestDirectMessages:
    def test_reach_one_client(self) -> None:
        stage = Stage()
        alice, bob, carol = stage.peer("alice"), stage.peer("bob"), stage.peer("carol")
        assert alice.ask({"action": "direct_message", "to": "bob", "data": {"x": 1}}) == []
        assert bob.take() == [{"action": "direct_message", "from": "alice", "data": {"x": 1}}]
        assert carol.take() == []

    def test_to_nobody_is_told(self) -> None:
        alice = Stage().peer("alice")
        assert alice.ask({"action": "direct_message", "to": 'b"b', "data": 1}) == [
            refusal('no client has the id b"b')
        ]

    def test_to_oneself(self) -> None:
        alice = Stage().peer("alice")
        assert alice.ask({"action": "direct_message", "to": "alice", "data": 1}) == [
            {"action": "direct_message", "from": "alice", "data": 1}
        ]


class TestAcks:
    def asked(self, *names: str, **more: Any) -> tuple[Stage, Peer, list[Peer], list[Fields]]:
        """Alice has asked the others for acks; each has what came to it."""
        stage = Stage()
        alice = stage.peer("alice")
        others = [stage.peer(name) for name in names]
        for other in others:
            other.ask(subscribe("job"))
        assert alice.ask(ask_for_ack("job", "mine", {"n": 1}, **more)) == []
        requests = [other.take()[0] for other in others]
        return stage, alice, others, requests

    def finish(self, stage: Stage, peers: list[Peer]) -> None:
        for peer in peers:
            peer.connection.connection_lost(stage.clock.now)
        check_nothing_left(stage)

    def test_subscribers_are_asked_with_an_id_of_the_servers(self) -> None:
        _, _, _, requests = self.asked("bob", "carol")
        assert requests[0] == requests[1]
        assert requests[0]["action"] == "publish_ack"
        assert requests[0]["topic"] == "job"
        assert requests[0]["data"] == {"data": {"n": 1}, "from": "alice"}
        assert requests[0]["ack_id"] not in ("", "mine")

    def test_answers_come_back_together(self) -> None:
        stage, alice, (bob, carol), (request, _) = self.asked("bob", "carol")
        assert bob.ask(ack(request)) == []
        assert alice.take() == []
        carol.ask(ack(request, 'went "wrong"'))
        (response,) = alice.take()
        assert response["ack_id"] == "mine"
        assert outcomes(response) == {"bob": None, "carol": 'went "wrong"'}
        assert len(stage.hub.state.acks) == 0
        self.finish(stage, [alice, bob, carol])

    def test_ack_id_may_be_in_the_data_only(self) -> None:
        _, alice, (bob,), (request,) = self.asked("bob")
        answer = ack(request)
        del answer["ack_id"]
        bob.ask(answer)
        assert outcomes(alice.take()[0]) == {"bob": None}

    @pytest.mark.parametrize(
        "outcome", [None, {}, {"success": False}, {"success": 1}, {"success": False, "error": 5}]
    )
    def test_answer_without_success_is_none(self, outcome: Any) -> None:
        _, alice, (bob,), (request,) = self.asked("bob")
        bob.ask({"action": "ack", "ack_id": request["ack_id"], "data": outcome})
        response = alice.take()[0]["responses"]["bob"]
        assert response["success"] is False
        assert not response.get("error")

    def test_long_error_is_cut(self) -> None:
        stage, alice, (bob,), (request,) = self.asked("bob")
        bob.ask(ack(request, "é" * 100_000))
        assert outcomes(alice.take()[0]) == {"bob": "é" * stage.hub.limits.max_error}

    def test_second_and_uninvited_answers_mean_nothing(self) -> None:
        stage, alice, (bob, carol), (request, _) = self.asked("bob", "carol")
        mallory = stage.peer("mallory")
        assert mallory.ask(ack(request, "mallory")) == []
        assert bob.ask(ack(request), ack(request, "second thoughts")) == []
        assert alice.take() == []
        carol.ask(ack(request))
        assert outcomes(alice.take()[0]) == {"bob": None, "carol": None}
        assert carol.ask(ack(request, "late")) == []
        assert bob.ask({"action": "ack", "ack_id": "mine", "data": {"success": True}}) == []
        assert alice.take() == []

    def test_who_answers_is_the_connection_not_what_it_says(self) -> None:
        _, alice, (bob,), (request,) = self.asked("bob")
        answer = ack(request)
        answer["from"] = answer["data"]["client_id"] = "mallory"
        bob.ask(answer)
        assert outcomes(alice.take()[0]) == {"bob": None}

    @pytest.mark.parametrize("how", ["lost", "closed", "replaced", "fault"])
    def test_subscriber_that_leaves_ends_the_wait_for_it(self, how: str) -> None:
        stage, alice, (bob,), _ = self.asked("bob")
        if how == "lost":
            bob.connection.connection_lost(stage.clock.now)
        elif how == "closed":
            bob.feed(close_frame(1000))
        elif how == "replaced":
            stage.peer("bob")
        else:
            bob.feed(b"\xff" * 20)
        assert outcomes(alice.take()[0]) == {"bob": "disconnected"}

    def test_subscriber_may_answer_after_it_unsubscribed_or_renamed(self) -> None:
        _, alice, (bob,), (request,) = self.asked("bob")
        bob.ask({"action": "unsubscribe", "topic": "job"}, ping("robert"))
        bob.ask(ack(request))
        assert outcomes(alice.take()[0]) == {"bob": None}  # as it was addressed

    def test_publisher_that_leaves_takes_its_request_along(self) -> None:
        stage, alice, (bob,), (request,) = self.asked("bob")
        alice.connection.connection_lost(stage.clock.now)
        again = stage.peer("alice")
        bob.ask(ack(request))
        assert again.take() == []  # not its own: requests die with their connection
        self.finish(stage, [again, bob])

    def test_publisher_that_subscribes_is_asked_too(self) -> None:
        alice = Stage().peer("alice")
        alice.ask(subscribe("job"))
        (request,) = alice.ask(ask_for_ack("job", "mine"))
        assert outcomes(alice.ask(ack(request))[0]) == {"alice": None}

    def test_nobody_subscribed(self) -> None:
        stage = Stage()
        alice = stage.peer("alice")
        assert alice.ask(ask_for_ack("job", "mine")) == [
            {"action": "ack_response", "ack_id": "mine", "responses": {}}
        ]
        self.finish(stage, [alice])

    def test_timeout_tells_who_did_not_answer(self) -> None:
        stage, alice, (bob, carol), (request, _) = self.asked("bob", "carol", timeout=2.5)
        bob.ask(ack(request))
        stage.advance(2.4)
        assert alice.take() == []
        stage.advance(0.1)
        assert stage.hub.take_unflushed() != []
        assert outcomes(alice.take()[0]) == {"bob": None, "carol": "timeout"}
        assert carol.ask(ack(request)) == []
        assert alice.take() == []
        self.finish(stage, [alice, bob, carol])

    def test_without_a_timeout_field_it_is_as_in_the_original(self) -> None:
        stage, alice, (bob, _), (request, _) = self.asked("bob", "carol", timeout=None)
        bob.ask(ack(request))
        stage.advance(4.9)
        assert alice.take() == []
        stage.advance(0.1)
        assert outcomes(alice.take()[0]) == {"bob": None}

    def test_timeout_has_a_longest(self) -> None:
        stage = Stage(limits=ServerLimits(max_ack_timeout=60, heartbeat_interval=1000))
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("job"))
        alice.ask(ask_for_ack("job", "1", timeout=1e300), ask_for_ack("job", "2", timeout=59))
        stage.advance(59)
        assert [response["ack_id"] for response in alice.take()] == ["2"]
        stage.advance(1)
        assert [response["ack_id"] for response in alice.take()] == ["1"]

    def test_status(self) -> None:
        _, alice, (bob, _), (request, _) = self.asked("bob", "carol")
        status = {"action": "get_ack_status", "ack_id": "mine"}
        assert alice.ask(status)[0]["status"] == {"bob": False, "carol": False}
        bob.ask(ack(request, "no"))
        assert alice.ask(status) == [
            {"action": "ack_status", "ack_id": "mine", "status": {"bob": True, "carol": False}}
        ]
        unknown = {"action": "ack_status", "ack_id": "mine", "status": {}}
        assert bob.ask(status) == [unknown]  # it is not bob's

    def test_cancel(self) -> None:
        stage, alice, (bob,), (request,) = self.asked("bob")
        cancel = {"action": "cancel_ack", "ack_id": "mine"}
        assert bob.ask(cancel) == [{"action": "ack_cancelled", "ack_id": "mine"}]
        assert len(stage.hub.state.acks) == 1  # only the publisher can
        for _ in range(2):
            assert alice.ask(cancel) == [{"action": "ack_cancelled", "ack_id": "mine"}]
        assert bob.ask(ack(request)) == []
        stage.advance(10)
        assert alice.take() == []
        assert alice.ask({"action": "get_ack_status", "ack_id": "mine"}) == [
            {"action": "ack_status", "ack_id": "mine", "status": {}}
        ]
        self.finish(stage, [alice, bob])

    def test_id_in_use(self) -> None:
        stage, alice, (bob,), (request,) = self.asked("bob")
        assert alice.ask(ask_for_ack("job", "mine")) == [refusal("ack_id is in use")]
        by_id = {"action": "publish_to_id_with_ack", "to": "bob", "ack_id": "mine"}
        assert alice.ask(by_id) == [refusal("ack_id is in use")]
        assert bob.take() == []
        bob.ask(ack(request))
        assert len(alice.take()) == 1
        assert len(stage.hub.state.acks) == 0
        assert alice.ask(ask_for_ack("job", "mine")) == []

    def test_direct_message_with_ack(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        message = {"action": "publish_to_id_with_ack", "to": "bob", "ack_id": "mine", "data": 5}
        assert alice.ask(message) == []
        (request,) = bob.take()
        assert request["action"] == "publish_ack"
        assert request["topic"].startswith("__direct_bob_")
        assert request["data"] == {"data": 5, "from": "alice"}
        bob.ask(ack(request))
        assert outcomes(alice.take()[0]) == {"bob": None}
        self.finish(stage, [alice, bob])

    def test_direct_message_with_ack_to_nobody(self) -> None:
        alice = Stage().peer("alice")
        message = {"action": "publish_to_id_with_ack", "to": "bob", "ack_id": "mine", "data": 5}
        assert alice.ask(message) == [{"action": "ack_response", "ack_id": "mine", "responses": {}}]


ORIGIN = "x---ws://h:1/b"
RELAYING = Permissions(relay=["**"])


class TestServers:
    def test_relay_is_left_to_the_driver(self) -> None:
        stage = Stage(permissions=RELAYING)
        alice = stage.peer("alice")
        message = {
            "action": "publish_to_server",
            "to": "bus.example:80/x::inner",
            "data": [1],
            "status": {"is_secure": True},
        }
        stage.hub.events()
        assert alice.ask(message) == []
        (event,) = stage.hub.events()
        assert isinstance(event, RelayRequested)
        assert (event.to, compose(event.data)) == ("bus.example:80/x::inner", b"[1]")
        assert event.sender == "alice"
        assert event.secure
        assert (event.target.address, event.target.path) == ("bus.example:80", "/x")
        stage.hub.relay_finished(event.session, event.to, None, stage.clock.now)
        assert alice.take() == [{"action": "server_message_sent", "to": "bus.example:80/x::inner"}]
        stage.hub.relay_finished(event.session, event.to, "no route", stage.clock.now)
        assert alice.take() == [refusal("failed to relay to server: no route")]

    @pytest.mark.parametrize("status", [None, {}, {"is_secure": False}, {"is_secure": 1}, "x"])
    def test_relay_without_tls(self, status: Any) -> None:
        stage = Stage(permissions=RELAYING)
        alice = stage.peer("alice")
        alice.ask({"action": "publish_to_server", "to": "h:1", "status": status})
        event = stage.hub.events()[-1]
        assert isinstance(event, RelayRequested)
        assert not event.secure

    def test_links_belong_to_an_identity_or_an_address(self) -> None:
        """Else a client that connects again and again would have any number of them."""
        stage = Stage(permissions=RELAYING, asks_token=True, asks_upgrade=True)
        owners: dict[str, list[tuple[str, str]]] = {"": [], "alice": [], "bob": []}
        for name in owners:
            for address in ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"):
                peer = Peer(stage.hub, stage.clock, address)
                peer.feed(upgrade())
                peer.decide(Identity(name, RELAYING))
                peer.read_upgrade()
                peer.ask({"action": "ping"}, {"action": "publish_to_server", "to": "h:1"})
                event = stage.hub.events()[-1]
                assert isinstance(event, RelayRequested)
                owners[name].append(event.owner)
                peer.connection.connection_lost(stage.clock.now)
        one, same, other = owners.pop("")
        assert one == same != other
        assert [len(set(each)) for each in owners.values()] == [1, 1]
        assert len({one, other, owners["alice"][0], owners["bob"][0]}) == 4

    def test_an_identity_named_like_an_address_is_another_owner(self) -> None:
        stage = Stage(permissions=RELAYING, asks_upgrade=True)
        found = []
        for name in ("", "192.0.2.1"):
            peer = Peer(stage.hub, stage.clock, "192.0.2.1:1")
            peer.feed(upgrade())
            peer.decide(Identity(name, RELAYING))
            peer.read_upgrade()
            peer.ask({"action": "ping"})
            found.append(peer.session.owner)
        assert found[0] != found[1]

    def test_relay_that_ends_after_the_client_left(self) -> None:
        stage = Stage(permissions=RELAYING)
        alice = stage.peer("alice")
        alice.ask({"action": "publish_to_server", "to": "h:1"})
        event = stage.hub.events()[-1]
        assert isinstance(event, RelayRequested)
        alice.connection.connection_lost(stage.clock.now)
        stage.hub.relay_finished(event.session, event.to, None, stage.clock.now)
        stage.hub.relay_finished(event.session, event.to, "late", stage.clock.now)
        check_nothing_left(stage)
        assert stage.hub.stats.refused == 0

    @pytest.mark.parametrize(
        "address",
        [
            {"to": "bus.example:80"},
            {"to": "proxy:80", "id": "bus.example"},
            {"to": "localhost:9313"},  # the name by which this connection reached the server
        ],
    )
    def test_message_from_another_server(self, address: Fields) -> None:
        stage = Stage()
        stage.hub.addresses.update({"bus.example", "bus.example:80"})
        other, bob = stage.peer("other"), stage.peer("bob")
        bob.ask(subscribe("news"))
        taken = stage.hub.local.subscriptions.open_server_data()
        data = {"data": {"topic": "news", "data": [1]}, "from": "alice---ws://h:1/ws/bus"}
        assert other.ask({"action": "server-to-server", "data": data, **address}) == []
        assert bob.take() == [delivery("news", "alice---ws://h:1/ws/bus", [1])]
        (message,) = taken.take_all()
        assert (message.data, message.sender) == (data["data"], "alice---ws://h:1/ws/bus")

    @pytest.mark.parametrize(
        "origin",
        ["x" * 2000 + "---ws://h", "ws://" + "h" * 2000, "a\x00---ws://h", "a---ws://h/\x9b"],
    )
    def test_sender_that_is_too_long_or_has_a_control_character(self, origin: str) -> None:
        stage = Stage()
        stage.hub.addresses.update({"here"})
        other = stage.peer("other")
        taken = stage.hub.local.subscriptions.open_server_data()
        data = {"data": {"topic": "news"}, "from": origin}
        (error,) = other.ask({"action": "server-to-server", "to": "here", "data": data})
        assert error["error"].startswith("the sender has ")
        assert taken.take_all() == []

    @pytest.mark.parametrize("server_id", ["ws://here", "hub---ws://h", "a---wss"])
    def test_own_id_that_others_could_take_for_themselves(self, server_id: str) -> None:
        """A client with the permission ``peer`` may name such senders, and register such ids."""
        with pytest.raises(InvalidArgument):
            HubConfig(id=server_id)

    @pytest.mark.parametrize(
        ("data", "got", "sender"),
        [
            ({"data": 5, "from": "x---wss://h/b"}, 5, "x---wss://h/b"),
            ({"data": 5, "from": "ws://h:1/b"}, 5, "ws://h:1/b"),
            ({"data": 5, "from": "x"}, 5, "other"),  # no client of another server
            ({"data": 5}, 5, "other"),
            ({"data": 5, "from": 5}, 5, "other"),
            (5, 5, "other"),
            (None, None, "other"),
            ({"data": {"topic": ""}, "from": ORIGIN}, {"topic": ""}, ORIGIN),
            ({"data": {"topic": 5}, "from": ORIGIN}, {"topic": 5}, ORIGIN),
        ],
    )
    def test_data_of_any_shape(self, data: Any, got: Any, sender: str) -> None:
        stage = Stage()
        stage.hub.addresses.update({"here"})
        other = stage.peer("other")
        taken = stage.hub.local.subscriptions.open_server_data()
        assert other.ask({"action": "server-to-server", "to": "here", "data": data}) == []
        (message,) = taken.take_all()
        assert (message.data, message.sender) == (got, sender)

    @pytest.mark.parametrize(
        ("sender", "fault"),
        [
            ("x" * 1270 + "---ws://h/b", "the sender has more than 1280 characters"),
            ("ws://" + "h" * 100_000, "the sender has more than 1280 characters"),
            ("x\x00---ws://h/b", "the sender has a control character in it"),
            ("x---ws://h/b\n", "the sender has a control character in it"),
            ("ws://\x1b[31m", "the sender has a control character in it"),
            ("x\x9b---ws://h/b", "the sender has a control character in it"),
        ],
    )
    def test_a_sender_that_is_no_id_and_url(self, sender: str, fault: str) -> None:
        stage = Stage()
        stage.hub.addresses.update({"here"})
        other, bob = stage.peer("other"), stage.peer("bob")
        bob.ask(subscribe("news"))
        taken = stage.hub.local.subscriptions.open_server_data()
        data = {"data": {"topic": "news", "data": 1}, "from": sender}
        (answer,) = other.ask({"action": "server-to-server", "to": "here", "data": data})
        assert answer["error"] == fault
        assert bob.take() == []
        assert not taken.take_all()

    def test_the_longest_sender(self) -> None:
        stage = Stage()
        stage.hub.addresses.update({"here"})
        other = stage.peer("other")
        data = {"data": 5, "from": "x" * 256 + "---ws://" + "h" * 1016}
        assert other.ask({"action": "server-to-server", "to": "here", "data": data}) == []

    def test_what_other_servers_send_is_bounded(self) -> None:
        """By count and by bytes; each who takes it has its own room."""
        stage = Stage(limits=ServerLimits(mailbox_messages=3, mailbox_bytes=1000))
        stage.hub.addresses.update({"here"})
        other = stage.peer("other")
        slow, quick = (stage.hub.local.subscriptions.open_server_data() for _ in range(2))
        for data in (1, 2, 3, 4, "x" * 980, "y" * 980):
            other.ask({"action": "server-to-server", "to": "here", "data": data})
            if len(quick) == 3:
                assert [message.data for message in quick.take_all()] == [1, 2, 3]
        assert [message.data for message in slow.take_all()] == [1, 2, 3]
        assert slow.dropped == 3
        assert [message.data for message in quick.take_all()] == [4]
        assert quick.dropped == 2
        assert stage.hub.local.subscriptions.take_overflowed() == [slow, quick]

    @pytest.mark.parametrize(
        "address", [{}, {"to": ""}, {"to": "elsewhere"}, {"to": "localhost:9313", "id": "other"}]
    )
    def test_message_for_another_server(self, address: Fields) -> None:
        stage = Stage()
        other = stage.peer("other")
        stage.hub.events()
        (answer,) = other.ask({"action": "server-to-server", "data": 1, **address})
        assert answer["action"] == "error"
        assert stage.hub.events() == []


class TestSlowConsumer:
    """Bob does not read; what happens to him, and that nothing happens to the others."""

    def flood(self, limits: ServerLimits, count: int) -> tuple[Stage, Peer, Peer, list[Fields]]:
        stage = Stage(limits=limits)
        alice, bob, carol = stage.peer("alice"), stage.peer("bob"), stage.peer("carol")
        for peer in (bob, carol):
            peer.ask(subscribe("news"))
        got: list[Fields] = []
        for number in range(count):
            assert alice.ask(publish("news", number)) == [{"action": "published", "topic": "news"}]
            got += carol.take()
        assert got == [delivery("news", "alice", number) for number in range(count)]
        return stage, alice, bob, got

    def test_is_closed(self) -> None:
        stage, alice, bob, _ = self.flood(ServerLimits(queue_messages=5), 10)
        assert set(stage.hub.clients) == {"alice", "carol"}
        assert output(bob.connection) is Output.HALF_CLOSE
        assert bob.closed == (1008, "slow consumer")
        assert bob.take() == []
        stage.hub.events()
        bob.connection.connection_lost(stage.clock.now)
        (left,) = stage.hub.events()
        assert isinstance(left, ClientLeft)
        assert (left.client.id, left.closed, left.dropped) == (
            "bob",
            Closed(1008, "slow consumer", ClosedBy.FAULT),
            6,
        )
        assert stage.hub.dropped() == stage.hub.stats.dropped == 6
        assert alice.ask(ping("alice")) == [pong("alice")]

    def test_by_bytes(self) -> None:
        stage, _, bob, _ = self.flood(ServerLimits(queue_bytes=300), 10)
        assert set(stage.hub.clients) == {"alice", "carol"}
        assert bob.closed == (1008, "slow consumer")

    @pytest.mark.parametrize(
        ("policy", "kept"),
        [(Overflow.DROP_OLDEST, [5, 6, 7, 8, 9]), (Overflow.DROP_NEWEST, [0, 1, 2, 3, 4])],
    )
    def test_loses_messages_by_another_policy(self, policy: Overflow, kept: list[int]) -> None:
        limits = ServerLimits(queue_messages=5, overflow=policy)
        stage, alice, bob, _ = self.flood(limits, 10)
        assert bob.connection.dropped == stage.hub.dropped() == 5
        assert bob.take() == [delivery("news", "alice", number) for number in kept]
        alice.ask(publish("news", "and on it goes"))
        assert bob.take() == [delivery("news", "alice", "and on it goes")]

    @pytest.mark.parametrize("policy", list(Overflow))
    def test_message_larger_than_the_queue_passes(self, policy: Overflow) -> None:
        stage = Stage(limits=ServerLimits(queue_bytes=1000, overflow=policy))
        peer = stage.peer("alice")
        peer.ask(subscribe("news"))
        stage.peer("bob").ask(publish("news", "x" * 5000))
        assert peer.take() == [delivery("news", "bob", "x" * 5000)]

    @pytest.mark.parametrize("policy", list(Overflow))
    def test_without_room_for_answers_it_is_closed(self, policy: Overflow) -> None:
        stage = Stage(limits=ServerLimits(queue_messages=5, overflow=policy))
        alice, bob = stage.peer("alice"), stage.peer("bob")
        for number in range(6):
            assert alice.ask({"action": "direct_message", "to": "bob", "data": number}) == []
        assert bob.closed == (1008, "slow consumer")
        assert set(stage.hub.clients) == {"alice"}

    def test_who_asks_and_does_not_read_is_paused(self) -> None:
        stage = Stage(limits=ServerLimits(backlog_bytes=1000))
        peer = stage.peer("alice")
        while not peer.connection.wants_pause:
            peer.send(subscribe("some topic"))
        assert 1000 < peer.session._transport.queued_bytes < 1200
        peer.take()
        assert not peer.connection.wants_pause

    def test_publications_for_it_do_not_pause_a_subscriber(self) -> None:
        stage, _, bob, _ = self.flood(ServerLimits(backlog_bytes=100), 10)
        assert bob.session._transport.queued_bytes > 100
        assert not bob.connection.wants_pause
        assert stage.hub.clients["bob"] is bob.session

    def test_is_given_up_when_it_does_not_even_read_the_close_frame(self) -> None:
        stage, _, bob, _ = self.flood(ServerLimits(queue_messages=5, close_timeout=5), 10)
        stage.advance(5)
        assert output(bob.connection) is Output.ABORT

    def test_publisher_that_overflows_itself(self) -> None:
        """Its own copies fill its queue, in the middle of publishing."""
        stage = Stage(limits=ServerLimits(queue_messages=4))
        peer, carol = stage.peer("alice"), stage.peer("carol")
        peer.ask(subscribe("news"))
        carol.ask(subscribe("news"))
        peer.send(*[publish("news", number) for number in range(3)])
        assert peer.closed == (1008, "slow consumer")
        assert carol.take() == [delivery("news", "alice", number) for number in range(3)]
        assert set(stage.hub.clients) == {"carol"}

    def test_chain_of_overflows(self) -> None:
        """One that leaves answers another's request, which has no room for that, and so on."""
        stage = Stage(limits=ServerLimits(queue_messages=2))
        names = ["a", "b", "c", "d"]
        peers = {name: stage.peer(name) for name in names}
        for asker, asked in pairwise(names):
            peers[asked].ask(subscribe(f"for {asked}"))
            for number in range(3):
                peers[asker].ask(ask_for_ack(f"for {asked}", f"{number}"))
                peers[asked].take()
        for name in names[:-1]:
            for _ in range(2):
                stage.hub.publish_to_id(name, "fills the queue", stage.clock.now)
        peers["d"].connection.connection_lost(stage.clock.now)
        assert stage.hub.clients == {}
        assert [peers[name].closed for name in names[:-1]] == [(1008, "slow consumer")] * 3
        for name in names[:-1]:
            peers[name].connection.connection_lost(stage.clock.now)
        check_nothing_left(stage)

    def test_rename_that_overflows_who_renames(self) -> None:
        """Taking bob's id ends bob, which answers alice's request, for which she has no room."""
        stage = Stage(limits=ServerLimits(queue_messages=2))
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("job"))
        alice.ask(ask_for_ack("job", "mine"))
        for _ in range(2):
            stage.hub.publish_to_id("alice", "fills the queue", stage.clock.now)
        alice.send(ping("bob"))
        assert alice.closed == (1008, "slow consumer")
        assert stage.hub.clients == {}


class TestRuns:
    """Publications that arrive together are passed on together, and nobody can tell."""

    def test_subscribers_get_each(self) -> None:
        stage = Stage()
        alice, bob, carol = stage.peer("alice"), stage.peer("bob"), stage.peer("carol")
        mailbox = stage.hub.local.subscribe("news")
        bob.ask(subscribe("news"))
        carol.ask(subscribe("news"), subscribe("weather"))
        sent = [("news", 1), ("news", 2), ("weather", 3), ("news", 4), ("nobody", 5), ("news", 6)]
        answers = alice.ask(*[publish(topic, number) for topic, number in sent])
        assert answers == [{"action": "published", "topic": topic} for topic, _ in sent]
        got = [delivery(topic, "alice", number) for topic, number in sent if topic != "nobody"]
        assert carol.take() == got
        assert bob.take() == [message for message in got if message["topic"] == "news"]
        assert [message.data for message in mailbox.take_all()] == [1, 2, 4, 6]
        assert mailbox.size == 0
        assert (stage.hub.stats.published, stage.hub.stats.delivered) == (6, 4 * 3 + 1)

    def test_everything_else_comes_after_them(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("news"))
        published = {"action": "published", "topic": "news"}
        others: list[tuple[Fields, list[Fields]]] = [
            (ping("alice"), [pong("alice")]),
            (subscribe("other"), [{"action": "subscribed", "topic": "other"}]),
            ({"action": "unsubscribe", "topic": "news"},
             [{"action": "unsubscribed", "topic": "news"}]),
            ({"action": "nonsense"}, [refusal("unknown action: nonsense")]),
            ({"action": "publish"}, [refusal("missing or invalid topic")]),
            ({"action": "cancel_ack", "ack_id": "x"},
             [{"action": "ack_cancelled", "ack_id": "x"}]),
        ]  # fmt: skip
        for other, answer in others:
            assert alice.ask(publish("news", 1), publish("news", 2), other) == [
                published, published, *answer,
            ]  # fmt: skip
            assert bob.take() == [delivery("news", "alice", number) for number in (1, 2)]
        alice.ask(publish("news", 1), {"action": "direct_message", "to": "bob", "data": 2})
        assert [message["action"] for message in bob.take()] == ["publish", "direct_message"]

    def test_subscribing_in_the_middle_begins_there(self) -> None:
        alice = Stage().peer("alice")
        answers = alice.ask(
            publish("news", 1),
            subscribe("news"),
            publish("news", 2),
            {"action": "unsubscribe", "topic": "news"},
            publish("news", 3),
        )
        assert [m for m in answers if m["action"] == "publish"] == [delivery("news", "alice", 2)]

    def test_own_copies_and_answers_take_turns(self) -> None:
        alice = Stage().peer("alice")
        alice.ask(subscribe("news"))
        published = {"action": "published", "topic": "news"}
        assert alice.ask(publish("news", 1), publish("news", 2)) == [
            delivery("news", "alice", 1),
            published,
            delivery("news", "alice", 2),
            published,
        ]

    def test_renaming_in_the_middle_changes_the_sender_there(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("news"))
        alice.ask(publish("news", 1), ping("anna"), publish("news", 2))
        assert bob.take() == [delivery("news", "alice", 1), delivery("news", "anna", 2)]

    @pytest.mark.parametrize("end", [frame(opcode=PING), close_frame(1000), b"\xff" * 9, b"\x81"])
    def test_what_is_no_message_comes_after_them(self, end: bytes) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("news"))
        alice.feed(json_frame(publish("news", 1)) + json_frame(publish("news", 2)) + end)
        assert bob.take() == [delivery("news", "alice", number) for number in (1, 2)]
        assert alice.take() == [{"action": "published", "topic": "news"}] * 2
        assert alice.inbox.pongs == ([b""] if end == frame(opcode=PING) else [])

    def test_one_that_cannot_be_written_does_not_cost_the_others(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("news"))
        deep = '{"action":"publish","topic":"news","data":%s}' % ("[" * 300 + "]" * 300)
        alice.feed(
            json_frame(publish("news", 1)) + frame(deep.encode()) + json_frame(publish("news", 2))
        )
        published = {"action": "published", "topic": "news"}
        assert alice.take() == [published, refusal("message nested too deeply"), published]
        assert bob.take() == [delivery("news", "alice", number) for number in (1, 2)]

    def test_one_whose_sender_ends_meanwhile_is_passed_on(self) -> None:
        """It had no room for its own answers; what it published before was handled."""
        stage = Stage(limits=ServerLimits(queue_messages=2))
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("y"))
        alice.send(*[publish(topic, topic) for topic in ("x", "x", "x", "y", "z", "z")])
        assert "alice" not in stage.hub.clients
        assert alice.session.run.gathered is None
        assert bob.take() == [delivery("y", "alice", "y")]

    def test_any_number(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        bob.ask(subscribe("news"))
        messages = [publish("news", [number, "x" * 500]) for number in range(1000)]
        assert len(alice.ask(*messages)) == 1000
        assert [m["data"]["data"][0] for m in bob.take()] == list(range(1000))

    @given(
        policy=st.sampled_from(list(Overflow)),
        limit=st.integers(8000, 24_000),  # enough for all answers to the publisher
        sizes=st.lists(st.integers(1, 2000), max_size=5),
        script=st.lists(
            st.sampled_from(["red", "red", "red", "green", "whisper", "nonsense"]), max_size=30
        ),
    )
    def test_pieces_make_no_difference_to_one_that_does_not_read(
        self, policy: Overflow, limit: int, sizes: list[int], script: list[str]
    ) -> None:
        def run(sizes: list[int]) -> tuple[bytes, int, list[Fields], list[Fields]]:
            stage = Stage(limits=ServerLimits(queue_bytes=limit, overflow=policy))
            alice, bob = stage.peer("alice"), stage.peer("bob")
            bob.ask(subscribe("red"), subscribe("green"))
            data = b""
            for number, topic in enumerate(script):
                message = publish(topic, [number, "x" * 500])
                if topic == "whisper":
                    message = {"action": "direct_message", "to": "bob", "data": [number]}
                data += json_frame({"action": topic} if topic == "nonsense" else message)
            alice.feed(data, sizes)
            raw = bob.read()
            bob.inbox.feed(raw)
            return raw, bob.connection.dropped, bob.inbox.take(), alice.take()

        whole, pieces = run([]), run(sizes)
        makes_room = policy is Overflow.DROP_OLDEST or (
            policy is Overflow.DROP_NEWEST and "whisper" in script  # which is never dropped
        )
        if not makes_room:
            assert whole == pieces
            return
        # Here those that came together may have to go together: some more are dropped.
        sent = [number for number, topic in enumerate(script) if topic in ("red", "green")]
        for _, dropped, received, answers in (whole, pieces):
            kept = [m["data"]["data"][0] for m in received if m["action"] == "publish"]
            if policy is Overflow.DROP_OLDEST:
                assert kept == sent[len(sent) - len(kept) :]
            assert kept == sorted(set(kept) & set(sent))
            assert dropped == len(sent) - len(kept)
            assert answers == whole[3]

    @given(
        st.lists(st.sampled_from(["red", "red", "green", "sub", "unsub"]), max_size=20),
        st.lists(st.integers(1, 200), max_size=5),
    )
    def test_publisher_gets_its_own_before_the_confirmation(
        self, script: list[str], sizes: list[int]
    ) -> None:
        alice = Stage().peer("alice")
        data, expected, subscribed = b"", [], False
        for number, step in enumerate(script):
            if step in ("sub", "unsub"):
                subscribed = step == "sub"
                data += json_frame({"action": f"{step}scribe", "topic": "red"})
            else:
                data += json_frame(publish(step, number))
                if subscribed and step == "red":
                    expected.append(number)
        alice.feed(data, sizes)
        got: list[int] = []
        confirmed = 0
        published = [step for step in script if step in ("red", "green")]
        numbers = [number for number, step in enumerate(script) if step in ("red", "green")]
        for message in alice.take():
            if message["action"] == "publish":
                got.append(message["data"]["data"])
            elif message["action"] == "published":
                assert message["topic"] == published[confirmed]
                number = numbers[confirmed]
                assert number not in expected or number in got
                confirmed += 1
        assert got == expected
        assert confirmed == len(published)


class TestFlushing:
    """A driver writes to those that the hub names, and to nobody else."""

    def stage(self, **config: Any) -> tuple[Stage, Peer, Peer, Peer]:
        stage = Stage(**config)
        alice, bob, carol = stage.peer("alice"), stage.peer("bob"), stage.peer("carol")
        for peer in (bob, carol):
            peer.ask(subscribe("news"))
        stage.hub.take_unflushed()
        return stage, alice, bob, carol

    def named(self, stage: Stage, *peers: Peer) -> None:
        assert set(stage.hub.take_unflushed()) == {peer.connection.number for peer in peers}
        assert stage.hub.take_unflushed() == []

    def test_publication(self) -> None:
        stage, alice, bob, carol = self.stage()
        alice.send(publish("news", 1), publish("news", 2))
        self.named(stage, alice, bob, carol)
        stage.hub.publish("news", 3, stage.clock.now)
        self.named(stage, bob, carol)
        stage.hub.publish("nobody subscribed", 4, stage.clock.now)
        self.named(stage)

    def test_direct_message_and_refusal(self) -> None:
        stage, _, bob, _ = self.stage()
        stage.hub.publish_to_id("bob", 1, stage.clock.now)
        self.named(stage, bob)
        bob.send({"action": "nonsense"})
        self.named(stage, bob)

    def test_ack_request_and_its_end(self) -> None:
        stage, alice, bob, carol = self.stage()
        alice.send(ask_for_ack("news", "mine"))
        assert {bob.connection.number, carol.connection.number} <= set(stage.hub.take_unflushed())
        bob.ask(ack(bob.take()[0]))
        stage.hub.take_unflushed()
        stage.advance(5)
        self.named(stage, alice)

    def test_who_leaves_and_who_waited_for_it(self) -> None:
        stage, alice, bob, carol = self.stage()
        carol.ask({"action": "unsubscribe", "topic": "news"})
        alice.send(ask_for_ack("news", "mine"))
        stage.hub.take_unflushed()
        bob.connection.connection_lost(stage.clock.now)
        self.named(stage, alice)

    def test_end_of_file_close_frame_and_takeover(self) -> None:
        stage, alice, bob, carol = self.stage()
        alice.connection.receive_eof(stage.clock.now)
        self.named(stage, alice)
        bob.feed(close_frame(1000))
        self.named(stage, bob)
        new = stage.peer("carol")
        self.named(stage, new, carol)

    def test_slow_consumer(self) -> None:
        stage, _, bob, carol = self.stage(limits=ServerLimits(queue_messages=2))
        for number in range(2):
            stage.hub.publish_to_id("bob", number, stage.clock.now)
        stage.hub.take_unflushed()
        stage.hub.publish("news", 1, stage.clock.now)
        self.named(stage, bob, carol)

    def test_heartbeat_and_shutdown(self) -> None:
        stage, *peers = self.stage(limits=ServerLimits(heartbeat_interval=25, heartbeat_timeout=20))
        stage.advance(25)
        self.named(stage, *peers)
        stage.advance(20)
        self.named(stage, *peers)
        stage, *peers = self.stage()
        stage.hub.shutdown(5, stage.clock.now)
        self.named(stage, *peers)

    def test_decision_about_an_upgrade(self) -> None:
        stage = Stage(asks_upgrade=True)
        for verdict in (True, False):
            peer = stage.peer()
            peer.feed(upgrade())
            stage.hub.take_unflushed()
            peer.decide(verdict)
            self.named(stage, peer)

    def test_connection_that_is_gone_is_not_named(self) -> None:
        stage, alice, bob, _ = self.stage()
        stage.hub.publish_to_id("bob", 1, stage.clock.now)
        bob.connection.connection_lost(stage.clock.now)
        alice.connection.connection_lost(stage.clock.now)
        self.named(stage)


class TestEnds:
    def test_client_closes(self) -> None:
        stage = Stage()
        alice, bob = stage.peer("alice"), stage.peer("bob")
        alice.ask(subscribe("news"))
        stage.hub.events()
        alice.feed(json_frame(publish("news", 1)) + close_frame(1000, "bye"))
        assert len(alice.take()) == 2
        assert alice.closed == (1000, "bye")
        assert set(stage.hub.clients) == {"bob"}
        assert stage.hub.state.bus.subscribers("news") == []
        alice.connection.receive_eof(stage.clock.now)
        assert output(alice.connection) is Output.CLOSE
        alice.connection.connection_lost(stage.clock.now)
        (left,) = stage.hub.events()
        assert isinstance(left, ClientLeft)
        assert (left.client.id, left.closed, left.dropped) == (
            "alice",
            Closed(1000, "bye", ClosedBy.PEER),
            0,
        )
        assert stage.hub.stats.lost == 0
        assert bob.ask(ping("bob")) == [pong("bob")]

    def test_connection_is_lost(self) -> None:
        stage = Stage()
        alice = stage.peer("alice")
        alice.ask(subscribe("news"))
        stage.hub.publish("news", 1, stage.clock.now)
        stage.hub.events()
        for _ in range(2):
            alice.connection.connection_lost(stage.clock.now)
        (left,) = stage.hub.events()
        assert isinstance(left, ClientLeft)
        assert (left.client.id, left.closed, left.dropped) == (
            "alice",
            Closed(1006, "connection lost", ClosedBy.LOST),
            1,
        )
        assert (stage.hub.stats.lost, stage.hub.dropped()) == (1, 1)
        check_nothing_left(stage)

    def test_end_of_file_of_one_that_still_reads(self) -> None:
        stage = Stage(limits=ServerLimits(close_timeout=5))
        alice = stage.peer("alice")
        alice.ask(subscribe("news"))
        stage.hub.publish("news", 1, stage.clock.now)
        alice.connection.receive_eof(stage.clock.now)
        assert stage.hub.clients == {}
        assert stage.hub.take_unflushed() == [alice.connection.number]
        assert output(alice.connection) is Output.CLOSE
        assert alice.take() == [delivery("news", "server", 1)]

    def test_end_of_file_of_one_that_has_closed_is_shown_to_the_driver(self) -> None:
        stage = Stage()
        peer = stage.peer("alice")
        peer.feed(close_frame(1000))
        assert peer.connection.number in stage.hub.take_unflushed()
        peer.read()
        assert output(peer.connection) is Output.HALF_CLOSE
        peer.connection.receive_eof(stage.clock.now)
        assert peer.connection.number in stage.hub.take_unflushed()
        assert output(peer.connection) is Output.CLOSE

    def test_end_of_file_of_one_that_does_not_read(self) -> None:
        stage = Stage(limits=ServerLimits(close_timeout=5))
        alice = stage.peer("alice")
        stage.hub.publish_to_id("alice", 1, stage.clock.now)
        alice.connection.receive_eof(stage.clock.now)
        stage.advance(4.9)
        assert output(alice.connection) is Output.CLOSE
        stage.advance(0.1)
        assert output(alice.connection) is Output.ABORT

    def test_protocol_error(self) -> None:
        stage = Stage()
        alice = stage.peer("alice")
        alice.feed(json_frame(ping("alice")) + frame(b"{}", key=None) + json_frame(ping("x")))
        assert alice.take() == [pong("alice")]
        assert alice.closed is not None
        assert alice.closed[0] == 1002
        assert stage.hub.clients == {}

    def test_message_too_large(self) -> None:
        stage = Stage(limits=ServerLimits(max_message=100))
        alice = stage.peer("alice")
        alice.feed(json_frame(publish("t", "x" * 100)))
        assert alice.closed == (1009, "message too big")
        assert stage.hub.clients == {}

    def test_dead_client_is_noticed(self) -> None:
        stage = Stage(limits=ServerLimits(heartbeat_interval=25, heartbeat_timeout=20))
        alice, bob = stage.peer("alice"), stage.peer("bob")
        stage.advance(25)
        assert set(stage.hub.take_unflushed()) == {alice.connection.number, bob.connection.number}
        for peer in (alice, bob):
            peer.take()
            assert peer.inbox.pings == 1
        bob.feed(frame(opcode=0xA))
        stage.hub.events()
        stage.advance(20)
        assert output(alice.connection) is Output.ABORT
        assert output(bob.connection) is Output.KEEP
        assert set(stage.hub.clients) == {"bob"}
        alice.connection.connection_lost(stage.clock.now)
        assert stage.hub.stats.lost == 1

    def test_websocket_ping_is_answered(self) -> None:
        alice = Stage().peer("alice")
        alice.feed(frame(b"are you there", opcode=PING))
        alice.take()
        assert alice.inbox.pongs == [b"are you there"]

    def test_upgraded_client_that_never_registers_costs_nothing_when_it_goes(self) -> None:
        stage = Stage()
        peer = stage.peer().upgrade()
        peer.feed(frame(opcode=CLOSE))
        peer.connection.connection_lost(stage.clock.now)
        left = StrangerLeft("192.0.2.1:40000", Closed(1005, "", ClosedBy.PEER))
        assert stage.hub.events() == [left]
        assert stage.hub.stats.connections == 0
        check_nothing_left(stage)

    def test_everything_in_one_piece(self) -> None:
        """Upgrade, registration, work and goodbye may all arrive at once."""
        stage = Stage()
        bob = stage.peer("bob")
        bob.ask(subscribe("news"))
        peer = stage.peer()
        peer.feed(
            upgrade()
            + json_frame(ping("alice"))
            + json_frame(publish("news", 1))
            + close_frame(1000)
        )
        peer.read_upgrade()
        assert peer.inbox.take() == [pong("alice"), {"action": "published", "topic": "news"}]
        assert peer.closed == (1000, "")
        assert bob.take() == [delivery("news", "alice", 1)]


def test_one_that_leaves_with_very_many_topics_is_gone_at_once() -> None:
    stage = Stage()
    hub, alice = stage.hub, stage.peer("alice")
    stage.peer("bob").ask({"action": "subscribe", "topic": "t1999"})
    for number in range(2000):
        hub.state.bus.subscribe(alice.session, f"t{number}")
    alice.connection.connection_lost(stage.clock.now)
    assert hub.count_subscribers("t1999") == (0, 1, 1)
    assert hub.count_subscribers("t1998") == (0, 0, 0)
    before = hub.stats.delivered
    assert hub.publish("t1999", 1, stage.clock.now) == 1
    assert hub.publish_with_ack("t1998", 1, 5.0, stage.clock.now).responses == {}
    assert hub.stats.delivered == before + 1
    while hub.state.bus._leaving:
        due = hub.next_deadline()
        assert due is not None
        stage.clock.now = max(stage.clock.now, due)
        hub.handle_timeout(stage.clock.now)
    assert (len(hub.state.bus), alice.session.topics) == (1, {})


@pytest.mark.parametrize("proto", [1, 2])
def test_the_encoding_of_a_client_is_settled_before_it_can_subscribe(proto: int) -> None:
    """A topic remembers the encodings of its subscribers."""
    stage = Stage()
    peer = stage.peer().upgrade()
    peer.ask({"action": "subscribe", "topic": "t"})
    assert peer.session.topics == {}
    peer.ask({"action": "ping", "from": "alice", "proto": proto})
    peer.ask({"action": "subscribe", "topic": "t"})
    encoding = peer.session.encoding
    assert encoding is FRAMES[(LEVEL_1, LEVEL_2)[proto - 1]]
    for again in ({"proto": 3 - proto}, {"proto": 3 - proto, "from": "bob"}, {}):
        peer.ask({"action": "ping", **again})
        assert peer.session.encoding is encoding
