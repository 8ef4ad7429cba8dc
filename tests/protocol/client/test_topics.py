"""What a client settles with the server about each topic, and when it asks again."""

import pytest

from kps.errors import ServerError
from kps.protocol.client.events import (
    ConnectAttemptFailed,
    Ended,
    ErrorReceived,
    SubscriptionConfirmed,
    SubscriptionRefused,
)
from kps.protocol.client.reconnect import Backoff
from tests.protocol.helpers import Client, FakeServer, Fields, of_type

RETRY = Backoff(first=1.0, factor=1.0, longest=1.0, jitter=0.0)
LEVEL_2 = {"proto": 2}


def online() -> tuple[Client, FakeServer]:
    client = Client(reconnect=RETRY)
    server = client.connect(**LEVEL_2)
    client.new_events()
    return client, server


def again(client: Client, server: FakeServer) -> FakeServer:
    """Lose the connection, and make a new one."""
    server.hang_up()
    client.advance(1)
    return client.connect(**LEVEL_2)


def refusal(code: str, topic: str, request: str = "subscribe") -> Fields:
    return {"action": "error", "error": "no", "code": code, "request": request, "topic": topic}


def subscribed(topic: str) -> Fields:
    return {"action": "subscribed", "topic": topic}


def unsubscribed(topic: str) -> Fields:
    return {"action": "unsubscribed", "topic": topic}


def asked(server: FakeServer) -> list[str]:
    return [f"{message['action']} {message['topic']}" for message in server.take()]


class TestRefusedForNow:
    @pytest.mark.parametrize("code", ["rate_limited", "limit_reached", "unavailable"])
    def test_a_subscription_that_was_in_force_is_asked_for_again(self, code: str) -> None:
        client, server = online()
        mailbox = client.subscribe("t")
        server.send(subscribed("t"))
        server = again(client, server)
        assert asked(server) == ["subscribe t"]
        server.send(refusal(code, "t"))
        assert (mailbox.error, client.session.is_confirmed("t")) == (None, False)
        client.advance(0.5)
        assert asked(server) == ["subscribe t"]
        server.send(subscribed("t"))
        assert client.session.is_confirmed("t")

    def test_the_waits_grow_and_begin_anew_when_one_is_confirmed(self) -> None:
        client, server = online()
        client.subscribe("t")
        server.take()
        waits = []
        for _ in range(3):
            server.send(refusal("rate_limited", "t"))
            began = client.now
            while not server.take():
                client.advance(0.25)
            waits.append(client.now - began)
        assert waits == [0.5, 1.0, 2.0]
        server.send(subscribed("t"))
        client.subscribe("u")
        server.take()
        server.send(refusal("rate_limited", "u"))
        client.advance(0.5)
        assert asked(server) == ["subscribe u"]

    def test_all_refused_topics_are_asked_for_together(self) -> None:
        client, server = online()
        for topic in ("a", "b", "c"):
            client.subscribe(topic)
        server.take()
        server.send(refusal("rate_limited", "a"), subscribed("b"), refusal("rate_limited", "c"))
        client.advance(0.5)
        assert asked(server) == ["subscribe a", "subscribe c"]

    def test_a_server_that_takes_few_is_not_asked_for_all_at_once(self) -> None:
        client, server = online()
        topics = [f"t{number}" for number in range(300)]
        for topic in topics:
            client.subscribe(topic)
        questions, left = 0, set(topics)
        while left:
            asked_now = [message["topic"] for message in server.take()]
            questions += len(asked_now)
            for number, topic in enumerate(asked_now):  # ten at a time
                if number < 10:
                    server.send(subscribed(topic))
                    left.discard(topic)
                else:
                    server.send(refusal("rate_limited", topic))
            client.advance(1)
        assert questions < 3 * len(topics)

    def test_the_program_is_told_once_on_each_connection(self) -> None:
        client, server = online()
        client.subscribe("t")
        for _ in range(3):
            server.send(refusal("rate_limited", "t"))
            client.advance(30)
        assert len(client.take(ErrorReceived)) == 1
        server = again(client, server)
        server.send(refusal("rate_limited", "t"))
        assert len(client.take(ErrorReceived)) == 1

    def test_a_new_subscription_ends_where_there_is_no_room_for_it(self) -> None:
        client, server = online()
        mailbox = client.subscribe("t")
        server.send(refusal("limit_reached", "t"))
        assert isinstance(mailbox.error, ServerError)
        assert client.take(SubscriptionRefused) == [SubscriptionRefused([mailbox])]

    def test_what_the_program_gave_up_is_not_asked_for(self) -> None:
        client, server = online()
        mailbox = client.subscribe("t")
        server.send(refusal("rate_limited", "t"))
        server.take()
        client.session.unsubscribe(mailbox, client.now)
        assert asked(server) == ["unsubscribe t"]
        server.send(unsubscribed("t"))
        client.advance(60)
        assert asked(server) == []
        assert len(client.session.topics) == 0

    def test_an_end_that_is_refused_is_asked_for_again(self) -> None:
        client, server = online()
        mailbox = client.subscribe("t")
        server.send(subscribed("t"))
        client.session.unsubscribe(mailbox, client.now)
        server.take()
        server.send(refusal("rate_limited", "t", "unsubscribe"))
        client.advance(0.5)
        assert asked(server) == ["unsubscribe t"]
        server.send(unsubscribed("t"))
        assert len(client.session.topics) == 0

    def test_nor_is_anything_after_the_end(self) -> None:
        client, server = online()
        client.subscribe("t")
        server.send(refusal("rate_limited", "t"))
        client.session.close(client.now)
        server.hang_up()
        client.check_over()


class TestNoAnswer:
    def test_is_asked_again(self) -> None:
        """A server on level 1 may have refused it: its errors name nothing."""
        client, server = online()
        client.subscribe("t")
        server.take()
        client.advance(10)
        assert asked(server) == []
        client.advance(0.5)
        assert asked(server) == ["subscribe t"]

    def test_a_late_answer_is_the_truth(self) -> None:
        client, server = online()
        client.subscribe("t")
        client.advance(10)
        server.send(subscribed("t"))
        assert client.session.is_confirmed("t")
        server.take()
        client.advance(30)
        assert asked(server) == []

    def test_a_late_answer_to_another_question_is_not(self) -> None:
        client, server = online()
        first = client.subscribe("t")
        server.send(subscribed("t"))
        client.session.unsubscribe(first, client.now)
        client.advance(10)
        second = client.subscribe("t")
        server.send(unsubscribed("t"), refusal("forbidden", "t"))
        assert isinstance(second.error, ServerError)


class TestSeveralQuestions:
    def test_the_last_answer_counts(self) -> None:
        client, server = online()
        first = client.subscribe("t")
        client.session.unsubscribe(first, client.now)
        client.subscribe("t")
        assert asked(server) == ["subscribe t", "unsubscribe t", "subscribe t"]
        server.send(subscribed("t"), unsubscribed("t"))
        assert not client.session.is_confirmed("t")
        server.send(subscribed("t"))
        assert client.session.is_confirmed("t")
        assert client.take(SubscriptionConfirmed) == [SubscriptionConfirmed("t")]

    def test_an_answer_that_nobody_waits_for_changes_nothing(self) -> None:
        client, server = online()
        server.send(subscribed("t"), unsubscribed("t"))
        assert client.take(SubscriptionConfirmed) == []
        assert len(client.session.topics) == 0


class TestRefusedFrame:
    def test_each_message_of_it_is_refused(self) -> None:
        client, server = online()
        barrier = client.session.asking.barrier(client.now)
        ack = client.ask("jobs")
        mailbox = client.subscribe("t")
        server.send(
            {
                "action": "error",
                "error": "too much",
                "code": "forbidden",
                "refused": [
                    {"request": "ping", "nonce": barrier.name},
                    {"request": "publish_with_ack", "topic": "jobs", "ack_id": ack.id},
                    {"request": "subscribe", "topic": "t"},
                    5,
                ],
            }
        )
        for error in (barrier.error, ack.error, mailbox.error):
            assert isinstance(error, ServerError)
            assert str(error) == "too much"
        client.check_nothing_pending()


class TestRefusedClient:
    def test_one_that_is_refused_for_now_comes_back(self) -> None:
        client = Client(reconnect=RETRY)
        server = client.transport().open()
        server.send({"action": "error", "error": "busy", "code": "rate_limited"})
        assert of_type(client.new_events(), ConnectAttemptFailed, Ended) == [
            ConnectAttemptFailed("the server refused: busy", 1.0)
        ]
        client.advance(1)
        client.connect()
        assert client.session.ready
