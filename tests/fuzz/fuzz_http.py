"""What comes before the frames: a request that the server gets, an answer that the client gets.

Any bytes must be answered, or refused, or waited for until the time is over; and it must make
no difference in which pieces they arrive.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kps.protocol.access.admission import read_networks
from kps.protocol.access.identity import Identity
from kps.protocol.client.events import Ended
from kps.protocol.limits import ClientLimits
from kps.protocol.server.events import TokenPresented, UpgradeRequested
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.websocket import Output, State
from tests.fuzz.choices import Choices
from tests.fuzz.invariants import check_client, check_hub
from tests.protocol.helpers import (
    Answer,
    Client,
    FakeServer,
    Inbox,
    Stage,
    advance,
    json_frame,
    request,
    upgrade,
)

PAGE = HttpResponse(200, b"<!doctype html>", "text/html", (("etag", '"1"'),))
MAX_HEAD = (16 * 1024, 400, 40)
CONFIGS: tuple[dict[str, Any], ...] = (
    {"pages": {"/": PAGE}},
    {"asks_upgrade": True},
    {"origins": ("https://example.org",), "is_secure": True},
    {"origins": ("*",), "level": 1},
    {"asks_token": True},
    {"proxies": read_networks(["192.0.2.0/24"])},
)
WORDS = (
    b"HTTP/1.1 ", b"HTTP/1.0", b"101 ", b"GET ", b"HEAD ", b"POST ", b"/ws/bus", b"/healthz",
    b"Host: ", b"Origin: ", b"Upgrade: ", b"websocket", b"Connection: ", b"Sec-WebSocket-Key: ",
    b"Sec-WebSocket-Version: ", b"Sec-WebSocket-Protocol: ", b"Sec-WebSocket-Extensions: ",
    b"Sec-WebSocket-Accept: ", b"Content-Length: ", b"Transfer-Encoding: chunked",
    b"If-None-Match: ", b"Authorization: Bearer ", b"Cookie: ", b"?token=", b"\r\n\r\n", b"\r\n ",
    b"$token", b"X-Forwarded-Proto: ",
)  # fmt: skip
TOKEN = b"$token"
"""Stands for the proof that a server has understood the client's request."""
LONG_ENOUGH = 100.0  # seconds, after which nothing is waited for


def one_input(data: bytes) -> None:
    """Bytes: which end, its configuration, the sizes of the pieces; and what arrives."""
    choices = Choices(data)
    is_server = choices.flag()
    config = choices.pick(CONFIGS)
    max_head = choices.pick(MAX_HEAD)
    sizes = choices.sizes()
    rest = choices.rest()
    if is_server:
        whole = server_gets(rest, (), max_head, config)
        for pieces in (sizes, [1]):
            assert server_gets(rest, pieces, max_head, config) == whole
    else:
        told = client_gets(rest, (), max_head)
        for pieces in (sizes, [1]):
            assert client_gets(rest, pieces, max_head) == told


@dataclass
class Served:
    """What a server made of what it got."""

    status: int
    answer: bytes
    output: Output
    registered: str


def server_gets(data: bytes, sizes: Sequence[int], max_head: int, config: Any) -> Served:
    limits = ServerLimits(max_head=max_head)
    stage = Stage(limits=limits, **config)
    peer = stage.peer()
    peer.feed(data, sizes)
    stage.finish()
    for event in stage.hub.events():
        if isinstance(event, UpgradeRequested):
            peer.decide(True)
        elif isinstance(event, TokenPresented):
            peer.identify(Identity(event.token))
    check_hub(stage.hub)
    raw = peer.read()
    output, registered = peer.connection.output, peer.session.id
    if not raw:
        assert len(data) < limits.max_head, "waits for more than it would take"
        stage.advance(limits.handshake_timeout)
        raw = peer.read()
        assert Answer(raw).status == 408
    asked = peer.connection._socket.request
    answer = Answer(raw, asked.method if asked is not None else "GET")
    served = Served(answer.status, raw, output, registered)
    if answer.status == 101:
        peer.inbox.feed(answer.rest)
    else:
        assert answer.headers["connection"] == "close"
        assert answer.rest == b""
    if answer.status == 400:
        served.answer = b""  # whose words depend on how much h11 had seen
    stage.advance(LONG_ENOUGH)
    assert peer.connection.output is not Output.KEEP
    check_hub(stage.hub)
    peer.connection.connection_lost(stage.clock.now)
    assert not stage.hub.connections
    return served


@dataclass
class Told:
    """What a client made of what it got."""

    events: list[str]
    output: Output
    sent: list[Any]
    pongs: list[bytes]
    closed: int | None


def client_gets(data: bytes, sizes: Sequence[int], max_head: int) -> Told:
    limits = ClientLimits(max_head=max_head)
    client = Client(limits=limits)
    client.new_events()
    server = FakeServer(client.session, client.clock)
    token = server.acceptance().partition(b"Sec-WebSocket-Accept: ")[2].strip()
    head, separator, rest = data.partition(b"\r\n\r\n")
    data = head.replace(TOKEN, token) + separator + rest  # which is another one in each run
    server.feed(data, sizes)
    is_decided = b"\r\n\r\n" in data[: limits.max_head] or len(data) >= limits.max_head
    assert (server.link._socket.state is not State.HANDSHAKE) is is_decided
    check_client(client.session, client.now)
    inbox: Inbox = server.inbox
    inbox.feed(server.read())
    output = server.link.output
    events = client.session.events()
    if output is Output.KEEP:
        advance(client.session, client.clock, LONG_ENOUGH)
        assert server.link.output is not Output.KEEP
        events += client.session.events()
    server.hang_up()
    events += client.session.events()
    assert sum(isinstance(event, Ended) for event in events) == 1
    client.check_over()
    code = None if inbox.closed is None else inbox.closed[0]
    sent = inbox.take()
    return Told(list(map(told, events)), output, sent, inbox.pongs, code)


def told(event: object) -> str:
    """An event, without the words of wsproto, who says at which byte of a piece a fault was."""
    return repr(event).partition("utf-8")[0]


def seeds() -> Iterator[bytes]:
    """Requests and answers, good and bad, with messages behind them."""
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: $token\r\n"
    )
    pong = json_frame({"action": "pong", "id": "me", "proto": 2}, key=None)
    answers = [
        head + b"\r\n",
        head + b"\r\n" + pong,
        head + b"Sec-WebSocket-Protocol: x\r\n\r\n" + pong,
        head.replace(b"$token", b"wrong") + b"\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
    ]
    ping = json_frame({"action": "ping", "from": "me", "proto": 2})
    requests = [
        upgrade(),
        upgrade() + ping + ping,
        upgrade("/ws/bus?token=x"),
        upgrade("/elsewhere"),
        upgrade(method="POST"),
        upgrade(version="1.0"),
        request("/"),
        request("/", headers=[("Host", "x"), ("If-None-Match", 'W/"1", "2"')]),
        request("/healthz", method="HEAD"),
        request("/healthz", method="POST", headers=[("Host", "x"), ("Content-Length", "2")])
        + b"ok",
        request("http://[::1/x"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ]
    for name, value in (
        ("origin", "http://localhost:9313"),
        ("origin", "https://example.org"),
        ("origin", "null"),
        ("host", None),
        ("sec-websocket-version", "8"),
        ("sec-websocket-key", None),
        ("sec-websocket-protocol", "a, b"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("authorization", "Bearer x"),
        ("cookie", "a=b; token=c"),
        ("x-forwarded-for", "192.0.2.1, 198.51.100.7"),
    ):
        requests.append(upgrade(changed={name: value}))
    for number, content in enumerate(requests):
        yield bytes([1, number % len(CONFIGS), 0, 1, 20]) + content
    for content in answers:
        yield bytes([0, 0, 0, 1, 20]) + content
