"""Event streams: ``GET /sse``."""

from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import Refused
from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.bus.history import History
from kps.protocol.limits import Overflow
from kps.protocol.server.events import (
    ClientLeft,
    ClientRegistered,
    SessionFailed,
    SubscriptionRequested,
)
from kps.protocol.server.exchange import Exchange
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.protocol.wire.outbox import Outbox
from kps.protocol.wire.websocket import Closed, ClosedBy
from tests.event_source import EventReader
from tests.protocol.helpers import Stage, dismiss
from tests.protocol.server.http_face import post, stream, worker

RULES = (History("h/**", size=100),)


def kept() -> Stage:
    return Stage(history=RULES)


def publish(stage: Stage, topic: str, *payloads: Any) -> None:
    for payload in payloads:
        stage.hub.publish(topic, payload, stage.clock.now)


def epoch_of(stage: Stage) -> str:
    logs = stage.hub.state.logs
    assert logs is not None
    return logs.epoch


class TestMessages:
    def test_they_come_as_events(self) -> None:
        stage = Stage()
        bob, reader = worker(stage, "other"), stream(stage, "/sse?topic=t&topic=u")
        assert reader.events() == []
        assert reader.events_reader.retry == 3000
        bob.send(
            {"action": "publish", "topic": "t", "data": {"a": "\n"}},
            {"action": "publish", "topic": "u", "batch": [1, 2], "headers": {"x": "y"}},
            {"action": "publish", "topic": "v", "data": 0},
        )
        assert [(event.kind, event.data, event.last_id) for event in reader.events()] == [
            ("message", {"topic": "t", "from": "bob", "data": {"a": "\n"}}, ""),
            ("message", {"topic": "u", "from": "bob", "headers": {"x": "y"}, "data": 1}, ""),
            ("message", {"topic": "u", "from": "bob", "headers": {"x": "y"}, "data": 2}, ""),
        ]

    def test_the_bytes_are_shared(self) -> None:
        stage = Stage()
        readers = [stream(stage, "/sse?topic=t") for _ in range(3)]
        for reader in readers:
            reader.events()
        publish(stage, "t", "a" * 1000)
        queued = [reader.connection._socket.outbox._entries[0].data for reader in readers]
        assert queued[0] is queued[1] is queued[2]

    def test_patterns(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?pattern=a/*&topic=a/1")
        publish(stage, "a/1", 1)
        publish(stage, "a/2", 2)
        publish(stage, "b", 3)
        assert reader.messages() == [1, 2]

    def test_json_with_ends_of_lines_stays_one_event(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?topic=t")
        post(stage, "/publish?topic=t", b'{\r\n  "a": "\\n",\n"b":\r1}')
        assert reader.messages() == [{"a": "\n", "b": 1}]

    def test_direct_messages_have_a_name_of_their_own(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?topic=t&id=eve")
        assert reader.connection.session.id == "eve"
        reader.events()
        assert b"\r\nkps-id: eve\r\n" in reader.raw
        assert post(stage, "/publish?to=eve", b"5").reply == (204, None)
        assert [(event.kind, event.data) for event in reader.events()] == [
            ("direct", {"from": "http:", "data": 5})
        ]

    def test_it_gets_what_wants_an_ack_and_is_not_asked(self) -> None:
        stage = kept()
        readers = [stream(stage, target) for target in ("/sse?topic=h/1", "/sse?pattern=h/*")]
        assert post(stage, "/publish?topic=h/1&ack=1", b"1").reply == (200, {"complete": True})
        assert [reader.messages() for reader in readers] == [[1], [1]]
        status, refusal = post(stage, "/request?topic=h/1", b"2").reply
        assert (status, refusal["code"]) == (404, "nobody")
        alice = worker(stage, "h/1", "alice")
        asker = post(stage, "/publish?topic=h/1&ack=1", b"3")
        (asked,) = alice.take()
        alice.send({"action": "ack", "ack_id": asked["ack_id"], "success": True})
        assert list(asker.reply[1]["responses"]) == ["alice"]
        assert readers[0].messages() == [2, 3]

    def test_one_that_is_expected_counts_as_absent(self) -> None:
        stage = Stage()
        stream(stage, "/sse?topic=t&id=eve")
        bob = worker(stage, "other")
        ask = {"action": "publish_with_ack", "topic": "t", "ack_id": "1", "data": 1}
        (reply,) = bob.ask(ask | {"expect": ["eve"], "timeout": 1})
        assert reply["responses"]["eve"]["error"] == "absent"


class TestWhoMay:
    def test_it_is_a_client(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?topic=t")
        client_id = reader.connection.session.id
        assert list(stage.hub.clients) == [client_id]
        assert stage.hub.count_subscribers("t") == (0, 1, 1)
        assert any(isinstance(event, ClientRegistered) for event in stage.hub.events())
        reader.connection.receive_eof(stage.clock.now)
        reader.connection.connection_lost(stage.clock.now)
        assert any(isinstance(event, ClientLeft) for event in stage.hub.events())
        assert (stage.hub.clients, stage.hub.connections) == ({}, {})
        assert stage.hub.count_subscribers("t") == (0, 0, 0)
        assert stage.hub.stats.lost == 0  # that is how streams end

    @pytest.mark.parametrize(
        ("target", "status", "code"),
        [
            ("/sse", 400, "bad_request"),
            ("/sse?topic=", 400, "bad_request"),
            ("/sse?topic=t&last=x", 400, "bad_request"),
            ("/sse?topic=t&since=x", 400, "bad_request"),
            ("/sse?topic=t&since=1%402%403&last_event_id=x", 400, "bad_request"),
            ("/sse?topic=t&group=g", 400, "bad_request"),
            ("/sse?topic=t&id=server", 409, "id_unavailable"),
            ("/sse?topic=t&id=http:x", 403, "forbidden"),
            ("/sse?topic=t&topic=secret", 403, "forbidden"),
            ("/sse?pattern=**", 403, "forbidden"),
            ("/sse?topic=__kps/stats", 403, "forbidden"),
        ],
    )
    def test_refusals(self, target: str, status: int, code: str) -> None:
        stage = Stage(permissions=Permissions(subscribe=["t"]))
        reader = stream(stage, target)
        told, refusal = reader.reply
        assert (told, refusal["code"]) == (status, code)
        assert stage.hub.clients == {}
        if code != "id_unavailable":  # which is known only where the id is taken
            assert post(stage, target, None, method="HEAD").reply == (status, None)

    def test_the_hook_decides_on_each_subscription(self) -> None:
        stage = Stage(asks_subscribe=True)
        reader = stream(stage, "/sse?topic=t&topic=u")
        for _ in range(2):
            assert not reader.has_reply
            (asked,) = (e for e in stage.hub.events() if isinstance(e, SubscriptionRequested))
            publish(stage, "t", asked.asked.topic)
            reader.identify(True)
        assert reader.messages() == ["u"]
        reader = stream(stage, "/sse?topic=t")
        reader.identify(Refused("not this one"))
        assert reader.reply == (403, {"code": "forbidden", "error": "not this one"})

    def test_a_token(self) -> None:
        stage = Stage(asks_token=True)
        assert stream(stage, "/sse?topic=t").reply[0] == 401
        assert stage.hub.clients == {}
        reader = stream(stage, "/sse?topic=t&token=x")
        reader.identify(Identity("alice", lifetime=10.0))
        assert reader.events() == []
        stage.advance(10.1)
        (end,) = reader.events()
        assert (end.kind, end.data["code"]) == ("end", 4002)
        assert reader.connection.output.name == "HALF_CLOSE"

    def test_head_tells_what_get_would(self) -> None:
        stage = Stage(asks_token=True)
        asker = post(stage, "/sse?topic=t", None, method="HEAD")
        assert asker.read().startswith(b"HTTP/1.1 401 ")
        asker = post(stage, "/sse?topic=t&token=x", None, method="HEAD")
        asker.identify(Identity("alice"))
        assert asker.fields["content-type"] == "text/event-stream"
        assert "content-length" not in asker.fields
        assert asker.raw.startswith(b"HTTP/1.1 200 ")
        for method in ("POST", "GE", "T", "HEA"):
            assert post(stage, "/sse?topic=t", b"1", method=method).reply[0] == 405
        assert stage.hub.clients == {}

    def test_pages(self) -> None:
        stage = Stage()
        own, foreign = ("Origin", "http://localhost:9313"), ("Origin", "http://evil.example")
        assert stream(stage, "/sse?topic=t", headers=[foreign]).reply[0] == 403
        reader = stream(stage, "/sse?topic=t", headers=[own])
        reader.events()
        head = reader.raw.lower()
        assert b"access-control-allow-origin: http://localhost:9313" in head
        assert b"access-control-expose-headers: kps-id" in head


class TestItsEnd:
    def test_another_connection_takes_the_id(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?topic=t&id=eve")
        stage.peer("eve")
        (end,) = reader.events()
        assert (end.kind, end.data["code"]) == ("end", 4001)

    def test_the_program_dismisses_it(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?topic=t&id=eve")
        assert dismiss(stage.hub, "eve", "go", stage.clock.now)
        (end,) = reader.events()
        assert end.data == {"code": 4003, "reason": "go"}

    def test_the_server_stops(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?topic=t")
        publish(stage, "t", 1)
        stage.hub.shutdown(1.0, stage.clock.now)
        message, end = reader.events()
        assert (message.data["data"], end.data["code"]) == (1, 1001)
        assert reader.connection.output.name == "HALF_CLOSE"
        stage.advance(6)
        assert reader.connection.output.name == "ABORT"

    def test_what_it_sends_does_not_matter(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?topic=t")
        reader.feed(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        publish(stage, "t", 1)
        assert reader.messages() == [1]


class TestSilence:
    def test_a_comment_now_and_then(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?topic=t")
        reader.events()
        stage.advance(25.1)
        assert reader.read() == b":\n\n"
        publish(stage, "t", 1)
        reader.events()
        stage.advance(24.9)
        assert reader.read() == b""
        stage.advance(25.1)
        assert reader.read() == b":\n\n"

    def test_a_reader_that_takes_nothing_is_dropped(self) -> None:
        stage = Stage()
        reader = stream(stage, "/sse?topic=t")
        reader.events()
        publish(stage, "t", 1)
        stage.advance(44.9)
        assert reader.connection.closed is None
        stage.advance(0.2)
        assert reader.connection.output.name == "ABORT"
        assert not [one for one in stage.hub.events() if isinstance(one, SessionFailed)]
        assert stage.hub.clients == {}


class TestSlowReaders:
    def test_by_default_the_stream_ends(self) -> None:
        stage = Stage(limits=ServerLimits(queue_messages=10))
        reader = stream(stage, "/sse?topic=t")
        reader.events()
        publish(stage, "t", *range(11))
        (end,) = reader.events()
        assert end.data == {"code": 1008, "reason": "slow consumer", "dropped": 11}
        assert stage.hub.dropped() == 11
        assert stage.hub.clients == {}

    @pytest.mark.parametrize(
        ("policy", "left"),
        [(Overflow.DROP_OLDEST, range(3, 13)), (Overflow.DROP_NEWEST, range(10))],
    )
    def test_or_it_tells_how_many_were_dropped(self, policy: Overflow, left: range) -> None:
        stage = Stage(limits=ServerLimits(queue_messages=10, overflow=policy))
        reader = stream(stage, "/sse?topic=t")
        reader.events()
        publish(stage, "t", *range(13))
        *messages, dropped = reader.events()
        assert [event.data["data"] for event in messages] == list(left)
        assert (dropped.kind, dropped.data) == ("dropped", {"dropped": 3})
        assert stage.hub.dropped() == 3
        publish(stage, "t", "more")
        assert reader.messages() == ["more"]

    def test_a_thousand_that_stop_reading_share_what_waits(self) -> None:
        limits = ServerLimits(queue_bytes=200_000, overflow=Overflow.DROP_OLDEST)
        stage = Stage(limits=limits)
        readers = [stream(stage, "/sse?topic=t") for _ in range(1000)]
        for reader in readers:
            reader.events()
        for _ in range(50):
            publish(stage, "t", "a" * 10_000)
        boxes = [reader.connection._socket.outbox for reader in readers]
        assert all(0 < box.pending_bytes <= 200_000 for box in boxes)
        kept = {id(entry): len(entry.data) for box in boxes for entry in box._entries}
        assert sum(kept.values()) <= 200_000
        assert stage.hub.dropped() == sum(box.dropped for box in boxes) > 0


class TestThePast:
    def test_the_id_of_an_event_is_its_place(self) -> None:
        stage = kept()
        publish(stage, "h/1", 0)
        reader = stream(stage, "/sse?topic=h/1")
        assert reader.events() == []
        epoch = epoch_of(stage)
        assert reader.events_reader.last_id == f"1@{epoch}"
        publish(stage, "h/1", 1, 2)
        assert [event.last_id for event in reader.events()] == [f"2@{epoch}", f"3@{epoch}"]

    @pytest.mark.parametrize("form", ["header", "last_event_id", "since"])
    def test_a_stream_goes_on_there(self, form: str) -> None:
        stage = kept()
        reader = stream(stage, "/sse?topic=h/1")
        publish(stage, "h/1", 0)
        reader.events()
        reader.connection.connection_lost(stage.clock.now)
        publish(stage, "h/1", 1, 2)
        last = reader.events_reader.last_id
        more, header = ("", last) if form == "header" else (f"&{form}={last}", "")
        again = stream(stage, "/sse?topic=h/1" + more, header)
        assert again.messages() == [1, 2]

    def test_the_header_is_newer_than_the_address(self) -> None:
        stage = kept()
        publish(stage, "h/1", *range(5))
        epoch = epoch_of(stage)
        reader = stream(stage, f"/sse?topic=h/1&last_event_id=1@{epoch}&last=9", f"3@{epoch}")
        assert reader.messages() == [3, 4]
        assert stream(stage, "/sse?topic=h/1&last=2").messages() == [3, 4]
        assert stream(stage, f"/sse?topic=h/1&last=2&since=1@{epoch}").messages() == [1, 2, 3, 4]

    def test_it_tells_what_it_cannot_have_again(self) -> None:
        stage = Stage(history=(History("h/**", size=2),))
        reader = stream(stage, "/sse?topic=h/1")
        publish(stage, "h/1", 0)
        reader.events()
        reader.connection.connection_lost(stage.clock.now)
        publish(stage, "h/1", *range(1, 6))
        gap, *rest = stream(stage, "/sse?topic=h/1", reader.events_reader.last_id).events()
        assert (gap.kind, gap.data) == ("gap", {"topic": "h/1", "lost": 3})
        assert [event.data["data"] for event in rest] == [4, 5]
        (gap, *_) = stream(stage, "/sse?topic=h/1&since=1@other").events()
        assert gap.data == {"topic": "h/1", "lost": None}
        (gap,) = stream(stage, "/sse?topic=plain&since=1@other").events()
        assert gap.data == {"topic": "plain", "lost": None}

    def test_a_long_past_comes_a_little_at_a_time(self) -> None:
        stage = Stage(history=RULES, limits=ServerLimits(queue_messages=20))
        publish(stage, "h/1", *range(100))
        reader = stream(stage, "/sse?topic=h/1&last=100")
        publish(stage, "h/1", 100)
        assert reader.messages() == list(range(101))

    @given(st.data())
    def test_nothing_is_lost_whenever_the_connection_is(self, data: st.DataObject) -> None:
        stage = kept()
        target = data.draw(
            st.sampled_from(
                ["/sse?topic=h/1", "/sse?topic=h/1&topic=h/2&topic=x", "/sse?pattern=h/*&topic=h/2"]
            )
        )
        topics = ["h/1", "h/2"] if "h/2" in target else ["h/1"]
        sent: dict[str, list[int]] = {topic: [] for topic in topics}
        got: dict[str, list[int]] = {topic: [] for topic in topics}
        reader, number = stream(stage, target), 0

        def read(cut: int | None = None) -> None:
            """Read what has come, or, before the connection is lost, a part of it."""
            taken = reader.read()
            if reader._head is None:
                reader._head = object()  # type: ignore[assignment]
                _, _, taken = taken.partition(b"\r\n\r\n")
            for event in reader.events_reader.feed(taken[:cut]):
                assert event.kind == "message"
                got[event.data["topic"]].append(event.data["data"])

        read()
        for step in data.draw(st.lists(st.sampled_from(["publish", "read", "lose"]), max_size=25)):
            if step == "publish":
                topic = data.draw(st.sampled_from(topics))
                sent[topic].append(number)
                publish(stage, topic, number)
                number += 1
            elif step == "read":
                read()
            else:
                read(data.draw(st.integers(0, 300)))
                reader.connection.connection_lost(stage.clock.now)
                reader = stream(stage, target, reader.events_reader.last_id)
        read()
        for topic in topics:
            if len(topics) == 1:
                assert got[topic] == sent[topic]
            assert list(dict.fromkeys(got[topic])) == sent[topic]


class ListCarrier:
    """A carrier as a framework has it: it takes chunks, and gives a response or a stream."""

    def __init__(self, body: bytes = b"") -> None:
        self.response: HttpResponse | None = None
        self.outbox: Outbox | None = None
        self.is_over = False
        self._body = body

    def read_body(self, receive: Any, end: Any) -> None:
        for byte in self._body:
            receive(bytes([byte]))
        end()

    def respond(self, response: HttpResponse) -> None:
        self.response = response

    def stream(self, head: HttpResponse, outbox: Outbox) -> None:
        self.response, self.outbox = head, outbox

    def touch(self) -> None:
        pass

    def end_stream(self, closed: Closed) -> None:
        self.is_over = True

    def abort(self) -> None:
        self.is_over = True


class TestAnotherCarrier:
    def begin(self, stage: Stage, carrier: ListCarrier, method: str, target: str) -> Exchange:
        length = (("content-length", str(len(carrier._body))),) if method == "POST" else ()
        request = HttpRequest(method, target, length, "elsewhere")
        new = partial(self._new, stage, request, carrier)
        exchange = stage.hub.adopt(new, stage.clock.now)
        exchange.begin()
        return exchange

    def _new(
        self, stage: Stage, request: HttpRequest, carrier: ListCarrier, number: int
    ) -> Exchange:
        hub = stage.hub
        return Exchange(hub.state, hub.delivery, number, request, carrier, forget=hub.forget)

    def test_one_answer(self) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        carrier = ListCarrier(b'{"a":1}')
        self.begin(stage, carrier, "POST", "/publish?topic=t&receipt=1")
        assert carrier.response is not None
        assert orjson.loads(carrier.response.body) == {"delivered": 1}
        (got,) = bob.take()
        assert got["data"] == {"a": 1}
        assert len(stage.hub.connections) == 1

    def test_hooks_and_an_answer_that_comes_later(self) -> None:
        stage = Stage(asks_upgrade=True)
        carrier = ListCarrier(b"1")
        exchange = self.begin(stage, carrier, "POST", "/request?topic=t&timeout=2")
        assert carrier.response is None
        stage.hub.decide(exchange.number, True, stage.clock.now)
        assert carrier.response is not None
        assert carrier.response.status == 404

    def test_a_stream(self) -> None:
        stage = kept()
        publish(stage, "h/1", *range(50))
        carrier = ListCarrier()
        exchange = self.begin(stage, carrier, "GET", "/sse?topic=h/1&last=50")
        assert carrier.response is not None
        assert carrier.outbox is not None
        assert carrier.response.content_type == "text/event-stream"
        events = EventReader()
        got = []
        while data := carrier.outbox.take(1000):
            got += events.feed(data)
        assert [event.data["data"] for event in got] == list(range(50))
        exchange.shut_down(1.0)
        assert carrier.is_over
        assert [event.kind for event in events.feed(carrier.outbox.take(1000))] == ["end"]
        assert stage.hub.connections == {}

    def test_one_that_goes_away(self) -> None:
        stage = Stage()
        carrier = ListCarrier()
        exchange = self.begin(stage, carrier, "GET", "/sse?topic=t")
        assert len(stage.hub.clients) == 1
        exchange.lost(Closed(1006, "gone", ClosedBy.LOST))
        assert (stage.hub.clients, stage.hub.connections) == ({}, {})
