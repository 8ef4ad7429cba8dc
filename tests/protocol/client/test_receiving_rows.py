"""Publications in a row are read by a template, with the outcome that each has by itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.client.events import ErrorReceived, MessageReceived
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.client import DeliveryTemplate
from kps.protocol.limits import ClientLimits, Overflow
from tests.protocol.helpers import THOROUGH, Client, FakeServer, frame, online

HEAD = b'{"action":"publish","topic":"%b","data":{"data":'
TAIL = b',"from":"%b"}}'

PAYLOADS = [
    b"1",
    b"null",
    b'{"n":1,"text":"' + b"x" * 60 + b'"}',
    b' {"data": "\xc3\xa9"} ',
    b'"' + b"x" * 400 + b'"',
    b"[" * 138 + b"]" * 138,
    b"[" * 139 + b"]" * 139,
    b"[" * 1024 + b"]" * 1024,
    # Not one value each, though some of them would be, if they were joined.
    b"",
    b" ",
    b"1,2",
    b'1,"more":2',
    b'1},"data":{"data":2',
    b'{"a":1',
    b'"b":2}',
    b"[1",
    b"2]",
    b'"open',
    b"NaN",
]


def delivery(payload: bytes, sender: bytes = b"alice", topic: bytes = b"news") -> bytes:
    return HEAD % topic + payload + TAIL % sender


MESSAGES = st.one_of(
    st.builds(delivery, st.sampled_from(PAYLOADS[:5])),
    st.builds(
        delivery,
        st.sampled_from(PAYLOADS),
        st.sampled_from([b"alice", b"bob", b""]),
        st.sampled_from([b"news", b"other", b"unknown"]),
    ),
    st.sampled_from(
        [
            HEAD % b"news",
            TAIL % b"alice",
            HEAD[:-9] % b"news" + TAIL % b"alice",
            b'{"action":"publish","topic":"news","data":1,"from":"alice"}',
            b'{"action": "publish", "topic": "news", "data": {"data": 1, "from": "alice"}}',
            b'{"action":"published","topic":"news"}',
            b'{"action":"error","error":"wrong"}',
            b'{"action":"publish_ack","topic":"news","ack_id":"1","data":{"data":1,"from":"alice"}}',
            b'{"action":"direct_message","from":"bob","data":1}',
            b"[]",
            b"\xff",
        ]
    ),
)
ROWS = st.lists(st.tuples(MESSAGES, st.sampled_from([1, 1, 2, 3, 40])), max_size=12)


def connected(limits: ClientLimits, *, reports: bool) -> tuple[Client, FakeServer]:
    client, server = online(limits=limits, reports_messages=reports)
    for topic in ("news", "news", "other"):
        client.subscribe(topic)
    client.session.subscriptions.open_direct()
    server.ask(*[{"action": "subscribed", "topic": topic} for topic in ("news", "other")])
    client.new_events()
    return client, server


def outcome(client: Client, server: FakeServer) -> tuple[Any, ...]:
    subscriptions = client.session.subscriptions
    mailboxes = [*subscriptions.mailboxes("news"), *subscriptions.mailboxes("other")]
    mailboxes.append(subscriptions.open_direct())
    return (
        [
            [(one.topic, one.data, one.sender, one.size, one.wants_ack) for one in each.take_all()]
            for each in mailboxes
        ],
        [each.dropped for each in mailboxes],
        [event for event in client.new_events() if not isinstance(event, MessageReceived)],
        client.session.dropped,
        server.closed,
    )


class TestRows:
    @THOROUGH
    @given(ROWS, st.booleans(), st.sampled_from([Overflow.DROP_OLDEST, Overflow.DROP_NEWEST]))
    def test_are_the_same_as_one_by_one(
        self, rows: list[tuple[bytes, int]], is_small: bool, overflow: Overflow
    ) -> None:
        """A client that reports each message takes each by itself."""
        size = 50 if is_small else 10_000
        limits = ClientLimits(mailbox_messages=size, mailbox_overflow=overflow)
        opcode = {b"\xff": 2}
        data = b"".join(
            frame(message, key=None, opcode=opcode.get(message, 1)) * count
            for message, count in rows
        )
        outcomes = []
        for reports in (False, True):
            client, server = connected(limits, reports=reports)
            server.feed(data)
            outcomes.append(outcome(client, server))
        assert outcomes[0] == outcomes[1]

    @pytest.mark.pure("it replaces a part of the core")
    def test_a_row_is_really_read_by_a_template(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows: list[int] = []
        read = DeliveryTemplate.read

        def watched(self: DeliveryTemplate, messages: Any, place: int, deepest: int) -> list[Any]:
            payloads = read(self, messages, place, deepest)
            rows.append(len(payloads))
            return payloads

        monkeypatch.setattr(DeliveryTemplate, "read", watched)
        _, server = connected(ClientLimits(), reports=False)
        server.feed(frame(delivery(b"1"), key=None) * 50)
        assert rows == [48]

    def test_a_mistake_within_a_row_is_told_by_itself(self) -> None:
        client, server = connected(ClientLimits(), reports=False)
        payloads = [b"1"] * 10 + [b"1,2"] + [b"3"] * 10
        server.feed(b"".join(frame(delivery(payload), key=None) for payload in payloads))
        (mailbox, _) = client.session.subscriptions.mailboxes("news")
        assert [message.data for message in mailbox.take_all()] == [1] * 10 + [3] * 10
        (error,) = client.take(ErrorReceived)
        assert "not valid JSON" in str(error.error())

    def test_confirmations_in_a_row_are_counted(self) -> None:
        client, server = connected(ClientLimits(), reports=False)
        positions = client.session.topics.positions
        assert positions is not None
        before = positions.confirmed
        for count in (1, 2, 30):
            server.feed(frame(b'{"action":"published","topic":"t"}', key=None) * count)
        server.feed(
            frame(b'{"action":"published","topic":"t"}', key=None)
            + frame(b'{"action":"published","topic":"u"}', key=None)
        )
        assert positions.confirmed == before + 35

    def test_a_template_ends_with_its_connection(self) -> None:
        """On level 2 the same bytes mean something else."""
        client = Client(reconnect=Backoff())
        mailbox = client.subscribe("news")
        received = []
        for level in (1, 2, 1):
            server = client.connect(proto=level)
            server.feed(frame(delivery(b"1"), key=None) * 5)
            received.append([(message.data, message.sender) for message in mailbox.take_all()])
            server.hang_up()
            client.advance(60)
        on_level_1 = [(1, "alice")] * 5
        assert received == [on_level_1, [({"data": 1, "from": "alice"}, "")] * 5, on_level_1]
