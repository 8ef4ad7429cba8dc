"""Peers made by hand: one end runs the core, the other is bytes that a test chooses.

They read what the core sends with wsproto and h11, so that the core is never checked
against its own idea of the protocol.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

import h11
import orjson
from hypothesis import settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.utilities import generate_accept_token

from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.events import ClientEvent, ConnectNeeded
from kps.protocol.client.link import ClientLink
from kps.protocol.client.reconnect import Backoff
from kps.protocol.client.session import ClientSession
from kps.protocol.server.config import HubConfig
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.hub import Hub
from kps.protocol.server.session import ServerSession
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.websocket import Output
from kps.testing.network import ManualClock, split

Fields = dict[str, Any]

# For tests that look for rare combinations: more examples than usual.
THOROUGH = settings(max_examples=3 * settings().max_examples)

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
KEY = b"\x37\xfa\x21\x3d"
PATH = "/ws/bus"
ADDRESS = "192.0.2.1:40000"
"""Where a peer made by hand comes from, unless it says otherwise."""


def frame(
    payload: bytes = b"",
    *,
    opcode: int = TEXT,
    fin: bool = True,
    reserved: int = 0,
    key: bytes | None = KEY,
    length_bytes: int | None = None,
    claim: int | None = None,
) -> bytes:
    """Any WebSocket frame, also a wrong one.

    ``length_bytes`` (0, 2 or 8) forces a form of the length, ``claim`` another length than
    the payload's. Without a ``key`` it is not masked.
    """
    length = len(payload) if claim is None else claim
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    second = length if length_bytes == 0 else 126 if length_bytes == 2 else 127
    head = bytes([fin << 7 | reserved << 4 | opcode, (key is not None) << 7 | second])
    head += length.to_bytes(length_bytes, "big") if length_bytes else b""
    if key is None:
        return head + payload
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def levels(value: Any) -> int:
    """How many arrays and objects are within each other, at most."""
    count, level = 0, [value]
    while containers := [one for one in level if isinstance(one, (dict, list))]:
        count += 1
        level = [
            part for one in containers for part in (one.values() if type(one) is dict else one)
        ]
    return count


def json_frame(fields: Any, *, key: bytes | None = KEY) -> bytes:
    """A text frame of JSON: any value, also one that is no message."""
    return frame(orjson.dumps(fields), key=key)


def close_frame(code: int, reason: str = "", *, key: bytes | None = KEY) -> bytes:
    return frame(code.to_bytes(2, "big") + reason.encode(), opcode=CLOSE, key=key)


def request(
    target: str = PATH,
    *,
    method: str = "GET",
    version: str = "1.1",
    headers: Sequence[tuple[str, str]] = (("Host", "localhost:9313"),),
) -> bytes:
    """An HTTP request without a body."""
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def upgrade(
    target: str = PATH,
    *,
    method: str = "GET",
    version: str = "1.1",
    changed: Mapping[str, str | None] | None = None,
) -> bytes:
    """A request for an upgrade. ``changed`` sets headers, and removes them with ``None``."""
    headers: dict[str, str | None] = {
        "host": "localhost:9313",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    }
    headers.update(changed or {})
    return request(
        target,
        method=method,
        version=version,
        headers=[(name, value) for name, value in headers.items() if value is not None],
    )


class Answer:
    """An HTTP answer, read by h11, and the bytes that follow it."""

    def __init__(self, data: bytes, method: str = "GET") -> None:
        reader = h11.Connection(h11.CLIENT)
        # An upgrade must have been asked for, or h11 does not take a 101.
        headers = [("host", "x"), ("upgrade", "websocket"), ("connection", "upgrade")]
        reader.send(h11.Request(method=method, target="/", headers=headers))
        reader.send(h11.EndOfMessage())
        reader.receive_data(data)
        head = reader.next_event()
        assert isinstance(head, (h11.Response, h11.InformationalResponse)), head
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}
        self.body = b""
        if self.status != 101:
            while isinstance(event := reader.next_event(), h11.Data):
                self.body += bytes(event.data)
            assert isinstance(event, h11.EndOfMessage), "the body is shorter than it says"
        self.rest = reader.trailing_data[0]


class Inbox:
    """What one end got over a WebSocket, read by wsproto."""

    def __init__(self, reader: ConnectionType) -> None:
        self._connection = Connection(reader)
        self._text = ""
        self._messages: list[Fields] = []
        self.frames = 0
        """Text messages that came; each holds one message of the protocol, or an array."""
        self.pings = 0
        self.pongs: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        """Code and reason of the close frame that came."""

    def feed(self, data: bytes) -> None:
        assert not data or self.closed is None, "bytes after the close frame"
        self._connection.receive_data(data)
        for event in self._connection.events():
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, TextMessage):
            self._text += event.data
            if event.message_finished:
                loaded = orjson.loads(self._text)
                self._messages += loaded if isinstance(loaded, list) else [loaded]
                self._text = ""
                self.frames += 1
        elif isinstance(event, Ping):
            self.pings += 1
        elif isinstance(event, Pong):
            self.pongs.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            # wsproto reports what it cannot read in the same way; that is never expected.
            assert self._connection.state.name == "REMOTE_CLOSING", event
            self.closed = int(event.code), event.reason or ""
        else:
            raise AssertionError(f"unexpected: {event}")

    def take(self) -> list[Fields]:
        messages, self._messages = self._messages, []
        return messages


class Peer:
    """A client made by hand, before a real server session."""

    def __init__(self, hub: Hub, clock: ManualClock, address: str = ADDRESS) -> None:
        self.connection: WebSocketConnection = hub.connect(address, clock.now)
        self.session: ServerSession = self.connection.session
        self.raw = b""
        """Every byte that the server sent."""
        self.answer: Answer | None = None
        self.inbox = Inbox(ConnectionType.CLIENT)
        self._clock = clock
        self._hub = hub

    def decide(self, verdict: object) -> None:
        """Answer the request for an upgrade, as a hook of the program does."""
        self._hub.decide(self.connection.number, verdict, self._clock.now)

    def identify(self, verdict: object) -> None:
        """Answer for a token, as a hook of the program does."""
        self._hub.judge(self.connection.number, verdict, self._clock.now)

    def feed(self, data: bytes, sizes: Sequence[int] = ()) -> None:
        """Let the server receive bytes, in pieces of the given sizes."""
        for piece in split(data, sizes):
            self.connection.receive_data(piece, self._clock.now)

    def read(self) -> bytes:
        """Take everything that the server has to write."""
        taken = b""
        while data := self.connection.data_to_send():
            taken += data
        self.raw += taken
        return taken

    def upgrade(self) -> "Peer":
        """Go through the opening handshake, in a new turn."""
        self._hub.take_unflushed()
        self.feed(upgrade())
        self.read_upgrade()
        return self

    def read_upgrade(self) -> None:
        self.answer = Answer(self.read())
        assert self.answer.status == 101, self.answer.body
        self.inbox.feed(self.answer.rest)

    def register(self, client_id: str) -> "Peer":
        """Go through the opening handshake, and register."""
        self.upgrade()
        assert self.ask({"action": "ping", "from": client_id}) == [
            {"action": "pong", "id": client_id}
        ]
        return self

    def send(self, *messages: Any) -> None:
        self.feed(b"".join(json_frame(fields) for fields in messages))

    def take(self) -> list[Fields]:
        """The messages that came from the server since the last call."""
        self.inbox.feed(self.read())
        return self.inbox.take()

    def ask(self, *messages: Any) -> list[Fields]:
        """Send messages, and take what the server answers at once."""
        self.send(*messages)
        return self.take()

    @property
    def closed(self) -> tuple[int, str] | None:
        """Code and reason with which the server closed."""
        self.inbox.feed(self.read())
        return self.inbox.closed


def new_hub(
    clock: ManualClock | None = None, *, limits: ServerLimits | None = None, **config: Any
) -> Hub:
    """A hub that gives its clients the ids ``generated-2`` and so on."""
    count = iter(range(1, 1_000_000))
    return Hub(
        HubConfig(id="server", limits=limits or ServerLimits(), **config),
        new_id=lambda: f"generated-{next(count)}",
        now=(clock or ManualClock()).now,
    )


class Stage:
    """A hub, a clock, and peers made by hand."""

    def __init__(self, *, limits: ServerLimits | None = None, **config: Any) -> None:
        self.clock = ManualClock()
        self.hub = new_hub(self.clock, limits=limits, **config)

    def peer(self, client_id: str = "") -> Peer:
        """A new connection; with an id, one that has registered."""
        peer = Peer(self.hub, self.clock)
        return peer.register(client_id) if client_id else peer

    def finish(self) -> None:
        """Go on until nobody waits for a turn. Nobody writes meanwhile."""
        self.hub.take_unflushed()
        while self.hub.state.turns.are_due:
            self.hub.handle_timeout(self.clock.now)
            self.hub.take_unflushed()

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at each of the hub's deadlines on the way."""
        end = self.clock.now + seconds
        while (due := self.hub.next_deadline()) is not None and due <= end:
            self.clock.now = max(self.clock.now, due)
            self.hub.handle_timeout(self.clock.now)
        self.clock.now = end


def new_session(
    clock: ManualClock,
    client_id: str = "me",
    *,
    reconnect: Backoff | None = None,
    chance: Callable[[], float] = lambda: 0.0,
    **config: Any,
) -> ClientSession:
    """A client session that ends with its first connection, unless told otherwise."""
    return ClientSession(
        ClientConfig(id=client_id, host="localhost:9313", reconnect=reconnect, **config),
        entropy=Random(0).randbytes,
        chance=chance,
        now=clock.now,
    )


class FakeServer:
    """A server made by hand, before a real link of a client session."""

    def __init__(self, session: ClientSession, clock: ManualClock) -> None:
        self.link: ClientLink = session.connected(clock.now)
        self.request = b""
        """The head of the client's request."""
        self.inbox = Inbox(ConnectionType.SERVER)
        self._session = session
        self._clock = clock

    def feed(self, data: bytes, sizes: Sequence[int] = ()) -> None:
        """Let the client receive bytes, in pieces of the given sizes."""
        for piece in split(data, sizes):
            self.link.receive_data(piece, self._clock.now)

    def read(self) -> bytes:
        """Take everything that the client has to write."""
        taken = b""
        while data := self.link.data_to_send():
            taken += data
        return taken

    def acceptance(self) -> bytes:
        """Read the client's request; return the answer that lets it in."""
        self.request += self.read()
        reader = h11.Connection(h11.SERVER)
        reader.receive_data(self.request)
        event = reader.next_event()
        assert isinstance(event, h11.Request)
        headers = dict(event.headers.raw_items())
        token = generate_accept_token(headers[b"Sec-WebSocket-Key"])
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + token + b"\r\n\r\n"
        )

    def open(self) -> "FakeServer":
        """Go through the opening handshake."""
        self.feed(self.acceptance())
        return self

    def register(self, **pong: Any) -> "FakeServer":
        """Go through the opening handshake, and answer the client's ping."""
        self.open()
        (ping,) = self.take()
        assert ping["action"] == "ping"
        self.send({"action": "pong", "id": ping["from"], **pong})
        return self

    def send(self, *messages: Any) -> None:
        self.feed(b"".join(json_frame(fields, key=None) for fields in messages))

    def take(self) -> list[Fields]:
        """The messages that came from the client since the last call."""
        self.inbox.feed(self.read())
        return self.inbox.take()

    def ask(self, *messages: Any) -> list[Fields]:
        """Send messages, and take what the client sends at once."""
        self.send(*messages)
        return self.take()

    @property
    def closed(self) -> tuple[int, str] | None:
        """Code and reason with which the client closed."""
        self.inbox.feed(self.read())
        return self.inbox.closed

    def hang_up(self) -> None:
        """Break the connection."""
        self.link.connection_lost(self._clock.now)


class HasOutput(Protocol):
    @property
    def output(self) -> Output: ...


def output(end: HasOutput) -> Output:
    """What an end wants done with its transport; the type checker takes it for no constant."""
    return end.output


def advance(session: ClientSession, clock: ManualClock, seconds: float) -> None:
    """Let time pass for one client session, stopping at each of its deadlines."""
    end = clock.now + seconds
    while (due := session.next_deadline()) is not None and due <= end:
        clock.now = max(clock.now, due)
        session.handle_timeout(clock.now)
    clock.now = end


def of_type(events: Sequence[ClientEvent], *types: type[Any]) -> list[Any]:
    """The events of the given types, in order."""
    return [event for event in events if isinstance(event, types)]


class Client:
    """A client session, its clock, and the events that it has emitted."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock()
        self.session = new_session(self.clock, **config)
        self.events: list[ClientEvent] = []

    @property
    def now(self) -> float:
        return self.clock.now

    def connect(self, **pong: Any) -> FakeServer:
        """Answer the session's wish for a connection, up to its registration."""
        return self.transport().register(**pong)

    def transport(self) -> FakeServer:
        """Answer the session's wish for a connection with a transport."""
        assert ConnectNeeded() in self.new_events()
        self.session.renew_token()
        return FakeServer(self.session, self.clock)

    def new_events(self) -> list[ClientEvent]:
        events = self.session.events()
        self.events += events
        return events

    def take(self, *types: type[Any]) -> list[Any]:
        """The events of the given types since the last call."""
        return of_type(self.new_events(), *types)

    def subscribe(self, topic: str) -> Mailbox:
        return self.session.subscribe(topic, self.now)

    def publish(self, topic: str, data: Any) -> None:
        self.session.publish(topic, data, self.now)

    def ask(self, topic: str = "job", data: Any = None, timeout: float = 5.0) -> AckHandle:
        return self.session.asking.publish_with_ack(topic, data, timeout, self.now)

    def advance(self, seconds: float) -> None:
        advance(self.session, self.clock, seconds)

    def check_nothing_pending(self) -> None:
        assert len(self.session.asking.pending) == 0
        assert not any(one.open_questions for one in self.session.topics._topics.values())

    def check_over(self) -> None:
        """The client has ended and holds on to nothing."""
        self.check_nothing_pending()
        assert self.session.ended is not None
        assert self.session.next_deadline() is None
        assert len(self.session.state.deadlines) == 0
        assert self.session.sender.give_up() == 0
        assert self.session.backlog == 0


def online(**config: Any) -> tuple[Client, FakeServer]:
    client = Client(**config)
    server = client.connect()
    client.new_events()
    return client, server


def contents(mailbox: Mailbox) -> list[Any]:
    return [message.data for message in mailbox.take_all()]


def dismiss(hub: Hub, client_id: str, reason: str, now: float) -> bool:
    """End the connection of a client, as the server's program does; tell whether there was one."""
    found: list[bool] = []
    hub.directory.dismiss(client_id, reason, now, found.append)
    (is_there,) = found
    return is_there
