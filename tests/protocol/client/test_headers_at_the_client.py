"""Headers of messages, as a client sends and reads them (spec, 19)."""

from collections import OrderedDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from kps.errors import InvalidArgument, MessageTooLarge, NotConnected, ServerError, Unsupported
from kps.protocol.bus.given import check_headers
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.client.events import ErrorReceived
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.places import Start
from kps.protocol.limits import ClientLimits
from kps.protocol.patterns import InGroup, Pattern
from tests.protocol.helpers import Client, FakeServer, Fields

RETRY = Backoff(first=1, factor=2, longest=8, jitter=0)
NEWER = {"proto": 2, "features": ["headers", "history", "groups", "patterns"]}
OLDER = {"proto": 2, "features": ["history", "groups"]}
OLDEST: Fields = {}
TRACE = {"traceparent": "00-1-2-01", "kind": "é"}
WRITTEN = check_headers(TRACE)

LIMIT: Fields = {"action": "error", "error": "too large", "code": "bad_request"}
PUBLICATION: Fields = {"action": "publish", "topic": "t", "from": "a", "data": 1}
QUESTION: Fields = PUBLICATION | {"action": "publish_ack", "ack_id": "1"}
DIRECT: Fields = {"action": "direct_message", "from": "a", "data": 1}
ASKED_DIRECTLY: Fields = DIRECT | {"action": "publish_ack", "ack_id": "2"}


def publish(client: Client, headers: bytes = WRITTEN) -> object:
    return client.session.sender.publish_with_headers("t", 1, client.now, headers)


def publish_to_id(client: Client, headers: bytes = WRITTEN) -> None:
    client.session.publish_to_id("bob", 1, client.now, headers)


def publish_with_ack(client: Client, headers: bytes = WRITTEN) -> object:
    return client.session.asking.publish_with_ack("t", 1, 5, client.now, headers=headers)


def publish_to_id_with_ack(client: Client, headers: bytes = WRITTEN) -> object:
    return client.session.asking.publish_to_id_with_ack("bob", 1, 5, client.now, headers)


def publish_with_receipt(client: Client, headers: bytes = WRITTEN) -> object:
    return client.session.asking.publish_with_receipt("t", 1, client.now, headers)


Way = Callable[..., object]
KEPT: list[Way] = [publish, publish_to_id]
NOT_KEPT: list[Way] = [publish_with_ack, publish_to_id_with_ack, publish_with_receipt]
WAYS = [*KEPT, *NOT_KEPT]


def online(**pong: Any) -> tuple[Client, FakeServer]:
    client = Client(reconnect=RETRY, offline_messages=10)
    server = client.connect(**pong or NEWER)
    client.new_events()
    return client, server


def seen(messages: list[Fields]) -> list[tuple[Any, Any]]:
    """Payload (or payloads) and headers of what was sent."""
    return [(one.get("data", one.get("batch")), one.get("headers")) for one in messages]


def got(mailbox: Mailbox) -> list[tuple[Any, Any]]:
    """Payload and headers of what came."""
    return [(message.data, message.headers) for message in mailbox.take_all()]


class TestWhatAProgramGives:
    @pytest.mark.parametrize(
        "headers",
        [
            *("text", b"{}", 5, True, [], [("a", "b")], {"a"}, (), 0, False),
            *({"a": 1}, {"a": None}, {"a": b"b"}, {1: "a"}, {None: "a"}, {"a": ["b"]}),
            *({"a": "\ud800"}, {"\ud800": "a"}),
        ],
    )
    def test_is_a_dictionary_of_texts(self, headers: Any) -> None:
        with pytest.raises(InvalidArgument):
            check_headers(headers)

    def test_what_it_says_about_others(self) -> None:
        with pytest.raises(InvalidArgument) as refused:
            check_headers({"a": 1})
        assert str(refused.value) == "headers is a dictionary of texts, not {'a': 1}"

    def test_is_written_in_its_order(self) -> None:
        headers = {"z": "1", "a": "é\n", "": ""}
        expected = '{"z":"1","a":"é\\n","":""}'.encode()
        for mapping in (headers, OrderedDict(headers), MappingProxyType(headers)):
            assert check_headers(mapping) == expected

    @pytest.mark.parametrize("none", [None, {}, OrderedDict(), MappingProxyType({})])
    def test_may_be_none(self, none: Any) -> None:
        assert check_headers(none) == b""


class TestSending:
    @pytest.mark.parametrize("way", WAYS)
    def test_they_go_with_the_message(self, way: Way) -> None:
        client, server = online()
        way(client)
        (message,) = server.take()
        assert (message["data"], message["headers"]) == (1, TRACE)

    @pytest.mark.parametrize("way", WAYS)
    def test_none_are_no_field(self, way: Way) -> None:
        for pong in (NEWER, OLDER, OLDEST):
            client, server = online(**pong)
            way(client, b"")
            assert "headers" not in server.take()[0]

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("pong", [OLDER, {"proto": 2}, {"id": "me"}])
    def test_a_server_that_has_none(self, way: Way, pong: Fields) -> None:
        client, server = online(**pong)
        with pytest.raises(Unsupported) as refused:
            way(client)
        assert refused.value.feature == "headers"
        assert server.take() == []
        client.check_nothing_pending()

    @pytest.mark.parametrize("way", NOT_KEPT)
    def test_what_is_not_kept_is_refused_while_offline(self, way: Way) -> None:
        client = Client(reconnect=RETRY, offline_messages=10)
        with pytest.raises(NotConnected):
            way(client)
        client.check_nothing_pending()

    @pytest.mark.parametrize("way", KEPT)
    @pytest.mark.parametrize("pong", [NEWER, OLDER, {"id": "me"}])
    def test_what_is_kept_has_them_whatever_the_server_knows(self, way: Way, pong: Fields) -> None:
        client = Client(reconnect=RETRY, offline_messages=10)
        way(client)
        server = client.connect(**pong)
        assert seen(server.take()) == [(1, TRACE)]

    def test_what_a_lost_connection_did_not_send(self) -> None:
        client, server = online()
        publish(client)
        publish_to_id(client)
        client.publish("t", 2)
        server.hang_up()
        client.advance(RETRY.longest)
        server = client.connect(**NEWER)
        assert seen(server.take()) == [(1, TRACE), (1, TRACE), (2, None)]
        assert client.session.dropped == 0

    @pytest.mark.parametrize("way", KEPT)
    def test_without_an_offline_queue(self, way: Way) -> None:
        with pytest.raises(NotConnected):
            way(Client(reconnect=RETRY))

    def test_publications_with_and_without_do_not_mix(self) -> None:
        """Those without that leave together share a message."""
        client, server = online()
        for number in range(2):
            client.publish("t", number)
        publish(client)
        for number in range(2, 4):
            client.publish("t", number)
        assert seen(server.take()) == [([0, 1], None), (1, TRACE), ([2, 3], None)]

    def test_they_count_for_the_largest_message(self) -> None:
        client, server = online(**NEWER, limits={"max_message": 1000})
        large = check_headers({"a": "x" * 1000})
        for way in WAYS:
            with pytest.raises(MessageTooLarge):
                way(client, large)
        assert server.take() == []
        client.check_nothing_pending()


class TestRefused:
    def test_a_publication(self) -> None:
        client, server = online()
        publish(client)
        server.send(LIMIT | {"request": "publish", "topic": "t"})
        (event,) = client.take(ErrorReceived)
        assert (event.text, event.code) == ("too large", "bad_request")

    @pytest.mark.parametrize("way", NOT_KEPT)
    def test_a_question_ends_with_the_error(self, way: Way) -> None:
        client, server = online()
        handle: Any = way(client)
        (message,) = server.take()
        names = ("ack_id", "receipt")
        named: Fields = {name: message[name] for name in names if name in message}
        server.send(LIMIT | {"request": message["action"], **named})
        assert isinstance(handle.error, ServerError)
        client.check_nothing_pending()


class TestReceiving:
    @pytest.fixture
    def end(self) -> tuple[FakeServer, Mailbox, Mailbox]:
        """The server of a client, and what is for its subscription and to its id."""
        client, server = online()
        return server, client.subscribe("t"), client.session.subscriptions.open_direct()

    @pytest.mark.parametrize("message", [PUBLICATION, QUESTION])
    def test_on_a_topic(self, end: tuple[FakeServer, Mailbox, Mailbox], message: Fields) -> None:
        server, topic, direct = end
        server.send(message | {"headers": TRACE}, message)
        assert got(topic) == [(1, TRACE), (1, {})]
        assert got(direct) == []

    @pytest.mark.parametrize("message", [DIRECT, ASKED_DIRECTLY])
    def test_to_its_id(self, end: tuple[FakeServer, Mailbox, Mailbox], message: Fields) -> None:
        server, topic, direct = end
        server.send(message | {"headers": TRACE}, message)
        assert got(direct) == [(1, TRACE), (1, {})]
        assert got(topic) == []

    def test_of_a_batch(self, end: tuple[FakeServer, Mailbox, Mailbox]) -> None:
        server, topic, _ = end
        server.send({"action": "publish", "topic": "t", "batch": [1, 2], "headers": TRACE})
        assert got(topic) == [(1, TRACE), (2, TRACE)]

    @pytest.mark.parametrize("message", [PUBLICATION, QUESTION, DIRECT, ASKED_DIRECTLY])
    @pytest.mark.parametrize(
        ("headers", "left"),
        [
            *((one, {}) for one in ("x", 5, None, [], ["a"], True, {"a": 5}, {"a": {"b": "c"}})),
            ({"a": 5, "b": "c", "d": None}, {"b": "c"}),
            ({"": "x" * 100_000}, {"": "x" * 100_000}),
        ],
    )
    def test_what_is_no_text_counts_as_missing(
        self,
        end: tuple[FakeServer, Mailbox, Mailbox],
        message: Fields,
        headers: Any,
        left: Fields,
    ) -> None:
        server, *mailboxes = end
        server.send(message | {"headers": headers})
        assert [one for mailbox in mailboxes for one in got(mailbox)] == [(1, left)]

    def test_each_subscription_gets_them(self) -> None:
        client, server = online()
        mailboxes = [client.session.subscribe(key, client.now) for key in ("t", Pattern("*"))]
        server.send(PUBLICATION | {"headers": TRACE}, QUESTION | {"headers": TRACE})
        for mailbox in mailboxes:
            for message in mailbox.take_all():
                changed: Any = message.headers
                changed.clear()
                assert message.headers == TRACE

    def test_a_member_of_a_group(self) -> None:
        client, server = online()
        mailbox = client.session.subscribe(InGroup("t", "g"), client.now)
        member = {"group": "g", "headers": TRACE}
        batch = {"action": "publish", "topic": "t", "batch": [1, 2]} | member
        server.send(batch, QUESTION | member | {"attempt": 2}, QUESTION | {"group": "g"})
        messages = mailbox.take_all()
        assert [message.headers for message in messages] == [TRACE, TRACE, TRACE, {}]
        assert [message.attempt for message in messages] == [1, 1, 2, 1]

    def test_messages_of_the_past(self) -> None:
        client, server = online()
        question = client.session.past.ask("t", Start(None, 3), client.now)
        (asked,) = server.take()
        place = {"epoch": "e", "offset": 0, "coming": 3}
        messages = [
            {"offset": 1, "from": "a", "data": 1, "headers": TRACE},
            {"offset": 2, "from": "a", "data": 2},
            {"offset": 3, "from": "a", "data": 3, "headers": {"a": 5}},
        ]
        server.send(asked | place | {"messages": messages})
        assert [message.headers for message in question.messages] == [TRACE, {}, {}]

    def test_what_the_client_has_had_before_is_left_out_of_a_batch(self) -> None:
        client, server = online()
        mailbox = client.subscribe("t")
        server.send({"action": "subscribed", "topic": "t", "epoch": "e", "offset": 0, "coming": 0})
        server.send(PUBLICATION | {"offset": 1, "headers": {"n": "1"}})
        batch = {"action": "publish", "topic": "t", "from": "a", "batch": [1, 2, 3]}
        server.send(batch | {"offset": 1, "headers": TRACE})
        assert got(mailbox) == [(1, {"n": "1"}), (2, TRACE), (3, TRACE)]

    def test_their_bytes_count_in_the_mailbox(self) -> None:
        client = Client(limits=ClientLimits(mailbox_bytes=1000))
        server = client.connect(**NEWER)
        mailbox = client.subscribe("t")
        server.send(PUBLICATION)
        server.send(PUBLICATION | {"headers": {"a": "x" * 1000}})
        assert got(mailbox) == [(1, {})]
        assert mailbox.dropped == 1
