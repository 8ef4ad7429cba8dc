"""What a client may do, and how much: at each limit, and one past it.

ServerLimits on bytes, times and queues that a connection itself has are tested with it:
``test_websocket``, ``test_http``, ``test_outbox``, ``test_server_session``; those on the
characters of topics and ids are in the vectors.
"""

from typing import Any

import pytest

from kps.errors import QueueFull
from kps.protocol import cost
from kps.protocol.access.admission import read_networks
from kps.protocol.access.identity import OPEN, Permissions
from kps.protocol.limits import Overflow
from kps.protocol.server.events import UpgradeRequested
from kps.protocol.server_limits import RatePolicy, ServerLimits
from tests.protocol.helpers import (
    Answer,
    Fields,
    Peer,
    Stage,
    close_frame,
    frame,
    json_frame,
    upgrade,
)

MINE = Permissions(publish=["mine/*"], subscribe=["mine/*"], direct=["bob"])


def ping2(client_id: str) -> Fields:
    return {"action": "ping", "from": client_id, "proto": 2}


def peer2(stage: Stage, client_id: str) -> Peer:
    """A registered peer on level 2."""
    peer = stage.peer().upgrade()
    assert peer.ask(ping2(client_id))[0]["action"] == "pong"
    return peer


def codes(answers: list[Fields]) -> list[str]:
    """The codes of errors, and the actions of what is none."""
    return [str(answer.get("code", answer["action"])) for answer in answers]


class TestPermissions:
    @pytest.mark.parametrize(
        ("request_", "allowed"),
        [
            ({"action": "publish", "topic": "mine/a"}, True),
            ({"action": "publish", "topic": "other"}, False),
            ({"action": "publish", "topic": "other", "batch": [1, 2]}, False),
            ({"action": "publish", "topic": "mine/a", "receipt": "r"}, True),
            ({"action": "publish", "topic": "other", "receipt": "r"}, False),
            ({"action": "subscribe", "topic": "mine/a"}, True),
            ({"action": "subscribe", "topic": "other"}, False),
            ({"action": "subscribe", "topic": "__kps/stats"}, False),
            ({"action": "publish_with_ack", "topic": "mine/a", "ack_id": "1"}, True),
            ({"action": "publish_with_ack", "topic": "other", "ack_id": "1"}, False),
            ({"action": "direct_message", "to": "bob"}, True),
            ({"action": "direct_message", "to": "carol"}, False),
            ({"action": "direct_message", "to": "nobody"}, False),
            ({"action": "publish_to_id_with_ack", "to": "bob", "ack_id": "1"}, True),
            ({"action": "publish_to_id_with_ack", "to": "carol", "ack_id": "1"}, False),
            ({"action": "publish_to_server", "to": "h:1"}, False),
            ({"action": "server-to-server", "to": "here"}, False),
        ],
    )
    def test_each_request(self, request_: Fields, allowed: bool) -> None:
        stage = Stage(permissions=MINE)
        stage.hub.addresses.update({"here"})
        bob, carol, peer = peer2(stage, "bob"), peer2(stage, "carol"), peer2(stage, "a")
        for other in (bob, carol):  # both see what is for them
            stage.hub.state.bus.subscribe(other.session, "other")
            stage.hub.state.bus.subscribe(other.session, "mine/a")
        stage.hub.events()
        answers = peer.ask(request_)
        if allowed:
            assert "error" not in [answer["action"] for answer in answers]
            return
        (error,) = answers
        named = {k: v for k, v in request_.items() if k in ("topic", "to", "ack_id", "receipt")}
        assert error == {
            "action": "error",
            "error": error["error"],
            "code": "forbidden",
            "request": request_["action"],
            **named,
        }
        # and nothing has changed
        assert bob.take() == carol.take() == []
        assert not peer.session.topics
        assert not len(stage.hub.state.acks)
        assert stage.hub.events() == []
        assert stage.hub.stats.refused == 1

    def test_publications_that_come_together_are_judged_by_topic(self) -> None:
        stage = Stage(permissions=MINE)
        peer, bob = stage.peer("a"), stage.peer("bob")
        stage.hub.state.bus.subscribe(bob.session, "mine/a")
        stage.hub.state.bus.subscribe(bob.session, "other")
        topics = ["mine/a", "mine/a", "other", "other", "mine/a"]
        answers = peer.ask(*({"action": "publish", "topic": t, "data": 1} for t in topics))
        expected = ["published", "published", "error", "error", "published"]
        assert [answer["action"] for answer in answers] == expected
        assert [message["topic"] for message in bob.take()] == ["mine/a"] * 3

    def test_relay_only_to_those_allowed(self) -> None:
        stage = Stage(permissions=Permissions(relay=["bus.example:*"]))
        peer = peer2(stage, "a")
        for to in ("10.0.0.1:80", "bus.example.evil:1", "localhost:9313::bus.example:1"):
            assert codes(peer.ask({"action": "publish_to_server", "to": to})) == ["forbidden"]
        assert peer.ask({"action": "publish_to_server", "to": "bus.example:1/x::y"}) == []

    def test_by_default_all_but_relay(self) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        assert codes(peer.ask({"action": "publish_to_server", "to": "h:1"})) == ["forbidden"]
        subscribe = {"action": "subscribe", "topic": "__kps/stats"}
        assert codes(peer.ask(subscribe)) == ["subscribed"]

    def test_a_subscription_that_it_has_is_confirmed_again(self) -> None:
        stage = Stage(permissions=OPEN, limits=ServerLimits(max_subscriptions=1))
        peer = peer2(stage, "a")
        for _ in range(2):
            assert codes(peer.ask({"action": "subscribe", "topic": "t"})) == ["subscribed"]


class TestLimits:
    def test_subscriptions_of_a_connection(self) -> None:
        stage = Stage(limits=ServerLimits(max_subscriptions=2))
        peer = peer2(stage, "a")
        answers = peer.ask(*({"action": "subscribe", "topic": t} for t in "abc"))
        assert codes(answers) == ["subscribed", "subscribed", "limit_reached"]
        peer.ask({"action": "unsubscribe", "topic": "a"})
        assert codes(peer.ask({"action": "subscribe", "topic": "c"})) == ["subscribed"]

    def test_topics(self) -> None:
        stage = Stage(limits=ServerLimits(max_topics=2))
        one, two = peer2(stage, "1"), peer2(stage, "2")
        assert codes(one.ask(*({"action": "subscribe", "topic": t} for t in "ab"))) == [
            "subscribed",
            "subscribed",
        ]
        answers = two.ask(*({"action": "subscribe", "topic": t} for t in "ac"))
        assert codes(answers) == ["subscribed", "limit_reached"]

    @pytest.mark.parametrize("payload_in", ["data", "batch"])
    def test_depth(self, payload_in: str) -> None:
        stage = Stage(limits=ServerLimits(max_depth=3))
        peer, bob = peer2(stage, "a"), peer2(stage, "bob")
        stage.hub.state.bus.subscribe(bob.session, "t")
        at_the_limit: list[Any] = [{"a": [1]}]
        past_it: list[Any] = [{"a": [[]]}]
        payloads = [at_the_limit, past_it, 5, past_it]
        if payload_in == "data":
            requests = [{"action": "publish", "topic": "t", "data": data} for data in payloads]
        else:
            requests = [{"action": "publish", "topic": "t", "batch": payloads}]
        refused = peer.ask(*requests)
        if payload_in == "data":
            assert codes(refused) == ["bad_message"] * 2
        else:  # one error for all, or a small message would have a large answer
            assert [error["error"] for error in refused] == [
                "message nested too deeply (2 payloads)"
            ]
        got = [data for m in bob.take() for data in m.get("batch", [m.get("data")])]
        assert got == [at_the_limit, 5]

    def test_the_topic_is_checked_before_the_depth(self) -> None:
        stage = Stage(limits=ServerLimits(max_topic=10, max_depth=3))
        peer = peer2(stage, "a")
        batch: list[Any] = [[[[[]]]]] * 100
        request = {"action": "publish", "topic": "t" * 11, "batch": batch}
        (error,) = peer.ask(request)
        assert error["code"] == "bad_request"
        assert peer.ask({**request, "topic": "__kps/x"})[0]["code"] == "forbidden"

    def test_one_with_a_receipt_has_one_error_and_its_receipt(self) -> None:
        stage = Stage(limits=ServerLimits(max_depth=3))
        peer = peer2(stage, "a")
        deep: list[Any] = [[[[]]]]
        request = {"action": "publish", "topic": "t", "receipt": "r"}
        answers = peer.ask({**request, "batch": [deep, deep]})
        assert [answer["action"] for answer in answers] == ["error", "published"]
        assert [answer["action"] for answer in peer.ask({**request, "data": deep})] == ["error"]

    @pytest.mark.parametrize(
        "request_",
        [
            {"action": "x" * 10_000},
            {"action": "direct_message", "to": "x" * 10_000},
            {"action": "publish_to_server", "to": ":" * 10_000},
        ],
    )
    def test_an_error_text_repeats_no_long_name(self, request_: Fields) -> None:
        peer = peer2(Stage(permissions=Permissions(relay=["**"])), "a")
        (error,) = peer.ask(request_)
        assert len(error["error"]) < 400
        assert len(error.get("request", "")) < 400

    def test_depth_that_the_encoder_cannot_be_trusted_with(self) -> None:
        """It takes 251 levels, but several such payloads in one message overrun its memory."""
        stage = Stage()
        peer, bob = peer2(stage, "a"), peer2(stage, "bob")
        stage.hub.state.bus.subscribe(bob.session, "t")
        deep = "[" * 251 + "]" * 251
        payloads = ",".join([deep] * 10)
        peer.feed(frame(f'{{"action":"publish","topic":"t","batch":[{payloads}]}}'.encode()))
        assert codes(peer.take()) == ["bad_message"]
        assert bob.take() == []

    @pytest.mark.parametrize(
        "request_",
        [
            {"action": "direct_message", "to": "a"},
            {"action": "publish_with_ack", "topic": "t", "ack_id": "1"},
            {"action": "publish_to_server", "to": "h:1"},
        ],
    )
    def test_depth_of_every_payload(self, request_: Fields) -> None:
        stage = Stage(limits=ServerLimits(max_depth=1), permissions=Permissions(relay=["**"]))
        peer = peer2(stage, "a")
        (error,) = peer.ask({**request_, "data": [[]]})
        assert error["error"] == "message nested too deeply"
        assert "bad_message" not in codes(peer.ask({**request_, "data": []}))

    def test_depth_of_a_result(self) -> None:
        stage = Stage(limits=ServerLimits(max_depth=1))
        peer = peer2(stage, "a")
        ask = {"action": "publish_to_id_with_ack", "to": "a", "ack_id": "1"}
        ack_id = peer.ask(ask)[0]["ack_id"]
        answer = {"action": "ack", "ack_id": ack_id, "success": True}
        (response,) = peer.ask({**answer, "result": [[]]})[0]["responses"].values()
        assert response["success"] is False
        ack_id = peer.ask(ask)[0]["ack_id"]
        answer["ack_id"] = ack_id
        assert peer.ask({**answer, "result": [1]})[0]["responses"]["a"]["result"] == [1]

    def test_payloads_of_a_batch(self) -> None:
        stage = Stage(limits=ServerLimits(max_batch=3))
        peer, bob = peer2(stage, "a"), peer2(stage, "bob")
        stage.hub.state.bus.subscribe(bob.session, "t")
        request = {"action": "publish", "topic": "t"}
        assert peer.ask({**request, "batch": [1, 2, 3]}) == []
        assert codes(peer.ask({**request, "batch": [1, 2, 3, 4]})) == ["limit_reached"]
        assert [message["batch"] for message in bob.take()] == [[1, 2, 3]]

    def test_messages_of_an_array(self) -> None:
        stage = Stage(limits=ServerLimits(max_batch=3))
        peer = peer2(stage, "a")
        subscribe = {"action": "subscribe", "topic": "t"}
        assert codes(peer.ask([subscribe] * 3)) == ["subscribed"] * 3
        assert codes(peer.ask([subscribe] * 4)) == ["limit_reached"]

    @pytest.mark.parametrize("level", [1, 2])
    @pytest.mark.parametrize("piece", [b"[]", b"{}", b'"["'])
    def test_brackets_of_a_message(self, level: int, piece: bytes) -> None:
        stage = Stage(limits=ServerLimits(max_brackets=33_000))
        peer = peer2(stage, "a") if level == 2 else stage.peer("a")
        stage.hub.state.bus.subscribe(peer2(stage, "bob").session, "t")
        around = b'{"action":"publish","topic":"t","data":[%b]}'
        for count, fits in ((32_998, True), (32_999, False)):
            peer.feed(frame(around % b",".join([piece] * count)))
            stage.finish()  # the second one may have to wait for the next turn
            assert [answer["error"] for answer in peer.take() if "error" in answer] == (
                [] if fits else ["the message has too many brackets"]
            )
        assert stage.hub.stats.published == 1

    def test_ack_requests_of_a_connection(self) -> None:
        stage = Stage(limits=ServerLimits(max_pending_acks=2))
        peer, bob = peer2(stage, "a"), peer2(stage, "bob")
        asks = [{"action": "publish_to_id_with_ack", "to": "bob", "ack_id": i} for i in "123"]
        (error,) = peer.ask(*asks)
        assert (error["code"], error["ack_id"]) == ("limit_reached", "3")
        first = bob.take()
        assert len(first) == 2
        # another connection has its own, and an answer makes room
        assert bob.ask({"action": "publish_with_ack", "topic": "none", "ack_id": "1"}) != []
        bob.send({"action": "ack", "ack_id": first[0]["ack_id"], "success": True})
        peer.take()
        assert peer.ask(asks[2]) == []

    def test_answers_in_all(self) -> None:
        stage = Stage(limits=ServerLimits(max_awaited_acks=4))
        peers = [peer2(stage, str(n)) for n in range(3)]
        for peer in peers:
            stage.hub.state.bus.subscribe(peer.session, "t")
        ask = {"action": "publish_with_ack", "topic": "t"}
        assert codes(peers[0].ask({**ask, "ack_id": "1"})) == ["publish_ack"]
        assert codes(peers[1].ask({**ask, "ack_id": "2"})) == ["publish_ack", "limit_reached"]
        one = {"action": "publish_to_id_with_ack", "to": "2", "ack_id": "3"}
        assert peers[1].ask(one) == []  # the fourth
        assert codes(peers[1].ask({**one, "ack_id": "4"})) == ["limit_reached"]
        with pytest.raises(QueueFull):
            stage.hub.publish_to_id_with_ack("2", 1, 5.0, stage.clock.now)
        peers[0].ask({"action": "cancel_ack", "ack_id": "1"})
        assert peers[1].ask({**one, "ack_id": "4"}) == []
        for peer in peers:
            peer.connection.connection_lost(stage.clock.now)
        assert stage.hub.state.acks.awaited == 0

    @pytest.mark.parametrize(
        ("most", "answer"),
        [
            (
                2 * cost.of_answer(None, len(b'"xxxx"')),
                {"success": True, "result": "xxxx"},
            ),
            (2 * cost.of_answer("xxx", 0), {"success": False, "error": "xxx"}),
        ],
        ids=["results", "error texts"],
    )
    def test_answers_to_one_request(self, most: int, answer: Fields) -> None:
        stage = Stage(limits=ServerLimits(max_results=most))
        peers = [peer2(stage, str(n)) for n in range(4)]
        for peer in peers[1:]:
            stage.hub.state.bus.subscribe(peer.session, "t")
        peers[0].send({"action": "publish_with_ack", "topic": "t", "ack_id": "1"})
        for peer in peers[1:]:
            ack_id = peer.take()[0]["ack_id"]
            peer.send({"action": "ack", "ack_id": ack_id, **answer})
        (response,) = peers[0].take()
        refused = {"success": False, "error": "no room for the result"}
        assert response["responses"] == {"1": answer, "2": answer, "3": refused}
        assert stage.hub.state.acks._results == 0

    def test_results_of_all_requests(self) -> None:
        size = cost.of_answer(None, len(b'"xxxx"'))
        stage = Stage(limits=ServerLimits(max_all_results=size))
        peers = [peer2(stage, str(n)) for n in range(3)]
        for peer in peers[1:]:  # of whom one will not answer, so that the requests go on
            stage.hub.state.bus.subscribe(peer.session, "t")

        def ask(number: str) -> list[Fields]:
            request = {"action": "publish_with_ack", "topic": "t", "ack_id": number}
            peers[0].send({**request, "updates": True})
            ack_id = peers[1].take()[0]["ack_id"]
            answer = {"action": "ack", "ack_id": ack_id, "success": True, "result": "xxxx"}
            peers[1].send(answer)
            return [message["responses"]["1"] for message in peers[0].take()]

        refused = {"success": False, "error": "no room for the result"}
        assert ask("1") == [{"success": True, "result": "xxxx"}]
        assert ask("2") == [refused]
        peers[0].ask({"action": "cancel_ack", "ack_id": "1"})
        assert ask("3") == [{"success": True, "result": "xxxx"}]
        peers[0].connection.connection_lost(stage.clock.now)
        assert stage.hub.state.acks._results == 0

    def test_time_of_an_ack_request(self) -> None:
        stage = Stage(limits=ServerLimits(max_ack_timeout=10.0))
        peer = peer2(stage, "a")
        ask = {"action": "publish_to_id_with_ack", "to": "a", "ack_id": "1", "timeout": 11}
        assert codes(peer.ask(ask)) == ["publish_ack"]
        stage.advance(9.9)
        assert peer.take() == []
        stage.advance(0.1)
        assert codes(peer.take()) == ["ack_response"]

    def test_time_to_the_first_ping(self) -> None:
        stage = Stage(limits=ServerLimits(register_timeout=5.0))
        silent, known = stage.peer().upgrade(), stage.peer("known")
        stage.advance(4.9)
        assert silent.closed is None
        stage.advance(0.1)
        assert silent.closed == (1008, "there was no ping in time")
        assert known.closed is None


class TestConnections:
    def test_in_all(self) -> None:
        stage = Stage(limits=ServerLimits(max_connections=2))
        first = stage.peer("1")
        stage.peer()  # one that does not even send a request counts as well
        third = stage.peer()
        assert Answer(third.read()).status == 503
        assert third.connection.number in stage.hub.take_unflushed()
        third.feed(upgrade())
        assert third.read() == b""
        third.connection.connection_lost(stage.clock.now)
        first.connection.connection_lost(stage.clock.now)
        stage.peer("4")

    def test_from_one_address(self) -> None:
        stage = Stage(limits=ServerLimits(max_connections_per_address=2))
        here = [Peer(stage.hub, stage.clock, f"192.0.2.1:{port}") for port in (1, 2)]
        for peer in here:
            peer.upgrade()
        assert Answer(Peer(stage.hub, stage.clock, "192.0.2.1:3").read()).status == 503
        Peer(stage.hub, stage.clock, "192.0.2.2:1").upgrade()
        here[0].connection.connection_lost(stage.clock.now)
        here[0].connection.connection_lost(stage.clock.now)  # twice does no harm
        Peer(stage.hub, stage.clock, "192.0.2.1:4").upgrade()
        assert Answer(Peer(stage.hub, stage.clock, "192.0.2.1:5").read()).status == 503

    def test_behind_a_proxy_those_of_the_clients_count(self) -> None:
        limits = ServerLimits(max_connections_per_address=1)
        stage = Stage(limits=limits, proxies=read_networks(["192.0.2.1"]))

        def peer(client: str) -> Peer:
            peer = stage.peer()
            peer.feed(upgrade(changed={"x-forwarded-for": client}))
            return peer

        first = peer("203.0.113.1")
        first.read_upgrade()
        assert first.session.peer == "203.0.113.1"
        assert Answer(peer("203.0.113.1").read()).status == 503
        peer("203.0.113.2").read_upgrade()


class TestRates:
    def published(self, peer: Peer, count: int) -> list[str]:
        request = {"action": "publish", "topic": "t", "data": 1}
        return codes(peer.ask(*[request] * count))

    def test_error(self) -> None:
        limits = ServerLimits(message_rate=4.0, rate_policy=RatePolicy.ERROR)
        stage = Stage(limits=limits)
        peer = peer2(stage, "a")  # whose ping was the first
        assert self.published(peer, 3) == []
        assert self.published(peer, 2) == ["rate_limited"] * 2
        stage.advance(0.5)
        assert self.published(peer, 3) == ["rate_limited"]
        assert stage.hub.stats.published == 5

    def test_error_counts_payloads(self) -> None:
        stage = Stage(limits=ServerLimits(message_rate=4.0, rate_policy=RatePolicy.ERROR))
        peer, bob = peer2(stage, "a"), peer2(stage, "bob")
        stage.hub.state.bus.subscribe(bob.session, "t")
        batch = {"action": "publish", "topic": "t", "batch": [1, 2, 3, 4]}
        (error,) = peer.ask(batch)
        assert (error["code"], error["topic"]) == ("rate_limited", "t")
        assert bob.take() == []
        assert peer.ask({**batch, "batch": [1, 2, 3]}) == []
        assert bob.take()[0]["batch"] == [1, 2, 3]

    def test_error_of_bytes(self) -> None:
        limits = ServerLimits(byte_rate=1000.0, rate_policy=RatePolicy.ERROR)
        stage = Stage(limits=limits)
        peer = peer2(stage, "a")
        assert codes(peer.ask({"action": "x" * 1000})) == ["rate_limited"]
        assert codes(peer.ask({"action": "x" * 700})) == ["unknown_action"]

    def test_close(self) -> None:
        limits = ServerLimits(message_rate=4.0, rate_policy=RatePolicy.CLOSE)
        stage = Stage(limits=limits)
        peer, bob = stage.peer("a"), stage.peer("bob")
        stage.hub.state.bus.subscribe(bob.session, "t")
        peer.send(*[{"action": "publish", "topic": "t", "data": n} for n in range(5)])
        assert peer.closed == (1008, "too many messages in too short a time")
        assert len(bob.take()) == 3
        assert "a" not in stage.hub.clients

    def test_delay(self) -> None:
        stage = Stage(limits=ServerLimits(message_rate=4.0))
        peer, bob = stage.peer("a"), stage.peer("bob")
        stage.hub.state.bus.subscribe(bob.session, "t")
        assert self.published(peer, 3) == ["published"] * 3
        assert not peer.connection.wants_pause
        assert self.published(peer, 8) == []
        assert len(bob.take()) == 3
        assert peer.connection.wants_pause
        stage.advance(1.9)
        assert codes(peer.take()) == ["published"] * 7
        assert peer.connection.wants_pause
        stage.hub.take_unflushed()
        stage.advance(0.1)
        assert len(bob.take()) == 8  # nothing is lost
        assert not peer.connection.wants_pause
        assert peer.connection.number in stage.hub.take_unflushed()  # the driver looks at it again

    def test_delay_by_bytes(self) -> None:
        stage = Stage(limits=ServerLimits(byte_rate=1000.0))
        peer = stage.peer("a")
        assert peer.ask({"action": "x" * 3000}) == []  # its ping has used some of the burst
        stage.advance(0.1)
        assert codes(peer.take()) == ["error"]
        assert peer.ask({"action": "y"}) == []
        assert peer.connection.wants_pause
        stage.advance(2.1)
        assert codes(peer.take()) == ["error"]
        assert not peer.connection.wants_pause

    def test_what_cannot_be_read_counts_as_well(self) -> None:
        stage = Stage(limits=ServerLimits(message_rate=4.0, rate_policy=RatePolicy.ERROR))
        peer = peer2(stage, "a")
        for nonsense in (b"{", b"[5,5]"):
            peer.feed(frame(nonsense))
        assert codes(peer.take()) == ["bad_message"] * 3
        peer.feed(frame(b"{") + frame(b"5"))
        assert codes(peer.take()) == ["rate_limited"] * 2

    def test_an_empty_batch_is_a_message(self) -> None:
        stage = Stage(limits=ServerLimits(message_rate=4.0, rate_policy=RatePolicy.ERROR))
        peer = peer2(stage, "a")
        request = {"action": "direct_message", "to": "a", "data": 1, "batch": []}
        assert codes(peer.ask(*[request] * 5)).count("rate_limited") == 2

    def test_what_came_with_the_request_counts_when_it_is_let_in(self) -> None:
        stage = Stage(limits=ServerLimits(message_rate=4.0), asks_upgrade=True)
        peer = stage.peer()
        publish = {"action": "publish", "topic": "t", "data": 1}
        peer.feed(upgrade() + json_frame(ping2("a")) + json_frame(publish) * 20)
        (request,) = stage.hub.events()
        assert isinstance(request, UpgradeRequested)
        peer.decide(True)
        assert stage.hub.stats.published == 3
        assert peer.connection.wants_pause
        stage.advance(17 / 4)
        assert stage.hub.stats.published == 20

    def test_connecting_again_gives_no_new_burst(self) -> None:
        stage = Stage(limits=ServerLimits(message_rate=4.0))
        publish = {"action": "publish", "topic": "t", "data": 1}
        for number in range(10):
            peer = stage.peer()
            peer.feed(upgrade() + json_frame(ping2(f"a{number}")) + json_frame(publish) * 20)
            peer.connection.connection_lost(stage.clock.now)
        assert stage.hub.stats.published == 3
        elsewhere = Peer(stage.hub, stage.clock, "192.0.2.9:1").register("b")
        assert self.published(elsewhere, 3) == ["published"] * 3

    def test_who_is_not_read_from_is_not_taken_for_dead(self) -> None:
        stage = Stage(limits=ServerLimits(message_rate=1.0))
        peer = stage.peer("a")
        self.published(peer, 100)
        peer.connection.set_reading(False, stage.clock.now)
        for _ in range(4):
            stage.advance(25.0)
            peer.take()
        pings = peer.inbox.pings
        assert pings > 40  # which it need not answer, and by which its end is noticed
        assert not peer.connection.wants_pause
        peer.connection.set_reading(True, stage.clock.now)
        stage.advance(26.0)
        peer.take()
        assert peer.inbox.pings > pings

    def test_the_end_is_noticed_while_it_waits(self) -> None:
        stage = Stage(limits=ServerLimits(message_rate=1.0))
        peer = stage.peer("a")
        self.published(peer, 100)
        peer.feed(close_frame(1000))
        assert peer.connection.wants_pause
        stage.advance(100.0)
        assert not peer.connection.wants_pause
        assert peer.session.id not in stage.hub.clients


class TestQueueOfAConnection:
    @pytest.mark.parametrize("in_an_array", [True, False])
    def test_who_left_for_want_of_room_does_nothing_more(self, in_an_array: bool) -> None:
        stage = Stage(limits=ServerLimits(queue_bytes=10_000))
        peer, other = peer2(stage, "a"), peer2(stage, "b")
        peer.ask({"action": "subscribe", "topic": "t"})
        other.ask({"action": "publish", "topic": "t", "data": "x" * 9500})
        own = {"action": "publish", "topic": "t", "data": "y" * 1000}
        messages = [own, {"action": "subscribe", "topic": "u"}]
        peer.feed(b"".join(map(json_frame, [messages] if in_an_array else messages)))
        assert peer.connection.closed is not None
        peer.connection.connection_lost(stage.clock.now)
        assert list(stage.hub.state.bus.subscribers("u")) == []
        assert len(stage.hub.state.bus) == 0

    @pytest.mark.parametrize("level", [1, 2])
    @pytest.mark.parametrize("overflow", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
    def test_what_has_room_of_a_batch_is_counted(self, level: int, overflow: Overflow) -> None:
        """Long and short payloads: of a batch, some have room, also behind one that has none."""
        stage = Stage(limits=ServerLimits(queue_bytes=1000, overflow=overflow))
        sender, reader = peer2(stage, "a"), stage.peer("1") if level == 1 else peer2(stage, "2")
        stage.hub.state.bus.subscribe(reader.session, "t")
        batch = ["x" * 10, "x" * 500, "x" * 500, "x" * 10, "x" * 600, "x" * 10]
        stats, sent = stage.hub.stats, 0
        for payloads in (batch, batch[:3], batch[:2]):
            sender.send({"action": "publish", "topic": "t", "batch": payloads})
            sent += len(payloads)
            # Under the other policy what was delivered may be dropped later.
            missed = stage.hub.dropped() if overflow is Overflow.DROP_NEWEST else 0
            assert (stats.published, stats.delivered) == (sent, sent - missed)
        got = [data for m in reader.take() for data in m.get("batch", [m.get("data")])]
        assert 0 < stage.hub.dropped() == sent - len(got)
