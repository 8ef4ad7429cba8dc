"""Subscriptions to patterns, as the client's session keeps them (spec, 14)."""

from typing import Any

import pytest

from kps.errors import ServerError, Unsupported
from kps.protocol.client.events import ErrorReceived, SubscriptionConfirmed, SubscriptionRefused
from kps.protocol.client.reconnect import Backoff
from kps.protocol.patterns import Pattern
from tests.protocol.helpers import Client, FakeServer, contents

RETRY = Backoff(first=1, factor=2, longest=8, jitter=0)
SENSORS = Pattern("sensors/**")
NEWER = {"proto": 2, "features": ["patterns", "later", 5]}
OLDER = {"proto": 2}


def online(**pong: Any) -> tuple[Client, FakeServer]:
    client = Client(reconnect=RETRY)
    server = client.connect(**pong or NEWER)
    client.new_events()
    return client, server


def reconnected(client: Client, server: FakeServer, **pong: Any) -> FakeServer:
    server.hang_up()
    client.advance(RETRY.longest)
    return client.connect(**pong or NEWER)


def publication(topic: str, data: object) -> dict[str, object]:
    return {"action": "publish", "topic": topic, "from": "a", "data": data}


class TestSubscribing:
    def test_asked_confirmed_and_left(self) -> None:
        client, server = online()
        mailbox = client.session.subscribe(SENSORS, client.now)
        assert server.take() == [{"action": "subscribe", "pattern": "sensors/**"}]
        assert not client.session.is_confirmed(SENSORS)
        server.send({"action": "subscribed", "pattern": "sensors/**"})
        assert client.take(SubscriptionConfirmed) == [SubscriptionConfirmed(SENSORS)]
        assert client.session.is_confirmed(SENSORS)
        server.send(publication("sensors/1", 1), publication("other", 2))
        assert contents(mailbox) == [1]
        client.session.unsubscribe(mailbox, client.now)
        assert server.take() == [{"action": "unsubscribe", "pattern": "sensors/**"}]
        server.send({"action": "unsubscribed", "pattern": "sensors/**"})
        assert len(client.session.topics) == 0

    def test_each_subscription_that_has_the_topic_gets_it_once(self) -> None:
        client, server = online()
        keys = (SENSORS, "sensors/1", Pattern("*/1"), SENSORS, Pattern("__*"), "sensors/**")
        mailboxes = [client.session.subscribe(key, client.now) for key in keys]
        server.send(publication("sensors/1", [1]), publication("sensors/**", 2))
        server.send({**publication("__x", 3), "ack_id": "1", "action": "publish_ack"})
        assert [contents(one) for one in mailboxes] == [[[1], 2], [[1]], [[1]], [[1], 2], [], [2]]
        first, second, *_ = mailboxes
        server.send(publication("sensors/1", [2]))
        one, two = first.take(), second.take()
        assert one is not None
        assert two is not None
        assert one.data == two.data
        assert one.data is not two.data
        for mailbox in (mailboxes[1], mailboxes[3]):
            client.session.unsubscribe(mailbox, client.now)
        server.send(publication("sensors/1", 3))
        assert [contents(one) for one in mailboxes] == [[3], [], [[2], 3], [], [], []]

    def test_a_direct_question_is_for_direct_messages(self) -> None:
        client, server = online()
        everything = client.session.subscribe(Pattern("**"), client.now)
        direct = client.session.subscriptions.open_direct()
        server.send({"action": "publish_ack", "from": "a", "data": 1, "ack_id": "7"})
        server.send({"action": "publish", "topic": "", "from": "a", "data": 2})
        assert (contents(everything), contents(direct)) == ([], [1])

    def test_one_answer_for_all_of_them(self) -> None:
        client, server = online()
        for key in (SENSORS, "sensors/1"):
            client.session.subscribe(key, client.now)
        server.take()
        question = {**publication("sensors/1", 1), "action": "publish_ack", "ack_id": "7"}
        server.send(question)
        for mailbox in client.session.subscriptions.take_ready():
            message = mailbox.take()
            assert message is not None
            assert server.take() == []
            client.session.settle(message, None, client.now)
        assert [answer["ack_id"] for answer in server.take()] == ["7"]

    def test_a_refusal_names_the_pattern(self) -> None:
        client, server = online()
        mailbox = client.session.subscribe(SENSORS, client.now)
        other = client.session.subscribe("sensors/**", client.now)
        about = {"code": "forbidden", "request": "subscribe", "pattern": "sensors/**"}
        server.send({"action": "error", "error": "no", **about})
        assert client.take(SubscriptionRefused, ErrorReceived) == [
            SubscriptionRefused([mailbox]),
            ErrorReceived("no", "forbidden", "subscribe", pattern="sensors/**"),
        ]
        assert isinstance(mailbox.error, ServerError)
        assert mailbox.error.pattern == "sensors/**"
        assert other.error is None


class TestReconnecting:
    def test_it_subscribes_again(self) -> None:
        client, server = online()
        client.session.subscribe(SENSORS, client.now)
        client.session.subscribe("t", client.now)
        server = reconnected(client, server)
        asked = [m for m in server.take() if m["action"] == "subscribe"]
        assert [m.get("pattern", m.get("topic")) for m in asked] == ["t", "sensors/**"]

    @pytest.mark.parametrize("pong", [OLDER, {}, {**OLDER, "features": "patterns"}])
    def test_a_server_without_patterns_ends_the_subscription(self, pong: dict[str, Any]) -> None:
        client, server = online()
        mailbox = client.session.subscribe(SENSORS, client.now)
        other = client.session.subscribe("t", client.now)
        server.send(publication("sensors/1", 1))
        client.new_events()
        server = reconnected(client, server, **(pong or {"proto": 1}))
        assert [m["topic"] for m in server.take() if m["action"] == "subscribe"] == ["t"]
        assert client.take(SubscriptionRefused, ErrorReceived) == [
            SubscriptionRefused([mailbox]),
            ErrorReceived(
                "the server does not have patterns",
                "unsupported",
                "subscribe",
                pattern="sensors/**",
            ),
        ]
        assert isinstance(mailbox.error, Unsupported)
        assert contents(mailbox) == [1]
        assert other.error is None
        client.session.unsubscribe(mailbox, client.now)
        assert server.take() == []


@pytest.mark.parametrize("pong", [OLDER, {**OLDER, "features": ["later"]}, {**NEWER, "proto": 1}])
def test_a_server_without_patterns_is_not_asked(pong: dict[str, Any]) -> None:
    client, server = online(**pong)
    with pytest.raises(Unsupported) as refusal:
        client.session.subscribe(SENSORS, client.now)
    assert refusal.value.feature == "patterns"
    assert server.take() == []
    assert client.session.subscriptions.keys == []
    assert len(client.session.topics) == 0
