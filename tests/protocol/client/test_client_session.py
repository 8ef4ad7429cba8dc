"""The client, before a server made by hand: connections come and go, the program stays."""

import re
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    KPSError,
    NotConnected,
    QueueFull,
    RequestTimeout,
    ServerError,
)
from kps.protocol.bus.ack_handle import AckChanged, AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.client.events import (
    AckStatusReceived,
    AckStatusRefused,
    BarrierPassed,
    ClientEvent,
    ConnectAttemptFailed,
    Connected,
    ConnectNeeded,
    Disconnected,
    Ended,
    ErrorReceived,
    MessageReceived,
    SubscriptionConfirmed,
)
from kps.protocol.client.pending import Barrier, ClientAck
from kps.protocol.client.reconnect import Backoff
from kps.protocol.cost import MESSAGE
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.limits import ClientLimits, Overflow
from kps.protocol.wire.websocket import Closed, ClosedBy, Output
from kps.testing.network import ManualClock
from tests.protocol.helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    THOROUGH,
    Client,
    FakeServer,
    close_frame,
    contents,
    frame,
    json_frame,
    new_session,
    of_type,
    online,
    output,
)

Fields = dict[str, Any]
RETRY = Backoff(first=1, factor=2, longest=8, jitter=0)


def actions(messages: Sequence[Fields]) -> list[str]:
    return [
        " ".join(str(m[name]) for name in ("action", "topic", "to") if name in m) for m in messages
    ]


def online_at_level_2(**config: Any) -> tuple[Client, FakeServer]:
    client = Client(**config)
    return client, client.connect(proto=2)


def delivery(data: Any, *, topic: str = "news", ack_id: str = "") -> Fields:
    wrapped = {"data": data, "from": "alice"}
    if ack_id:
        return {"action": "publish_ack", "topic": topic, "ack_id": ack_id, "data": wrapped}
    return {"action": "publish", "topic": topic, "data": wrapped}


class TestRegistration:
    def test_asks_for_its_id(self) -> None:
        client = Client(client_id='a"b')
        server = client.transport()
        assert not client.session.ready
        server.open()
        assert server.take() == [{"action": "ping", "from": 'a"b', "proto": 2}]
        assert not client.session.ready
        server.send({"action": "pong", "id": 'a"b'})
        assert client.session.ready
        assert client.take(Connected) == [Connected('a"b', again=False)]

    def test_takes_the_id_that_the_server_gives(self) -> None:
        client = Client()
        server = client.transport().open()
        server.send({"action": "pong", "id": "given"})
        assert client.session.id == "given"
        client.publish("t", 1)
        assert server.take()[-1]["from"] == "given"

    def test_pong_without_an_id(self) -> None:
        client = Client()
        client.transport().open().send({"action": "pong"})
        assert (client.session.ready, client.session.id) == (True, "me")

    def test_request_carries_the_headers(self) -> None:
        client = Client(headers=(("authorization", "Bearer x"),), target="/bus?y=1")
        request = client.transport().read()
        assert request.startswith(b"GET /bus?y=1 HTTP/1.1\r\n")
        assert b"authorization: Bearer x\r\n" in request

    def test_server_that_does_not_answer_the_ping(self) -> None:
        client = Client(limits=ClientLimits(handshake_timeout=10))
        server = client.transport().open()
        client.advance(9.9)
        assert output(server.link) is Output.KEEP
        client.advance(0.1)
        assert output(server.link) is Output.ABORT
        (ended,) = client.take(Ended)
        assert isinstance(ended.error, ConnectFailed)
        assert "did not answer the first ping" in str(ended.error)
        server.hang_up()
        client.check_over()

    def test_server_that_refuses_the_id(self) -> None:
        client = Client(reconnect=RETRY)
        server = client.transport().open()
        server.take()
        server.send({"action": "error", "error": "this id is the server's own"})
        (ended,) = client.take(Ended)
        assert isinstance(ended.error, ServerError)
        assert "this id is the server's own" in str(ended.error)
        assert output(server.link) is Output.HALF_CLOSE
        server.hang_up()
        client.check_over()

    def test_server_that_takes_no_message_as_long_as_the_first_one(self) -> None:
        client = Client(reconnect=RETRY)
        server = client.transport().open()
        server.feed(close_frame(1009, "message too big", key=None))
        (ended,) = client.take(Ended)
        assert isinstance(ended.error, ConnectFailed)
        assert "its id is too long" in str(ended.error)
        server.hang_up()
        client.check_over()

    def test_nothing_follows_a_refusal(self) -> None:
        refusal, pong = {"action": "error", "error": "no"}, {"action": "pong", "id": "me"}
        for messages in ([refusal, pong], [[refusal, pong]]):
            client = Client(reconnect=RETRY)
            client.transport().open().send(*messages)
            assert [type(event) for event in client.new_events()] == [Ended]
            assert not client.session.ready


class TestConnecting:
    def test_refused_for_good(self) -> None:
        for status in (400, 401, 403, 404, 426):
            client = Client(reconnect=RETRY)
            server = client.transport()
            server.feed(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
            (ended,) = client.take(Ended)
            assert isinstance(ended.error, ConnectFailed)
            assert ended.error.status == status
            assert output(server.link) is Output.ABORT
            server.hang_up()
            client.check_over()

    @pytest.mark.parametrize("status", [200, 302, 408, 429, 500, 503])
    def test_refused_for_now(self, status: int) -> None:
        client = Client(reconnect=RETRY)
        server = client.transport()
        server.feed(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        server.hang_up()
        (failed,) = client.take(ConnectAttemptFailed)
        assert str(status) in failed.reason
        assert failed.retry_in == 1
        client.advance(1)
        client.connect()

    def test_refused_after_it_was_connected_once(self) -> None:
        """A proxy before a server that restarts may say anything for a while."""
        client, server = online(reconnect=RETRY)
        server.hang_up()
        client.advance(1)
        client.transport().feed(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        assert client.take(Ended) == []
        client.advance(2)
        assert client.connect()

    def test_without_reconnect_the_first_failure_is_the_end(self) -> None:
        client = Client()
        client.session.connect_failed("connection refused", client.now)
        (ended,) = client.take(Ended)
        assert isinstance(ended.error, ConnectFailed)
        assert "connection refused" in str(ended.error)
        assert "localhost:9313" in str(ended.error)
        client.check_over()

    def test_server_that_is_down_is_waited_for(self) -> None:
        client = Client(reconnect=RETRY)
        mailbox = client.subscribe("news")
        for wait in (1, 2, 4, 8, 8):
            assert ConnectNeeded() in client.new_events()
            client.session.connect_failed("connection refused", client.now)
            assert client.take(ConnectAttemptFailed) == [
                ConnectAttemptFailed("connection refused", wait)
            ]
            client.advance(wait - 0.1)
            assert client.new_events() == []
            client.advance(0.1)
        server = client.connect()
        assert client.take(Connected) == [Connected("me", again=False)]
        assert actions(server.take()) == ["subscribe news"]
        server.send(delivery(1))
        assert contents(mailbox) == [1]

    def test_wait_begins_anew_after_a_success(self) -> None:
        client = Client(reconnect=RETRY)
        for _ in range(3):
            assert ConnectNeeded() in client.new_events()
            client.session.connect_failed("no", client.now)
            client.advance(10)
        client.connect().hang_up()
        (disconnected,) = client.take(Disconnected)
        assert disconnected.retry_in == 1

    def test_server_that_accepts_and_ends_at_once_is_not_hammered(self) -> None:
        client = Client(reconnect=RETRY)
        waits = []
        for _ in range(9):
            client.connect().hang_up()
            (disconnected,) = client.take(Disconnected)
            waits.append(disconnected.retry_in)
            client.advance(disconnected.retry_in)
        assert waits == [1, 1, 1, 1, 2, 4, 8, 8, 8]
        server = client.connect()
        client.advance(RETRY.longest)
        server.hang_up()
        (disconnected,) = client.take(Disconnected)
        assert disconnected.retry_in == 1

    def test_wait_begins_when_the_connection_ends(self) -> None:
        """However long it was silent before; or all clients would come back at once."""
        limits = ClientLimits(heartbeat_interval=1000)
        for end in ("end of file", "lost", "silence", "close frame"):
            client, server = online(reconnect=RETRY, limits=limits)
            client.advance(500)
            if end == "end of file":
                server.link.receive_eof(client.now)
            elif end == "lost":
                server.hang_up()
            elif end == "silence":
                client.advance(500 + limits.heartbeat_timeout)
            else:
                server.feed(close_frame(1001, key=None))
            assert len(client.take(Disconnected)) == 1, end
            client.advance(0.9)
            assert client.new_events() == []
            client.advance(0.1)
            assert client.new_events() == [ConnectNeeded()]

    def test_jitter(self) -> None:
        client = Client(reconnect=Backoff(first=4, longest=4, jitter=0.5), chance=lambda: 0.5)
        client.session.connect_failed("no", client.now)
        assert client.take(ConnectAttemptFailed)[0].retry_in == 3

    def test_fixed_interval(self) -> None:
        client = Client(reconnect=Backoff.every(10), chance=lambda: 0.7)
        for _ in range(5):
            assert ConnectNeeded() in client.new_events()
            client.session.connect_failed("no", client.now)
            assert client.take(ConnectAttemptFailed)[0].retry_in == 10
            client.advance(10)

    def test_opening_handshake_that_never_ends(self) -> None:
        client = Client(reconnect=RETRY, limits=ClientLimits(handshake_timeout=10))
        server = client.transport()
        client.advance(10)
        assert output(server.link) is Output.ABORT
        assert len(client.take(ConnectAttemptFailed)) == 1


class TestReconnecting:
    @pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1011, 1012])
    def test_subscribes_again(self, code: int) -> None:
        client, server = online(reconnect=RETRY)
        mailboxes = [client.subscribe(topic) for topic in ("news", "news", "weather", "gone")]
        client.session.unsubscribe(mailboxes[3], client.now)
        server.take()
        if code == 1006:
            server.hang_up()
        else:
            server.feed(close_frame(code, "reason", key=None))
            server.link.receive_eof(client.now)
            server.hang_up()
        (disconnected,) = client.take(Disconnected)
        assert (disconnected.closed.code, disconnected.retry_in) == (code, 1)
        assert not client.session.ready
        client.advance(1)
        server = client.connect()
        assert client.take(Connected) == [Connected("me", again=True)]
        assert actions(server.take()) == ["subscribe news", "subscribe weather"]
        server.send(delivery("back"))
        assert [contents(mailbox) for mailbox in mailboxes] == [["back"], ["back"], [], []]

    def test_asks_for_the_id_that_it_had(self) -> None:
        client = Client(reconnect=RETRY)
        server = client.transport().open()
        server.send({"action": "pong", "id": "given"})
        server.hang_up()
        client.advance(1)
        server = client.transport().open()
        assert server.take() == [{"action": "ping", "from": "given", "proto": 2}]

    def test_not_when_another_took_its_id(self) -> None:
        client, server = online(reconnect=RETRY)
        server.feed(close_frame(4001, "another connection took this id", key=None))
        disconnected, ended = client.take(Disconnected, Ended)
        assert disconnected.retry_in is None
        assert isinstance(ended.error, ConnectionLost)
        assert ended.error.code == 4001
        server.hang_up()
        client.advance(1000)
        assert client.new_events() == []
        client.check_over()

    def test_not_when_it_shall_not(self) -> None:
        client, server = online()
        server.feed(close_frame(1001, "going away", key=None))
        server.hang_up()
        (ended,) = client.take(Ended)
        assert isinstance(ended.error, ConnectionLost)
        assert ended.error.code == 1001
        assert "going away" in str(ended.error)
        client.check_over()

    def test_dead_server_is_noticed(self) -> None:
        limits = ClientLimits(heartbeat_interval=25, heartbeat_timeout=20)
        client, server = online(reconnect=RETRY, limits=limits)
        client.advance(25)
        server.take()
        assert server.inbox.pings == 1
        client.advance(20)
        assert output(server.link) is Output.ABORT
        (disconnected,) = client.take(Disconnected)
        assert disconnected.closed == Closed(1006, "no answer to the heartbeat", ClosedBy.LOST)

    def test_end_of_the_old_transport_does_not_harm_the_new_one(self) -> None:
        client, old = online(reconnect=RETRY)
        old.feed(close_frame(1001, key=None))
        client.advance(1)
        new = client.connect()
        client.new_events()
        old.feed(json_frame(delivery("late"), key=None))
        for _ in range(2):
            old.hang_up()
        assert client.new_events() == []
        client.publish("t", 1)
        assert actions(new.take()) == ["publish t"]

    def test_messages_that_wait_survive(self) -> None:
        client, server = online(reconnect=RETRY)
        mailbox = client.subscribe("news")
        server.send(delivery(1))
        server.hang_up()
        client.advance(1)
        client.connect().send(delivery(2))
        assert contents(mailbox) == [1, 2]


class TestSubscribing:
    def test_is_confirmed(self) -> None:
        client, server = online()
        client.subscribe("news")
        assert not client.session.is_confirmed("news")
        assert server.take() == [{"action": "subscribe", "topic": "news", "from": "me"}]
        server.send({"action": "subscribed", "topic": "news"})
        assert client.session.is_confirmed("news")
        assert client.take(SubscriptionConfirmed) == [SubscriptionConfirmed("news")]

    def test_one_topic_is_asked_for_once(self) -> None:
        client, server = online()
        one, two = client.subscribe("news"), client.subscribe("news")
        assert actions(server.take()) == ["subscribe news"]
        server.send({"action": "subscribed", "topic": "news"}, delivery({"n": 1}))
        assert one.take() == two.take() == Message("news", {"n": 1}, "alice")
        client.session.unsubscribe(one, client.now)
        assert server.take() == []
        for _ in range(2):
            client.session.unsubscribe(two, client.now)
        assert actions(server.take()) == ["unsubscribe news"]

    def test_confirmed_when_the_last_question_is_answered(self) -> None:
        client, server = online()
        mailbox = client.subscribe("news")
        client.session.unsubscribe(mailbox, client.now)
        client.subscribe("news")
        assert actions(server.take()) == ["subscribe news", "unsubscribe news", "subscribe news"]
        answers = [{"action": f"{verb}subscribed", "topic": "news"} for verb in ("", "un", "")]
        for answer in answers:
            assert not client.session.is_confirmed("news")
            server.send(answer)
        assert client.session.is_confirmed("news")
        assert client.take(SubscriptionConfirmed) == [SubscriptionConfirmed("news")]

    def test_confirmation_nobody_asked_for(self) -> None:
        client, server = online()
        server.send({"action": "subscribed", "topic": "news"}, {"action": "unsubscribed"})
        assert client.new_events() == []

    def test_confirmation_lost_with_the_connection(self) -> None:
        client, server = online(reconnect=RETRY)
        client.subscribe("news")
        server.hang_up()
        assert not client.session.is_confirmed("news")
        client.check_nothing_pending()
        client.advance(1)
        server = client.connect()
        assert not client.session.is_confirmed("news")
        server.send({"action": "subscribed", "topic": "news"})
        assert client.session.is_confirmed("news")

    def test_before_the_connection_and_during_registration(self) -> None:
        client = Client()
        client.subscribe("early")
        server = client.transport().open()
        client.subscribe("meanwhile")
        assert actions(server.take()) == ["ping"]
        server.send({"action": "pong", "id": "me"})
        assert actions(server.take()) == ["subscribe early", "subscribe meanwhile"]

    @pytest.mark.parametrize("topic", ["", None, 5, b"x"])
    def test_what_is_no_topic(self, topic: Any) -> None:
        client, server = online()
        with pytest.raises(InvalidArgument):
            client.subscribe(topic)
        with pytest.raises(InvalidArgument):
            client.publish(topic, 1)
        with pytest.raises(InvalidArgument):
            client.ask(topic)
        assert server.take() == []
        client.check_nothing_pending()

    def test_any_number_of_topics(self) -> None:
        """More than the outgoing queue holds: they must not cost the connection."""
        client, server = online(reconnect=RETRY, limits=ClientLimits(queue_messages=10))
        for number in range(50):
            client.subscribe(f"topic {number}")
        assert len(server.take()) == 50
        server.hang_up()
        client.advance(1)
        server = client.connect()
        assert len(server.take()) == 50
        assert client.session.ready


class TestReceiving:
    def test_array_of_messages(self) -> None:
        client, server = online(limits=ClientLimits(mailbox_bytes=10_000 + 60 * MESSAGE))
        mailbox = client.subscribe("news")
        server.send([delivery("x" * 90) for _ in range(60)])
        assert len(mailbox) == 60  # each counts with its part of the frame
        assert 8000 < mailbox.size - 60 * MESSAGE < 10_000
        server.send([], [delivery(1), {"action": "subscribed", "topic": "news"}])
        assert contents(mailbox)[-1] == 1
        assert client.take(SubscriptionConfirmed) != []

    @pytest.mark.parametrize(
        "message",
        [
            {"data": 5, "from": "alice"},
            {"data": {"data": 5, "from": "alice"}},
            {"data": {"data": 5, "from": "alice"}, "from": "someone else"},
        ],
    )
    def test_payload_with_and_without_its_wrapper(self, message: Fields) -> None:
        client, server = online()
        mailbox = client.subscribe("news")
        server.send({"action": "publish", "topic": "news", **message})
        assert mailbox.take() == Message("news", 5, "alice")

    @pytest.mark.parametrize("data", ["\u2028", 2**64 - 1, -(2**63), {"": [{}]}, None, 2.5, "\x00"])
    def test_payload_arrives_as_it_was(self, data: Any) -> None:
        client, server = online()
        mailbox = client.subscribe("news")
        server.send(delivery(data))
        assert contents(mailbox) == [data]

    def test_direct_messages(self) -> None:
        client, server = online()
        message = {"action": "direct_message", "data": {"data": 1}, "from": "alice"}
        server.send(message)
        direct = client.session.subscriptions.open_direct()
        server.send(message)
        assert direct.take_all() == [Message("", {"data": 1}, "alice")]

    @pytest.mark.parametrize(
        "data",
        [
            frame(b"no json", key=None),
            frame(b"5", key=None),
            frame(b'[{"action":"pong"},5]', key=None),
            frame(b'{"action":5}', key=None),
            frame(b"\xff", opcode=BINARY, key=None),
            frame(b"[" * 5000, key=None),
        ],
    )
    def test_unreadable_frames_are_reported_and_survived(self, data: bytes) -> None:
        client, server = online()
        mailbox = client.subscribe("news")
        server.feed(data)
        (error,) = client.take(ErrorReceived)
        assert "unreadable message from the server" in error.text
        server.send(delivery(1))
        assert contents(mailbox) == [1]

    def test_what_it_does_not_know_is_passed_over(self) -> None:
        client, server = online()
        for message in ({}, {"action": "later"}, {"action": "ping"}, {"action": "published"}):
            server.send(message)
        server.send({"action": "publish", "topic": "nobody subscribed", "data": 1})
        assert client.new_events() == []
        assert server.take() == []

    def test_errors_are_reported(self) -> None:
        client, server = online()
        server.send({"action": "error", "error": "no such id"}, {"action": "error"})
        assert client.take(ErrorReceived) == [
            ErrorReceived("no such id", ""),
            ErrorReceived("", ""),
        ]

    def test_all_messages_for_who_asks_for_them(self) -> None:
        client, server = online(reports_messages=True)
        messages = [{"action": "later", "x": 1}, delivery(1)]
        server.send(messages)
        assert client.take(MessageReceived) == [MessageReceived(fields) for fields in messages]

    def test_fault_of_the_server_ends_the_connection(self) -> None:
        client, server = online(reconnect=RETRY)
        server.feed(b"\xff\xff\xff\xff" * 10)
        assert server.closed is not None
        assert server.closed[0] == 1002
        (disconnected,) = client.take(Disconnected)
        assert disconnected.closed.by is ClosedBy.FAULT
        client.advance(1)
        client.connect()

    def test_frames_that_come_with_the_handshake(self) -> None:
        client = Client()
        mailbox = client.subscribe("news")
        server = client.transport()
        server.feed(
            server.acceptance()
            + json_frame([{"action": "pong", "id": "me"}, delivery(1)], key=None)
            + close_frame(1001, key=None)
        )
        assert contents(mailbox) == [1]
        assert actions(server.take()) == ["ping", "subscribe news"]
        assert server.closed == (1001, "")
        assert [type(event) for event in client.new_events()] == [
            Connected, Disconnected, Ended,
        ]  # fmt: skip


class TestAnswering:
    """Acks that this client owes for messages of others."""

    def answers(self, server: FakeServer) -> list[tuple[str, Any, Any]]:
        messages = [m for m in server.take() if m["action"] == "ack"]
        assert all(m["data"]["client_id"] == "me" for m in messages)
        assert all(m["ack_id"] == m["data"]["ack_id"] for m in messages)
        return [(m["ack_id"], m["data"]["success"], m["data"].get("error")) for m in messages]

    def settle(self, client: Client, mailbox: Mailbox, error: str | None = None) -> None:
        message = mailbox.take()
        assert message is not None
        client.session.settle(message, error, client.now)

    def test_success_and_failure(self) -> None:
        client, server = online()
        mailbox = client.subscribe("news")
        server.send(delivery(1, ack_id="a"), delivery(2, ack_id="b"))
        assert self.answers(server) == []
        self.settle(client, mailbox)
        self.settle(client, mailbox, 'broke "badly"')
        assert self.answers(server) == [("a", True, None), ("b", False, 'broke "badly"')]

    def test_two_subscriptions_give_one_answer(self) -> None:
        client, server = online()
        one, two = client.subscribe("news"), client.subscribe("news")
        server.send(delivery(1, ack_id="a"))
        self.settle(client, two, "second")
        assert self.answers(server) == []
        self.settle(client, one)
        assert self.answers(server) == [("a", False, "second")]

    def test_nobody_subscribed(self) -> None:
        _, server = online()
        server.send(delivery(1, ack_id="a"), {"action": "publish_ack", "topic": "t"})
        assert self.answers(server) == [("a", False, "no subscriber for topic")]

    def test_direct_message_that_wants_an_ack(self) -> None:
        client, server = online()
        server.send(delivery(1, topic="__direct_me_17", ack_id="a"))
        assert self.answers(server) == [("a", False, "no subscriber for topic")]
        direct = client.session.subscriptions.open_direct()
        server.send(delivery(2, topic="__direct_me_18", ack_id="b"))
        assert direct.take_some(0) == []
        self.settle(client, direct)
        assert self.answers(server) == [("b", True, None)]

    def test_full_mailbox(self) -> None:
        client, server = online(limits=ClientLimits(mailbox_messages=1))
        client.subscribe("news")
        server.send(delivery(1, ack_id="a"), delivery(2, ack_id="b"))
        assert self.answers(server) == [("b", False, "queue full")]

    def test_unsubscribing(self) -> None:
        client, server = online()
        mailbox = client.subscribe("news")
        server.send(delivery(1, ack_id="a"))
        client.session.unsubscribe(mailbox, client.now)
        assert self.answers(server) == [("a", False, "unsubscribed")]

    def test_late_answer_is_not_sent_on_a_new_connection(self) -> None:
        client, server = online(reconnect=RETRY)
        mailbox = client.subscribe("news")
        server.send(delivery(1, ack_id="a"))
        server.hang_up()
        client.advance(1)
        server = client.connect()
        server.send(delivery(2, ack_id="a"))  # a new server may use its ids again
        self.settle(client, mailbox)
        assert self.answers(server) == []
        self.settle(client, mailbox)
        assert self.answers(server) == [("a", True, None)]

    def test_without_a_connection_it_goes_nowhere(self) -> None:
        client, server = online(reconnect=RETRY, offline_messages=10)
        mailbox = client.subscribe("news")
        server.send(delivery(1, ack_id="a"))
        server.hang_up()
        self.settle(client, mailbox)
        client.advance(1)
        assert actions(client.connect().take()) == ["subscribe news"]


class TestAsking:
    """Acks that this client waits for."""

    def test_request_and_response(self) -> None:
        client, server = online()
        handle = client.ask("job", {"n": 1}, 2.5)
        (message,) = server.take()
        assert message == {
            "action": "publish_with_ack", "topic": "job", "data": {"n": 1},
            "ack_id": handle.id, "from": "me", "timeout": 2.5,
        }  # fmt: skip
        assert not handle.finished
        responses = {
            "bob": {"ack_id": "ack_1", "client_id": "bob", "success": True},
            "carol": {"ack_id": "ack_1", "client_id": "carol", "success": False, "error": "no"},
        }
        server.send({"action": "ack_response", "ack_id": handle.id, "responses": responses})
        assert handle.responses == {
            "bob": AckResponse("bob", True, None, "ack_1"),
            "carol": AckResponse("carol", False, "no", "ack_1"),
        }
        assert handle.finished
        assert handle.error is None
        assert client.take(AckChanged) == [AckChanged(handle)]
        client.check_nothing_pending()
        client.advance(1.0)
        assert len(client.session.state.deadlines) == 1  # the connection's own

    def test_to_an_id(self) -> None:
        client, server = online()
        handle = client.session.asking.publish_to_id_with_ack("bob", 1, 5, client.now)
        (message,) = server.take()
        assert (message["action"], message["to"]) == ("publish_to_id_with_ack", "bob")
        assert message["ack_id"] == handle.id

    def test_every_request_has_an_id_of_its_own(self) -> None:
        client, _ = online()
        handles = [client.ask() for _ in range(100)]
        assert len({handle.id for handle in handles}) == 100

    @pytest.mark.parametrize(
        "more", [{}, {"responses": None}, {"responses": []}, {"responses": {"bob": 5}}]
    )
    def test_response_without_responses(self, more: Fields) -> None:
        client, server = online()
        handle = client.ask()
        server.send({"action": "ack_response", "ack_id": handle.id, **more})
        assert (handle.finished, handle.responses, handle.error) == (True, {}, None)

    def test_odd_responses(self) -> None:
        client, server = online()
        handle = client.ask()
        responses = {"bob": {}, "carol": {"success": 1, "error": 5, "ack_id": None}}
        server.send({"action": "ack_response", "ack_id": handle.id, "responses": responses})
        assert handle.responses == {
            "bob": AckResponse("bob", False, ack_id=handle.id),
            "carol": AckResponse("carol", False, ack_id=handle.id),
        }

    def test_response_nobody_waits_for(self) -> None:
        client, server = online()
        server.send({"action": "ack_response", "ack_id": "x"}, {"action": "ack_response"})
        assert client.new_events() == []

    def test_status(self) -> None:
        client, server = online()
        handle = client.ask()
        server.take()
        assert client.session.asking.ask_status(handle, client.now)
        assert server.take() == [{"action": "get_ack_status", "ack_id": handle.id, "from": "me"}]
        answer = {"action": "ack_status", "ack_id": handle.id}
        odd = {"bob": True, "carol": False, "dave": 1}
        server.send({**answer, "status": odd}, answer, {**answer, "status": 5})
        assert client.take(AckStatusReceived) == [
            AckStatusReceived(handle, {"bob": True, "carol": False, "dave": False}),
            AckStatusReceived(handle, {}),
            AckStatusReceived(handle, {}),
        ]
        server.send({"action": "ack_response", "ack_id": handle.id}, answer)
        assert client.take(AckStatusReceived) == []
        assert not client.session.asking.ask_status(handle, client.now)
        assert server.take() == []

    def test_a_refused_status_ends_that_question_only(self) -> None:
        client, server = online()
        handle = client.ask()
        client.session.asking.ask_status(handle, client.now)
        about = {"code": "rate_limited", "request": "get_ack_status", "ack_id": handle.id}
        server.send({"action": "error", "error": "too fast", **about})
        (refused,) = client.new_events()
        assert isinstance(refused, AckStatusRefused)
        assert isinstance(refused.error, ServerError)
        assert (refused.handle, refused.error.code) == (handle, "rate_limited")
        assert not handle.finished

    def test_cancel(self) -> None:
        client, server = online()
        handle = client.ask()
        server.take()
        for _ in range(2):
            client.session.asking.cancel_ack(handle, client.now)
        assert (handle.finished, handle.error) == (True, None)
        assert actions(server.take()) == ["cancel_ack"]
        server.send({"action": "ack_cancelled", "ack_id": handle.id})
        assert client.take(AckChanged) == [AckChanged(handle)]
        client.check_nothing_pending()

    def test_server_that_never_answers(self) -> None:
        client, server = online()
        handle = client.ask(timeout=5)
        server.take()
        client.advance(5)
        assert not handle.finished  # the server's last word is still on its way
        client.advance(1)
        assert (handle.finished, handle.responses) == (True, {})
        assert isinstance(handle.error, RequestTimeout)  # ``{}`` alone would mean: to nobody
        assert actions(server.take()) == ["cancel_ack"]
        server.send({"action": "ack_response", "ack_id": handle.id, "responses": {"b": {}}})
        assert handle.responses == {}
        client.check_nothing_pending()

    def test_questions_to_a_silent_server_are_bounded(self) -> None:
        client, server = online(limits=ClientLimits(queue_bytes=1024 * 1024))
        asking = client.session.asking
        for ask in (
            lambda: client.ask(timeout=300),
            lambda: asking.barrier(client.now),
            lambda: asking.publish_with_receipt("t", 1, client.now),
        ):
            with pytest.raises(QueueFull, match="too many requests wait"):
                for _ in range(1025):
                    ask()
                    server.take()
        assert len(asking.pending) == 1024

    def test_server_that_falls_silent_after_some_answers(self) -> None:
        client, server = online_at_level_2()
        handle = client.ask(timeout=5)
        update = {"action": "ack_update", "ack_id": handle.id}
        server.send({**update, "responses": {"bob": {"success": True, "result": 7}}})
        client.advance(6)
        assert isinstance(handle.error, RequestTimeout)
        assert handle.responses == {"bob": AckResponse("bob", True, None, handle.id, 7)}

    @pytest.mark.parametrize("delay", [0.1, 3, 4.9])
    def test_time_in_the_queue_does_not_count(self, delay: float) -> None:
        client, server = online()
        handle = client.ask(timeout=1)
        client.advance(delay)
        server.take()  # only now is it written
        client.advance(1.5)
        assert not handle.finished
        responses = {"bob": {"success": True}}
        server.send({"action": "ack_response", "ack_id": handle.id, "responses": responses})
        assert (handle.error, list(handle.responses)) == (None, ["bob"])
        client.check_nothing_pending()

    @pytest.mark.parametrize(("timeout", "ends"), [(1, 5), (8, 8)])
    def test_what_is_never_written_ends_too(self, timeout: float, ends: float) -> None:
        client, _ = online()
        handle = client.ask(timeout=timeout)
        client.advance(ends - 0.1)
        assert not handle.finished
        client.advance(0.1)
        assert isinstance(handle.error, RequestTimeout)
        client.check_nothing_pending()

    @pytest.mark.parametrize("more", [{}, {"responses": {}}, {"responses": None}])
    def test_original_server_whose_time_is_over_before_anybody_answered(self, more: Fields) -> None:
        client, server = online()
        handle = client.ask(timeout=30)
        server.take()
        client.advance(5)  # an original server ends each request then, and leaves out the others
        server.send({"action": "ack_response", "ack_id": handle.id, **more})
        assert isinstance(handle.error, RequestTimeout)
        client.check_nothing_pending()

    def test_late_answer_with_outcomes_is_taken(self) -> None:
        client, server = online()
        handle = client.ask(timeout=30)
        server.take()
        client.advance(5)
        responses = {"bob": {"success": True}}
        server.send({"action": "ack_response", "ack_id": handle.id, "responses": responses})
        assert (handle.error, list(handle.responses)) == (None, ["bob"])

    def test_late_answer_on_level_2_is_believed(self) -> None:
        client, server = online_at_level_2()
        handle = client.ask(timeout=30)
        server.take()
        client.advance(20)
        server.send({"action": "ack_response", "ack_id": handle.id, "complete": True})
        assert (handle.error, handle.responses) == (None, {})

    def test_connection_is_lost(self) -> None:
        client, server = online(reconnect=RETRY)
        handles = [client.ask() for _ in range(3)]
        server.feed(close_frame(1001, "going away", key=None))
        for handle in handles:
            assert handle.finished
            assert isinstance(handle.error, ConnectionLost)
            assert handle.error.code == 1001
        assert client.take(AckChanged) == [AckChanged(handle) for handle in handles]
        client.check_nothing_pending()
        assert not client.session.asking.ask_status(handles[0], client.now)
        client.session.asking.cancel_ack(handles[0], client.now)
        client.advance(1)
        server = client.connect()
        server.send({"action": "ack_response", "ack_id": handles[0].id})
        assert handles[0].responses == {}

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", None, True])
    def test_what_is_no_timeout(self, timeout: Any) -> None:
        client, server = online()
        with pytest.raises(InvalidArgument):
            client.ask(timeout=timeout)
        assert server.take() == []
        client.check_nothing_pending()

    @pytest.mark.parametrize("client_id", ["", None, 5])
    def test_what_is_no_id(self, client_id: Any) -> None:
        client, server = online()
        with pytest.raises(InvalidArgument):
            client.session.asking.publish_to_id_with_ack(client_id, 1, 5, client.now)
        with pytest.raises(InvalidArgument):
            client.session.publish_to_id(client_id, 1, client.now)
        with pytest.raises(InvalidArgument):
            client.session.publish_to_server(client_id, 1, False, client.now)
        assert server.take() == []


def reached(barrier: Barrier) -> Fields:
    """What a server on level 1 answers when it has come to a barrier."""
    return {"action": "ack_status", "ack_id": barrier.name}


class TestBarriers:
    def test_passed_when_the_server_got_there(self) -> None:
        client, server = online()
        client.publish("t", 1)
        first = client.session.asking.barrier(client.now)
        second = client.session.asking.barrier(client.now)
        published, *questions = server.take()
        assert published["action"] == "publish"
        assert [(q["action"], q["ack_id"]) for q in questions] == [
            ("get_ack_status", first.name),
            ("get_ack_status", second.name),
        ]
        server.send({"action": "published", "topic": "t"}, reached(first))
        assert (first.passed, second.passed) == (True, False)
        assert client.take(BarrierPassed) == [BarrierPassed(first)]
        server.send(reached(second), reached(second))
        assert second.passed
        client.check_nothing_pending()

    def test_on_level_2_a_ping_has_a_nonce_that_its_pong_repeats(self) -> None:
        client = Client()
        server = client.connect(proto=2)
        first, second = (client.session.asking.barrier(client.now) for _ in range(2))
        pings = server.take()
        assert [(ping["action"], ping["nonce"]) for ping in pings] == [
            ("ping", first.name),
            ("ping", second.name),
        ]
        server.send({"action": "pong", "id": "me", "proto": 2, "nonce": second.name})
        assert (first.passed, second.passed) == (False, True)

    def test_one_that_was_given_up_shifts_no_other(self) -> None:
        client, server = online()
        given_up, other = (client.session.asking.barrier(client.now) for _ in range(2))
        client.session.asking.forget(given_up)
        server.send(reached(other), reached(given_up))
        assert (given_up.passed, other.passed) == (False, True)
        client.check_nothing_pending()

    def test_collects_refusals(self) -> None:
        client, server = online()
        first, second = (client.session.asking.barrier(client.now) for _ in range(2))
        server.send(
            {"action": "error", "error": "one"},
            {"action": "error", "error": "two"},
            reached(first),
            {"action": "error", "error": "three"},
            reached(second),
        )
        assert (first.refusals, second.refusals) == (["one", "two"], ["three"])

    def test_refusals_cost_the_same_however_many_acks_wait(self) -> None:
        def lines_of_a_refusal(acks: int) -> int:
            client, server = online_at_level_2()
            for _ in range(acks):
                client.ask()
            barrier = client.session.asking.barrier(client.now)
            server.take()
            lines = 0

            def trace(*_: Any) -> Any:
                nonlocal lines
                lines += 1
                return trace

            before = sys.gettrace()
            sys.settrace(trace)
            try:
                server.send({"action": "error", "error": "no", "code": "c"})
            finally:
                sys.settrace(before)
            assert barrier.refusals == ["no"]
            return lines

        assert lines_of_a_refusal(500) < lines_of_a_refusal(0) + 50

    def test_lost_with_the_connection(self) -> None:
        client, server = online(reconnect=RETRY)
        barrier = client.session.asking.barrier(client.now)
        server.hang_up()
        assert isinstance(barrier.error, ConnectionLost)
        assert not barrier.passed
        assert client.take(BarrierPassed) == [BarrierPassed(barrier)]
        client.advance(1)
        client.connect()
        assert not barrier.passed
        client.check_nothing_pending()

    def test_needs_a_connection(self) -> None:
        client = Client()
        with pytest.raises(NotConnected):
            client.session.asking.barrier(client.now)
        client.transport().open()
        with pytest.raises(NotConnected):
            client.session.asking.barrier(client.now)


class TestPublishing:
    def test_messages(self) -> None:
        client, server = online()
        client.publish("t", [1])
        client.session.publish_to_id("bob", 2, client.now)
        client.session.publish_to_server("h:1", 3, True, client.now)
        client.session.send_to_server("h:1", "inner", "me---ws://x", 4, client.now)
        assert server.take() == [
            {"action": "publish", "topic": "t", "data": [1], "from": "me"},
            {"action": "direct_message", "to": "bob", "data": 2, "from": "me"},
            {"action": "publish_to_server", "to": "h:1", "data": 3, "from": "me",
             "status": {"is_secure": True}},
            {"action": "server-to-server", "to": "h:1", "id": "inner",
             "data": {"data": 4, "from": "me---ws://x"}},
        ]  # fmt: skip

    @pytest.mark.parametrize("data", [object(), {1: 2}, b"", 1 << 64])
    def test_what_is_no_payload(self, data: Any) -> None:
        client, server = online()
        for call in (client.publish, client.ask):
            with pytest.raises(InvalidArgument):
                call("t", data)
        assert server.take() == []
        assert client.session.backlog == 0
        client.check_nothing_pending()

    def test_without_a_connection(self) -> None:
        client, server = online(reconnect=RETRY)
        server.hang_up()
        for attempt in (
            lambda: client.publish("t", 1),
            lambda: client.session.publish_to_id("bob", 1, client.now),
            lambda: client.session.publish_to_server("h:1", 1, False, client.now),
            lambda: client.session.send_to_server("h:1", "", "", 1, client.now),
            client.ask,
        ):
            with pytest.raises(NotConnected) as caught:
                attempt()
            assert not isinstance(caught.value, ClientClosed)
        client.check_nothing_pending()

    def test_full_queue_refuses(self) -> None:
        client, server = online(limits=ClientLimits(queue_messages=3))
        for number in range(3):
            client.publish("t", number)
        with pytest.raises(QueueFull):
            client.publish("t", 3)
        with pytest.raises(QueueFull):
            client.ask()
        client.check_nothing_pending()
        assert [message["data"] for message in server.take()] == [0, 1, 2]
        client.publish("t", 4)
        assert [message["data"] for message in server.take()] == [4]
        assert client.session.dropped == 0

    @pytest.mark.parametrize(
        ("policy", "kept"), [(Overflow.DROP_OLDEST, [2, 3, 4]), (Overflow.DROP_NEWEST, [0, 1, 2])]
    )
    def test_full_queue_drops_and_counts(self, policy: Overflow, kept: list[int]) -> None:
        client, server = online(limits=ClientLimits(queue_messages=3, overflow=policy))
        for number in range(5):
            client.publish("t", number)
        assert client.session.dropped == 2
        with pytest.raises(QueueFull):
            client.ask()  # somebody waits for an answer, so it is not for dropping
        assert [message["data"] for message in server.take()] == kept
        server.hang_up()
        assert client.take(Disconnected)[0].dropped == client.session.dropped == 2

    @pytest.mark.parametrize("size", range(20))
    def test_queue_with_an_ack_in_it_refuses_and_loses_nothing(self, size: int) -> None:
        """The acks that wait for company take more room than they did alone."""
        client, server = online_at_level_2(limits=ClientLimits(queue_bytes=4000))
        client.subscribe("job")
        server.send({"action": "publish_ack", "topic": "job", "ack_id": "1", "from": "a"})
        server.take()
        server.send(
            {"action": "publish_ack", "topic": "none", "ack_id": "1", "from": "a"},
            {"action": "publish_ack", "topic": "none", "ack_id": "2", "from": "a"},
        )
        published = 0
        with pytest.raises(QueueFull):
            while True:
                client.publish("t", "x" * size)
                published += 1
        batch = server.take()[-1]["batch"]
        assert (len(batch), client.session.dropped, server.closed) == (published, 0, None)

    def test_message_larger_than_the_queue_passes(self) -> None:
        client, server = online(limits=ClientLimits(queue_bytes=1000))
        client.publish("t", "x" * 5000)
        assert len(server.take()) == 1

    def test_a_full_queue_refuses_questions_and_changes_nothing(self) -> None:
        client, server = online(limits=ClientLimits(queue_messages=3))
        handle = client.ask()
        for number in range(2):
            client.publish("t", number)
        for question in (
            lambda: client.session.asking.barrier(client.now),
            lambda: client.session.asking.ask_status(handle, client.now),
            lambda: client.session.asking.publish_with_receipt("t", 1, client.now),
        ):
            with pytest.raises(QueueFull):
                question()
        assert client.session.ready
        pending = client.session.asking.pending
        assert (len(pending), pending.find(handle.id, ClientAck)) == (1, handle)
        assert len(server.take()) == 3

    @pytest.mark.parametrize("verb", ["cancel", "expire"])
    def test_the_end_of_an_ack_is_told_also_through_a_full_queue(self, verb: str) -> None:
        """Else the server would go on gathering answers that nobody wants."""
        client, server = online(limits=ClientLimits(queue_messages=2))
        handle = client.ask()
        client.publish("t", 1)
        if verb == "cancel":
            client.session.asking.cancel_ack(handle, client.now)
        else:
            client.advance(6)
        assert handle.finished
        assert client.take(AckChanged) == [AckChanged(handle)]
        assert actions(server.take())[-1].startswith("cancel_ack")
        client.check_nothing_pending()

    def test_server_that_pings_and_does_not_read_is_paused(self) -> None:
        client, server = online(limits=ClientLimits(backlog_bytes=500))
        client.publish("t", "x" * 1000)
        assert not server.link.wants_pause
        server.feed(frame(b"x" * 100, opcode=PING, key=None) * 5)
        assert server.link.wants_pause
        server.read()
        assert not server.link.wants_pause

    def test_server_that_does_not_read_does_not_get_the_acks(self) -> None:
        client, server = online(limits=ClientLimits(queue_messages=5))
        server.send([delivery(n, ack_id=f"{n}") for n in range(10)], {"action": "pong"})
        (disconnected,) = client.take(Disconnected)
        assert disconnected.closed.code == 1008


class TestOfflineQueue:
    def test_is_flushed_in_order_behind_the_subscriptions(self) -> None:
        client = Client(reconnect=RETRY, offline_messages=10)
        client.subscribe("news")
        client.publish("t", 1)
        client.session.publish_to_id("bob", 2, client.now)
        server = client.transport().open()
        client.publish("t", 3)
        assert actions(server.take()) == ["ping"]
        server.send({"action": "pong", "id": "me"})
        client.publish("t", 4)
        messages = server.take()
        assert actions(messages) == [
            "subscribe news", "publish t", "direct_message bob", "publish t", "publish t",
        ]  # fmt: skip
        assert [message["data"] for message in messages[1:]] == [1, 2, 3, 4]
        assert client.session.dropped == 0

    def test_is_bounded_in_messages(self) -> None:
        client = Client(offline_messages=2)
        client.publish("t", 1)
        client.publish("t", 2)
        with pytest.raises(QueueFull):
            client.publish("t", 3)
        assert [m.get("data") for m in client.connect().take()] == [1, 2]
        client.session.publish("t", 4, client.now)

    def test_is_bounded_in_bytes(self) -> None:
        client = Client(offline_messages=100, offline_bytes=1000)
        client.publish("t", "x" * 800)
        backlog = client.session.backlog
        with pytest.raises(QueueFull):
            client.publish("t", "x" * 800)
        assert client.session.backlog == backlog

    def test_is_empty_again_after_it_was_flushed(self) -> None:
        client = Client(reconnect=RETRY, offline_messages=2, offline_bytes=1000)
        for _ in range(3):
            client.publish("t", "x" * 300)
            client.publish("t", "x" * 300)
            server = client.connect()
            assert len(server.take()) == 2
            server.hang_up()
            assert client.session.backlog == 0
            client.advance(1)
        assert client.session.dropped == 0

    def test_may_be_larger_than_the_outgoing_queue(self) -> None:
        client = Client(offline_messages=100, limits=ClientLimits(queue_messages=5))
        for number in range(100):
            client.publish("t", number)
        server = client.connect()
        assert [message["data"] for message in server.take()] == list(range(100))
        assert client.session.ready

    def test_keeps_what_a_lost_connection_did_not_send(self) -> None:
        client, server = online(reconnect=RETRY, offline_messages=3)
        for number in range(5):
            client.publish("t", number)
        server.hang_up()
        assert client.take(Disconnected)[0].dropped == client.session.dropped == 2
        with pytest.raises(QueueFull):
            client.publish("t", 5)
        client.advance(1)
        assert [message["data"] for message in client.connect().take()] == [0, 1, 2]

    def test_survives_attempts_that_fail(self) -> None:
        client = Client(reconnect=RETRY, offline_messages=3)
        client.publish("t", 1)
        client.transport().hang_up()
        client.advance(1)
        client.transport().open().hang_up()
        client.advance(2)
        assert [message["data"] for message in client.connect().take()] == [1]
        assert client.session.dropped == 0

    def test_survives_a_server_that_lets_it_in_and_leaves_at_once(self) -> None:
        client = Client(reconnect=RETRY, offline_messages=3)
        client.publish("t", 1)
        server = client.transport().open()
        server.feed(json_frame({"action": "pong"}, key=None) + close_frame(1001, key=None))
        assert client.session.dropped == 0
        client.advance(1)
        assert [message["data"] for message in client.connect().take()] == [1]

    def test_ack_requests_are_never_kept(self) -> None:
        client, server = online(reconnect=RETRY, offline_messages=10)
        handle = client.ask()
        client.publish("t", 1)
        server.hang_up()
        assert isinstance(handle.error, ConnectionLost)
        with pytest.raises(NotConnected):
            client.ask()
        client.advance(1)
        assert actions(client.connect().take()) == ["publish t"]

    def test_without_it_unsent_publications_are_counted(self) -> None:
        client, server = online(reconnect=RETRY)
        client.publish("t", 1)
        server.take()
        client.publish("t", 2)
        client.publish("t", 3)
        server.hang_up()
        assert client.take(Disconnected)[0].dropped == client.session.dropped == 2

    def test_is_lost_with_the_client(self) -> None:
        client = Client(offline_messages=3)
        client.publish("t", 1)
        client.publish("t", 2)
        client.session.close(client.now)
        assert client.session.dropped == 2
        client.check_over()


class TestClosing:
    def test_behind_what_was_published(self) -> None:
        client, server = online(reconnect=RETRY)
        client.publish("t", 1)
        client.session.close(client.now)
        assert actions(server.take()) == ["publish t"]
        assert server.closed == (1000, "")
        assert client.take(Ended) == []
        server.feed(close_frame(1000, key=None))
        disconnected, ended = client.take(Disconnected, Ended)
        assert disconnected.closed == Closed(1000, "", ClosedBy.LOCAL)
        assert (disconnected.retry_in, disconnected.dropped) == (None, 0)
        assert ended == Ended(None)
        server.hang_up()
        client.advance(1000)
        assert client.new_events() == []
        client.check_over()

    def test_everything_pending_ends_at_once(self) -> None:
        client, _ = online(reconnect=RETRY)
        handle, barrier = client.ask(), client.session.asking.barrier(client.now)
        client.subscribe("news")
        client.session.close(client.now)
        assert isinstance(handle.error, ClientClosed)
        assert isinstance(barrier.error, ClientClosed)
        assert handle.finished
        client.check_nothing_pending()

    @pytest.mark.parametrize("answered", [False, True])
    def test_nothing_can_be_asked_afterwards(self, answered: bool) -> None:
        client, server = online(offline_messages=10)
        mailbox = client.subscribe("news")
        client.session.close(client.now)
        assert not client.session.ready
        server.take()
        if answered:
            server.feed(close_frame(1000, key=None))
        for attempt in (
            lambda: client.publish("t", 1),
            lambda: client.subscribe("t"),
            lambda: client.session.asking.barrier(client.now),
            client.ask,
        ):
            with pytest.raises(ClientClosed):
                attempt()
        client.session.unsubscribe(mailbox, client.now)
        client.session.close(client.now)
        assert server.take() == []
        client.check_nothing_pending()

    def test_nothing_can_be_asked_after_the_server_ended_it(self) -> None:
        client, server = online()
        server.feed(close_frame(1001, "going away", key=None))
        for attempt in (lambda: client.publish("t", 1), lambda: client.subscribe("t"), client.ask):
            with pytest.raises(ClientClosed, match="going away"):
                attempt()
        client.session.close(client.now)
        assert len(client.take(Ended)) == 1

    def test_without_a_connection(self) -> None:
        client, server = online(reconnect=RETRY)
        server.hang_up()
        client.session.close(client.now)
        assert client.take(Ended) == [Ended(None)]
        client.advance(1000)
        assert client.new_events() == []
        client.check_over()

    def test_while_connecting(self) -> None:
        client = Client(reconnect=RETRY)
        client.session.close(client.now)
        server = FakeServer(client.session, client.clock)  # the driver had begun already
        assert output(server.link) is Output.ABORT
        server.hang_up()
        client.session.connect_failed("late", client.now)
        assert client.take(Ended) == [Ended(None)]
        client.check_over()

    def test_during_the_handshake_and_registration(self) -> None:
        for opened in (False, True):
            client = Client(reconnect=RETRY)
            server = client.transport()
            if opened:
                server.open()
            client.session.close(client.now)
            assert output(server.link) is Output.ABORT
            assert client.take(Ended) == [Ended(None)]
            server.hang_up()
            client.check_over()

    def test_server_that_does_not_answer(self) -> None:
        client, server = online(limits=ClientLimits(close_timeout=5))
        client.publish("t", 1)
        client.session.close(client.now)
        client.advance(4.9)
        assert client.take(Ended) == []
        client.advance(0.1)
        assert output(server.link) is Output.ABORT
        disconnected, ended = client.take(Disconnected, Ended)
        assert ended == Ended(None)
        assert disconnected.dropped == client.session.dropped == 1
        server.hang_up()
        client.check_over()

    def test_connection_breaks_meanwhile(self) -> None:
        client, server = online(reconnect=RETRY)
        client.publish("t", 1)
        client.session.close(client.now)
        server.hang_up()
        assert client.take(Ended) == [Ended(None)]
        assert client.session.dropped == 1
        client.check_over()

    def test_connection_breaks_while_very_much_is_pending(self) -> None:
        """What the driver took before is not counted, so it may take a small part at once only."""
        client, server = online_at_level_2()
        for number in range(1000):
            client.publish(f"t{number % 2}", "x" * 500)
        client.session.close(client.now)
        server.inbox.feed(server.link.data_to_send())
        taken = len(server.inbox.take())
        assert 0 < taken < 40
        server.hang_up()
        assert client.session.dropped == 1000 - taken
        client.check_over()

    def test_both_at_once(self) -> None:
        client, server = online(reconnect=RETRY)
        client.session.close(client.now)
        server.feed(close_frame(1001, "going away", key=None))
        assert server.closed == (1000, "")
        assert client.take(Ended) == [Ended(None)]
        server.hang_up()
        client.check_over()

    def test_full_queue_has_room_for_the_close_frame(self) -> None:
        client, server = online(limits=ClientLimits(queue_messages=2))
        client.publish("t", 1)
        client.publish("t", 2)
        client.session.close(client.now)
        assert len(server.take()) == 2
        assert server.closed == (1000, "")

    def test_transport_lost_twice(self) -> None:
        client, server = online()
        server.feed(frame(b"?", opcode=PING, key=None))  # its answer is still waiting
        for _ in range(3):
            server.hang_up()
        assert len(client.take(Disconnected)) == 1
        assert server.link.data_to_send() == b""
        server.feed(json_frame(delivery(1), key=None))
        client.check_over()


# -- servers that send anything -----------------------------------------------------------

NAMES = st.sampled_from(["news", "me", "", "ack_1", "client_ack_me_1", "__direct_me_1", 'quo"te'])
VALUES = st.one_of(
    NAMES,
    st.none(),
    st.booleans(),
    st.integers(-1, (1 << 64) - 1),
    st.lists(NAMES, max_size=2),
    st.dictionaries(
        st.sampled_from(["data", "from", "me", "success", "error"]),
        NAMES | st.booleans() | st.dictionaries(NAMES, NAMES, max_size=1),
        max_size=3,
    ),
)
MESSAGES = st.builds(
    lambda action, fields, wild: {"action": action} | fields | wild,
    st.sampled_from(
        ["pong", "subscribed", "unsubscribed", "publish", "publish_ack", "direct_message", "error",
         "ack_response", "ack_status", "published", "nonsense"]
    ),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("topic", "ack_id", "id", "error"), NAMES)),
    st.dictionaries(
        st.sampled_from(["topic", "data", "from", "id", "ack_id", "status", "responses", "error"]),
        VALUES,
        max_size=3,
    ),
)  # fmt: skip
RAW_FRAMES = st.one_of(
    st.builds(
        frame,
        st.binary(max_size=40),
        opcode=st.sampled_from([TEXT, TEXT, BINARY, CONTINUATION, PING, CLOSE, 3, 11]),
        fin=st.booleans(),
        key=st.none(),
    ),
    st.binary(max_size=40),
    st.just(close_frame(1001, key=None)),
)
FROM_SERVER = st.lists(
    st.one_of(
        MESSAGES.map(lambda m: json_frame(m, key=None)),
        st.lists(MESSAGES, max_size=3).map(lambda m: json_frame(m, key=None)),
        RAW_FRAMES,
    ),
    max_size=8,
).map(b"".join)
HEADS = st.sampled_from(
    [None] * 8
    + [
        b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 x\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
        b"x" * 2000,
    ]
)
SIZES = st.lists(st.integers(1, 50), max_size=5)


class Story:
    """A client that does a bit of everything before a server that sends what it likes."""

    def __init__(self) -> None:
        self.client = Client(
            reconnect=RETRY,
            offline_messages=3,
            limits=ClientLimits(max_message=1000, max_head=1000),
        )
        self.mailbox = self.client.subscribe("news")
        self.client.session.subscriptions.open_direct()
        self.client.publish("t", 1)
        self.server = self.client.transport()

    def run(self, head: bytes | None, registers: bool, data: bytes, sizes: Sequence[int]) -> None:
        client, server = self.client, self.server
        acceptance = server.acceptance()
        start = acceptance if head is None else head
        if registers:
            start += json_frame({"action": "pong", "id": "me"}, key=None)
        server.feed(start, sizes)
        self.handle: AckHandle | None = None
        if client.session.ready:
            self.handle = client.ask()
            self.barrier = client.session.asking.barrier(client.now)
        server.feed(data, sizes)
        for message in self.mailbox.take_all():
            client.session.settle(message, None, client.now)


def sent_frames(data: bytes) -> list[Any]:
    """What a client sent, without the request and the random keys."""
    server = FakeServer(new_session(ManualClock()), ManualClock())
    server.inbox.feed(data)
    closed = server.inbox.closed
    if closed is not None and "codec can't decode" in closed[1]:
        closed = closed[0], "the place is counted within a piece"
    return [*server.inbox.take(), server.inbox.pongs, closed]


def described(events: Sequence[ClientEvent]) -> list[str]:
    text = [re.sub(r" object at 0x\w+|in position \d+", "", str(event)) for event in events]
    return [re.sub(r"'utf-8' codec.*?(?='?, by|'?\))", "codec", item) for item in text]


@THOROUGH
@given(head=HEADS, registers=st.booleans(), data=FROM_SERVER, sizes=SIZES)
def test_pieces_make_no_difference(
    head: bytes | None, registers: bool, data: bytes, sizes: list[int]
) -> None:
    outcomes = []
    for pieces in ([], [1], sizes):
        story = Story()
        story.run(head, registers, data, pieces)
        link = story.server.link
        outcomes.append(
            (
                described(story.client.new_events()),
                sent_frames(story.server.read()),
                output(link),
                story.client.session.ready,
                story.client.session.dropped,
            )
        )
    assert outcomes[1] == outcomes[0]
    assert outcomes[2] == outcomes[0]


@THOROUGH
@given(head=HEADS, registers=st.booleans(), data=FROM_SERVER, sizes=SIZES, closes=st.booleans())
def test_any_server_is_survived(
    head: bytes | None, registers: bool, data: bytes, sizes: list[int], closes: bool
) -> None:
    story = Story()
    client = story.client
    story.run(head, registers, data, sizes)
    if closes:
        client.session.close(client.now)
    client.advance(100)
    story.server.hang_up()
    if story.handle is not None:
        assert story.handle.finished
        assert story.barrier.passed or isinstance(story.barrier.error, KPSError)
    client.check_nothing_pending()
    if client.session.ended is not None:
        client.new_events()
        ended = of_type(client.events, Ended)
        assert len(ended) == 1
        assert client.events[-1] is ended[0]
        client.check_over()
        return
    client.advance(100)
    server = client.connect()  # an honest one at last
    assert story.mailbox.is_over or "subscribe news" in actions(server.take())
    client.publish("t", "still here")
    assert server.take()[-1]["data"] == "still here"


# -- what a driver took and could not write --------------------------------------------------


@pytest.mark.parametrize("pong", [{}, {"proto": 2}], ids=["level-1", "level-2"])
@pytest.mark.parametrize("closes", [False, True])
def test_messages_that_were_taken_and_not_written_are_dropped(
    pong: dict[str, Any], closes: bool
) -> None:
    client = Client()
    server = client.connect(**pong)
    for _ in range(100):
        client.publish("t", "x" * 100)
    data = server.link.data_to_send()
    if closes:
        client.session.close(client.now)
        data += server.read()
    assert client.session.dropped == 0
    server.link.connection_lost(client.now, len(data))
    assert client.session.dropped == 100
    (event,) = client.take(Disconnected)
    assert event.dropped == 100
    server.link.connection_lost(client.now, len(data))  # it may be told twice
    assert client.session.dropped == 100


def test_they_are_dropped_also_when_the_client_has_aborted() -> None:
    client = Client()
    server = client.connect()
    client.publish("t", 1)
    client.publish("t", 2)
    data = server.link.data_to_send()
    client.advance(100.0)  # the server answers no heartbeat
    assert output(server.link) is Output.ABORT
    server.link.connection_lost(client.now, len(data) + len(server.read()) - 1)
    assert client.session.dropped == 2


def test_what_was_written_is_not_dropped() -> None:
    client = Client()
    server = client.connect()
    client.publish("t", 1)
    assert server.read()
    server.hang_up()
    assert client.session.dropped == 0
