"""Groups on the wire, as the server keeps them (spec, 18)."""

from typing import Any

import pytest

from kps.errors import InvalidArgument, QueueFull, ServerStopped
from kps.protocol.access.identity import Permissions
from kps.protocol.bus.history import History
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.dialect.outcome import GroupResponse, by_name
from kps.protocol.dialect.requests import Demands
from kps.protocol.limits import Overflow
from kps.protocol.patterns import InGroup, Pattern
from kps.protocol.server.events import Subscribing, SubscriptionRequested, Unsubscribed
from kps.protocol.server_limits import ServerLimits
from tests.protocol.helpers import Fields, Peer, Stage, close_frame
from tests.protocol.server.test_permissions_and_limits import codes, peer2

LOCAL = InGroup("jobs", "g")


def join(topic: str = "jobs", group: str = "g", **fields: Any) -> Fields:
    return {"action": "subscribe", "topic": topic, "group": group, **fields}


def join_pattern(pattern: str = "j*", group: str = "g", **fields: Any) -> Fields:
    return {"action": "subscribe", "pattern": pattern, "group": group, **fields}


def leave(topic: str = "jobs", group: str = "g") -> Fields:
    return {"action": "unsubscribe", "topic": topic, "group": group}


def publish(data: Any = 1, topic: str = "jobs", **fields: Any) -> Fields:
    return {"action": "publish", "topic": topic, "data": data, **fields}


def ask(ack_id: str = "1", topic: str = "jobs", **fields: Any) -> Fields:
    ours: Fields = {"action": "publish_with_ack", "topic": topic, "ack_id": ack_id}
    return {**ours, "data": ack_id, "timeout": 5, **fields}


def ack(question: Fields, error: str | None = None, **fields: Any) -> Fields:
    answer = {"action": "ack", "ack_id": question["ack_id"], "success": error is None, **fields}
    return answer if error is None else {**answer, "error": error}


def worker(stage: Stage, client_id: str, message: Fields | None = None, **fields: Any) -> Peer:
    """A peer that is a member of a group."""
    peer = peer2(stage, client_id)
    assert "subscribed" in codes(peer.ask(message or join(**fields)))
    return peer


def questions(peer: Peer) -> list[tuple[Any, int]]:
    """What a peer was asked since: payloads and attempts."""
    messages = [message for message in peer.take() if message["action"] == "publish_ack"]
    return [(message["data"], message.get("attempt", 1)) for message in messages]


def payloads(peer: Peer) -> list[Any]:
    """The payloads of the publications that a peer got since."""
    messages = [message for message in peer.take() if message["action"] == "publish"]
    return [data for message in messages for data in message.get("batch", [message.get("data")])]


def only(peer: Peer) -> Fields:
    """The only message since."""
    (message,) = peer.take()
    return message


def vanish(stage: Stage, peer: Peer) -> None:
    peer.connection.connection_lost(stage.clock.now)


def outcome(peer: Peer, *messages: Fields) -> Fields:
    """The outcome of the only group, in an answer that has nothing else."""
    (answer,) = peer.ask(*messages)
    assert answer["action"] == "ack_response"
    assert "responses" not in answer
    (group,) = answer["groups"]
    assert isinstance(group, dict)
    return group


def spent(stage: Stage, peer: Peer, *messages: Fields) -> int:
    """Units of work that messages are charged."""
    stage.finish()
    peer.ask(*messages)
    turns = stage.hub.state.turns
    return turns._turn - turns._of_turn


def check_nothing_left(stage: Stage) -> None:
    """When everyone has left, nothing is kept."""
    for connection in list(stage.hub.connections.values()):
        connection.connection_lost(stage.clock.now)  # type: ignore[attr-defined]
    stage.advance(10.0)
    acks, bus = stage.hub.state.acks, stage.hub.state.bus
    assert (len(acks), len(bus), acks.awaited, acks._cost, acks._results) == (0, 0, 0, 0, 0)
    tasks = acks.tasks
    assert (tasks._under_way, tasks._by_subscriber, tasks.waiting_for, tasks.kept) == (
        {},
        {},
        {},
        0,
    )
    assert (tasks._waiting, tasks._for_members) == ({}, {})
    assert len(stage.hub.state.deadlines) == 0


class TestMembers:
    @pytest.mark.parametrize("scope", [{"topic": "jobs"}, {"pattern": "j*"}])
    def test_confirmations_repeat_the_group(self, scope: Fields) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        group = {**scope, "group": "g"}
        for _ in range(2):
            assert peer.ask({"action": "subscribe", **group}) == [{"action": "subscribed", **group}]
        for _ in range(2):
            assert peer.ask({"action": "unsubscribe", **group}) == [
                {"action": "unsubscribed", **group}
            ]
        assert len(stage.hub.state.bus) == 0

    @pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
    @pytest.mark.parametrize("group", ["", 5, True, [], {}, ["g"]])
    def test_a_group_is_a_text_that_is_not_empty(self, action: str, group: Any) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        (answer,) = peer.ask({"action": action, "topic": "jobs", "group": group})
        assert answer.pop("group", "") == (group if isinstance(group, str) else "")
        assert answer == {
            "action": "error",
            "error": "field group must be a string that is not empty",
            "code": "bad_message",
            "request": action,
            "topic": "jobs",
        }
        assert len(stage.hub.state.bus) == 0

    def test_null_is_no_group(self) -> None:
        stage = Stage()
        peer = peer2(stage, "a")
        assert peer.ask({"action": "subscribe", "topic": "jobs", "group": None}) == [
            {"action": "subscribed", "topic": "jobs"}
        ]
        peer.ask(publish())
        assert stage.hub.state.bus.subscribers("jobs") == [peer.session]

    @pytest.mark.parametrize("concurrency", [0, -1, 1.5, 2.0, "3", True, [], 1e300])
    def test_concurrency_is_a_number_from_1(self, concurrency: Any) -> None:
        peer = peer2(Stage(), "a")
        assert peer.ask(join_pattern(concurrency=concurrency)) == [
            {
                "action": "error",
                "error": "concurrency must be a number of messages from 1",
                "code": "bad_request",
                "request": "subscribe",
                "pattern": "j*",
                "group": "g",
            }
        ]
        plain = {"action": "subscribe", "topic": "jobs", "concurrency": concurrency}
        assert codes(peer.ask(plain)) == ["subscribed"], "it is for members only"

    @pytest.mark.parametrize(
        "field",
        [{"since": {"epoch": "e", "offset": 1}}, {"last": 3}, {"info": {}}, {"presence": 0}],
    )
    @pytest.mark.parametrize("scope", [{"topic": "jobs"}, {"pattern": "j*"}])
    def test_a_group_has_neither_a_past_nor_presence(self, field: Fields, scope: Fields) -> None:
        peer = peer2(Stage(history=(History("**"),)), "a")
        (answer,) = peer.ask({"action": "subscribe", "group": "g", **scope, **field})
        assert answer["error"] == "a group has neither a past nor presence"
        assert (answer["code"], answer["group"]) == ("bad_request", "g")
        nothing = dict.fromkeys(field)
        assert codes(peer.ask({"action": "subscribe", "group": "g", **scope, **nothing})) == [
            "subscribed"
        ]

    def test_each_of_its_subscriptions_begins_and_ends_by_itself(self) -> None:
        stage = Stage()
        a, p = peer2(stage, "a"), peer2(stage, "p")
        plain = {"action": "subscribe", "topic": "jobs"}
        a.ask(join(), join(group="h"), join_pattern(), join_pattern("jobs"), plain)
        assert p.ask(publish(receipt="r"))[0]["delivered"] == 5
        got = [{name: m.get(name) for name in ("group", "pattern")} for m in a.take()]
        assert sorted(got, key=str) == sorted(
            [
                {"group": "g", "pattern": None}, {"group": "h", "pattern": None},
                {"group": "g", "pattern": "j*"}, {"group": "g", "pattern": "jobs"},
                {"group": None, "pattern": None},
            ],
            key=str,
        )  # fmt: skip
        a.ask(leave(), {"action": "unsubscribe", "topic": "jobs"})
        p.ask(publish())
        assert sorted((m["group"], m.get("pattern", "")) for m in a.take()) == [
            ("g", "j*"), ("g", "jobs"), ("h", ""),
        ]  # fmt: skip
        a.ask({"action": "unsubscribe", "pattern": "j*"})  # to which it is no plain subscriber
        p.ask(publish())
        assert len(a.take()) == 3
        check_nothing_left(stage)

    def test_nobody_sees_it_among_the_members_of_the_topic(self) -> None:
        stage = Stage()
        watch = peer2(stage, "watch")
        watch.ask({"action": "subscribe", "topic": "jobs", "presence": True})
        a = worker(stage, "a")
        a.ask(leave())
        worker(stage, "b")
        stage.advance(5.0)
        assert [m for m in watch.take() if m["action"] == "presence"] == []
        (answer,) = watch.ask({"action": "presence", "topic": "jobs", "nonce": "n"})
        assert (answer["count"], answer["members"]) == (1, [{"id": "watch"}])

    def test_to_subscribe_again_sets_the_concurrency_anew(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a", concurrency=3), peer2(stage, "p")
        p.send(*[ask(str(number)) for number in range(9)])
        first = a.take()
        assert len(first) == 3
        for one in first:
            a.send(ack(one))
        second = a.take()
        assert len(second) == 3
        a.ask(join())
        a.send(*map(ack, second))
        assert questions(a) == [("6", 1)]

    def test_it_may_get_what_waits_before_its_confirmation(self) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a"), peer2(stage, "b"), peer2(stage, "p")
        p.send(ask("1"), ask("2"), ask("3"))
        answers = b.ask(join())
        assert sorted(codes(answers)) == ["publish_ack", "subscribed"]
        answers = a.ask(join(concurrency=2))
        assert sorted(codes(answers)) == ["publish_ack", "publish_ack", "subscribed"]

    def test_a_client_on_level_1_becomes_a_plain_subscriber(self) -> None:
        stage = Stage()
        old, p = stage.peer("old"), worker(stage, "p")
        for odd in ("g", 5, ""):
            assert old.ask(join(group=odd, concurrency="x")) == [  # type: ignore[arg-type]
                {"action": "subscribed", "topic": "jobs"}
            ]
        p.ask(publish([1]))
        assert old.take() == [
            {"action": "publish", "topic": "jobs", "data": {"data": [1], "from": "p"}}
        ]
        p.ask(ask())
        (question,) = old.take()
        assert question["ack_id"] == "ack_1"
        assert "group" not in question
        assert old.ask(leave()) == [{"action": "unsubscribed", "topic": "jobs"}]
        assert stage.hub.state.bus.subscribers("jobs") == []

    def test_the_feature_is_told(self) -> None:
        (pong,) = Stage().peer().upgrade().ask({"action": "ping", "from": "a", "proto": 2})
        assert "groups" in pong["features"]

    def test_hooks_are_told_of_the_group(self) -> None:
        stage = Stage(asks_subscribe=True, tells_unsubscribe=True)
        a, p = peer2(stage, "a"), peer2(stage, "p")
        stage.hub.events()
        assert a.ask(join_pattern(concurrency=2), publish("behind", "x")) == []
        (event,) = [one for one in stage.hub.events() if isinstance(one, SubscriptionRequested)]
        asked = event.asked
        assert asked == Subscribing(asked.client, Pattern("j*"), None, "g")
        p.send(ask("1"), ask("2"), ask("3"))
        assert codes(p.take()) == ["ack_response"] * 3
        a.identify(True)
        assert codes(a.take()) == ["subscribed"]
        p.send(ask("1"), ask("2"), ask("3"))
        assert questions(a) == [("1", 1), ("2", 1)]
        a.ask(join_pattern(concurrency=3))
        assert not any(isinstance(one, SubscriptionRequested) for one in stage.hub.events())
        a.ask({"action": "unsubscribe", "pattern": "j*", "group": "g"})
        (ended,) = [one for one in stage.hub.events() if isinstance(one, Unsubscribed)]
        assert (ended.topic, ended.group) == (Pattern("j*"), "g")


class TestPermissionsAndLimits:
    def test_a_member_needs_the_permission_to_subscribe(self) -> None:
        stage = Stage(permissions=Permissions(subscribe=["jobs/*"]))
        a = peer2(stage, "a")
        answers = a.ask(
            *(join("jobs/1"), join("other"), join_pattern("jobs/*"), join_pattern("jobs/**")),
            *(join("__kps/stats"), join_pattern("__kps/*")),
        )
        assert codes(answers) == [
            "subscribed", "forbidden", "subscribed", *["forbidden"] * 3,
        ]  # fmt: skip
        assert [answer["error"] for answer in answers[3:5]] == [
            "this client may not subscribe to this pattern",
            "this client may not subscribe to this topic",
        ]
        assert answers[1]["group"] == "g"

    def test_a_member_needs_the_permission_for_groups_too(self) -> None:
        stage = Stage(permissions=Permissions(groups=["jobs/*"]))
        a = peer2(stage, "a")
        answers = a.ask(
            *(join("jobs/1"), join_pattern("jobs/*"), {"action": "subscribe", "topic": "other"}),
            *(join("other"), join_pattern("jobs/**")),
        )
        assert codes(answers) == [*["subscribed"] * 3, "forbidden", "forbidden"]
        assert [answer["error"] for answer in answers[3:]] == [
            "this client may not be in a group of this topic",
            "this client may not be in a group of this pattern",
        ]
        assert codes(a.ask(leave("other"))) == ["unsubscribed"]

    def test_a_client_is_a_member_of_so_many_groups(self) -> None:
        stage = Stage(limits=ServerLimits(max_groups=2))
        a, b = peer2(stage, "a"), peer2(stage, "b")
        answers = a.ask(join("t"), join_pattern("t*"), join("u"), join("t", concurrency=2))
        assert codes(answers) == ["subscribed", "subscribed", "limit_reached", "subscribed"]
        assert answers[2]["error"] == "this client is a member of too many groups"
        assert codes(a.ask({"action": "subscribe", "topic": "u"})) == ["subscribed"]
        assert codes(b.ask(join("u"))) == ["subscribed"]
        assert codes(a.ask(leave("t"), join("u"))) == ["unsubscribed", "subscribed"]

    def test_memberships_count_as_subscriptions_and_their_topics_as_topics(self) -> None:
        stage = Stage(limits=ServerLimits(max_subscriptions=3, max_topics=2))
        a, b = peer2(stage, "a"), peer2(stage, "b")
        answers = a.ask(
            *(join("t"), join("t", "h"), {"action": "subscribe", "topic": "t"}),
            *(join("t", "i"), join("t"), {"action": "subscribe", "topic": "t"}),
        )
        assert codes(answers) == [*["subscribed"] * 3, "limit_reached", *["subscribed"] * 2]
        assert answers[3]["error"] == "this client has too many subscriptions"
        answers = b.ask(join("u"), join("v"), join("t", "x"))
        assert codes(answers) == ["subscribed", "limit_reached", "subscribed"]
        assert answers[1]["error"] == "the server has too many topics"
        b.ask(leave("u"))
        assert codes(b.ask(join_pattern("v"))) == ["subscribed"]

    def test_the_name_of_a_group(self) -> None:
        stage = Stage()
        a = peer2(stage, "a")
        answers = a.ask(
            *(join(group="x" * 256), join(group="\N{GRINNING FACE}" * 256)),
            *(join(group="x" * 257), join(group="a\nb"), join(group="a\x7fb")),
        )
        assert codes(answers) == ["subscribed", "subscribed", *["bad_request"] * 3]
        assert [answer["error"] for answer in answers[2:4]] == [
            "the name of the group has more than 256 characters",
            "the name of the group has a control character in it",
        ]
        answers = a.ask(
            ask("1", expect=[{"group": "x" * 257}]), ask("2", expect=[{"group": "a\nb"}])
        )
        assert [answer["error"] for answer in answers] == [
            "the name of the group has more than 256 characters",
            "the name of the group has a control character in it",
        ]

    def test_a_member_that_asks_for_too_much_gets_as_much_as_is_allowed(self) -> None:
        stage = Stage(limits=ServerLimits(max_concurrency=2))
        a, p = worker(stage, "a", concurrency=2**53), peer2(stage, "p")
        p.send(*[ask(str(number)) for number in range(5)])
        assert questions(a) == [("0", 1), ("1", 1)]

    def test_so_many_may_wait_for_a_group(self) -> None:
        stage = Stage(limits=ServerLimits(max_waiting=2))
        worker(stage, "a")
        p = peer2(stage, "p")
        assert p.ask(ask("1"), ask("2"), ask("3", key="k")) == []
        assert outcome(p, ask("4")) == {
            "topic": "jobs", "group": "g", "attempts": 0, "success": False, "error": "busy",
        }  # fmt: skip

    def test_a_message_ends_after_so_many_attempts(self) -> None:
        stage = Stage()
        p = peer2(stage, "p")
        workers = [worker(stage, f"w{number}") for number in range(7)]
        p.send(ask("poison"))
        for number in range(5):
            assert questions(workers[number]) == [("poison", number + 1)]
            assert p.take() == []
            vanish(stage, workers[number])
        group = only(p)["groups"][0]
        assert group["failures"] == [
            {"member": f"w{number}", "error": "disconnected"} for number in range(4)
        ]
        assert (group["member"], group["error"], group["attempts"]) == ("w4", "disconnected", 5)
        assert questions(workers[5]) == questions(workers[6]) == []

    @pytest.mark.parametrize("limit", ["max_awaited_acks", "max_pending_acks"])
    def test_groups_are_awaited(self, limit: str) -> None:
        limits: Fields = {limit: 2}
        stage = Stage(limits=ServerLimits(**limits))
        a, p = worker(stage, "a"), peer2(stage, "p")
        answers = p.ask(ask("1"), ask("2"), ask("3"))
        assert codes(answers) == ["limit_reached"]
        assert answers[0]["ack_id"] == "3"
        a.ask(ack(only(a)))
        assert codes(p.ask(ask("3"))) == ["ack_response"]

    def test_what_members_keep_of_ended_requests_is_bounded(self) -> None:
        stage = Stage(limits=ServerLimits(max_ack_bytes=100_000, max_concurrency=1000))
        a, p = worker(stage, "a", concurrency=1000), peer2(stage, "p")
        tasks = stage.hub.state.acks.tasks
        for _ in range(100):
            assert codes(p.ask(ask(timeout=0.01))) == []
            stage.advance(0.01)
            assert codes(p.take()) == ["ack_response"]
            assert tasks.kept <= 25_000
        assert tasks.kept > 20_000
        vanish(stage, a)
        assert codes(p.ask(ask())) == ["ack_response"]
        check_nothing_left(stage)

    def test_results_and_errors_have_bounds(self) -> None:
        stage = Stage(limits=ServerLimits(max_results=500, max_error=10))
        a, p = worker(stage, "a"), peer2(stage, "p")
        p.send(ask("1"))
        a.send(ack(only(a), result="x" * 1000))
        assert only(p)["groups"][0]["error"] == "no room for the result"
        p.send(ask("2"))
        a.send(ack(only(a), "e" * 100))
        assert only(p)["groups"][0]["error"] == "e" * 10

    def test_work_is_charged(self) -> None:
        stage = Stage()
        members = [worker(stage, f"w{number}", concurrency=1000) for number in range(5)]
        p = peer2(stage, "p")
        without = spent(stage, p, *[ask(str(number), "nobody") for number in range(50)])
        assert spent(stage, p, *[ask(str(number)) for number in range(50)]) >= without + 50 * 10
        assert spent(stage, members[0], *[join_pattern(f"{n}*") for n in range(20)]) >= 20 * 30


class TestPublications:
    def test_members_take_turns(self) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a"), worker(stage, "b"), peer2(stage, "p")
        for number in range(3):
            p.ask(publish(number))
        assert a.take() == [
            {"action": "publish", "topic": "jobs", "from": "p", "group": "g", "data": number}
            for number in (0, 2)
        ]
        assert [m["data"] for m in b.take()] == [1]

    def test_what_a_member_of_a_pattern_gets_names_it(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a", join_pattern("j*/**", "h")), peer2(stage, "p")
        p.ask(publish([1], "jobs/a"), publish(2, "__jobs/a"), publish(3, "other"))
        assert a.take() == [
            {
                "action": "publish", "topic": "jobs/a", "from": "p", "group": "h",
                "pattern": "j*/**", "data": [1],
            }
        ]  # fmt: skip

    def test_a_hidden_topic_is_for_patterns_that_name_it(self) -> None:
        stage = Stage()
        a, b = worker(stage, "a", join_pattern("**")), worker(stage, "b", join_pattern("__x/*"))
        a.ask(publish(1, "__x/y"))
        assert (a.take(), len(b.take())) == ([], 1)

    def test_a_batch_is_shared(self) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a"), worker(stage, "b"), peer2(stage, "p")
        plain = peer2(stage, "plain")
        plain.ask({"action": "subscribe", "topic": "jobs"})
        message = {"action": "publish", "topic": "jobs", "batch": [1, {"x": 2.50}, 3]}
        assert p.ask({**message, "receipt": "r"}) == [
            {"action": "published", "topic": "jobs", "receipt": "r", "delivered": 2}
        ]
        assert only(a)["batch"] == [1, 3]
        assert only(b)["data"] == {"x": 2.5}
        assert only(plain)["batch"] == [1, {"x": 2.5}, 3]
        assert p.ask({"action": "publish", "topic": "jobs", "batch": [], "receipt": "r"}) == [
            {"action": "published", "topic": "jobs", "receipt": "r", "delivered": 0}
        ]
        assert (a.take(), b.take()) == ([], [])

    def test_publications_in_a_row_are_shared_as_if_they_came_by_themselves(self) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a"), worker(stage, "b"), peer2(stage, "p")
        p.send([publish(number) for number in range(5)])
        p.send(*[publish(number) for number in range(5, 10)])
        assert [payloads(peer) for peer in (a, b)] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]

    def test_publishers_on_level_1_and_other_ends(self) -> None:
        stage = Stage()
        a, old = worker(stage, "a"), stage.peer("old")
        assert old.ask(publish("x")) == [{"action": "published", "topic": "jobs"}]
        assert only(a)["from"] == "old"
        stage.hub.addresses.add("here:1")
        payload = {"data": {"topic": "jobs", "data": 7}, "from": "x---ws://there:1/"}
        old.send({"action": "server-to-server", "to": "here:1", "data": payload})
        assert only(a)["data"] == 7
        assert stage.hub.publish("jobs", 8, stage.clock.now) == 1
        assert (only(a)["from"], stage.hub.publish("none", 8, stage.clock.now)) == ("server", 0)

    def test_for_delivered_a_group_is_one_subscriber(self) -> None:
        stage = Stage()
        _, p = [worker(stage, f"w{number}") for number in range(3)], peer2(stage, "p")
        worker(stage, "h", group="h")
        before = stage.hub.stats.delivered
        assert p.ask(publish(receipt="r"))[0]["delivered"] == 2
        assert stage.hub.stats.delivered - before == 2

    @pytest.mark.parametrize("policy", [Overflow.DROP_NEWEST, Overflow.CLOSE])
    def test_a_member_without_room_loses_it(self, policy: Overflow) -> None:
        limits = ServerLimits(queue_messages=2, queue_bytes=2000, overflow=policy)
        stage = Stage(limits=limits)
        slow, quick, p = worker(stage, "slow"), worker(stage, "quick"), peer2(stage, "p")
        delivered = []
        for number in range(8):
            delivered += [m["delivered"] for m in p.ask(publish(number, receipt="r"))]
            quick.take()
        assert delivered[:4] == [1] * 4
        if policy is Overflow.DROP_NEWEST:
            assert delivered[4:] == [0, 1, 0, 1]
            assert [m["data"] for m in slow.take()] == [0, 2]
            assert slow.connection.dropped == 2
        else:
            assert delivered[4:] == [0, 1, 1, 1]
        assert stage.hub.stats.delivered == sum(delivered)

    def test_the_last_payload_of_a_batch_decides(self) -> None:
        limits = ServerLimits(queue_messages=2, overflow=Overflow.DROP_NEWEST)
        stage = Stage(limits=limits)
        slow, p = worker(stage, "slow"), peer2(stage, "p")
        for _ in range(2):
            p.ask(publish())
        quick = worker(stage, "quick")
        before = stage.hub.stats.delivered
        batch = {"action": "publish", "topic": "jobs", "receipt": "r"}
        assert p.ask({**batch, "batch": [1, 2, 3, 4]})[0]["delivered"] == 1
        assert payloads(quick) == [2, 4]
        assert p.ask({**batch, "batch": [1, 2, 3]})[0]["delivered"] == 0
        assert payloads(quick) == [2]
        assert stage.hub.stats.delivered - before == 3
        assert (payloads(slow), slow.connection.dropped) == ([1, 1], 4)

    def test_headers(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a", concurrency=2), peer2(stage, "p")
        p.ask(publish(headers={"x": "1"}), ask(headers={"y": "2"}, retry=1))
        plain, question = a.take()
        assert (plain["headers"], plain["group"]) == ({"x": "1"}, "g")
        assert (question["headers"], question["group"]) == ({"y": "2"}, "g")
        a.send(ack(question, "no"))
        again = only(a)
        assert (again["headers"], again["attempt"]) == ({"y": "2"}, 2)


class TestHistory:
    def test_groups_leave_it_as_it_is(self) -> None:
        stage = Stage(history=(History("jobs"),))
        a, b, p = worker(stage, "a"), worker(stage, "b", join_pattern()), peer2(stage, "p")
        plain = peer2(stage, "plain")
        plain.ask({"action": "subscribe", "topic": "jobs"})
        p.send(publish(1), publish(2), ask("3"))
        assert [m["offset"] for m in plain.take() if "offset" in m] in ([1, 3], [1, 2, 3])
        for peer in (a, b):
            for message in peer.take():
                assert "offset" not in message
                assert "epoch" not in message
                if message["action"] == "publish_ack":
                    peer.send(ack(message, "unsubscribed"))
        (answer,) = p.ask({"action": "history", "topic": "jobs", "nonce": "n"})[-1:]
        assert [(m["offset"], m["data"]) for m in answer["messages"]] == [(1, 1), (2, 2), (3, "3")]

    def test_a_subscription_with_the_past_besides(self) -> None:
        stage = Stage(history=(History("jobs"),))
        p, a = peer2(stage, "p"), worker(stage, "a")
        p.ask(publish(1))
        assert only(a)["data"] == 1
        answers = a.ask({"action": "subscribe", "topic": "jobs", "last": 5})
        assert [m.get("data") for m in answers if m["action"] == "publish"] == [1]
        p.ask(publish(2))
        assert sorted(("group" in m, m.get("offset", 0)) for m in a.take()) == [
            (False, 2), (True, 0),
        ]  # fmt: skip


class TestQuestions:
    def test_what_a_member_is_asked(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        p.send(ask("mine", data={"n": [1]}))
        assert a.take() == [
            {
                "action": "publish_ack", "topic": "jobs", "group": "g", "ack_id": "ack_1.1",
                "from": "p", "data": {"n": [1]},
            }
        ]  # fmt: skip

    def test_an_outcome(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a", join_pattern()), peer2(stage, "p")
        p.send(ask("mine"))
        question = only(a)
        assert question["pattern"] == "j*"
        assert a.ask(ack(question, result={"r": [1, 2.50]})) == []
        assert p.take() == [
            {
                "action": "ack_response", "ack_id": "mine", "complete": True,
                "groups": [
                    {
                        "pattern": "j*", "group": "g", "member": "a", "attempts": 1,
                        "success": True, "result": {"r": [1, 2.5]},
                    }
                ],
            }
        ]  # fmt: skip
        check_nothing_left(stage)

    def test_a_failure_and_one_without_a_text(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        p.send(ask("1"))
        a.send(ack(only(a), "no"))
        group = {"topic": "jobs", "group": "g", "member": "a", "attempts": 1, "success": False}
        assert only(p)["groups"] == [{**group, "error": "no"}]
        p.send(ask("2"))
        a.send({"action": "ack", "ack_id": only(a)["ack_id"]})
        assert only(p)["groups"] == [group]

    def test_subscribers_and_groups_are_told_apart(self) -> None:
        stage = Stage()
        a, plain, p = worker(stage, "a"), peer2(stage, "plain"), peer2(stage, "p")
        plain.ask({"action": "subscribe", "topic": "jobs"})
        a.ask({"action": "subscribe", "topic": "jobs"})
        p.send(ask())
        as_subscriber, as_member = sorted(a.take(), key=lambda m: "group" in m)
        assert (as_subscriber["ack_id"], as_member["ack_id"]) == ("ack_1", "ack_1.1")
        a.send(ack(as_subscriber, "as a subscriber"), ack(as_member))
        plain.send(ack(only(plain)))
        answer = only(p)
        assert answer["responses"] == {
            "a": {"success": False, "error": "as a subscriber"}, "plain": {"success": True},
        }  # fmt: skip
        assert [one["success"] for one in answer["groups"]] == [True]

    @pytest.mark.parametrize("level", [1, 2])
    def test_a_client_that_calls_itself_as_the_group_is_called(self, level: int) -> None:
        """It cannot hide what has become of the message in the group."""
        stage = Stage()
        a, odd = worker(stage, "a"), peer2(stage, "g of jobs")
        p = peer2(stage, "p") if level == 2 else stage.peer("p")
        odd.ask({"action": "subscribe", "topic": "jobs"})
        for first, second in ((a, odd), (odd, a)):
            p.send(ask())
            first.send(ack(only(first), "no" if first is a else None))
            second.send(ack(only(second), "no" if second is a else None))
            answer = only(p)
            if level == 2:
                assert answer["responses"] == {"g of jobs": {"success": True}}
                assert [one["error"] for one in answer["groups"]] == ["no"]
            else:
                success = {name: one["success"] for name, one in answer["responses"].items()}
                assert success == {"g of jobs": True, "a": False}

    def test_groups_whose_topic_and_pattern_are_written_alike(self) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a", join("*")), worker(stage, "b", join_pattern("*")), peer2(
            stage, "p"
        )  # fmt: skip
        p.send(ask("1", "*"))
        a.send(ack(only(a)))
        b.send(ack(only(b), "no"))
        outcomes = only(p)["groups"]
        assert [one.get("topic") or f"pattern {one['pattern']}" for one in outcomes] == [
            "*", "pattern *",
        ]  # fmt: skip
        assert [one["success"] for one in outcomes] == [True, False]

    def test_answers_of_others_are_ignored(self) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a"), worker(stage, "b"), peer2(stage, "p")
        p.send(ask(retry=1))
        question = only(a)
        old = stage.peer("old")
        for other in (b, p):
            assert other.ask(ack(question), ack({"ack_id": "ack_1"})) == []
        assert old.ask({"action": "ack", "ack_id": "ack_1.1", "data": {"success": True}}) == []
        assert a.ask(ack({"ack_id": "ack_1"}), ack({"ack_id": "ack_1.2"})) == []
        assert p.take() == []
        a.send(ack(question, "no"))
        again = only(b)
        a.send(ack(question))
        assert p.take() == []
        b.send(ack(again))
        assert only(p)["groups"][0]["member"] == "b"

    def test_updates(self) -> None:
        stage = Stage()
        a, b, plain = worker(stage, "a"), worker(stage, "b", join_pattern()), peer2(stage, "c")
        plain.ask({"action": "subscribe", "topic": "jobs"})
        p = peer2(stage, "p")
        p.send(ask("mine", updates=True))
        b.send(ack(only(b), result=1))
        assert p.take() == [
            {
                "action": "ack_update", "ack_id": "mine",
                "groups": [
                    {
                        "pattern": "j*", "group": "g", "member": "b", "attempts": 1,
                        "success": True, "result": 1,
                    }
                ],
            }
        ]  # fmt: skip
        plain.send(ack(only(plain)))
        assert p.take() == [
            {"action": "ack_update", "ack_id": "mine", "responses": {"c": {"success": True}}}
        ]
        a.send(ack(only(a)))
        answer = only(p)
        assert answer["action"] == "ack_response"
        assert "responses" not in answer
        assert [one["topic"] for one in answer["groups"]] == ["jobs"]

    def test_without_a_member_the_outcome_comes_at_once(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        p.send(ask("1"), ask("2"))
        a.ask(leave())
        group = {"topic": "jobs", "group": "g", "attempts": 0, "success": False}
        (answer,) = p.take()
        assert (answer["ack_id"], answer["complete"]) == ("2", True)
        assert answer["groups"] == [{**group, "error": "no member"}]
        vanish(stage, a)
        (answer,) = p.take()
        assert answer["groups"] == [
            {
                **group, "attempts": 1, "error": "no member",
                "failures": [{"member": "a", "error": "disconnected"}],
            }
        ]  # fmt: skip
        assert p.ask(ask("3")) == [{"action": "ack_response", "ack_id": "3", "complete": True}]

    def test_a_time_limit(self) -> None:
        stage = Stage()
        a, plain, p = worker(stage, "a"), peer2(stage, "plain"), peer2(stage, "p")
        plain.ask({"action": "subscribe", "topic": "jobs"})
        p.send(ask("1", timeout=1), ask("2", timeout=1), ask("3", timeout=60))
        plain.send(*[ack(m) for m in plain.take() if m["data"] != "2"])
        stage.advance(2.0)
        group = {"topic": "jobs", "group": "g", "success": False, "error": "timeout"}
        had = {**group, "member": "a", "attempts": 1}
        waited = {**group, "attempts": 0}
        assert p.take() == [
            {
                "action": "ack_response", "ack_id": "1", "complete": False,
                "responses": {"plain": {"success": True}}, "groups": [had],
            },
            {
                "action": "ack_response", "ack_id": "2", "complete": False,
                "groups": [waited], "missing": ["plain"],
            },
        ]  # fmt: skip
        question = only(a)
        a.send(ack(question))
        assert p.take() == []
        assert questions(a) == [("3", 1)]

    def test_complete_is_about_what_is_missing(self) -> None:
        """A failure that says ``timeout`` is one of the member."""
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        p.send(ask())
        a.send(ack(only(a), "timeout"))
        answer = only(p)
        assert (answer["complete"], answer["groups"][0]["error"]) == (True, "timeout")

    def test_status_and_cancel(self) -> None:
        stage = Stage()
        a, b, plain = worker(stage, "a"), worker(stage, "b", join_pattern()), peer2(stage, "c")
        plain.ask({"action": "subscribe", "topic": "jobs"})
        p = peer2(stage, "p")
        p.send(ask())
        b.send(ack(only(b)))
        status = {"action": "get_ack_status", "ack_id": "1"}
        assert p.ask(status)[0]["status"] == {"g of jobs": False, "g of j*": True, "c": False}
        assert p.ask({"action": "cancel_ack", "ack_id": "1"}) == [
            {"action": "ack_cancelled", "ack_id": "1"}
        ]
        p.send(ask("2"))
        assert questions(a) == [("1", 1)]
        assert a.ask(ack({"ack_id": "ack_1.1"}, "unsubscribed"))[0]["ack_id"] == "ack_2.1"
        assert p.take() == []

    @pytest.mark.parametrize("asks_timeout", [True, False])
    def test_a_publisher_on_level_1(self, asks_timeout: bool) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a"), worker(stage, "b", join_pattern()), stage.peer("p")
        message = ask(key="k", retry=3, expect=[{"group": "none"}, 5])
        if not asks_timeout:
            del message["timeout"]
        p.send(message)
        a.send(ack(only(a), "no", result=1))
        vanish(stage, b)
        assert p.take() == [
            {
                "action": "ack_response", "ack_id": "1",
                "responses": {
                    "a": {
                        "ack_id": "ack_1.1", "client_id": "a", "success": False, "error": "no",
                    },
                    "g of j*": {
                        "ack_id": "ack_1.2", "client_id": "", "success": False,
                        "error": "no member",
                    },
                },
            }
        ]  # fmt: skip

    @pytest.mark.parametrize("asks_timeout", [True, False])
    def test_a_time_limit_on_level_1(self, asks_timeout: bool) -> None:
        """Who has asked for none is not told who was silent, as clients in the field expect."""
        stage = Stage()
        worker(stage, "a")
        p, message = stage.peer("p"), ask()
        if not asks_timeout:
            del message["timeout"]
        p.send(message)
        stage.advance(6.0)
        assert list(only(p)["responses"]) == ["a"] * asks_timeout

    def test_direct_questions_know_no_groups(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        message = {"action": "publish_to_id_with_ack", "to": "a", "ack_id": "1", "data": 1}
        p.send({**message, "key": "k", "retry": 2, "expect": [{"group": "g"}]})
        question = only(a)
        assert "group" not in question
        a.send(ack(question, "no"))
        assert only(p)["responses"] == {"a": {"success": False, "error": "no"}}


class TestAgain:
    @pytest.mark.parametrize("how", ["lost", "closed", "taken over", "overflow"])
    def test_when_a_connection_ends_another_member_has_it_at_once(self, how: str) -> None:
        limits = ServerLimits(queue_bytes=4000)
        stage = Stage(limits=limits)
        a, b, p = worker(stage, "a"), worker(stage, "b"), peer2(stage, "p")
        p.send(ask("1"))
        question = only(a)
        if how == "lost":
            vanish(stage, a)
        elif how == "closed":
            a.feed(close_frame(1000))
        elif how == "taken over":
            peer2(stage, "a")
        else:
            while not a.session.gate.is_over:
                p.send({"action": "direct_message", "to": "a", "data": "x" * 500})
        assert questions(b) == [("1", 2)]
        b.send(ack(question))
        (answer,) = [m for m in p.take() if m["action"] == "ack_response"]
        assert answer["groups"] == [
            {
                "topic": "jobs", "group": "g", "member": "b", "attempts": 2, "success": True,
                "failures": [{"member": "a", "error": "disconnected"}],
            }
        ]  # fmt: skip

    @pytest.mark.parametrize("error", ["unsubscribed", "no subscriber for topic", "queue full"])
    def test_who_has_not_begun_gives_it_on(self, error: str) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a"), worker(stage, "b"), peer2(stage, "p")
        p.send(ask())
        a.send(ack(only(a), error, begun=False))
        question = only(b)
        assert (question.get("attempt"), question["ack_id"]) == (None, "ack_1.1")
        b.send(ack(question))
        group = only(p)["groups"][0]
        assert (group["attempts"], group["member"]) == (1, "b")
        assert "failures" not in group
        p.send(ask("2"))
        a.send(ack(only(a), error))  # without the field it is a failure like others
        assert only(p)["groups"][0]["error"] == error

    @pytest.mark.parametrize("begun", [True, None, 0, "false", [], 1])
    def test_whoever_does_not_say_so_has_begun(self, begun: object) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a"), worker(stage, "b"), peer2(stage, "p")
        p.send(ask())
        a.send(ack(only(a), "unsubscribed", begun=begun))
        assert only(p)["groups"][0]["error"] == "unsubscribed"
        assert b.take() == []

    def test_a_success_that_has_not_begun_is_a_success(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        p.send(ask())
        a.send(ack(only(a), begun=False))
        assert only(p)["groups"][0]["success"] is True

    def test_a_plain_subscriber_has_always_begun(self) -> None:
        stage = Stage()
        plain, p = peer2(stage, "plain"), peer2(stage, "p")
        plain.ask({"action": "subscribe", "topic": "jobs"})
        p.send(ask())
        plain.send(ack(only(plain), "queue full", begun=False))
        assert only(p)["responses"] == {"plain": {"success": False, "error": "queue full"}}

    def test_retry(self) -> None:
        stage = Stage()
        a, b, p = worker(stage, "a"), worker(stage, "b"), peer2(stage, "p")
        p.send(ask(retry=2))
        a.send(ack(only(a), "one"))
        b.send(ack(only(b), ""))
        a.send(ack(only(a), "three"))
        assert only(p)["groups"] == [
            {
                "topic": "jobs", "group": "g", "member": "a", "attempts": 3, "success": False,
                "error": "three",
                "failures": [{"member": "a", "error": "one"}, {"member": "b", "error": ""}],
            }
        ]  # fmt: skip
        p.send(ask(retry=0))
        b.send(ack(only(b), "final"))
        assert only(p)["groups"][0]["error"] == "final"

    def test_very_many_go_to_others_in_order(self) -> None:
        stage = Stage(limits=ServerLimits(max_pending_acks=10_000, max_concurrency=5000))
        a, p = worker(stage, "a", concurrency=3000), peer2(stage, "p")
        for number in range(30):
            p.send([ask(str(100 * number + n)) for n in range(100)])
            stage.finish()
        b = worker(stage, "b", concurrency=5000)
        vanish(stage, a)
        stage.advance(2.0)
        assert questions(b) == [(str(number), 2) for number in range(3000)]
        check_nothing_left(stage)

    def test_a_member_that_renames_itself_is_named_as_it_was_asked(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        p.send(ask("1"), ask("2", key="k"))
        question = only(a)
        assert codes(a.ask({"action": "ping", "from": "other"})) == ["pong"]
        answers = a.ask(ack(question))
        assert only(p)["groups"][0]["member"] == "a"
        a.send(ack(answers[0]))
        assert only(p)["groups"][0]["member"] == "other"

    def test_what_a_client_that_is_gone_has_asked_goes_to_nobody(self) -> None:
        """It was a member itself, and its messages waited for it."""
        stage = Stage()
        p = worker(stage, "p")
        p.ask(ask("1", key="k"), ask("2", key="k"), ask("3"))
        others = [peer2(stage, f"w{number}") for number in range(2)]
        for other in others:
            other.ask(join())
        for other in others:
            other.take()
        vanish(stage, p)
        assert [questions(other) for other in others] == [[], []]


class TestDemands:
    @pytest.mark.parametrize(
        ("fields", "error", "code"),
        [
            ({"key": 5}, "field key must be a string", "bad_message"),
            ({"key": ["k"]}, "field key must be a string", "bad_message"),
            ({"key": "k" * 257}, "the key has more than 256 characters", "bad_request"),
            ({"retry": -1}, "retry must be a number of times", "bad_request"),
            ({"retry": 1.5}, "retry must be a number of times", "bad_request"),
            ({"retry": "1"}, "retry must be a number of times", "bad_request"),
            ({"retry": True}, "retry must be a number of times", "bad_request"),
            ({"expect": {"group": "g"}}, None, "bad_message"),
            ({"expect": [{"group": 5}]}, None, "bad_message"),
            ({"expect": [{"groups": "g"}]}, None, "bad_message"),
            ({"expect": [["g"]]}, None, "bad_message"),
            ({"expect": ["a", {"group": "g"}, None]}, None, "bad_message"),
        ],
    )
    def test_odd_ones_are_refused(self, fields: Fields, error: str | None, code: str) -> None:
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        (answer,) = p.ask(ask(**fields))
        assert answer["code"] == code
        assert answer["error"] == error or error is None
        assert (answer["request"], answer["ack_id"]) == ("publish_with_ack", "1")
        assert (a.take(), len(stage.hub.state.acks)) == ([], 0)

    def test_null_and_empty_ones_are_none(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        p.send(ask(key=None, retry=None, expect=None), ask("2", key="", expect=[]))
        a.send(ack(only(a), "no"))
        assert only(p)["groups"][0]["error"] == "no"

    def test_a_group_that_is_not_there(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a"), peer2(stage, "p")
        worker(stage, "b", join_pattern(group="of a pattern"))
        worker(stage, "c", join("other", "elsewhere"))
        names = ["g", "of a pattern", "elsewhere", "none", "none"]
        p.send(ask(updates=True, expect=["b", *({"group": name} for name in names)]))
        missing = {"topic": "jobs", "attempts": 0, "success": False, "error": "no member"}
        assert p.take() == [
            {
                "action": "ack_update", "ack_id": "1",
                "responses": {"b": {"success": False, "error": "absent"}},
            },
            {"action": "ack_update", "ack_id": "1", "groups": [{"group": "elsewhere", **missing}]},
            {"action": "ack_update", "ack_id": "1", "groups": [{"group": "none", **missing}]},
        ]  # fmt: skip
        assert questions(a) == [("1", 1)]

    def test_nobody_but_a_group_that_is_not_there(self) -> None:
        stage = Stage()
        p = peer2(stage, "p")
        missing = {"topic": "jobs", "attempts": 0, "success": False, "error": "no member"}
        assert outcome(p, ask(expect=[{"group": "x"}])) == {"group": "x", **missing}
        check_nothing_left(stage)

    def test_so_many_may_be_expected(self) -> None:
        stage = Stage(limits=ServerLimits(max_expected=2))
        p = peer2(stage, "p")
        answers = p.ask(
            ask("1", expect=["a", {"group": "g"}]), ask("2", expect=["a", "b", {"group": "g"}])
        )
        assert codes(answers) == ["ack_response", "limit_reached"]
        assert answers[1]["error"] == "too many receivers are expected"

    def test_keys(self) -> None:
        stage = Stage()
        workers = [worker(stage, f"w{number}", concurrency=2) for number in range(4)]
        p = peer2(stage, "p")
        p.send(*[ask(str(number), key="k") for number in range(5)])
        had = [(one, messages) for one in workers if (messages := one.take())]
        ((owner, first),) = had
        assert [m["data"] for m in first] == ["0", "1"]
        p.send(ask("other"))
        (idle,) = [one for one in workers if questions(one) == [("other", 1)]]
        assert idle is not owner
        owner.send(ack(first[0]))
        assert questions(owner) == [("2", 1)]
        owner.ask(leave())
        moved = [(one, got) for one in workers if (got := questions(one))]
        ((heir, got),) = moved
        assert got == [("3", 1), ("4", 1)]
        assert heir is not owner
        owner.send(ack(first[1]))
        assert len([m for m in p.take() if m["action"] == "ack_response"]) == 2


class TestFigures:
    def test_subscribers_topics_and_requests(self) -> None:
        stage = Stage(is_monitored=True, permissions=Permissions(console=True))
        worker(stage, "a")
        b = worker(stage, "b")
        b.ask({"action": "subscribe", "topic": "jobs"}, join(group="h"), join_pattern("j*"))
        watch = worker(stage, "watch", join("__kps/stats"))
        p = peer2(stage, "p")
        p.send(ask(), publish())
        stage.advance(2.0)
        figures = [m for m in watch.take() if m["action"] == "publish"][-1]
        assert figures["group"] == "g"
        told = figures["data"]
        assert (told["topic_count"], told["pending_acks"]) == (3, 1)
        assert {one.get("topic", one.get("pattern")): one["subscribers"] for one in
                told["topics"]} == {"jobs": 4, "j*": 1, "__kps/stats": 1}  # fmt: skip
        assert [one["published"] for one in told["topics"][:2]] == [2, 2]
        topics = {one["id"]: one["topics"] for one in told["clients"]}
        assert topics == {"a": 1, "b": 4, "watch": 1, "p": 0}

    def test_the_program_may_count_them(self) -> None:
        stage = Stage()
        worker(stage, "a")
        b = worker(stage, "b")
        b.ask({"action": "subscribe", "topic": "jobs"}, join_pattern(), join_pattern("other*"))
        assert stage.hub.count_subscribers("jobs") == (0, 4, 4)
        for key in ("jobs", LOCAL, "jobs", InGroup(Pattern("*"), "g")):
            stage.hub.local.subscribe(key)
        assert stage.hub.count_subscribers("jobs") == (4, 4, 8)

    def test_they_are_published_while_a_group_wants_them(self) -> None:
        stage = Stage(is_monitored=True, permissions=Permissions(console=True))
        a, b = worker(stage, "a", join("__kps/stats")), worker(stage, "b", join("__kps/stats"))
        stage.advance(3.5)
        counts = [len([m for m in one.take() if m["action"] == "publish"]) for one in (a, b)]
        assert sum(counts) >= 4
        assert abs(counts[0] - counts[1]) <= 1
        for one in (a, b):
            one.ask(leave("__kps/stats"))
        stage.advance(2.0)
        before = stage.hub.stats.published
        stage.advance(5.0)
        assert stage.hub.stats.published == before

    def test_a_request_that_a_member_has_room_for_is_delivered(self) -> None:
        stage = Stage()
        a, p = worker(stage, "a", concurrency=2), peer2(stage, "p")
        p.send(ask("1"), ask("2"))
        assert (stage.hub.stats.published, stage.hub.stats.delivered) == (2, 2)
        assert a.session.delivered == 2
        p.send(ask("3", retry=1))
        assert stage.hub.stats.delivered == 2, "it waits"
        for question in a.take():
            a.send(ack(question))
        assert stage.hub.stats.delivered == 3
        a.send(ack(only(a), "no"))
        assert (stage.hub.stats.published, stage.hub.stats.delivered) == (3, 4)


class TestTheServersOwnProgram:
    def join(self, stage: Stage, **options: Any) -> Mailbox:
        return stage.hub.local.subscribe(LOCAL, **options)

    def test_it_is_a_member_like_others(self) -> None:
        stage = Stage()
        mailbox = self.join(stage, concurrency=2)
        a, p = worker(stage, "a"), peer2(stage, "p")
        p.send(*[publish(number) for number in range(4)])
        assert ([message.data for message in mailbox.take_all()], payloads(a)) == ([0, 2], [1, 3])
        p.send(*[ask(str(number)) for number in range(5)])
        assert questions(a) == [("1", 1)]
        messages = mailbox.take_all()
        assert [(one.topic, one.data, one.sender, one.attempt) for one in messages] == [
            ("jobs", "0", "p", 1), ("jobs", "2", "p", 1),
        ]  # fmt: skip
        vanish(stage, a)
        assert mailbox.take_all() == []
        stage.hub.local.settle(messages[0], None, stage.clock.now, {"done": (1, 2)})
        (again,) = mailbox.take_all()
        assert (again.data, again.attempt) == ("1", 2)
        group = only(p)["groups"][0]
        assert (group["member"], group["result"]) == ("server", {"done": [1, 2]})
        stage.hub.local.settle(messages[1], "no", stage.clock.now)
        assert only(p)["groups"][0]["error"] == "no"
        stage.hub.local.settle(again, None, stage.clock.now, {1})
        assert "cannot be sent" in only(p)["groups"][0]["error"]
        stage.hub.local.unsubscribe(mailbox)

    def test_a_batch_and_the_figures(self) -> None:
        stage = Stage(limits=ServerLimits(mailbox_messages=3))
        mailbox = self.join(stage)
        p = peer2(stage, "p")
        batch = {"action": "publish", "topic": "jobs", "batch": [1, 2, 3, 4, 5], "receipt": "r"}
        assert p.ask(batch)[0]["delivered"] == 0
        assert [one.data for one in mailbox.take_all()] == [1, 2, 3]
        assert (stage.hub.stats.delivered, stage.hub.dropped()) == (3, 2)
        assert [stage.hub.publish("jobs", n, stage.clock.now) for n in range(4)] == [1, 1, 1, 0]

    def test_with_a_full_mailbox_another_member_has_it(self) -> None:
        stage = Stage(limits=ServerLimits(mailbox_messages=1))
        mailbox = self.join(stage, concurrency=5)
        p = peer2(stage, "p")
        stage.hub.publish("jobs", "fills it", stage.clock.now)
        group = outcome(p, ask("1"))
        assert (group["error"], group["attempts"]) == ("queue full", 0)
        a = worker(stage, "a", concurrency=5)
        p.send(ask("2"), ask("3"))
        assert questions(a) == [("2", 1), ("3", 1)]
        assert [one.data for one in mailbox.take_all()] == ["fills it"]

    @pytest.mark.parametrize("policy", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
    def test_very_many_that_wait_for_a_full_mailbox(self, policy: Overflow) -> None:
        limits = ServerLimits(mailbox_messages=50, mailbox_overflow=policy)
        stage = Stage(limits=limits)
        mailbox = self.join(stage, concurrency=1000)
        p = peer2(stage, "p")
        answers = []
        for number in range(20):
            p.send([ask(str(50 * number + n)) for n in range(50)])
            stage.finish()
            answers += p.take()
        assert len(answers) == 950
        assert {m["groups"][0]["error"] for m in answers} == {"queue full"}
        for message in mailbox.take_all():
            stage.hub.local.settle(message, None, stage.clock.now)
        answers = [m for m in p.take() if m["action"] == "ack_response"]
        assert all(m["groups"][0]["success"] for m in answers)
        assert len(answers) == 50
        stage.hub.local.unsubscribe(mailbox)
        check_nothing_left(stage)

    def test_when_it_leaves_what_it_has_not_begun_with_goes_to_others(self) -> None:
        stage = Stage()
        mailbox = self.join(stage, concurrency=2)
        a, p = peer2(stage, "a"), peer2(stage, "p")
        p.send(*[ask(str(number)) for number in range(4)])
        begun = mailbox.take()
        assert begun is not None
        assert [m["data"] for m in a.ask(join()) if m["action"] == "publish_ack"] == ["2"]
        stage.hub.local.unsubscribe(mailbox)
        a.send(ack({"ack_id": "ack_3.1"}))
        assert questions(a) == [("1", 1)]
        vanish(stage, a)
        outcomes = [m["groups"][0] for m in p.take()]
        assert [one.get("error") for one in outcomes] == [None, "no member", "no member"]
        stage.hub.local.settle(begun, None, stage.clock.now)
        assert only(p)["groups"][0]["member"] == "server"
        check_nothing_left(stage)

    def test_it_asks(self) -> None:
        stage = Stage()
        a, b = worker(stage, "a"), peer2(stage, "b")
        hub, now = stage.hub, stage.clock.now
        demands = Demands(expected=("c",), groups=("g", "none"), retries=1)
        handle = hub.publish_with_ack("jobs", 1, 5, now, demands)
        assert hub.ack_status(handle) == {"c": True, "none of jobs": True, "g of jobs": False}
        a.send(ack(only(a), "no"))
        b.ask(join())
        a.send(ack(only(a), result=[1]))
        assert handle.finished
        response = by_name(handle.responses)["g of jobs"]
        assert isinstance(response, GroupResponse)
        assert (response.client_id, response.attempts, response.failures, response.result) == (
            "a", 2, (("a", "no"),), [1],
        )  # fmt: skip
        assert (response.scope, response.group) == ("jobs", "g")
        assert by_name(handle.responses)["none of jobs"].error == "no member"
        late = hub.publish_with_ack("jobs", 1, 1, now)
        stage.advance(2.0)
        assert by_name(late.responses)["g of jobs"].error == "timeout"

    def test_odd_groups_are_refused(self) -> None:
        stage = Stage(limits=ServerLimits(max_topic=10))
        for group in ("", "x" * 11, "a\nb"):
            with pytest.raises(InvalidArgument):
                stage.hub.local.subscribe(InGroup("jobs", group))
        with pytest.raises(InvalidArgument):
            stage.hub.local.subscribe(InGroup("", "g"))
        assert (len(stage.hub.state.bus), stage.hub.local.subscriptions.keys) == (0, [])

    def test_a_crowded_pattern_is_refused(self) -> None:
        stage = Stage()
        with pytest.raises(QueueFull):
            for number in range(1000):
                stage.hub.local.subscribe(InGroup(Pattern("*" + "?" * 100 + f"{number}*"), "g"))
        assert len(stage.hub.local.subscriptions.keys) == len(stage.hub.state.bus)


class TestAServerThatStops:
    """What publishers wait for ends with their connections, whoever is closed first."""

    def test_members_give_no_outcome(self) -> None:
        stage = Stage()
        a, b = worker(stage, "a"), worker(stage, "b")
        publisher = peer2(stage, "p")
        requests = [ask(str(number), updates=True, expect=[{"group": "g"}]) for number in range(4)]
        assert publisher.ask(*requests) == []
        assert len(questions(a)) + len(questions(b)) == 2  # and two wait
        stage.hub.shutdown(5.0, stage.clock.now)
        assert (questions(a), questions(b)) == ([], [])  # nobody begins with what others had
        assert publisher.take() == []
        assert publisher.closed == (1001, "the server is stopping")

    def test_a_receiver_gives_none(self) -> None:
        stage = Stage()
        a, publisher = peer2(stage, "a"), peer2(stage, "p")
        a.ask({"action": "subscribe", "topic": "jobs"})
        assert publisher.ask(ask("1", updates=True)) == []
        stage.hub.shutdown(5.0, stage.clock.now)
        assert publisher.take() == []

    def test_nor_what_is_asked_meanwhile(self) -> None:
        """What is read after the members were closed has no outcome that says nobody was there."""
        stage = Stage()
        a, publisher = worker(stage, "a"), peer2(stage, "p")
        stage.hub.shutdown(5.0, stage.clock.now, [a.connection.number])
        assert publisher.ask(ask("1"), ask("2", expect=[{"group": "g"}])) == []

    def test_the_server_itself_is_told(self) -> None:
        stage = Stage()
        worker(stage, "a")
        handle = stage.hub.publish_with_ack("jobs", 1, 5, stage.clock.now)
        stage.hub.shutdown(5.0, stage.clock.now)
        assert not handle.finished
        stage.hub.end(stage.clock.now)
        assert isinstance(handle.error, ServerStopped)

    def test_one_that_lasts_longer_than_its_time_ends_then(self) -> None:
        stage = Stage()
        worker(stage, "a")
        publisher = peer2(stage, "p")
        publisher.ask(ask("1", timeout=1), ask("2", timeout=1))
        handle = stage.hub.publish_with_ack("jobs", 1, 1, stage.clock.now)
        stage.hub.shutdown(5.0, stage.clock.now)
        stage.advance(1.0)
        assert by_name(handle.responses)["g of jobs"].error == "timeout"
