"""Headers: texts that go with a message beside its payload (spec, 19)."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from kps.protocol.access.identity import Permissions
from kps.protocol.bus.history import History
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.dialect.places import Position
from kps.protocol.limits import Overflow
from kps.protocol.patterns import InGroup
from kps.protocol.server.events import RelayRequested
from kps.protocol.server_limits import ServerLimits
from tests.protocol.helpers import Fields, Peer, Stage, frame
from tests.protocol.server.test_permissions_and_limits import codes, peer2

TRACE = {"traceparent": "00-1-2-01", "kind": "é"}
OTHER = {"x": ""}
WRONG = "field headers must be an object of strings"
BAD: list[Any] = ["x", 5, True, [], ["a"], {"a": None}, {"a": 1}, {"a": "", "b": {}}, {"a": [""]}]
KEPT = (History("kept"),)


def publish(topic: str = "t", data: Any = 1, **fields: Any) -> Fields:
    return {"action": "publish", "topic": topic, "data": data, **fields}


def ask(topic: str = "t", ack_id: str = "q", **fields: Any) -> Fields:
    return {"action": "publish_with_ack", "topic": topic, "ack_id": ack_id, "data": 1, **fields}


def direct(to: str = "bob", **fields: Any) -> Fields:
    return {"action": "direct_message", "to": to, "data": 1, **fields}


def ask_id(to: str = "bob", **fields: Any) -> Fields:
    return {"action": "publish_to_id_with_ack", "to": to, "ack_id": "q", "data": 1, **fields}


WAYS: list[Callable[..., Fields]] = [publish, ask, direct, ask_id]


def subscriber(stage: Stage, name: str = "bob", **fields: Any) -> Peer:
    """A peer that is subscribed, to the topic unless it says otherwise."""
    peer = peer2(stage, name)
    subscribe = {"action": "subscribe", **(fields or {"topic": "t"})}
    assert codes(peer.ask(subscribe)) == ["subscribed"]
    return peer


def seen(messages: list[Fields]) -> list[tuple[Any, Fields | None]]:
    """Payload (or payloads) and headers of what a peer got."""
    return [(one.get("data", one.get("batch")), one.get("headers")) for one in messages]


class TestDelivery:
    @pytest.mark.parametrize("way", WAYS)
    def test_a_receiver_gets_them(self, way: Callable[..., Fields]) -> None:
        stage = Stage()
        bob, alice = subscriber(stage), peer2(stage, "alice")
        assert alice.ask(way(headers=TRACE)) == []
        (message,) = bob.take()
        assert (message["data"], message["from"]) == (1, "alice")
        assert message["headers"] == TRACE

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("none", [{}, None], ids=["empty", "null"])
    def test_none_are_no_field(self, way: Callable[..., Fields], none: Fields | None) -> None:
        stage = Stage()
        bob, alice = subscriber(stage), peer2(stage, "alice")
        alice.ask(way(headers=TRACE))
        bob.take()
        alice.ask(way(headers=none) | {"ack_id": "r"})
        assert [message.keys() & {"headers"} for message in bob.take()] == [set()]

    @pytest.mark.parametrize("way", WAYS)
    def test_on_level_1_there_are_none(self, way: Callable[..., Fields]) -> None:
        stage = Stage()
        bob, alice = stage.peer("bob"), peer2(stage, "alice")
        bob.ask({"action": "subscribe", "topic": "t"})
        alice.ask(way(headers=TRACE))
        (message,) = bob.take()
        assert "headers" not in message
        assert message["data"] in (1, {"data": 1, "from": "alice"})

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("headers", [TRACE, 5, {"a": 5}, {"a": "x" * 5000}])
    def test_a_publisher_on_level_1_has_none(
        self, way: Callable[..., Fields], headers: object
    ) -> None:
        stage = Stage()
        bob, alice = subscriber(stage), stage.peer("alice")
        assert "error" not in codes(alice.ask(way(headers=headers)))
        assert seen(bob.take()) == [(1, None)]

    def test_in_the_order_in_which_they_were_written(self) -> None:
        """Names may be written with escapes, and more than once: the last one counts."""
        stage = Stage()
        bob, alice = subscriber(stage), peer2(stage, "alice")
        written = b'{ "z":"1", "\\u0061" : "\\u00e9", "z": "2", "":"" }'
        text = b'{"action":"publish","headers":%b,"topic":"t","data":[1.00],"headers":%b}'
        alice.feed(frame(text % (b'{"lost":"1"}', written)))
        got = bob.read()
        assert '"headers":{"z":"2","a":"é","":""}'.encode() in got
        assert b'"data":[1.00]' in got

    def test_those_of_a_batch_are_those_of_each_payload(self) -> None:
        stage = Stage()
        bob, alice = subscriber(stage), peer2(stage, "alice")
        old = stage.peer("old")
        old.ask({"action": "subscribe", "topic": "t"})
        batch = {"action": "publish", "topic": "t", "batch": [1, 2], "headers": TRACE}
        assert alice.ask(batch) == []
        assert seen(bob.take()) == [([1, 2], TRACE)]
        assert [message["data"] for message in old.take()] == [
            {"data": number, "from": "alice"} for number in (1, 2)
        ]
        assert alice.ask(batch | {"batch": []}) == []
        assert bob.take() == []

    def test_a_batch_of_which_a_payload_is_refused(self) -> None:
        stage = Stage(limits=ServerLimits(max_depth=2))
        bob, alice = subscriber(stage), peer2(stage, "alice")
        batch = {"action": "publish", "topic": "t", "batch": [1, [[[]]], 2], "headers": TRACE}
        assert codes(alice.ask(batch)) == ["bad_message"]
        assert seen(bob.take()) == [([1, 2], TRACE)]
        (error,) = alice.ask(batch | {"headers": 5})
        assert error["error"] == WRONG, "and no second one"
        assert bob.take() == []

    def test_messages_with_and_without_do_not_mix(self) -> None:
        """Those that come together are delivered together, if they are alike."""
        stage = Stage()
        bob, alice = subscriber(stage), peer2(stage, "alice")
        many = [TRACE, None, None, OTHER, TRACE, TRACE, None]
        sent = [publish(data=number, headers=one) for number, one in enumerate(many)]
        assert alice.ask(*sent) == []
        assert alice.ask(sent) == []
        got = [
            (payload, headers)
            for data, headers in seen(bob.take())
            for payload in (data if isinstance(data, list) else [data])
        ]
        assert got == 2 * list(enumerate(many))

    def test_a_receipt_tells_how_many_got_it(self) -> None:
        stage = Stage()
        bob, alice = subscriber(stage), peer2(stage, "alice")
        (receipt,) = alice.ask(publish(headers=TRACE, receipt="r"))
        assert (receipt["action"], receipt["receipt"], receipt["delivered"]) == (
            "published",
            "r",
            1,
        )
        assert seen(bob.take()) == [(1, TRACE)]

    def test_to_a_pattern(self) -> None:
        stage = Stage()
        bob, alice = subscriber(stage, pattern="*"), peer2(stage, "alice")
        alice.ask(publish(headers=TRACE), ask(headers=OTHER))
        assert seen(bob.take()) == [(1, TRACE), (1, OTHER)]

    def test_what_has_room_of_a_batch_has_them_too(self) -> None:
        """A queue that is too small for all of it takes the first parts."""
        stage = Stage(limits=ServerLimits(queue_bytes=500, overflow=Overflow.DROP_NEWEST))
        bob, alice = subscriber(stage), peer2(stage, "alice")
        payloads = ["x" * 50 + str(number) for number in range(9)]
        batch = {"action": "publish", "topic": "t", "batch": payloads, "headers": TRACE}
        alice.ask(batch)
        got = seen(bob.take())
        assert 1 <= len(got) < len(payloads)
        assert got == [(payload, TRACE) for payload in payloads[: len(got)]]

    def test_nothing_else_has_headers(self) -> None:
        stage = Stage()
        alice = peer2(stage, "alice")
        for fields in (
            {"action": "subscribe", "topic": "t"},
            {"action": "cancel_ack", "ack_id": "q"},
            {"action": "ping", "from": "alice"},
        ):
            (answer,) = alice.ask(fields | {"headers": 5})
            assert answer["action"] != "error"
            assert "headers" not in answer


class TestGroups:
    def test_a_member_gets_them(self) -> None:
        stage = Stage()
        bob = subscriber(stage, pattern="*", group="g")
        alice = peer2(stage, "alice")
        alice.ask(publish(headers=TRACE), ask(headers=OTHER), publish())
        got = bob.take()
        assert seen(got) == [(1, TRACE), (1, OTHER), (1, None)]
        assert [(one["group"], one["pattern"]) for one in got] == 3 * [("g", "*")]

    def test_each_share_of_a_batch_has_them(self) -> None:
        stage = Stage()
        members = [subscriber(stage, name, topic="t", group="g") for name in ("bob", "carol")]
        batch = {"action": "publish", "topic": "t", "batch": [1, 2, 3], "headers": TRACE}
        peer2(stage, "alice").ask(batch)
        assert [seen(member.take()) for member in members] == [[([1, 3], TRACE)], [(2, TRACE)]]

    def test_they_wait_with_the_message_and_go_with_each_attempt(self) -> None:
        stage = Stage()
        bob, carol = (subscriber(stage, one, topic="t", group="g") for one in ("bob", "carol"))
        last = {"y": "last"}
        sent = enumerate((TRACE, OTHER, last))
        peer2(stage, "alice").ask(*(ask(ack_id=str(n), headers=one) for n, one in sent))
        assert seen(bob.take()) == [(1, TRACE)]
        bob.connection.connection_lost(stage.clock.now)
        stage.finish()
        got = []
        for _ in range(3):
            (message,) = carol.take()
            got.append((message["headers"], message.get("attempt")))
            carol.send({"action": "ack", "ack_id": message["ack_id"], "success": True})
        assert got == [(OTHER, None), (TRACE, 2), (last, None)]

    def test_they_count_as_memory_while_the_message_waits(self) -> None:
        stage = Stage()
        subscriber(stage, topic="t", group="g")
        alice, acks, kept = peer2(stage, "alice"), stage.hub.state.acks, []
        for ack_id, headers in (("1", None), ("2", {"a": "x" * 1000})):
            before = acks._cost
            assert alice.ask(ask(ack_id=ack_id, headers=headers)) == []
            kept.append(acks._cost - before)
        assert kept[1] - kept[0] == len('{"a":""}') + 1000


class TestRefused:
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("headers", BAD)
    def test_what_is_no_object_of_texts(self, way: Callable[..., Fields], headers: object) -> None:
        stage = Stage()
        bob, alice = subscriber(stage), peer2(stage, "alice")
        request = way(headers=headers)
        (error,) = alice.ask(request)
        names = ("topic", "to", "ack_id")
        named: Fields = {name: request[name] for name in names if name in request}
        assert error == {
            "action": "error",
            "error": WRONG,
            "code": "bad_message",
            "request": request["action"],
            **named,
        }
        assert bob.take() == []
        assert not len(stage.hub.state.acks)
        assert stage.hub.stats.published == 0

    @pytest.mark.parametrize("way", WAYS)
    def test_more_bytes_than_the_limit(self, way: Callable[..., Fields]) -> None:
        stage = Stage(limits=ServerLimits(max_headers=20))
        bob, alice = subscriber(stage), peer2(stage, "alice")
        largest = {"a": "é" * 6}
        assert len(orjson.dumps(largest)) == 20
        assert alice.ask(way(headers=largest)) == []
        assert seen(bob.take()) == [(1, largest)]
        (error,) = alice.ask(way(headers={"a": "é" * 6 + "x"}) | {"ack_id": "r"})
        assert error["error"] == "the headers have more than 20 bytes"
        assert error["code"] == "bad_request"
        assert bob.take() == []

    def test_spaces_between_them_do_not_count(self) -> None:
        stage = Stage(limits=ServerLimits(max_headers=20))
        bob, alice = subscriber(stage), peer2(stage, "alice")
        spaces = b" " * 30
        text = b'{"action":"publish","topic":"t","data":1,"headers":{%b"a":%b"b"}}'
        alice.feed(frame(text % (spaces, spaces)))
        assert seen(bob.take()) == [(1, {"a": "b"})]


class TestHistory:
    @staticmethod
    def stage() -> tuple[Stage, Peer]:
        stage = Stage(history=KEPT)
        return stage, peer2(stage, "alice")

    def test_messages_of_the_past_have_them(self) -> None:
        stage, alice = self.stage()
        batch = {"action": "publish", "topic": "kept", "batch": [2, 3], "headers": TRACE}
        alice.ask(publish("kept"), batch, ask("kept", headers=OTHER))
        bob = peer2(stage, "bob")
        got = bob.ask({"action": "subscribe", "topic": "kept", "last": 3})[1:]
        assert [(one["offset"], *pair) for one, pair in zip(got, seen(got), strict=True)] == [
            (2, [2, 3], TRACE),
            (4, 1, OTHER),
        ]
        carol = peer2(stage, "carol")
        got = carol.ask({"action": "subscribe", "topic": "kept", "last": 2})[1:]
        assert seen(got) == [(3, TRACE), (1, OTHER)], "also a part of what came together"

    def test_those_that_are_asked_for(self) -> None:
        _, alice = self.stage()
        batch = {"action": "publish", "topic": "kept", "batch": [2, 3], "headers": TRACE}
        alice.ask(publish("kept"), batch)
        (answer,) = alice.ask({"action": "history", "topic": "kept", "nonce": "n"})
        assert answer["messages"] == [
            {"offset": 1, "from": "alice", "data": 1},
            {"offset": 2, "from": "alice", "data": 2, "headers": TRACE},
            {"offset": 3, "from": "alice", "data": 3, "headers": TRACE},
        ]

    def test_one_that_is_delivered_has_its_place_besides(self) -> None:
        stage, alice = self.stage()
        bob = subscriber(stage, topic="kept")
        alice.ask(publish("kept", headers=TRACE), ask("kept", headers=OTHER))
        got = bob.take()
        assert seen(got) == [(1, TRACE), (1, OTHER)]
        assert [one["offset"] for one in got] == [1, 2]

    def test_they_count_as_memory(self) -> None:
        stage, alice = self.stage()
        logs = stage.hub.state.logs
        assert logs is not None
        sizes = []
        for headers in ({}, {"a": "x" * 1000}):
            before = logs.size
            alice.ask(publish("kept", headers=headers))
            sizes.append(logs.size - before)
        assert sizes[1] - sizes[0] == len(b'{"a":""}') + 1000


class TestTheProgram:
    """The server's own program gets and sends them like a client."""

    def test_what_it_gets(self) -> None:
        stage = Stage(history=KEPT)
        local, alice = stage.hub.local, peer2(stage, "alice")
        topic, direct_messages = local.subscribe("t"), local.subscriptions.open_direct()
        group = local.subscribe(InGroup("t", "g"))
        batch = {"action": "publish", "topic": "t", "batch": [1, 2], "headers": TRACE}
        alice.send(batch, ask(headers=OTHER), publish())
        assert headers_of(topic) == headers_of(group) == [TRACE, TRACE, OTHER, {}]
        alice.send(
            direct("server", headers=TRACE), ask_id("server", headers=OTHER) | {"ack_id": "r"}
        )
        alice.send(direct("server"))
        assert headers_of(direct_messages) == [TRACE, OTHER, {}]

    def test_what_it_sends(self) -> None:
        stage = Stage()
        bob, old = subscriber(stage), stage.peer("old")
        old.ask({"action": "subscribe", "topic": "t"})
        hub, now = stage.hub, stage.clock.now
        for number, (written, headers) in enumerate(((b'{"x":""}', OTHER), (b"", None))):
            hub.publish("t", number, now, written)
            hub.publish_to_id("bob", number, now, written)
            hub.publish_with_ack("t", number, 5, now, headers=written)
            hub.publish_to_id_with_ack("bob", number, 5, now, headers=written)
            assert seen(bob.take()) == 4 * [(number, headers)]
            assert [message.keys() & {"headers"} for message in old.take()] == 2 * [set()]

    def test_what_it_sends_to_itself(self) -> None:
        """Also where nobody else gets it, which takes a shorter way."""
        stage = Stage()
        hub, now = stage.hub, stage.clock.now
        topic, directly = hub.local.subscribe("t"), hub.local.subscriptions.open_direct()
        for written in (b'{"x":""}', b""):
            assert hub.publish("t", 1, now, written) == 1
            assert hub.publish_to_id("server", 1, now, written)
            hub.publish_with_ack("t", 1, 5, now, headers=written)
            hub.publish_to_id_with_ack("server", 1, 5, now, headers=written)
        assert headers_of(topic) == headers_of(directly) == [OTHER, OTHER, {}, {}]

    def test_the_past_that_it_reads(self) -> None:
        stage = Stage(history=KEPT)
        hub, now = stage.hub, stage.clock.now
        for written in (b'{"x":""}', b""):
            hub.publish("kept", 1, now, written)
        past = hub.local.history("kept", Position("", 0), 10)
        assert [message.headers for message in past.messages] == [OTHER, {}]

    @pytest.mark.parametrize("way", WAYS)
    def test_their_bytes_count_in_its_mailboxes(self, way: Callable[..., Fields]) -> None:
        """As many as for a client that gets the same, or a mailbox would hold much more."""
        stage = Stage()
        local, alice, bob = stage.hub.local, peer2(stage, "alice"), subscriber(stage)
        own = [local.subscribe("t"), local.subscriptions.open_direct()]
        sizes: list[tuple[int, int]] = []
        for headers in (None, {"a": "x" * 1000}):
            request = way(headers=headers) | {"ack_id": str(len(sizes))}
            sizes.append(self._sizes(stage, alice, bob, own, request))
        ours, theirs = (after - before for before, after in zip(*sizes, strict=True))
        assert ours == theirs == len(',"headers":{"a":""}') + 1000

    @staticmethod
    def _sizes(
        stage: Stage, alice: Peer, bob: Peer, own: list[Mailbox], request: Fields
    ) -> tuple[int, int]:
        """The bytes of a message as the program knows them, and those that a client reads."""
        alice.send(request)
        if "to" in request:
            alice.send(request | {"to": "server", "ack_id": f"own {request['ack_id']}"})
        (message,) = (message for mailbox in own for message in mailbox.take_all())
        return message.size, len(orjson.dumps(bob.take()[0]))


def headers_of(mailbox: Mailbox) -> list[Any]:
    return [message.headers for message in mailbox.take_all()]


class TestMessages:
    """``message.headers``, as a program uses it."""

    def test_each_message_of_a_batch_has_its_own(self) -> None:
        stage = Stage()
        mailbox = stage.hub.local.subscribe("t")
        batch = {"action": "publish", "topic": "t", "batch": [1, 2], "headers": TRACE}
        peer2(stage, "alice").send(batch)
        one, two = mailbox.take_all()
        changed: Any = one.headers
        changed["kind"] = "other"
        assert two.headers == one.headers == TRACE

    def test_one_that_the_program_makes_has_none(self) -> None:
        message = Message("t", 1, "me")
        changed: Any = message.headers
        changed["a"] = "b"
        assert message.headers == Message("t", 1, "me").headers == {}


class TestRelays:
    def test_nothing_of_them_goes_to_another_server(self) -> None:
        stage = Stage(permissions=Permissions(relay=["there:1"]))
        alice = peer2(stage, "alice")
        relay = {"action": "publish_to_server", "to": "there:1", "data": 1}
        assert alice.ask(relay | {"headers": TRACE}) == alice.ask(relay) == []
        one, two = (each for each in stage.hub.events() if isinstance(each, RelayRequested))
        assert orjson.dumps(one.data) == orjson.dumps(two.data) == b"1"
        assert one._replace(data=None) == two._replace(data=None)

    def test_nor_comes_from_one(self) -> None:
        stage = Stage()
        stage.hub.addresses.add("here:1")
        bob = subscriber(stage)
        payload = {"data": {"topic": "t", "data": 1}, "from": "x---ws://there:1/"}
        relayed = {"action": "server-to-server", "to": "here:1", "data": payload}
        assert peer2(stage, "relay").ask(relayed | {"headers": TRACE}) == []
        assert seen(bob.take()) == [(1, None)]
