"""Level 2 at both ends: batches, receipts, acks with results, errors with names, flow control."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import ConnectionLost, InvalidArgument, MessageTooLarge, QueueFull, ServerError
from kps.protocol.bus.ack_handle import AckChanged
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.events import BarrierPassed, Disconnected, ErrorReceived
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.limits import ClientLimits, Overflow
from kps.protocol.server.config import HubConfig
from kps.protocol.server_limits import ServerLimits
from kps.testing.network import Network
from tests.protocol.helpers import (
    THOROUGH,
    Client,
    FakeServer,
    Fields,
    Peer,
    Stage,
    contents,
    frame,
)

RETRY = Backoff(first=1, factor=2, longest=8, jitter=0)
MAX_MESSAGE = 1000


def online(**config: Any) -> tuple[Client, FakeServer]:
    client = Client(**config)
    server = connect(client)
    client.new_events()
    return client, server


def connect(client: Client) -> FakeServer:
    limits = {"max_message": MAX_MESSAGE, "heartbeat": 25}
    return client.connect(proto=2, limits=limits)


def publish(*payloads: Any, topic: str = "t") -> Fields:
    if len(payloads) == 1:
        return {"action": "publish", "topic": topic, "data": payloads[0]}
    return {"action": "publish", "topic": topic, "batch": list(payloads)}


class TestAgreement:
    @pytest.mark.parametrize(
        "pong",
        [
            {},
            {"proto": 1},
            {"proto": 3},
            {"proto": "2"},
            {"proto": None},
        ],
    )
    def test_otherwise_level_1(self, pong: Fields) -> None:
        client = Client()
        server = client.connect(**pong)
        client.publish("t", 1)
        assert client.session.level == 1
        assert server.take() == [{"action": "publish", "topic": "t", "data": 1, "from": "me"}]

    def test_only_what_was_offered(self) -> None:
        client = Client(level=1)
        server = client.transport().open()
        assert server.take() == [{"action": "ping", "from": "me"}]
        server.send({"action": "pong", "id": "me", "proto": 2})
        assert client.session.level == 1

    @pytest.mark.parametrize("limits", [None, [], {}, {"max_message": "x"}, {"max_message": 0}])
    def test_limits_that_say_nothing(self, limits: Any) -> None:
        client = Client()
        server = client.connect(proto=2, limits=limits)
        client.publish("t", "x" * 2 * MAX_MESSAGE)
        assert server.take() == [publish("x" * 2 * MAX_MESSAGE)]

    def test_each_connection_has_its_own_level(self) -> None:
        client, server = online(reconnect=RETRY)
        assert client.session.level == 2
        server.hang_up()
        assert client.session.level == 1
        client.advance(1)
        client.connect()
        assert client.session.level == 1

    def test_a_server_that_is_told_to_speaks_level_1(self) -> None:
        network = Network(HubConfig(id="server", level=1))
        assert network.client("a").session.level == 1


class TestBatches:
    def test_what_waits_leaves_together(self) -> None:
        client, server = online()
        for number in range(3):
            client.publish("t", number)
        assert server.take() == [publish(0, 1, 2)]
        client.publish("t", 3)
        assert server.take() == [publish(3)]

    def test_another_topic_and_anything_else_come_in_their_place(self) -> None:
        client, server = online()
        client.publish("t", 1)
        client.publish("u", 2)
        client.publish("u", 3)
        client.session.publish_to_id("bob", 4, client.now)
        client.publish("u", 5)
        client.subscribe("v")
        client.publish("u", 6)
        barrier = client.session.asking.barrier(client.now)
        sent = server.take()
        assert sent[:2] == [publish(1), publish(2, 3, topic="u")]
        assert [m["action"] for m in sent[2:]] == [
            "direct_message",
            "publish",
            "subscribe",
            "publish",
            "ping",
        ]
        assert not barrier.passed

    def test_none_is_larger_than_the_server_takes(self) -> None:
        client, server = online()
        payloads = ["x" * size for size in range(0, 400, 7)]
        for payload in payloads:
            client.publish("topic", payload)
        sizes = [len(orjson.dumps(message)) for message in server.take()]
        assert max(sizes) <= MAX_MESSAGE
        assert len(sizes) < len(payloads) / 2

    def test_a_message_over_the_servers_limit_is_refused(self) -> None:
        client, server = online()
        most = MAX_MESSAGE - len('{"action":"publish","topic":"t","data":""}')
        client.publish("t", 1)
        with pytest.raises(MessageTooLarge, match="1001 bytes, and the server takes 1000"):
            client.publish("t", "x" * (most + 1))
        client.publish("t", "x" * most)
        assert server.take() == [publish(1), publish("x" * most)]
        attempts: list[Callable[[], object]] = [
            lambda: client.ask("t", "x" * most),
            lambda: client.session.publish_to_id("b", "x" * most, client.now),
            lambda: client.session.asking.publish_with_receipt("t", "x" * most, client.now),
        ]
        for send in attempts:
            with pytest.raises(MessageTooLarge):
                send()
        assert server.take() == []
        client.check_nothing_pending()

    @pytest.mark.parametrize("proto", [{}, {"proto": 2}])
    def test_a_message_with_too_many_brackets_is_refused_before_it_is_sent(
        self, proto: dict[str, int]
    ) -> None:
        client = Client()
        server = client.connect(**proto)
        session, now = client.session, client.now
        payloads: list[Any] = [[[]] * 70_000, "[" * 70_000, {"code": "{" * 70_000}]
        for payload in payloads:
            for send in (
                lambda: client.publish("t", payload),  # noqa: B023
                lambda: client.ask("t", payload),  # noqa: B023
                lambda: session.publish_to_id("b", payload, now),  # noqa: B023
                lambda: session.asking.publish_with_receipt("t", payload, now),  # noqa: B023
            ):
                with pytest.raises(MessageTooLarge, match="brackets"):
                    send()
        client.check_nothing_pending()
        client.publish("t", "[" * 69_999)
        for _ in range(50_000):
            client.publish("t", {})
        frames = server.take()
        assert sum(len(fields.get("batch", [0])) for fields in frames) == 50_001

    @pytest.mark.parametrize("topic", ["", None, 5, "\ud800"])
    def test_what_cannot_be_sent_changes_nothing(self, topic: Any) -> None:
        client, server = online()
        client.publish("t", 1)
        for bad_topic, bad_data in ((topic, 2), ("t", object())):
            with pytest.raises(InvalidArgument):
                client.publish(bad_topic, bad_data)
        client.publish("t", 3)
        sent = server.take()
        assert [payload for m in sent for payload in m.get("batch", [m.get("data")])] == [1, 3]

    def test_waiting_bytes_are_told(self) -> None:
        client, server = online()
        backlogs = []
        for _ in range(50):
            backlogs.append(client.session.publish("t", "x" * 50, client.now))
            assert client.session.backlog == backlogs[-1]
        assert backlogs == sorted(set(backlogs))
        assert backlogs[-1] >= len(server.read())
        assert client.session.backlog == 0

    def test_a_full_queue_refuses(self) -> None:
        client, server = online(limits=ClientLimits(queue_bytes=500))
        sent = 0
        with pytest.raises(QueueFull):
            for _ in range(100):
                client.publish("t", "x" * 50)
                sent += 1
        assert 5 <= sent <= 8
        (message,) = server.take()
        assert len(message["batch"]) == sent
        client.publish("t", 1)
        assert server.take() == [publish(1)]

    @pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
    def test_a_policy_that_drops_counts_every_publication(self, overflow: Overflow) -> None:
        client, server = online(limits=ClientLimits(queue_bytes=500, overflow=overflow))
        for number in range(100):
            client.publish("t", f"{number:050}")
        payloads = [int(p) for m in server.take() for p in m.get("batch", [m.get("data")])]
        assert 1 <= len(payloads) < 10
        assert client.session.dropped == 100 - len(payloads)
        kept = range(100) if overflow is Overflow.DROP_NEWEST else range(100 - len(payloads), 100)
        assert payloads == list(kept)[: len(payloads)]

    def test_what_was_not_sent_is_counted(self) -> None:
        client, server = online(reconnect=RETRY)
        for number in range(3):
            client.publish("t", number)
        server.hang_up()
        assert client.take(Disconnected)[0].dropped == 3
        assert client.session.dropped == 3

    @pytest.mark.parametrize("has_ended", [False, True])
    def test_what_did_not_go_out_before_the_end_is_counted(self, has_ended: bool) -> None:
        """Also when the server's side ends while the program's own close is under way."""
        client, server = online()
        for number in range(3):
            client.publish("t", number)
        client.session.close(client.now)
        if has_ended:
            server.link.receive_eof(client.now)
        for _ in range(2):
            server.link.connection_lost(client.now)
            assert client.session.dropped == 3

    @pytest.mark.parametrize("level", [1, 2])
    def test_what_was_not_sent_is_kept_for_whatever_level_comes(self, level: int) -> None:
        client, server = online(reconnect=RETRY, offline_messages=4)
        client.publish("t", {"a": 2**60})
        client.publish("t", None)
        client.session.publish_to_id("bob", 3, client.now)
        client.publish("u", 4)
        client.publish("u", 5)
        server.hang_up()
        assert client.take(Disconnected)[0].dropped == 1
        client.advance(1)
        server = client.transport().open()
        server.take()
        proto = {"proto": 2} if level == 2 else {}
        server.send({"action": "pong", "id": "me", **proto})
        mine = {"from": "me"}
        assert server.take() == [
            publish({"a": 2**60}) | mine,
            publish(None) | mine,
            {"action": "direct_message", "to": "bob", "data": 3} | mine,
            publish(4, topic="u") | mine,
        ]

    def test_a_close_lets_it_out_first(self) -> None:
        client, server = online()
        client.publish("t", 1)
        client.publish("t", 2)
        client.session.close(client.now)
        assert server.take() == [publish(1, 2)]
        assert server.closed == (1000, "")


class TestArrays:
    def test_what_a_client_has_waiting_leaves_in_one_frame(self) -> None:
        client, server = online()
        frames = server.inbox.frames
        handles = [client.ask(data=number) for number in range(3)]
        client.session.asking.ask_status(handles[0], client.now)
        assert [m["action"] for m in server.take()] == [*["publish_with_ack"] * 3, "get_ack_status"]
        assert server.inbox.frames == frames + 1
        client.session.asking.ask_status(handles[0], client.now)
        server.take()
        assert server.inbox.frames == frames + 2

    def test_no_frame_is_larger_than_the_server_takes(self) -> None:
        client, server = online()
        for _ in range(40):
            client.ask(data="x" * 100)
        frames = []
        while data := server.link.data_to_send(limit=1):
            server.inbox.feed(data)
            frames.append(len(data))
        assert max(frames) <= MAX_MESSAGE + 8  # head and mask
        assert len(server.inbox.take()) == 40
        assert 4 < len(frames) < 20

    def test_a_full_queue_counts_them(self) -> None:
        client, server = online(limits=ClientLimits(queue_bytes=1000))
        asked = 0
        with pytest.raises(QueueFull):
            for _ in range(100):
                client.ask(data="x" * 50)
                asked += 1
        assert 3 <= asked <= 8
        assert len(server.take()) == asked

    def peer(self, stage: Stage) -> Peer:
        peer = stage.peer().upgrade()
        peer.ask({"action": "ping", "from": "p", "proto": 2})
        return peer

    def test_answers_of_a_server_leave_together_behind_what_came_before(self) -> None:
        peer = self.peer(Stage())
        frames = peer.inbox.frames
        answers = peer.ask(
            {"action": "subscribe", "topic": "t"},
            {"action": "subscribe", "topic": "u"},
            {"action": "publish", "topic": "t", "data": 1},
            {"action": "unsubscribe", "topic": "t"},
            {"action": "direct_message", "to": "p", "data": 2},
        )
        assert [m["action"] for m in answers] == [
            "subscribed",
            "subscribed",
            "publish",
            "unsubscribed",
            "direct_message",
        ]
        assert peer.inbox.frames == frames + 3

    def test_answers_come_before_the_close_frame(self) -> None:
        peer = self.peer(Stage())
        peer.send({"action": "subscribe", "topic": "t"}, {"action": "subscribe", "topic": "u"})
        peer.feed(frame(reserved=4))
        assert [m["action"] for m in peer.take()] == ["subscribed", "subscribed"]
        assert peer.closed is not None

    def test_waiting_answers_slow_a_client_down(self) -> None:
        peer = self.peer(Stage(limits=ServerLimits(backlog_bytes=1000)))
        while not peer.connection.wants_pause:
            peer.send({"action": "subscribe", "topic": "t"})
        assert 1000 < peer.session._transport.queued_bytes < 1100

    def test_what_waits_when_the_connection_breaks_is_counted(self) -> None:
        stage = Stage()
        peer = self.peer(stage)
        peer.send({"action": "subscribe", "topic": "t"}, {"action": "subscribe", "topic": "u"})
        peer.connection.connection_lost(stage.clock.now)
        assert peer.connection.dropped == 2


Payloads = st.lists(
    st.tuples(
        st.sampled_from(["t", "u"]),
        st.none() | st.integers(-5, 5) | st.text(max_size=30) | st.lists(st.booleans(), max_size=3),
        st.booleans(),
    ),
    max_size=30,
)


@THOROUGH
@given(Payloads, st.lists(st.integers(1, 60), max_size=3), st.integers(150, 400))
def test_every_subscriber_gets_everything_once_and_in_order(
    messages: list[tuple[str, Any, bool]], sizes: list[int], max_message: int
) -> None:
    """Whatever is sent together, whatever pieces it comes in, and whatever level is spoken."""
    network = Network(limits=ServerLimits(max_message=max_message))
    mailboxes = []
    for level in (1, 2):
        subscriber = network.client_with(
            ClientConfig(id=f"s{level}", host="memory", reconnect=None, level=level)
        )
        mailboxes += [subscriber.session.subscribe(t, network.clock.now) for t in ("t", "u")]
    publisher = network.client("publisher")
    local = network.hub.local.subscribe("t")
    network.run()
    for link in network.links:
        link.sizes = sizes
    for topic, data, is_last in messages:
        publisher.session.publish(topic, data, network.clock.now)
        if is_last:
            network.run()
    network.run()
    for mailbox in [*mailboxes, local]:
        expected = [data for topic, data, _ in messages if topic == mailbox.topic]
        taken = mailbox.take_all()
        assert [message.data for message in taken] == expected
        assert all(message.sender == "publisher" for message in taken)
    assert network.hub.stats.published == len(messages)


class TestReceiving:
    def test_batches_and_single_ones(self) -> None:
        client, server = online()
        mailbox = client.subscribe("t")
        wrapped = {"data": 1, "from": "x"}
        server.send(
            {"action": "publish", "topic": "t", "from": "a", "batch": [1, None, [2]]},
            {"action": "publish", "topic": "t", "from": "b", "data": wrapped},
            {"action": "publish", "topic": "t", "from": "c"},
            {"action": "publish", "topic": "t", "batch": []},
            {"action": "publish", "topic": "nobody", "batch": [7]},
        )
        taken = mailbox.take_all()
        assert [(m.data, m.sender) for m in taken] == [
            (1, "a"),
            (None, "a"),
            ([2], "a"),
            (wrapped, "b"),
            (None, "c"),
        ]
        assert all(m.size > 0 for m in taken)

    def test_a_fault_in_an_array_concerns_no_other_element(self) -> None:
        client, server = online()
        mailbox = client.subscribe("t")
        client.new_events()
        good = {"action": "publish", "topic": "t", "data": 1}
        server.send([good, 5, {"action": 6}, [], {"action": "later"}, good])
        assert contents(mailbox) == [1, 1]
        assert [event.code for event in client.take(ErrorReceived)] == ["bad_message"] * 3

    def test_a_full_mailbox_drops_what_has_no_room(self) -> None:
        client, server = online(limits=ClientLimits(mailbox_messages=3))
        mailbox = client.subscribe("t")
        server.send({"action": "publish", "topic": "t", "batch": [1, 2, 3, 4, 5]})
        assert (contents(mailbox), mailbox.dropped) == ([1, 2, 3], 2)


class TestReceipts:
    def test_tells_how_many(self) -> None:
        client, server = online()
        barrier = client.session.asking.publish_with_receipt("t", [1], client.now)
        (sent,) = server.take()
        assert sent == publish([1]) | {"receipt": sent["receipt"]}
        server.send({"action": "published", "topic": "t", "receipt": "another", "delivered": 9})
        assert not barrier.passed
        answer = {"action": "published", "topic": "t", "receipt": sent["receipt"], "delivered": 3}
        server.send(answer, answer)
        assert (barrier.passed, barrier.receipt, barrier.error) == (True, 3, None)
        assert client.take(BarrierPassed) == [BarrierPassed(barrier)]

    def test_refused(self) -> None:
        client, server = online()
        barrier = client.session.asking.publish_with_receipt("t", 1, client.now)
        (sent,) = server.take()
        client.new_events()
        server.send(
            {"action": "error", "error": "no", "code": "forbidden", "receipt": sent["receipt"]}
        )
        assert isinstance(barrier.error, ServerError)
        assert (str(barrier.error), barrier.error.code) == ("no", "forbidden")
        assert client.new_events() == [BarrierPassed(barrier)]

    def test_lost_with_the_connection(self) -> None:
        client, server = online()
        barrier = client.session.asking.publish_with_receipt("t", 1, client.now)
        server.hang_up()
        assert isinstance(barrier.error, ConnectionLost)
        client.check_over()

    def test_level_1_does_not_tell_how_many(self) -> None:
        client = Client()
        server = client.connect()
        barrier = client.session.asking.publish_with_receipt("t", 1, client.now)
        assert [m["action"] for m in server.take()] == ["publish", "get_ack_status"]
        server.send({"action": "published", "topic": "t"})
        assert not barrier.passed
        server.send({"action": "ack_status", "ack_id": barrier.name})
        assert (barrier.passed, barrier.receipt) == (True, None)

    def test_who_has_no_room_does_not_count(self) -> None:
        stage = Stage(limits=ServerLimits(queue_messages=2, overflow=Overflow.DROP_NEWEST))
        slow, publisher = stage.peer("slow"), stage.peer()
        slow.ask({"action": "subscribe", "topic": "t"})
        publisher.upgrade().ask({"action": "ping", "from": "p", "proto": 2})
        delivered = []
        for number in range(4):
            (answer,) = publisher.ask(publish(number) | {"receipt": "r"})
            delivered.append(answer["delivered"])
        assert delivered == [1, 1, 0, 0]


class TestAcks:
    def network(self) -> tuple[Network, Any, Any]:
        network = Network()
        return network, network.client("asker"), network.client("worker")

    def test_results_and_updates(self) -> None:
        network, asker, worker = self.network()
        other = network.client("other")
        now = network.clock.now
        mailboxes = [c.session.subscribe("t", now) for c in (worker, other)]
        network.run()
        handle = asker.session.asking.publish_with_ack("t", [1, 2], 5.0, now)
        network.run()
        (first,), (second,) = (mailbox.take_all() for mailbox in mailboxes)
        worker.session.settle(first, None, now, {"sum": 3})
        network.run()
        assert handle.responses == {
            "worker": AckResponse("worker", True, None, handle.id, {"sum": 3})
        }
        assert not handle.finished
        assert asker.events[-1] == AckChanged(handle)
        other.session.settle(second, "no", now, "ignored")
        network.run()
        assert handle.finished
        assert handle.responses["other"] == AckResponse("other", False, "no", handle.id)

    def test_who_does_not_answer_is_missing(self) -> None:
        network, asker, worker = self.network()
        worker.session.subscribe("t", network.clock.now)
        network.run()
        handle = asker.session.asking.publish_with_ack("t", 1, 2.0, network.clock.now)
        network.advance(2.1)
        assert handle.finished
        assert handle.responses == {"worker": AckResponse("worker", False, "timeout", handle.id)}

    def test_a_direct_message_has_a_reply(self) -> None:
        network, asker, worker = self.network()
        mailbox = worker.session.subscriptions.open_direct()
        handle = asker.session.asking.publish_to_id_with_ack("worker", 1, 5.0, network.clock.now)
        network.run()
        message = mailbox.take()
        assert (message.topic, message.data, message.sender) == ("", 1, "asker")
        message.reply([2])
        message.reply("the first one counts")
        worker.session.settle(message, None, network.clock.now)
        network.run()
        assert handle.responses["worker"].result == [2]

    def test_nobody_takes_it(self) -> None:
        network, asker, _ = self.network()
        handle = asker.session.asking.publish_to_id_with_ack("worker", 1, 5.0, network.clock.now)
        network.run()
        assert handle.responses["worker"].error == "no subscriber for topic"

    def test_the_first_result_of_several_subscriptions_counts(self) -> None:
        network, asker, worker = self.network()
        now = network.clock.now
        mailboxes = [worker.session.subscribe("t", now) for _ in range(3)]
        network.run()
        handle = asker.session.asking.publish_with_ack("t", 1, 5.0, now)
        network.run()
        for mailbox, result in zip(mailboxes, (None, "first", "second"), strict=True):
            (message,) = mailbox.take_all()
            worker.session.settle(message, None, now, result)
        network.run()
        assert handle.responses["worker"].result == "first"

    @pytest.mark.parametrize("result", [object(), {1: 2}, "x" * 2000])
    def test_a_result_that_cannot_be_sent_is_a_failure(self, result: Any) -> None:
        network = Network(limits=ServerLimits(max_message=1000))
        asker, worker = network.client("asker"), network.client("worker")
        mailbox = worker.session.subscribe("t", network.clock.now)
        network.run()
        handle = asker.session.asking.publish_with_ack("t", 1, 5.0, network.clock.now)
        network.run()
        message = mailbox.take()
        assert message is not None
        worker.session.settle(message, None, network.clock.now, result)
        network.run()
        response = handle.responses["worker"]
        assert (response.success, response.result) == (False, None)
        assert str(response.error).startswith("the result of the callback cannot be sent: ")

    def test_of_the_servers_own_program(self) -> None:
        network, asker, worker = self.network()
        now = network.clock.now
        mine, theirs = network.hub.local.subscribe("t"), worker.session.subscribe("t", now)
        network.run()
        handle = asker.session.asking.publish_with_ack("t", 1, 5.0, now)
        mine_too = network.hub.publish_with_ack("t", 2, 5.0, now)
        network.run()
        for mailbox, settle in ((mine, network.hub.local.settle), (theirs, worker.session.settle)):
            for message in mailbox.take_all():
                settle(message, None, now, object() if message.data == 1 else "fine")
        network.run()
        assert "cannot be sent" in str(handle.responses["server"].error)
        assert mine_too.responses["server"].result == "fine"
        assert mine_too.responses["worker"].result == "fine"

    def test_long_errors_are_cut(self) -> None:
        client = Client()
        server = client.connect(proto=2)
        mailbox = client.subscribe("t")
        server.send({"action": "publish_ack", "topic": "t", "ack_id": "1", "from": "a"})
        server.take()
        message = mailbox.take()
        assert message is not None
        client.session.settle(message, "e" * 5000, client.now)
        (ack,) = server.take()
        assert ack == {"action": "ack", "ack_id": "1", "success": False, "error": "e" * 1000}

    def test_a_refused_request_ends_at_once(self) -> None:
        client, server = online()
        handle = client.ask()
        client.new_events()
        refusal = {"action": "error", "error": "no", "code": "forbidden", "ack_id": handle.id}
        server.send(refusal | {"request": "get_ack_status"})
        assert not handle.finished
        assert client.take(ErrorReceived) == []
        server.send(refusal | {"request": "publish_with_ack"})
        assert isinstance(handle.error, ServerError)
        assert (handle.finished, handle.error.code) == (True, "forbidden")
        assert client.take(AckChanged, ErrorReceived) == [AckChanged(handle)]

    @pytest.mark.parametrize(
        "odd", [{"responses": []}, {"responses": {"b": 1}}, {"missing": {}}, {"missing": [1, None]}]
    )
    def test_odd_answers(self, odd: Fields) -> None:
        client, server = online()
        handle = client.ask()
        server.send({"action": "ack_update", "ack_id": handle.id, **odd})
        assert (handle.finished, handle.responses) == (False, {})
        server.send({"action": "ack_response", "ack_id": handle.id, **odd})
        assert (handle.finished, handle.responses) == (True, {})


class TestFlow:
    """Reading pauses for a mailbox that fills up, as long as its program keeps up."""

    def flooded(self, count: int = 120) -> tuple[Client, FakeServer, Any]:
        client, server = online(limits=ClientLimits(mailbox_messages=3200, heartbeat_interval=1e6))
        mailbox = client.subscribe("t")
        server.send({"action": "publish", "topic": "t", "batch": list(range(count))})
        return client, server, mailbox

    def test_pauses_at_one_mark_and_resumes_at_another(self) -> None:
        _, server, mailbox = self.flooded(100)
        assert not server.link.wants_pause
        server.send({"action": "publish", "topic": "t", "data": 50})
        assert server.link.wants_pause
        mailbox.take_some(50)
        assert server.link.wants_pause
        mailbox.take()
        assert not server.link.wants_pause

    def test_who_reads_is_told(self) -> None:
        client, _, mailbox = self.flooded()
        resumed = []
        client.session.on_resume = lambda: resumed.append(client.session.flow.is_paused)
        mailbox.take_all()
        assert resumed == [False]

    @pytest.mark.parametrize("seconds", [0.002, 0.1, 5.0, 9.9])
    def test_a_program_that_goes_on_is_waited_for_however_slow(self, seconds: float) -> None:
        client, server, mailbox = self.flooded()
        sent, handled = 120, 0
        for _ in range(10):
            for message in mailbox.batch(64):
                assert message.data == handled
                client.advance(seconds)
                handled += 1
                for _ in range(100):  # the server has more at any time
                    if not server.link.wants_pause:
                        server.send({"action": "publish", "topic": "t", "data": sent})
                        sent += 1
        assert mailbox.dropped == 0
        assert sent - handled < 200  # a 32nd of the mailbox, a 64th, and what comes at once

    def test_an_iterator_that_goes_on_is_waited_for(self) -> None:
        client, server, mailbox = self.flooded()
        for _ in range(60):
            assert mailbox.take()
            client.advance(9.0)
            assert server.link.wants_pause

    def test_a_program_that_hangs_is_not(self) -> None:
        client, server, mailbox = self.flooded()
        resumed = []
        client.session.on_resume = lambda: resumed.append(1)
        client.advance(9.9)
        assert server.link.wants_pause
        client.advance(0.2)
        assert not server.link.wants_pause
        assert resumed == [1]
        server.send({"action": "publish", "topic": "t", "batch": [0] * 3100})
        assert not server.link.wants_pause
        assert mailbox.dropped == 20
        assert client.session.subscriptions.take_overflowed() == [mailbox]

    def test_it_is_waited_for_again_when_it_goes_on(self) -> None:
        client, server, mailbox = self.flooded()
        client.advance(10.0)
        assert not server.link.wants_pause
        mailbox.take()
        server.send({"action": "publish", "topic": "t", "data": 1})
        assert server.link.wants_pause
        client.advance(9.9)
        assert server.link.wants_pause
        client.advance(2.6)
        assert not server.link.wants_pause

    def test_one_that_hangs_does_not_hide_one_that_is_slow(self) -> None:
        client, server, _ = self.flooded()
        slow = client.subscribe("slow")
        server.send({"action": "publish", "topic": "slow", "batch": list(range(120))})
        for _ in range(20):
            client.advance(1.0)
            slow.take()
        assert server.link.wants_pause
        slow.take_all()
        assert not server.link.wants_pause

    def test_one_that_waits_for_a_thread_goes_on_with_the_others(self) -> None:
        client, server, mailbox = self.flooded()
        turns: list[int] = []
        mailbox.waits_for = lambda: len(turns)
        for turn in range(8):
            turns.append(turn)
            client.advance(5.0)
            assert server.link.wants_pause
        client.advance(10.0)
        assert not server.link.wants_pause

    def test_a_callback_may_wait_for_an_answer(self) -> None:
        client, server, mailbox = self.flooded()
        batch = mailbox.batch(64)
        next(batch)
        client.ask()
        client.advance(1.0)
        assert not server.link.wants_pause  # the answer comes behind other messages
        next(batch)
        server.send({"action": "publish", "topic": "t", "data": 1})
        assert not server.link.wants_pause
        mailbox.take_all()
        server.send({"action": "publish", "topic": "t", "batch": [0] * 120})
        assert server.link.wants_pause

    def test_an_answer_that_is_due_does_not_matter_to_who_goes_on(self) -> None:
        client, server, mailbox = self.flooded()
        client.session.asking.publish_with_ack("t", 1, 300.0, client.now)
        for _ in range(60):
            assert mailbox.take()
            client.advance(0.4)
            assert server.link.wants_pause

    def test_how_long_it_waits_is_a_limit(self) -> None:
        limits = ClientLimits(mailbox_messages=32, mailbox_patience=60.0, heartbeat_interval=1e6)
        client, server = online(limits=limits)
        client.subscribe("t")
        server.send({"action": "publish", "topic": "t", "batch": [1, 2]})
        client.advance(59.0)
        assert server.link.wants_pause
        client.advance(1.0)
        assert not server.link.wants_pause

    def test_unsubscribing_ends_it(self) -> None:
        client, server, mailbox = self.flooded()
        client.session.unsubscribe(mailbox, client.now)
        assert not server.link.wants_pause

    def test_the_closing_handshake_is_read(self) -> None:
        client, server, _ = self.flooded()
        client.session.close(client.now)
        assert not server.link.wants_pause

    def test_bytes_count_too(self) -> None:
        client, server = online(limits=ClientLimits(mailbox_bytes=10_000))
        client.subscribe("t")
        server.send({"action": "publish", "topic": "t", "data": "x" * 600})
        assert server.link.wants_pause
