"""Messages with ids, as a client sends them, and sends them again (spec, 21)."""

from collections.abc import Callable
from typing import Any

import pytest

from kps.errors import (
    ClientClosed,
    ConnectionLost,
    InvalidArgument,
    NotConnected,
    QueueFull,
    RequestTimeout,
    ServerError,
    Unsupported,
)
from kps.protocol.bus.given import check_message_id
from kps.protocol.client.events import AckStatusRefused
from kps.protocol.client.pending import ACK_GRACE
from kps.protocol.client.reconnect import Backoff
from kps.protocol.limits import ClientLimits
from tests.protocol.helpers import Client, FakeServer, Fields, close_frame, of_type

RETRY = Backoff(first=1, factor=2, longest=8, jitter=0)
WINDOW = {"window": "w", "seconds": 120, "most": 10, "time": 7000.5}
PONG: Fields = {"proto": 2, "features": ["message_ids", "headers"], "message_ids": WINDOW}
TIMEOUT = 5.0


def ask(client: Client, data: Any = 1, message_id: str = "m") -> Any:
    asking = client.session.asking
    return asking.publish_with_ack("t", data, TIMEOUT, client.now, message_id=message_id)


def ask_id(client: Client, data: Any = 1, message_id: str = "m") -> Any:
    asking = client.session.asking
    return asking.publish_to_id_with_ack("bob", data, TIMEOUT, client.now, message_id=message_id)


def publish(client: Client, data: Any = 1, message_id: str = "m") -> Any:
    asking = client.session.asking
    return asking.publish_with_receipt("t", data, client.now, message_id=message_id)


Way = Callable[..., Any]
WAYS: list[Way] = [ask, ask_id, publish]
any_way = pytest.mark.parametrize("way", WAYS)


def online(**config: Any) -> tuple[Client, FakeServer]:
    client = Client(reconnect=RETRY, **config)
    server = client.connect(**PONG)
    client.new_events()
    return client, server


def back(client: Client, server: FakeServer, after: float = 1.0, **pong: Any) -> FakeServer:
    """Break the connection, and connect again: after a second, or later."""
    server.hang_up()
    client.advance(after)
    again = client.transport()
    return again.register(**{**PONG, **pong})


def answer(server: FakeServer, message: Fields) -> None:
    """Answer what a client asks."""
    if "receipt" in message:
        named = {"action": "published", "topic": "t", "receipt": message["receipt"]}
        server.send(named | {"delivered": 3})
    else:
        outcomes = {"complete": True, "responses": {"b": {"success": True, "result": 7}}}
        server.send({"action": "ack_response", "ack_id": message["ack_id"]} | outcomes)


def check_answered(question: Any) -> None:
    assert question.error is None
    if hasattr(question, "receipt"):
        assert (question.passed, question.receipt) == (True, 3)
    else:
        assert (question.finished, question.responses["b"].result) == (True, 7)


def refuse(server: FakeServer, message: Fields, code: str) -> None:
    """Refuse what a client asks."""
    error = {"action": "error", "error": "no", "code": code, "request": message["action"]}
    server.send(error | {name: message[name] for name in ("ack_id", "receipt") if name in message})


def is_lost(question: Any) -> bool:
    return isinstance(question.error, ConnectionLost)


class TestSending:
    @any_way
    def test_the_id_goes_with_the_message(self, way: Way) -> None:
        client, server = online()
        question = way(client)
        (message,) = server.take()
        assert message["message_id"] == "m"
        answer(server, message)
        check_answered(question)
        client.check_nothing_pending()

    @any_way
    def test_none_is_no_field(self, way: Way) -> None:
        client, server = online()
        way(client, message_id="")
        assert "message_id" not in server.take()[0]

    @any_way
    @pytest.mark.parametrize("pong", [{"proto": 2, "features": ["headers"]}, {"proto": 2}, {}])
    def test_a_server_that_knows_none(self, way: Way, pong: Fields) -> None:
        client = Client(reconnect=RETRY)
        server = client.connect(**pong)
        with pytest.raises(Unsupported) as refused:
            way(client)
        assert refused.value.feature == "message_ids"
        assert server.take() == []
        client.check_nothing_pending()

    @any_way
    def test_offline_it_is_refused(self, way: Way) -> None:
        client, server = online(offline_messages=10)
        server.hang_up()
        with pytest.raises(NotConnected):
            way(client)
        client.check_nothing_pending()

    @pytest.mark.parametrize("given", [5, None, b"m", ["m"], "m" * 65_537, "a\nb", "\ud800"])
    def test_what_is_no_id(self, given: Any) -> None:
        with pytest.raises(InvalidArgument, match="a message id"):
            check_message_id(given, ClientLimits())

    def test_what_waits_is_bounded_in_bytes(self) -> None:
        client, server = online(limits=ClientLimits(queue_bytes=4000))
        first = publish(client, "x" * 2000)
        server.take()
        for way in WAYS:
            with pytest.raises(QueueFull, match="messages with ids"):
                way(client, "x" * 2000)
        server.send({"action": "published", "receipt": first.name, "delivered": 0})
        publish(client, "x" * 2000)
        assert len(server.take()) == 1


class TestSendingAgain:
    @any_way
    def test_it_is_the_same_message(self, way: Way) -> None:
        client, server = online()
        client.advance(3.0)
        data = {"a": [1]}
        question = way(client, data)
        (first,) = server.take()
        data["a"].append(2)
        server = back(client, server)
        (second,) = server.take()
        if "timeout" in first:
            assert (first.pop("timeout"), second.pop("timeout")) == (5, 4)  # what is left
        assert second == first | {"repeat_until": 7123.5}
        server = back(client, server)
        (third,) = server.take()
        assert third.items() >= first.items()
        assert third["repeat_until"] == 7123.5, "it is that of the first time"
        answer(server, third)
        check_answered(question)
        client.check_nothing_pending()

    def test_without_an_id_it_is_lost(self) -> None:
        client, server = online()
        questions = [way(client, message_id="") for way in WAYS]
        server.hang_up()
        assert all(map(is_lost, questions))
        assert not any("sent again" in str(one.error) for one in questions)
        client.check_nothing_pending()

    @any_way
    def test_also_after_several_connections(self, way: Way) -> None:
        client, server = online()
        question = way(client)
        for _ in range(3):
            server = back(client, server, 1.0)
            client.advance(0.1)
        (message,) = server.take()
        answer(server, message)
        check_answered(question)

    @any_way
    def test_what_never_left_is_sent_too(self, way: Way) -> None:
        client, server = online()
        question = way(client)
        server = back(client, server)
        (message,) = server.take()
        answer(server, message)
        check_answered(question)

    def test_in_order_behind_the_subscriptions_and_before_what_was_kept(self) -> None:
        client, server = online(offline_messages=10)
        client.subscribe("s")
        ask(client, 1, "a")
        publish(client, 2, "b")
        client.publish("t", 3)
        server.take()
        server.hang_up()
        client.publish("t", 4)
        client.advance(1.0)
        server = client.connect(**PONG)
        client.publish("t", 5)
        sent = [(one["action"], one.get("data", one.get("batch"))) for one in server.take()]
        assert sent == [
            ("subscribe", None),
            ("publish_with_ack", 1),
            ("publish", 2),
            ("publish", 4),
            ("publish", 5),
        ]

    def test_outcomes_from_before_stay_and_come_once(self) -> None:
        client, server = online()
        handle = ask(client)
        (message,) = server.take()
        update = {"action": "ack_update", "ack_id": message["ack_id"]}
        server.send(update | {"responses": {"a": {"success": True, "result": 1}}})
        server = back(client, server)
        (message,) = server.take()
        server.send(update | {"responses": {"a": {"success": True, "result": 1}}})
        assert list(handle.responses) == ["a"]
        answer(server, message)
        assert list(handle.responses) == ["a", "b"]
        client.check_nothing_pending()

    @any_way
    @pytest.mark.parametrize(
        "pong",
        [
            {"message_ids": {**WINDOW, "window": "another"}},
            {"message_ids": 5},
            {"message_ids": {**WINDOW, "window": ""}},
            {"message_ids": {**WINDOW, "most": "10"}},
            {"message_ids": {**WINDOW, "seconds": True}},
            {"message_ids": {**WINDOW, "time": "7000"}},
            {"features": ["headers"]},
            {"id": "other"},
            {"proto": 1},
        ],
    )
    def test_where_it_might_be_handled_twice(self, way: Way, pong: Fields) -> None:
        client, server = online()
        question = way(client)
        server = back(client, server, **pong)
        assert is_lost(question)
        assert "it is not sent again" in str(question.error)
        assert server.take() == []
        client.check_nothing_pending()

    def test_the_latest_pong_tells_the_time(self) -> None:
        """Our clock may be a little fast, and the connection may live for weeks."""
        client, server = online()
        client.advance(10.0)
        server.send({"action": "pong", "id": "me", **PONG, "message_ids": {**WINDOW, "time": 7009}})
        client.advance(1.0)
        server.send({"action": "pong", "id": "me", "proto": 2})
        publish(client)
        server = back(client, server)
        assert server.take()[0]["repeat_until"] == 7009 + 1 + 120

    def test_whether_it_is_too_late_is_for_the_server_to_say(self) -> None:
        """Its clock alone counts: ours may have stood still."""
        client, server = online()
        publish(client)
        server = back(client, server, 1000.0)
        (message,) = server.take()
        assert message["repeat_until"] == 7120.5

    def test_not_when_the_server_has_had_too_many_others(self) -> None:
        client, server = online()
        questions = [publish(client, number, str(number)) for number in range(12)]
        server.take()
        server = back(client, server)
        assert [one["data"] for one in server.take()] == [*range(2, 12)]
        assert [is_lost(one) for one in questions] == [True, True, *[False] * 10]

    @any_way
    @pytest.mark.parametrize(
        "code", ["rate_limited", "limit_reached", "forbidden", "message_id_in_use"]
    )
    def test_a_refusal_says_nothing_about_the_first(self, way: Way, code: str) -> None:
        client, server = online()
        question = way(client)
        server = back(client, server)
        (message,) = server.take()
        refuse(server, message, code)
        assert is_lost(question)
        client.check_nothing_pending()

    @any_way
    def test_but_that_the_outcome_is_unknown_is_told(self, way: Way) -> None:
        client, server = online()
        question = way(client)
        server = back(client, server)
        (message,) = server.take()
        refuse(server, message, "outcome_unknown")
        assert isinstance(question.error, ServerError)
        assert question.error.code == "outcome_unknown"
        client.check_nothing_pending()

    @any_way
    def test_the_refusal_of_the_first_is_one(self, way: Way) -> None:
        client, server = online()
        question = way(client)
        (message,) = server.take()
        refuse(server, message, "rate_limited")
        assert isinstance(question.error, ServerError)
        client.check_nothing_pending()

    def test_a_status_that_was_asked_for_is_not_waited_for(self) -> None:
        client, server = online()
        handle = ask(client)
        client.session.asking.ask_status(handle, client.now)
        client.new_events()
        back(client, server)
        client.new_events()
        (refused,) = of_type(client.events, AckStatusRefused)
        assert refused.handle is handle
        assert isinstance(refused.error, ConnectionLost)
        assert not handle.finished


class TestTime:
    @pytest.mark.parametrize("way", [ask, ask_id])
    def test_goes_on_without_a_connection(self, way: Way) -> None:
        client, server = online()
        handle = way(client)
        server.take()
        server.hang_up()
        client.advance(TIMEOUT + ACK_GRACE - 0.01)
        assert not handle.finished
        client.advance(0.02)
        assert isinstance(handle.error, RequestTimeout)
        client.check_nothing_pending()

    @pytest.mark.parametrize("way", [ask, ask_id])
    def test_when_none_is_left_it_is_not_sent_again(self, way: Way) -> None:
        client, server = online()
        handle = way(client)
        server.take()
        server = back(client, server, TIMEOUT + ACK_GRACE / 2)
        assert is_lost(handle)
        assert server.take() == []
        client.check_nothing_pending()

    @pytest.mark.parametrize("way", [ask, ask_id])
    def test_after_the_reconnect_it_is_over_when_it_would_have_been(self, way: Way) -> None:
        client, server = online()
        handle = way(client)
        server.take()
        back(client, server, 2.0).take()
        client.advance(TIMEOUT + ACK_GRACE - 2.1)
        assert not handle.finished
        client.advance(0.2)
        assert isinstance(handle.error, RequestTimeout)


class TestEnd:
    @any_way
    def test_closing_ends_it(self, way: Way) -> None:
        client, server = online()
        question = way(client)
        server.hang_up()
        client.session.close(client.now)
        assert isinstance(question.error, ClientClosed)
        client.check_over()

    @any_way
    def test_without_reconnecting(self, way: Way) -> None:
        client = Client(reconnect=None)
        server = client.connect(**PONG)
        question = way(client)
        server.hang_up()
        assert is_lost(question)
        client.check_over()

    @pytest.mark.parametrize("code", [4001, 4003])
    def test_when_the_client_may_not_come_back(self, code: int) -> None:
        client, server = online()
        questions = [way(client, message_id=str(number)) for number, way in enumerate(WAYS)]
        server.feed(close_frame(code, "", key=None))
        assert all(map(is_lost, questions))
        client.check_nothing_pending()

    def test_who_cancels_offline_or_while_it_connects_has_nothing_sent(self) -> None:
        client, server = online()
        handles = [ask(client, number, str(number)) for number in range(2)]
        server.take()
        server.hang_up()
        client.session.asking.cancel_ack(handles[0], client.now)
        client.advance(1.0)
        server = client.transport().open()
        client.session.asking.cancel_ack(handles[1], client.now)
        assert [one["action"] for one in server.take()] == ["ping"]
        server.send({"action": "pong", "id": "me", **PONG})
        assert server.take() == []
        assert [handle.error for handle in handles] == [None, None]
        client.check_nothing_pending()

    def test_who_stops_waiting_offline_has_nothing_sent(self) -> None:
        client, server = online()
        question = publish(client)
        server.hang_up()
        client.session.asking.forget(question)
        client.advance(1.0)
        assert client.connect(**PONG).take() == []
