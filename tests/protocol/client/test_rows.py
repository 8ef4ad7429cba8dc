"""Publications on level 1 leave in rows of frames, and count as if each came by itself."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import MessageTooLarge, QueueFull
from kps.protocol.client.events import Disconnected, SubscriptionRefused
from kps.protocol.client.reconnect import Backoff
from kps.protocol.cost import ENTRY
from kps.protocol.dialect import level1
from kps.protocol.limits import ClientLimits, ConnectionLimits, Overflow
from kps.protocol.wire.frames import Masker, read_texts
from kps.protocol.wire.outbox import Entry, Kind, Outbox, Push
from tests.protocol.helpers import Client, online

TOPICS = ["t", "other", 'a "topic" ü', "x" * 200]
PAYLOADS: list[Any] = [
    0,
    1234,
    None,
    "",
    "é" * 70,
    {"n": 1.5, "text": "}{"},
    ["x" * 300],
    "x" * 5000,
]


def texts_in(data: bytes) -> list[bytes]:
    messages: list[bytes] = []
    assert read_texts(data, 0, len(data), True, 1 << 20, messages) == len(data)
    return messages


class OneByOne:
    """What a client without rows does: each publication is an entry of the queue."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self.outbox = Outbox(limits, Masker(bytes).text_frame)

    def publish(self, topic: str, sender: str, data: Any) -> None:
        frame = self.outbox.text_frame(level1.publish(topic, sender, data))
        if self._limits.overflow is Overflow.CLOSE and not self.outbox.has_room(len(frame)):
            raise QueueFull("as before")
        assert self.outbox.push(Entry(frame, Kind.DROPPABLE)) is not Push.OVERFLOW


def is_refused(publish: Callable[..., None], *what: Any) -> bool:
    try:
        publish(*what)
    except QueueFull:
        return True
    return False


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish"] * 6 + ["take"]),
        st.sampled_from(TOPICS[:1] * 5 + TOPICS),
        st.sampled_from(PAYLOADS),
        st.sampled_from([1, 1, 2, 9, 30, 150]),
    ),
    max_size=12,
)


class TestRows:
    @given(
        STEPS,
        st.sampled_from(Overflow),
        st.sampled_from([1, 3, 40, 100_000]),
        st.sampled_from([500, 5000, 100_000, 10_000_000]),
    )
    def test_are_the_same_as_one_by_one(
        self, steps: list[Any], overflow: Overflow, messages: int, size: int
    ) -> None:
        limits = ClientLimits(queue_messages=messages, queue_bytes=size, overflow=overflow)
        client, server = online(limits=limits)
        model = OneByOne(limits)
        for step, topic, data, count in steps:
            if step == "take":
                assert texts_in(server.read()) == texts_in(model.outbox.take(1 << 30))
                continue
            for _ in range(count):
                own = is_refused(client.publish, topic, data)
                assert own is is_refused(model.publish, topic, client.session.id, data)
                assert client.session.dropped == model.outbox.dropped
                more = client.session.backlog - model.outbox.pending_bytes
                assert 0 <= more <= 2 * model.outbox.pending_messages  # short headers
        assert texts_in(server.read()) == texts_in(model.outbox.take(1 << 30))
        assert client.session.backlog == 0

    def test_are_written_in_pieces_of_any_size(self) -> None:
        client, server = online()
        for number in range(200):
            client.publish("t", number)
        frames = 0
        for limit in (1, 500, 1000, 10**6):
            data = server.link.data_to_send(limit)
            new = len(texts_in(data))
            assert frames == 0 or len(data) + new * ENTRY <= max(limit, 500)
            frames += new
        assert frames == 200

    def test_keys_are_fresh(self) -> None:
        client, server = online()
        for _ in range(300):
            client.publish("t", 1)
        data, size = server.read(), len(level1.publish("t", client.session.id, 1)) + 6
        keys = [data[at + 2 : at + 6] for at in range(0, len(data), size)]
        assert len(keys) == len(set(keys)) == 300

    def test_one_too_large_for_the_server_is_refused_alone(self) -> None:
        client = Client()
        server = client.connect(limits={"max_message": 500})
        for number in range(20):
            client.publish("t", number)
        with pytest.raises(MessageTooLarge):
            client.publish("t", "x" * 500)
        client.publish("t", 20)
        assert [message["data"] for message in server.take()] == list(range(21))

    @pytest.mark.parametrize("unwritten", [0, 1, 1000])
    def test_unwritten_bytes_count_as_messages(self, unwritten: int) -> None:
        client, server = online()
        size = len(level1.publish("t", client.session.id, 1)) + 6
        for _ in range(100):
            client.publish("t", 1)
        server.read()
        server.link.connection_lost(client.now, unwritten)
        assert client.take(Disconnected)[0].dropped == -(-unwritten // size)

    def test_what_is_unwritten_is_kept_for_the_next_connection(self) -> None:
        client, server = online(reconnect=Backoff(), offline_messages=150)
        for number in range(200):
            client.publish("t", number)
        begun = len(texts_in(server.link.data_to_send(3000)))
        assert 0 < begun < 50
        server.hang_up()
        assert client.take(Disconnected)[0].dropped == 200 - begun - 150
        client.advance(60)
        server = client.connect()
        assert [message["data"] for message in server.take()] == list(range(begun, begun + 150))

    def test_each_is_a_message_that_the_server_answers(self) -> None:
        """So an error is about the question behind them only once all are confirmed."""
        client, server = online()
        for _ in range(10):
            client.publish("t", 1)
        client.subscribe("secret")
        assert len(server.take()) == 11
        published = {"action": "published", "topic": "t"}
        server.send(*[published] * 10, {"action": "error", "error": "not permitted"})
        (refused,) = client.take(SubscriptionRefused)
        assert [mailbox.topic for mailbox in refused.mailboxes] == ["secret"]

    def test_a_publication_after_another_topic_is_behind_it(self) -> None:
        client, server = online()
        topics = ["a", "a", "b", "a", "b", "b"]
        for topic in topics:
            client.publish(topic, topic)
        assert [message["topic"] for message in server.take()] == topics
