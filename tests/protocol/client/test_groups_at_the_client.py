"""Groups, as the client's session keeps them: memberships and outcomes (spec, 18)."""

from typing import Any

import pytest

from kps.errors import InvalidState, NotConnected, QueueFull, ServerError, Unsupported
from kps.protocol.bus.ack_handle import AckChanged, AckHandle
from kps.protocol.bus.message import Message
from kps.protocol.client.events import (
    ErrorReceived,
    SubscriptionConfirmed,
    SubscriptionRefused,
)
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.outcome import AckResponse, GroupResponse, by_name
from kps.protocol.dialect.requests import Demands
from kps.protocol.limits import ClientLimits, Overflow
from kps.protocol.patterns import InGroup, Key, Pattern
from tests.protocol.helpers import Client, FakeServer, Fields, contents

RETRY = Backoff(first=1, factor=2, longest=8, jitter=0)
FEATURES = ["patterns", "expect", "groups", "presence", "history"]
NEWER = {"proto": 2, "features": FEATURES}
JOBS = InGroup("jobs", "g")
PATTERN = InGroup(Pattern("j*"), "g")


def online(limits: ClientLimits | None = None, **pong: Any) -> tuple[Client, FakeServer]:
    client = Client(reconnect=RETRY, limits=limits or ClientLimits())
    server = client.connect(**pong or NEWER)
    client.new_events()
    return client, server


def reconnected(client: Client, server: FakeServer, **pong: Any) -> FakeServer:
    server.hang_up()
    client.advance(RETRY.longest)
    return client.connect(**pong or NEWER)


def member(client: Client, server: FakeServer, key: Key = JOBS, concurrency: int = 1) -> Any:
    """A mailbox of a subscription that the server has confirmed."""
    mailbox = client.session.subscribe(key, client.now, concurrency=concurrency)
    (asked,) = server.take()
    asked.pop("concurrency", None)
    server.send({**asked, "action": "subscribed"})
    assert client.take(SubscriptionConfirmed) == [SubscriptionConfirmed(key)]
    return mailbox


def publication(data: object = 1, topic: str = "jobs", **fields: object) -> Fields:
    return {"action": "publish", "topic": topic, "from": "a", "data": data, **fields}


def question(data: object = 1, **fields: object) -> Fields:
    return {**publication(data, **fields), "action": "publish_ack"}  # type: ignore[arg-type]


def settle(client: Client, message: Message | None, error: str | None = None) -> None:
    assert message is not None
    client.session.settle(message, error, client.now)


def group_outcome(**fields: object) -> Fields:
    return {"topic": "jobs", "group": "g", "success": True, "attempts": 1, **fields}


class TestSubscribing:
    @pytest.mark.parametrize(
        ("key", "named"),
        [
            (JOBS, {"topic": "jobs", "group": "g"}),
            (PATTERN, {"pattern": "j*", "group": "g"}),
        ],
    )
    def test_asked_confirmed_and_left(self, key: Key, named: Fields) -> None:
        client, server = online()
        mailbox = client.session.subscribe(key, client.now)
        assert server.take() == [{"action": "subscribe", **named}]
        assert not client.session.is_confirmed(key)
        server.send({"action": "subscribed", **named})
        assert client.take(SubscriptionConfirmed) == [SubscriptionConfirmed(key)]
        assert client.session.is_confirmed(key)
        server.send(publication(1, **named), publication(2))
        assert contents(mailbox) == [1]
        client.session.unsubscribe(mailbox, client.now)
        assert server.take() == [{"action": "unsubscribe", **named}]
        server.send({"action": "unsubscribed", **named})
        assert (len(client.session.topics), client.session.subscriptions.keys) == (0, [])
        client.check_nothing_pending()

    def test_how_much_it_takes_is_told_if_it_is_more_than_one(self) -> None:
        client, server = online()
        client.session.subscribe(JOBS, client.now, concurrency=5)
        client.session.subscribe(PATTERN, client.now, concurrency=1)
        assert [one.get("concurrency") for one in server.take()] == [5, None]

    def test_confirmations_of_others_are_none(self) -> None:
        client, server = online()
        client.session.subscribe(JOBS, client.now)
        for named in ({"topic": "jobs"}, {"topic": "jobs", "group": "h"}, {"pattern": "jobs",
                      "group": "g"}, {"topic": "other", "group": "g"}):  # fmt: skip
            server.send({"action": "subscribed", **named})
        assert client.take(SubscriptionConfirmed) == []
        assert not client.session.is_confirmed(JOBS)

    def test_a_second_subscription_is_refused(self) -> None:
        """Its messages would go to one of them, and nobody could tell which."""
        client, server = online()
        mailbox = member(client, server)
        for concurrency in (1, 5):
            with pytest.raises(InvalidState, match="'g of jobs' already"):
                client.session.subscribe(JOBS, client.now, concurrency=concurrency)
        assert server.take() == []
        assert client.session.subscriptions.mailboxes(JOBS) == [mailbox]
        keys: list[Key] = ["jobs", PATTERN, InGroup("jobs", "h"), InGroup(Pattern("jobs"), "g")]
        for key in keys:
            client.session.subscribe(key, client.now)
        assert len(server.take()) == len(keys)
        client.session.unsubscribe(mailbox, client.now)
        again = client.session.subscribe(JOBS, client.now, concurrency=2)
        asked = server.take()
        assert [one["action"] for one in asked] == ["unsubscribe", "subscribe"]
        assert asked[1]["concurrency"] == 2
        server.send({"action": "unsubscribed", "topic": "jobs", "group": "g"})
        server.send({"action": "subscribed", "topic": "jobs", "group": "g"})
        server.send(publication(group="g"))
        assert (contents(mailbox), contents(again)) == ([], [1])

    def test_each_gets_what_is_its_own(self) -> None:
        client, server = online()
        plain = client.session.subscribe("jobs", client.now)
        everything = client.session.subscribe(Pattern("**"), client.now)
        groups = [JOBS, InGroup("jobs", "h"), PATTERN]
        mailboxes = [client.session.subscribe(key, client.now) for key in groups]
        server.send(
            publication(1),
            publication(2, group="g"),
            publication(3, group="h"),
            publication(4, group="g", pattern="j*"),
            publication(5, group="g", pattern="J*"),
            publication(6, group="x"),
            {**publication(group="g"), "batch": [7, 8]},
            {**publication(group="g"), "batch": []},
        )
        assert contents(plain) == contents(everything) == [1]
        assert [contents(one) for one in mailboxes] == [[2, 7, 8], [3], [4]]

    def test_what_comes_names_its_topic_and_no_place(self) -> None:
        client, server = online()
        mailbox = client.session.subscribe(PATTERN, client.now)
        server.send(publication(topic="jobs/1", group="g", pattern="j*", offset=3, epoch="e"))
        (message,) = mailbox.take_all()
        assert (message.topic, message.position, message.attempt) == ("jobs/1", None, 1)
        assert (mailbox.topic, mailbox.key) == ("j*", PATTERN)

    def test_a_refusal_names_the_group(self) -> None:
        client, server = online()
        mailboxes = [client.session.subscribe(key, client.now) for key in (JOBS, "jobs", PATTERN)]
        about = {"code": "forbidden", "request": "subscribe", "topic": "jobs", "group": "g"}
        server.send({"action": "error", "error": "no", **about})
        assert client.take(SubscriptionRefused, ErrorReceived) == [
            SubscriptionRefused([mailboxes[0]]),
            ErrorReceived("no", "forbidden", "subscribe", "jobs", group="g"),
        ]
        error = mailboxes[0].error
        assert isinstance(error, ServerError)
        assert (error.topic, error.group) == ("jobs", "g")
        about = {"code": "forbidden", "request": "subscribe", "pattern": "j*", "group": "g"}
        server.send({"action": "error", "error": "no", **about})
        assert [one.is_over for one in mailboxes] == [True, False, True]

    def test_after_a_temporary_refusal_it_asks_again(self) -> None:
        client, server = online()
        client.session.subscribe(JOBS, client.now, concurrency=3)
        asked = server.take()
        about = {"code": "rate_limited", "request": "subscribe", "topic": "jobs", "group": "g"}
        server.send({"action": "error", "error": "later", **about})
        client.advance(1.0)
        assert server.take() == asked


class TestAnswering:
    def test_a_question_is_answered_once_the_program_has_handled_it(self) -> None:
        client, server = online()
        mailbox = member(client, server)
        server.send(question(group="g", ack_id="ack_7.1"))
        (message,) = mailbox.take_all()
        assert (message.wants_ack, message.attempt) == (True, 1)
        assert server.take() == []
        client.session.settle(message, None, client.now, {"r": 1})
        assert server.take() == [
            {"action": "ack", "ack_id": "ack_7.1", "success": True, "result": {"r": 1}}
        ]
        server.send(question(group="g", ack_id="ack_8.1", attempt=3))
        (message,) = mailbox.take_all()
        assert message.attempt == 3
        client.session.settle(message, "no", client.now)
        assert server.take()[0]["error"] == "no"

    @pytest.mark.parametrize("attempt", [0, -1, 1, True, 1.5, "2", None, [], {}])
    def test_an_odd_attempt_is_the_first(self, attempt: object) -> None:
        client, server = online()
        mailbox = member(client, server)
        server.send(question(group="g", ack_id="1", attempt=attempt))
        (message,) = mailbox.take_all()
        assert message.attempt == 1

    def test_as_a_subscriber_and_as_a_member_it_answers_each(self) -> None:
        client, server = online()
        as_subscriber = client.session.subscribe("jobs", client.now)
        as_member = client.session.subscribe(JOBS, client.now)
        server.take()
        server.send(question(1, ack_id="ack_1"), question(1, group="g", ack_id="ack_1.1"))
        settle(client, as_member.take())
        assert [one["ack_id"] for one in server.take()] == ["ack_1.1"]
        settle(client, as_subscriber.take(), "no")
        assert [(one["ack_id"], one["success"]) for one in server.take()] == [("ack_1", False)]

    def test_after_leaving_it_says_so(self) -> None:
        client, server = online()
        mailbox = member(client, server)
        plain = client.session.subscribe("jobs", client.now)
        client.session.unsubscribe(mailbox, client.now)
        server.take()
        server.send(publication(group="g"), question(group="g", ack_id="7"))
        assert server.take() == [
            {
                "action": "ack", "ack_id": "7", "success": False,
                "error": "no subscriber for topic", "begun": False,
            }
        ]  # fmt: skip
        assert contents(plain) == []

    def test_what_waits_when_it_leaves_has_not_begun(self) -> None:
        client, server = online()
        mailbox = member(client, server, concurrency=3)
        server.send(*[question(n, group="g", ack_id=str(n)) for n in range(3)])
        begun = mailbox.take()
        client.session.unsubscribe(mailbox, client.now)
        # It leaves first, so that it gets nothing back.
        leaves, *answers = server.take()
        assert leaves["action"] == "unsubscribe"
        assert [(one["ack_id"], one["error"], one["begun"]) for one in answers] == [
            ("1", "unsubscribed", False), ("2", "unsubscribed", False),
        ]  # fmt: skip
        settle(client, begun)
        assert server.take() == [{"action": "ack", "ack_id": "0", "success": True}]

    def test_without_room_it_has_not_begun(self) -> None:
        limits = ClientLimits(mailbox_messages=2, mailbox_overflow=Overflow.DROP_NEWEST)
        client, server = online(limits)
        mailbox = member(client, server, concurrency=3)
        server.send(*[question(n, group="g", ack_id=str(n)) for n in range(3)])
        (answer,) = server.take()
        assert (answer["ack_id"], answer["error"], answer["begun"]) == ("2", "queue full", False)
        assert contents(mailbox) == [0, 1]

    def test_of_plain_subscriptions_it_says_nothing(self) -> None:
        limits = ClientLimits(mailbox_messages=1, mailbox_overflow=Overflow.DROP_NEWEST)
        client, server = online(limits)
        mailbox = member(client, server, "jobs")
        server.send(*[question(n, ack_id=str(n)) for n in range(2)])
        client.session.unsubscribe(mailbox, client.now)
        answers = [one for one in server.take() if one["action"] == "ack"]
        assert [one["error"] for one in answers] == ["queue full", "unsubscribed"]
        assert not any("begun" in one for one in answers)

    def test_on_another_connection_it_does_not_answer(self) -> None:
        client, server = online()
        mailbox = member(client, server)
        server.send(question(group="g", ack_id="ack_1.1"))
        (message,) = mailbox.take_all()
        server = reconnected(client, server)
        server.take()
        settle(client, message)
        assert server.take() == []

    @pytest.mark.parametrize("group", ["", 5, [], {}, "other", True])
    @pytest.mark.parametrize("fields", [{}, {"pattern": 5}, {"pattern": "x*"}, {"pattern": ""}])
    def test_garbage_is_for_no_member(self, group: object, fields: Fields) -> None:
        client, server = online()
        mailboxes = [client.session.subscribe(key, client.now) for key in (JOBS, "jobs", PATTERN)]
        direct = client.session.subscriptions.open_direct()
        server.take()
        server.send(publication(group=group, **fields))
        server.send(question(group=group, ack_id="7", **fields))
        server.send(question(group=group, topic="", **fields))
        assert [(one["ack_id"], one["error"]) for one in server.take()] == [
            ("7", "no subscriber for topic")
        ]
        assert [contents(one) for one in (*mailboxes, direct)] == [[], [], [], [1]]
        server.send(publication(2, group="g"))
        assert contents(mailboxes[0]) == [2]


class TestReconnecting:
    def test_it_becomes_a_member_again_with_all_that_it_takes(self) -> None:
        client, server = online()
        for key, concurrency in ((JOBS, 4), (PATTERN, 1), ("t", 1)):
            client.session.subscribe(key, client.now, concurrency=concurrency)
        left = client.session.subscribe(InGroup("jobs", "left"), client.now)
        client.session.unsubscribe(left, client.now)
        server = reconnected(client, server)
        asked = [one for one in server.take() if one["action"] == "subscribe"]
        assert asked == [
            {"action": "subscribe", "topic": "t"},
            {"action": "subscribe", "topic": "jobs", "group": "g", "concurrency": 4},
            {"action": "subscribe", "pattern": "j*", "group": "g"},
        ]

    def test_without_a_connection_it_subscribes_on_the_next_one(self) -> None:
        client, server = online()
        server.hang_up()
        mailbox = client.session.subscribe(JOBS, client.now, concurrency=2)
        with pytest.raises(InvalidState):
            client.session.subscribe(JOBS, client.now)
        client.advance(RETRY.longest)
        server = client.connect(**NEWER)
        assert server.take()[-1] == {
            "action": "subscribe", "topic": "jobs", "group": "g", "concurrency": 2,
        }  # fmt: skip
        assert mailbox.error is None

    @pytest.mark.parametrize(
        ("features", "key", "lacking"),
        [
            (["patterns"], JOBS, "groups"),
            (["patterns"], PATTERN, "groups"),
            (["groups"], PATTERN, "patterns"),
            ([], PATTERN, "groups"),
            ("groups", JOBS, "groups"),
        ],
    )
    def test_a_server_without_the_feature_ends_the_subscription(
        self, features: Any, key: InGroup, lacking: str
    ) -> None:
        client, server = online()
        mailbox = member(client, server, key)
        other = client.session.subscribe("jobs", client.now)
        scope = {"pattern": "j*"} if key is PATTERN else {}
        server.send(publication(group="g", **scope))
        client.new_events()
        server = reconnected(client, server, proto=2, features=features)
        assert [one for one in server.take() if one["action"] == "subscribe"] == [
            {"action": "subscribe", "topic": "jobs"}
        ]
        topic = "" if scope else "jobs"
        reason = f"the server does not have {lacking}"
        assert client.take(SubscriptionRefused, ErrorReceived) == [
            SubscriptionRefused([mailbox]),
            ErrorReceived(
                reason, "unsupported", "subscribe", topic, "", scope.get("pattern", ""), "g"
            ),
        ]
        assert isinstance(mailbox.error, Unsupported)
        assert mailbox.error.feature == lacking
        assert contents(mailbox) == [1]
        assert other.error is None
        client.session.unsubscribe(mailbox, client.now)
        assert server.take() == []
        assert client.session.subscriptions.keys == ["jobs"]

    def test_a_server_on_level_1_ends_it_too(self) -> None:
        client, server = online()
        mailbox = member(client, server)
        server = reconnected(client, server, proto=1)
        assert [one["action"] for one in server.take()] == []
        assert isinstance(mailbox.error, Unsupported)

    @pytest.mark.parametrize("pong", [{"proto": 2}, {"proto": 2, "features": ["later"]}, {}])
    def test_a_server_without_groups_is_not_asked(self, pong: Fields) -> None:
        client, server = online(**pong or {"proto": 1})
        with pytest.raises(Unsupported) as refusal:
            client.session.subscribe(JOBS, client.now)
        assert refusal.value.feature == "groups"
        assert server.take() == []
        assert (client.session.subscriptions.keys, len(client.session.topics)) == ([], 0)


class TestAsking:
    def ask(self, client: Client, demands: Demands) -> AckHandle:
        return client.session.asking.publish_with_ack("jobs", 1, 5.0, client.now, demands)

    @pytest.mark.parametrize(
        ("demands", "fields"),
        [
            (Demands(message_key="k"), {"key": "k"}),
            (Demands(retries=3), {"retry": 3}),
            (Demands(groups=("g", "h")), {"expect": [{"group": "g"}, {"group": "h"}]}),
            (
                Demands(("a",), ("g",), "k", 2),
                {"expect": ["a", {"group": "g"}], "key": "k", "retry": 2},
            ),
            (Demands(), {}),
        ],
    )
    def test_what_it_demands(self, demands: Demands, fields: Fields) -> None:
        client, server = online()
        handle = self.ask(client, demands)
        asked: Fields = {"action": "publish_with_ack", "topic": "jobs", "ack_id": handle.id}
        assert server.take() == [{**asked, "data": 1, "timeout": 5, "updates": True, **fields}]

    @pytest.mark.parametrize(
        "demands",
        [
            *(Demands(message_key="k"), Demands(retries=1), Demands(groups=("g",))),
            *(Demands(("a",), groups=("g",)), Demands(("a",), message_key="k")),
            Demands(("a",), retries=1),
        ],
    )
    def test_a_server_without_groups_is_not_asked(self, demands: Demands) -> None:
        client, server = online(proto=2, features=["expect"])
        with pytest.raises(Unsupported) as refusal:
            self.ask(client, demands)
        assert refusal.value.feature == "groups"
        assert server.take() == []
        server.hang_up()
        with pytest.raises(NotConnected):
            self.ask(client, demands)
        client.check_nothing_pending()


class TestOutcomes:
    def ask(self, client: Client, server: FakeServer) -> AckHandle:
        handle = client.ask("jobs")
        server.take()
        return handle

    def test_they_come_one_by_one_or_at_the_end(self) -> None:
        client, server = online()
        handle = self.ask(client, server)
        server.send(
            {
                "action": "ack_update", "ack_id": handle.id,
                "groups": [group_outcome(member="w", result=[1, 2])],
            }
        )  # fmt: skip
        assert client.take(AckChanged) == [AckChanged(handle)]
        first = by_name(handle.responses)["g of jobs"]
        assert isinstance(first, GroupResponse)
        assert (first.client_id, first.success, first.error, first.result) == (
            "w", True, None, [1, 2],
        )  # fmt: skip
        assert (first.scope, first.group, first.attempts, first.failures) == ("jobs", "g", 1, ())
        assert first.ack_id == handle.id
        failures = [{"member": "w", "error": "disconnected"}, {"member": "v", "error": ""}]
        second = {
            "pattern": "j*", "group": "g", "success": False, "error": "no member", "attempts": 2,
            "failures": failures,
        }  # fmt: skip
        server.send(
            {
                "action": "ack_response", "ack_id": handle.id, "complete": True,
                "responses": {"c": {"success": True}}, "groups": [second],
            }
        )  # fmt: skip
        assert handle.finished
        assert list(by_name(handle.responses)) == ["g of jobs", "c", "g of j*"]
        last = by_name(handle.responses)["g of j*"]
        assert isinstance(last, GroupResponse)
        assert (last.client_id, last.error, last.attempts) == ("", "no member", 2)
        assert last.failures == (("w", "disconnected"), ("v", ""))
        assert last.scope == Pattern("j*")
        assert not isinstance(handle.responses["c"], GroupResponse)
        client.check_nothing_pending()

    def test_the_first_one_of_a_name_counts(self) -> None:
        client, server = online()
        handle = self.ask(client, server)
        update = {"action": "ack_update", "ack_id": handle.id}
        server.send({**update, "groups": [group_outcome(), group_outcome(success=False)]})
        server.send({**update, "groups": [group_outcome(success=False, error="no")]})
        assert [one.success for one in handle.responses.values()] == [True]

    def test_a_client_may_be_called_as_a_group_is(self) -> None:
        client, server = online()
        handle = self.ask(client, server)
        update = {"action": "ack_update", "ack_id": handle.id}
        server.send({**update, "responses": {"g of jobs": {"success": False}}})
        server.send({**update, "groups": [group_outcome()]})
        named = by_name(handle.responses)
        assert {name: one.success for name, one in named.items()} == {
            "g of jobs": False,
            "g of jobs (group)": True,
        }

    @pytest.mark.parametrize("groups", [None, 5, "g", {}, {"g": {}}, [5, None, "x", [], True]])
    def test_garbage_is_no_outcome(self, groups: object) -> None:
        client, server = online()
        handle = self.ask(client, server)
        server.send({"action": "ack_update", "ack_id": handle.id, "groups": groups})
        assert handle.responses == {}
        server.send({"action": "ack_response", "ack_id": handle.id, "groups": groups})
        assert (handle.responses, handle.finished, handle.error) == ({}, True, None)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"success": 1}, {"success": False}),
            ({"success": None, "error": 5}, {"success": False, "error": None}),
            ({"member": 5}, {"client_id": ""}),
            ({"attempts": "3"}, {"attempts": 0}),
            ({"attempts": True}, {"attempts": 0}),
            ({"attempts": None}, {"attempts": 0}),
            ({"failures": 5}, {"failures": ()}),
            ({"failures": {"member": "w"}}, {"failures": ()}),
            ({"failures": [5, None, [], {}]}, {"failures": (("", ""),)}),
            ({"failures": [{"member": 5, "error": []}]}, {"failures": (("", ""),)}),
            ({"result": None}, {"result": None}),
            ({"ack_id": "x"}, {"ack_id": "x"}),
            ({"pattern": 5}, {"scope": "jobs"}),
            ({"pattern": ""}, {"scope": "jobs"}),
        ],
    )
    def test_odd_fields_count_as_missing(self, fields: Fields, expected: Fields) -> None:
        client, server = online()
        handle = self.ask(client, server)
        server.send(
            {"action": "ack_update", "ack_id": handle.id, "groups": [group_outcome(**fields)]}
        )
        (response,) = handle.responses.values()
        assert {name: getattr(response, name) for name in expected} == expected

    @pytest.mark.parametrize(
        "fields",
        [{"group": 5}, {"group": None}, {"group": ""}, {"topic": 5}, {"topic": None}, {}],
    )
    def test_without_a_name_it_is_an_outcome_all_the_same(self, fields: Fields) -> None:
        client, server = online()
        handle = self.ask(client, server)
        one = {"success": True, "topic": "jobs", "group": "g", **fields}
        server.send({"action": "ack_response", "ack_id": handle.id, "groups": [one]})
        (response,) = handle.responses.values()
        assert (response.success, handle.finished) == (True, True)

    @pytest.mark.parametrize(
        "fields",
        [
            {"result": "x" * 4000},
            {"error": "x" * 4000, "success": False},
            {"failures": [{"member": "w", "error": "x" * 4000}]},
            {"failures": [{}] * 30},
        ],
    )
    def test_they_take_no_more_memory_than_is_allowed(self, fields: Fields) -> None:
        client, server = online(ClientLimits(max_all_results=4000))
        handle = self.ask(client, server)
        update = {"action": "ack_update", "ack_id": handle.id}
        server.send({**update, "groups": [group_outcome()]})
        server.send({**update, "groups": [group_outcome(group="h", **fields)]})
        assert list(by_name(handle.responses)) == ["g of jobs"]
        assert isinstance(handle.error, QueueFull)
        assert [one["action"] for one in server.take()] == ["cancel_ack"]
        assert client.session.asking.pending.size == 0

    def test_what_they_take_is_counted_until_the_end(self) -> None:
        client, server = online()
        handle = self.ask(client, server)
        pending = client.session.asking.pending
        sizes = []
        for number, fields in enumerate(({}, {"failures": [{"member": "w", "error": "no"}]})):
            one = group_outcome(group=f"g{number}", **fields)
            server.send({"action": "ack_update", "ack_id": handle.id, "groups": [one]})
            sizes.append(pending.size)
        assert 0 < sizes[0] < sizes[1] - sizes[0]
        server.send({"action": "ack_response", "ack_id": handle.id, "complete": True})
        assert pending.size == 0

    def test_a_status_names_groups(self) -> None:
        client, server = online()
        handle = self.ask(client, server)
        server.send(
            {"action": "ack_update", "ack_id": handle.id, "groups": [group_outcome(member="w")]}
        )
        assert handle.known_status() == {"g of jobs": True}
        assert isinstance(by_name(handle.responses)["g of jobs"], AckResponse)
