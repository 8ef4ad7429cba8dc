"""The client's side of access: the token that it shows, and what the server refuses it."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import ConnectFailed, ConnectionLost, InvalidArgument, QueueFull, ServerError
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.events import (
    BarrierPassed,
    ConnectAttemptFailed,
    Connected,
    ConnectNeeded,
    Disconnected,
    Ended,
    ErrorReceived,
    SubscriptionConfirmed,
    SubscriptionRefused,
)
from kps.protocol.client.reconnect import Backoff
from kps.protocol.client.token import check_token
from kps.protocol.dialect.codes import EXPIRED
from kps.protocol.limits import ClientLimits
from kps.testing.network import Network
from tests.protocol.helpers import THOROUGH, Client, FakeServer, Fields, close_frame, contents

RETRY = Backoff(first=1, factor=2, longest=8, jitter=0)
STEPS = ("subscribe", "unsubscribe", "grant", "refuse", "break")


def online(**config: Any) -> tuple[Client, FakeServer]:
    """A client that speaks level 2 with its server."""
    client = Client(**config)
    server = client.connect(proto=2)
    client.new_events()
    return client, server


def error_1(reason: str) -> Fields:
    """An error on level 1."""
    return {"action": "error", "error": reason}


def reconnected(client: Client, server: FakeServer) -> FakeServer:
    """The server of the next connection, after this one broke."""
    server.hang_up()
    client.advance(RETRY.longest)
    server = client.connect(proto=2)
    client.new_events()
    return server


def refuse(server: FakeServer, status: int) -> None:
    server.feed(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
    server.hang_up()


def refusal(request: str, **fields: str) -> Fields:
    return {
        "action": "error",
        "error": "you may not",
        "code": "forbidden",
        "request": request,
        **fields,
    }


def topics(server: FakeServer) -> list[str]:
    """The topics that the client asks for."""
    return [m["topic"] for m in server.take() if m["action"] == "subscribe"]


class TestToken:
    def test_is_in_the_header_of_each_attempt(self) -> None:
        client = Client(reconnect=RETRY, token="secret")
        for _ in range(3):
            server = client.transport()
            request = server.read()
            assert request.count(b"Authorization: Bearer secret\r\n") == 1
            assert request.count(b"secret") == 1
            server.hang_up()
            client.advance(10)

    def test_none_means_no_header(self) -> None:
        assert b"uthorization" not in Client().transport().read()

    def test_function_gives_one_for_each_attempt(self) -> None:
        tokens = iter(["one", "two", "three"])
        client = Client(reconnect=RETRY, token=lambda: next(tokens))
        for token in (b"one", b"two", b"three"):
            server = client.transport()
            assert b"Authorization: Bearer " + token + b"\r\n" in server.read()
            server.hang_up()
            client.advance(10)

    def test_function_that_raises(self) -> None:
        def give() -> str:
            raise LookupError("no network")

        client = Client(token=give)
        with pytest.raises(ConnectFailed) as failure:
            client.session.renew_token()
        assert str(failure.value) == "the function for the token failed: LookupError: no network"
        client.session.connect_failed(str(failure.value), client.now)
        (ended,) = client.take(Ended)
        assert isinstance(ended.error, ConnectFailed)
        assert "LookupError: no network" in str(ended.error)

    @pytest.mark.parametrize("token", [None, 5, "", b"secret", "two secrets", "secret\n", "sécret"])
    def test_what_is_none(self, token: Any) -> None:
        """And it is not shown."""
        with pytest.raises(InvalidArgument) as refused:
            check_token(token)
        assert "ecret" not in str(refused.value)
        with pytest.raises(ConnectFailed) as failure:
            Client(token=lambda: token).session.renew_token()
        assert "ecret" not in str(failure.value)

    def test_is_not_in_a_repr(self) -> None:
        config = ClientConfig(
            id="me",
            host="h",
            target="/?token=secret",
            headers=(("authorization", "secret"),),
            token="secret",
        )
        assert "secret" not in repr(config)

    def test_in_a_network_in_memory(self) -> None:
        network = Network()
        tokens: Iterator[Any] = iter([None, "good"])
        client = network.client_with(
            ClientConfig(id="me", host="h", reconnect=RETRY, token=lambda: next(tokens))
        )
        assert [type(event) for event in client.events] == [ConnectNeeded, ConnectAttemptFailed]
        network.advance(1)
        assert client.session.ready


class TestRefusedConnection:
    @pytest.mark.parametrize("status", [401, 403])
    def test_is_the_end_at_first(self, status: int) -> None:
        client = Client(reconnect=RETRY, token="secret")
        refuse(client.transport(), status)
        (ended,) = client.take(Ended)
        assert isinstance(ended.error, ConnectFailed)
        assert ended.error.status == status
        assert "secret" not in str(ended.error)
        client.check_over()

    @pytest.mark.parametrize("status", [401, 403])
    def test_and_after_it_was_connected(self, status: int) -> None:
        client, server = online(reconnect=RETRY, token="secret")
        server.hang_up()
        client.advance(1)
        refuse(client.transport(), status)
        (ended,) = client.take(Ended)
        assert isinstance(ended.error, ConnectFailed)
        assert ended.error.status == status
        client.check_over()

    @pytest.mark.parametrize("was_connected", [False, True])
    def test_but_not_for_who_gets_another_token(self, was_connected: bool) -> None:
        client = Client(reconnect=RETRY, token=lambda: "secret")
        if was_connected:
            client.connect().hang_up()
            client.advance(1)
        for status, wait in ((401, 1 + was_connected), (403, 2 + 2 * was_connected)):
            refuse(client.transport(), status)
            (failed,) = client.take(ConnectAttemptFailed)
            assert (str(status) in failed.reason, failed.retry_in) == (True, wait)
            client.advance(wait)
        client.connect()
        assert client.session.ready

    def test_another_status_ends_who_was_never_connected_whatever_its_token(self) -> None:
        client = Client(reconnect=RETRY, token=lambda: "secret")
        refuse(client.transport(), 404)
        assert len(client.take(Ended)) == 1
        client.check_over()

    def test_without_reconnect_a_function_makes_no_difference(self) -> None:
        client = Client(token=lambda: "secret")
        refuse(client.transport(), 401)
        assert len(client.take(Ended)) == 1
        client.check_over()

    def test_in_place_of_the_pong(self) -> None:
        client = Client(reconnect=RETRY)
        server = client.transport().open()
        server.send({"action": "error", "error": "a token is needed"})
        (ended,) = client.take(Ended)
        assert isinstance(ended.error, ServerError)
        assert "a token is needed" in str(ended.error)

    def test_a_server_that_cannot_judge_is_asked_again(self) -> None:
        client = Client(reconnect=RETRY)
        server = client.transport().open()
        server.feed(close_frame(1011, "the token could not be judged", key=None))
        (failed,) = client.take(ConnectAttemptFailed)
        assert "could not be judged" in failed.reason

    def test_when_its_time_is_over_it_comes_back_with_a_new_token(self) -> None:
        tokens = iter(["old", "new"])
        client, server = online(reconnect=RETRY, token=lambda: next(tokens))
        client.subscribe("news")
        server.feed(close_frame(EXPIRED, "the time of the token is over", key=None))
        server.hang_up()
        (disconnected,) = client.take(Disconnected)
        assert (disconnected.closed.code, disconnected.retry_in) == (EXPIRED, 1)
        client.advance(1)
        server = client.transport()
        assert b"Bearer new\r\n" in server.acceptance() + server.request
        server.feed(server.acceptance())
        server.send({"action": "pong", "id": "me"})
        assert client.take(Connected) == [Connected("me", again=True)]
        assert topics(server) == ["news"]


class TestRefusedSubscription:
    def test_is_over(self) -> None:
        client, server = online(reconnect=RETRY)
        one, two, other = (client.subscribe(topic) for topic in ("t", "t", "u"))
        server.send(refusal("subscribe", topic="t"))
        assert isinstance(one.error, ServerError)
        about = str(one.error), one.error.code, one.error.request, one.error.topic
        assert about == ("you may not", "forbidden", "subscribe", "t")
        assert (one.is_over, two.error, other.is_over) == (True, one.error, False)
        assert client.session.is_confirmed("t")
        assert not client.session.is_confirmed("u")
        assert client.take(SubscriptionConfirmed, SubscriptionRefused) == [
            SubscriptionRefused([one, two]),
        ]
        assert topics(reconnected(client, server)) == ["u"]

    def test_is_told_to_who_waits_or_else_as_an_error(self) -> None:
        for waiters, is_told in (((1, 1), False), ((1, 0), True), ((0, 0), True)):
            client, server = online()
            for count in waiters:
                client.subscribe("t").waiters = count
            server.send(refusal("subscribe", topic="t"))
            told = [ErrorReceived("you may not", "forbidden", "subscribe", "t")] if is_told else []
            assert client.take(ErrorReceived) == told

    def test_can_be_asked_for_again(self) -> None:
        client, server = online()
        first = client.subscribe("t")
        server.take()
        server.send(refusal("subscribe", topic="t"))
        second = client.subscribe("t")
        assert topics(server) == ["t"]
        server.send({"action": "subscribed", "topic": "t"})
        server.send({"action": "publish", "topic": "t", "from": "a", "data": 1})
        assert (contents(first), contents(second), second.is_over) == ([], [1], False)
        client.session.unsubscribe(first, client.now)
        assert server.take() == []
        client.session.unsubscribe(second, client.now)
        assert [m["action"] for m in server.take()] == ["unsubscribe"]

    def test_after_a_reconnect_keeps_what_has_come(self) -> None:
        client, server = online(reconnect=RETRY)
        mailbox = client.subscribe("t")
        server.send({"action": "subscribed", "topic": "t"})
        server.send({"action": "publish", "topic": "t", "from": "a", "batch": [1, 2]})
        server = reconnected(client, server)
        server.send(refusal("subscribe", topic="t"))
        assert client.take(SubscriptionRefused, ErrorReceived) == [
            SubscriptionRefused([mailbox]),
            ErrorReceived("you may not", "forbidden", "subscribe", "t"),
        ]
        assert (mailbox.closed, mailbox.is_over, contents(mailbox)) == (False, True, [1, 2])
        assert topics(reconnected(client, server)) == []

    def test_an_earlier_question_says_nothing_about_a_later_one(self) -> None:
        client, server = online()
        first = client.subscribe("t")
        client.session.unsubscribe(first, client.now)
        second = client.subscribe("t")
        server.send(refusal("subscribe", topic="t"))
        assert client.take(SubscriptionRefused, SubscriptionConfirmed) == []
        server.send(
            {"action": "unsubscribed", "topic": "t"}, {"action": "subscribed", "topic": "t"}
        )
        assert client.session.is_confirmed("t")
        assert (first.error, second.error) == (None, None)
        server.send({"action": "publish", "topic": "t", "from": "a", "data": 1})
        assert contents(second) == [1]

    def test_what_nobody_asked_for(self) -> None:
        client, server = online()
        mailbox = client.subscribe("t")
        server.send({"action": "subscribed", "topic": "t"})
        for topic in ("t", "u", ""):
            server.send(refusal("subscribe", topic=topic))
        assert len(client.take(ErrorReceived)) == 3
        assert not mailbox.is_over

    def test_an_unsubscription_may_be_refused_too(self) -> None:
        """For coming too fast, for instance: what then still comes is passed over."""
        client, server = online()
        mailbox = client.subscribe("t")
        server.send({"action": "subscribed", "topic": "t"})
        client.session.unsubscribe(mailbox, client.now)
        client.new_events()
        server.send(refusal("unsubscribe", topic="t"))
        assert client.new_events() == [
            SubscriptionConfirmed("t"),
            ErrorReceived("you may not", "forbidden", "unsubscribe", "t"),
        ]
        server.send({"action": "publish", "topic": "t", "from": "a", "data": 1})
        assert client.new_events() == []


class TestManyQuestions:
    """A program that subscribes and unsubscribes in a loop fills no memory."""

    LIMITS = ClientLimits(queue_bytes=1000, heartbeat_interval=1e6)

    @pytest.mark.parametrize("same", [True, False])
    def test_a_server_that_does_not_answer(self, same: bool) -> None:
        client = Client(limits=self.LIMITS)
        server = client.connect(proto=2)
        with pytest.raises(QueueFull):
            for number in range(100_000):
                topic = "t" if same else f"t{number}"
                client.session.unsubscribe(client.subscribe(topic), client.now)
        asked = len(server.take())
        assert 9000 < asked < 11000  # a mebibyte, however small the queue is
        assert client.session.subscriptions.keys == []
        for _ in range(3):  # nor after the client has given up waiting for those
            client.advance(30)
            server.take()
            with pytest.raises(QueueFull):
                for number in range(10_000):
                    topic = "t" if same else f"u{number}"
                    client.session.unsubscribe(client.subscribe(topic), client.now)
        assert len(client.session.topics) < 20_000

    def test_answers_make_room(self) -> None:
        client = Client(limits=self.LIMITS)
        server = client.connect(proto=2)
        for _ in range(12_000):
            client.session.unsubscribe(client.subscribe("t"), client.now)
            server.send(
                {"action": "subscribed", "topic": "t"}, {"action": "unsubscribed", "topic": "t"}
            )
        client.check_nothing_pending()
        assert client.session.topics._open == 0

    def test_a_full_queue_does_not_keep_from_subscribing(self) -> None:
        client = Client(limits=self.LIMITS)
        client.connect(proto=2)
        with pytest.raises(QueueFull):
            while True:
                client.session.publish_to_id("bob", "x" * 100, client.now)
        client.subscribe("t")


class TestRefusedOnLevel1:
    """Errors do not name what they refuse, but answers come in order (spec, 5.4)."""

    REFUSED = ErrorReceived("you may not", "", "subscribe", "t")

    @staticmethod
    def online() -> tuple[Client, FakeServer]:
        client = Client()
        server = client.connect()
        client.new_events()
        return client, server

    def test_what_was_asked_first_is_refused(self) -> None:
        client, server = self.online()
        mailboxes = [client.subscribe(topic) for topic in ("s", "t", "u")]
        for mailbox in mailboxes:
            mailbox.waiters = 1
        server.send({"action": "subscribed", "topic": "s"}, error_1("you may not"))
        assert client.take(SubscriptionRefused, ErrorReceived) == [
            SubscriptionRefused([mailboxes[1]])
        ]
        assert isinstance(mailboxes[1].error, ServerError)
        server.send({"action": "subscribed", "topic": "u"})
        assert [client.session.is_confirmed(topic) for topic in "su"] == [True, True]
        assert [mailbox.is_over for mailbox in mailboxes] == [False, True, False]
        client.check_nothing_pending()

    def test_early_originals_leave_out_the_action_of_errors(self) -> None:
        client, server = self.online()
        mailbox = client.subscribe("t")
        server.send({"error": "you may not"})
        assert str(mailbox.error) == "you may not"

    def test_nobody_waits_for_it(self) -> None:
        client, server = self.online()
        mailbox = client.subscribe("t")
        server.send(error_1("you may not"))
        assert client.take(SubscriptionRefused, ErrorReceived) == [
            SubscriptionRefused([mailbox]), self.REFUSED
        ]  # fmt: skip

    def test_confirmed_publications_before_it(self) -> None:
        client, server = self.online()
        for _ in range(2):
            client.publish("p", 1)
        mailbox = client.subscribe("t")
        server.send(*[{"action": "published", "topic": "p"}] * 2, error_1("you may not"))
        assert mailbox.is_over

    def test_what_else_may_have_been_refused_takes_a_probe(self) -> None:
        client, server = self.online()
        client.session.publish_to_id("bob", 1, client.now)
        mailbox = client.subscribe("t")
        server.take()
        server.send(error_1("no client has the id bob"))
        (probe,) = server.take()
        assert probe["action"] == "get_ack_status"
        assert not mailbox.is_over
        server.send(error_1("you may not"), {"action": "ack_status", "ack_id": probe["ack_id"]})
        assert str(mailbox.error) == "you may not"
        assert [event.text for event in client.take(ErrorReceived)] == [
            "no client has the id bob", "you may not"
        ]  # fmt: skip
        client.check_nothing_pending()

    def test_a_probe_finds_that_it_was_something_else(self) -> None:
        client, server = self.online()
        client.session.publish_to_id("bob", 1, client.now)
        mailbox = client.subscribe("t")
        server.send(error_1("no client has the id bob"), {"action": "subscribed", "topic": "t"})
        probe = server.take()[-1]
        server.send({"action": "ack_status", "ack_id": probe["ack_id"], "status": {}})
        assert not mailbox.is_over
        assert client.session.is_confirmed("t")
        second = client.subscribe("u")
        server.send(error_1("you may not"))
        assert second.is_over

    def test_several_refusals_behind_one_probe(self) -> None:
        client, server = self.online()
        client.session.publish_to_id("bob", 1, client.now)
        mailboxes = [client.subscribe(topic) for topic in "abc"]
        server.send(
            error_1("a is refused"), {"action": "subscribed", "topic": "b"}, error_1("c is refused")
        )
        probe = server.take()[-1]
        server.send({"action": "ack_status", "ack_id": probe["ack_id"]})
        assert [str(mailbox.error) for mailbox in mailboxes] == [
            "a is refused", "None", "c is refused"
        ]  # fmt: skip

    def test_a_late_relay_is_no_answer_to_it(self) -> None:
        client, server = self.online()
        client.session.publish_to_server("there:1", 1, False, client.now)
        mailbox = client.subscribe("t")
        server.send(error_1("failed to relay to server: no"))
        assert not mailbox.is_over
        server.send({"action": "subscribed", "topic": "t"})
        assert client.session.is_confirmed("t")

    def test_a_temporary_refusal_is_asked_again(self) -> None:
        client, server = self.online()
        mailbox = client.subscribe("t")
        server.take()
        server.send(error_1("too many messages in too short a time"))
        assert not mailbox.is_over
        client.advance(1)
        assert topics(server) == ["t"]

    def test_the_next_connection_starts_anew(self) -> None:
        client, server = online(reconnect=RETRY)
        server.hang_up()
        client.advance(RETRY.longest)
        server = client.connect()
        mailbox = client.subscribe("t")
        server.send(error_1("you may not"))
        assert mailbox.is_over


@THOROUGH
@given(st.lists(st.sampled_from(STEPS), min_size=8))
def test_at_rest_both_ends_agree_on_what_is_subscribed(steps: list[str]) -> None:
    client, server = online(reconnect=RETRY)
    mailboxes: list[Mailbox] = []
    asked: deque[Fields] = deque()
    is_subscribed = False  # on the server

    def answer(grants: bool) -> None:
        nonlocal is_subscribed
        asked.extend(server.take())
        if not asked:
            return
        action = asked.popleft()["action"]
        if action == "subscribe" and not grants and not is_subscribed:
            server.send(refusal("subscribe", topic="t"))
        else:
            is_subscribed = action == "subscribe"
            server.send({"action": f"{action}d", "topic": "t"})

    for step in steps:
        if step == "subscribe":
            mailboxes.append(client.subscribe("t"))
        elif step == "unsubscribe" and mailboxes:
            client.session.unsubscribe(mailboxes.pop(0), client.now)
        elif step == "break":
            server = reconnected(client, server)
            asked.clear()
            is_subscribed = False
        else:
            answer(step == "grant")
    while not client.session.is_confirmed("t"):
        answer(grants=True)
    live = [mailbox for mailbox in mailboxes if not mailbox.is_over]
    assert client.session.subscriptions.mailboxes("t") == live
    assert is_subscribed is bool(live)
    refused = "refuse" in steps
    assert refused or live == mailboxes
    client.check_nothing_pending()


class TestOtherRefusals:
    def test_the_error_has_what_the_server_named(self) -> None:
        client, server = online()
        server.send(refusal("publish", topic="t"), refusal("direct_message", to="bob"))
        one, two = (event.error() for event in client.take(ErrorReceived))
        assert (str(one), one.code, one.request, one.topic, one.to) == (
            "you may not",
            "forbidden",
            "publish",
            "t",
            "",
        )
        assert (two.request, two.topic, two.to) == ("direct_message", "", "bob")

    def test_who_waits_is_told_at_once(self) -> None:
        client, server = online()
        handle = client.ask("t")
        receipt = client.session.asking.publish_with_receipt("t", 1, client.now)
        server.send(refusal("publish_with_ack", topic="t", ack_id=handle.id))
        server.send(refusal("publish", topic="t", receipt=receipt.name))
        for error in (handle.error, receipt.error):
            assert isinstance(error, ServerError)
            assert (error.code, error.topic) == ("forbidden", "t")
        assert client.take(ErrorReceived) == []

    def test_a_refused_ping_is_not_taken_for_the_next_one(self) -> None:
        client, server = online()
        one, two = (client.session.asking.barrier(client.now) for _ in range(2))
        server.send(refusal("ping", nonce=one.name))
        assert isinstance(one.error, ServerError)
        assert not two.passed
        server.send({"action": "pong", "id": "me", "nonce": two.name})
        assert (two.passed, two.error) == (True, None)
        assert client.take(BarrierPassed, ErrorReceived) == [BarrierPassed(one), BarrierPassed(two)]
        server.send(refusal("ping"))  # of nobody
        assert len(client.take(ErrorReceived)) == 1


def test_what_was_pending_ends_with_a_client_that_may_not_come_back() -> None:
    client, server = online(reconnect=RETRY, token="old")
    handle = client.ask("t")
    server.feed(close_frame(EXPIRED, key=None))
    server.hang_up()
    assert isinstance(handle.error, ConnectionLost)
    assert handle.error.code == EXPIRED
    client.advance(1)
    refuse(client.transport(), 401)
    client.check_over()
