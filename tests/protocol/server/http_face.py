"""What the tests of the HTTP face share: requests made by hand, and what came of them."""

from collections.abc import Sequence
from typing import Any, Protocol

import h11
import orjson

from kps.protocol.server.hub import Hub
from kps.testing.network import ManualClock
from tests.event_source import Event, EventReader
from tests.protocol.helpers import ADDRESS, Answer, Fields, Peer, Stage, request

HOST = ("Host", "localhost:9313")
Headers = Sequence[tuple[str, str]]


class Place(Protocol):
    """A server, or one node of several, and its time."""

    @property
    def hub(self) -> Hub: ...

    @property
    def clock(self) -> ManualClock: ...


class Asker(Peer):
    """Somebody who makes one HTTP request."""

    method = "GET"

    @property
    def reply(self) -> tuple[int, Any]:
        """The status of the answer, and its JSON; ``None`` if there is no body."""
        self.read()
        answer = Answer(self.raw, self.method)
        assert answer.rest == b""
        return answer.status, orjson.loads(answer.body) if answer.body else None

    @property
    def fields(self) -> dict[str, str]:
        """The header fields of the answer."""
        self.read()
        return Answer(self.raw, self.method).headers

    @property
    def has_reply(self) -> bool:
        self.read()
        return bool(self.raw)


def post(
    stage: Place,
    target: str,
    body: bytes | None = b"null",
    headers: Headers = (),
    *,
    method: str = "POST",
    address: str = ADDRESS,
    sizes: Sequence[int] = (),
    host: str = HOST[1],
) -> Asker:
    """Make a request with a body, in a new turn."""
    stage.hub.take_unflushed()
    asker = Asker(stage.hub, stage.clock, address)
    asker.method = method
    asker.feed(request_with(target, body, headers, method=method, host=host), sizes)
    return asker


def request_with(
    target: str,
    body: bytes | None,
    headers: Headers = (),
    *,
    method: str = "POST",
    host: str = HOST[1],
) -> bytes:
    """A request with a body, if that is not ``None``."""
    length = [] if body is None else [("Content-Length", str(len(body)))]
    head = request(target, method=method, headers=[("Host", host), *length, *headers])
    return head + (body or b"")


class Reader(Asker):
    """Somebody who reads an event stream."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.events_reader = EventReader()
        self._head: h11.Response | None = None

    def events(self) -> list[Event]:
        """The events that have come since the last call."""
        data = self.read()
        if self._head is None:
            head, found, data = self.raw.partition(b"\r\n\r\n")
            assert found, self.raw
            http = h11.Connection(h11.CLIENT)
            http.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
            http.receive_data(head + b"\r\n\r\n")
            event = http.next_event()
            assert isinstance(event, h11.Response)
            assert event.status_code == 200
            names = [name for name, _ in event.headers]
            assert not {b"content-length", b"transfer-encoding"} & set(names)
            self._head = event
        return self.events_reader.feed(data)

    def messages(self) -> list[Any]:
        """The payloads of the messages that have come since the last call."""
        return [event.data["data"] for event in self.events() if event.kind == "message"]


def stream(
    stage: Place, target: str, last_id: str = "", headers: Headers = (), address: str = ADDRESS
) -> Reader:
    """Begin to read an event stream, in a new turn."""
    stage.hub.take_unflushed()
    reader = Reader(stage.hub, stage.clock, address)
    reader.events_reader = EventReader(last_id)
    known = [("Last-Event-ID", last_id)] if last_id else []
    reader.feed(request(target, headers=[HOST, *known, *headers]))
    return reader


def worker(stage: Stage, topic: str, client_id: str = "bob") -> Peer:
    """A client of level 2 that has subscribed to a topic."""
    peer = stage.peer().upgrade()
    peer.ask({"action": "ping", "from": client_id, "proto": 2})
    peer.ask({"action": "subscribe", "topic": topic})
    return peer


def answer_ask(peer: Peer, **outcome: Any) -> Fields:
    """Answer the ack request that has come; return it."""
    (asked,) = peer.take()
    assert asked["action"] == "publish_ack"
    peer.send({"action": "ack", "ack_id": asked["ack_id"], "success": True} | outcome)
    return asked
