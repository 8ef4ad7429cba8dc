"""What arrives on a real port: other WebSocket libraries, plain HTTP, and garbage."""

import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as dial

import kps
from kps.protocol.build import BUILD
from tests.io.harness import PATIENCE, AnyDriver, Inbox
from tests.io.raw import PING, Raw, masked, message

Connect = Callable[..., Any]


@pytest.fixture
def peer(server: Any) -> Iterator[ClientConnection]:
    """A registered client that is not ours."""
    with dial(server.url, max_size=None) as peer:
        peer.send('{"action":"ping","from":"peer"}')
        assert json.loads(peer.recv(PATIENCE)) == {"action": "pong", "id": "peer"}
        yield peer


@pytest.fixture
def bystanders(connect: Connect) -> Iterator[Callable[[], None]]:
    """Two clients; the call checks that they notice nothing."""
    inbox = Inbox()
    listener, talker = connect("listener"), connect("talker")
    listener.subscribe("by", inbox)
    sent = 0

    def check() -> None:
        nonlocal sent
        for _ in range(10):
            talker.publish("by", sent)
            assert inbox.data() == sent
            sent += 1

    check()
    yield check
    check()
    assert listener.is_connected
    assert talker.is_connected


# -- another WebSocket library --------------------------------------------------------------


def test_a_foreign_library_talks_with_ours(peer: ClientConnection, connect: Connect) -> None:
    inbox = Inbox()
    ours = connect("ours", on_id=inbox)
    ours.subscribe("t", inbox)
    peer.send('{"action":"subscribe","topic":"t"}')
    assert json.loads(peer.recv(PATIENCE)) == {"action": "subscribed", "topic": "t"}
    peer.send('{"action":"publish","topic":"t","data":{"data":5}}')
    assert json.loads(peer.recv(PATIENCE))["data"] == {"data": {"data": 5}, "from": "peer"}
    assert json.loads(peer.recv(PATIENCE)) == {"action": "published", "topic": "t"}
    assert inbox.data() == {"data": 5}
    peer.send('{"action":"direct_message","to":"ours","data":1}')
    assert inbox.data() == 1


def test_fragments_binary_frames_and_pings(peer: ClientConnection) -> None:
    peer.send(['{"action":"pub', 'lish","topic":', '"t","data":"é"}'])
    assert json.loads(peer.recv(PATIENCE)) == {"action": "published", "topic": "t"}
    peer.send(b'{"action":"publish","topic":"b","data":1}')
    assert json.loads(peer.recv(PATIENCE)) == {"action": "published", "topic": "b"}
    assert peer.ping(b"payload").wait(PATIENCE)


def test_compression_is_declined_and_works_all_the_same(server: Any) -> None:
    with dial(server.url, compression="deflate") as peer:
        assert not peer.protocol.extensions
        peer.send('{"action":"ping","from":"x"}')
        assert json.loads(peer.recv(PATIENCE))["action"] == "pong"


def test_closing_handshakes(server: Any) -> None:
    with dial(server.url) as peer:
        peer.close(3001, "so long")
        assert peer.close_code == 3001
    with dial(server.url) as peer:
        server.stop()
        with pytest.raises(ConnectionClosed) as closed:
            peer.recv(PATIENCE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012  # it had not registered


# -- plain HTTP ------------------------------------------------------------------------------


def _get(server: Any, path: str, method: str = "GET", **headers: str) -> Any:
    connection = http.client.HTTPConnection(server.address, timeout=PATIENCE)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_healthz(server: Any, connect: Connect) -> None:
    connect("a").subscribe("t", Inbox())
    response, body = _get(server, "/healthz")
    assert response.status == 200
    assert response.getheader("content-type") == "application/json"
    health = json.loads(body)
    assert health["uptime"] >= 0
    del health["uptime"]
    version = health.pop("version")
    assert version[0].isdigit()
    assert health == {"status": "ok", "build": BUILD, "clients": 1, "topics": 1, "nodes": 1}


@pytest.mark.parametrize("path", ["/nothing", "/ws/bus", "/healthz/", "/%00", "//"])
def test_anything_else_is_404(server: Any, path: str) -> None:
    assert _get(server, path)[0].status == 404


def test_websocket_on_another_path_is_404(server: Any) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        dial(f"ws://{server.address}/other")
    assert refusal.value.response.status_code == 404


def test_foreign_origins(servers: AnyDriver) -> None:
    server = servers.server(origins=["https://friend.example"])
    for origin in (None, f"http://{server.address}", "https://friend.example"):
        with dial(server.url, origin=cast("Any", origin)) as peer:
            peer.send("{}")
            peer.recv(PATIENCE)
    for origin in ("https://evil.example", "null", f"http://{server.address}.evil.example"):
        with pytest.raises(InvalidStatus) as refusal:
            dial(server.url, origin=cast("Any", origin))
        assert refusal.value.response.status_code == 403


# -- heartbeats -----------------------------------------------------------------------------


def test_a_client_hears_heartbeats_while_a_hook_judges_its_token(servers: AnyDriver) -> None:
    verdict = threading.Event()

    def auth(token: str) -> kps.Identity:
        assert token == "first" or verdict.wait(PATIENCE)
        return kps.Identity("someone")

    server = servers.server(
        auth=auth, limits=kps.ServerLimits(heartbeat_interval=0.05, heartbeat_timeout=PATIENCE)
    )
    with Raw(server.address).upgrade() as peer:
        peer.send(message("ping", **{"from": "me", "token": "first"}))
        assert peer.message() == {"action": "pong", "id": "me"}
        peer.send(message("ping", **{"from": "me", "token": "second"}))
        heard = [peer.frame()[0] for _ in range(3)]
        assert heard == [PING] * 3
        verdict.set()
        assert peer.message() == {"action": "pong", "id": "me"}


# -- garbage ------------------------------------------------------------------------------------


@pytest.fixture
def raw(server: Any) -> Iterator[Raw]:
    peer = Raw(server.address).upgrade()
    yield peer
    peer.close()


def test_random_bytes_get_400(server: Any, bystanders: Callable[[], None]) -> None:
    peer = Raw(server.address)
    peer.send(os.urandom(4096) + b"\r\n\r\n")
    assert peer.status() == 400
    peer.close()


def test_a_request_that_never_ends(servers: AnyDriver, bystanders: Callable[[], None]) -> None:
    server = servers.server(limits=kps.ServerLimits(handshake_timeout=0.2))
    for beginning in (b"GET / HTTP/1.1\r\nHost: x\r\n", b""):
        peer = Raw(server.address)
        peer.send(beginning)
        assert peer.status() == 408
        peer.close()


def test_a_head_that_is_too_large(server: Any, bystanders: Callable[[], None]) -> None:
    peer = Raw(server.address)
    peer.send(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000)
    assert peer.status() == 431
    peer.close()


def test_a_frame_that_claims_2_to_the_40_bytes(raw: Raw, bystanders: Callable[[], None]) -> None:
    raw.send(b"\x81\xff" + (2**40).to_bytes(8, "big") + bytes(4))
    assert raw.close_code() == 1009


def test_a_message_of_100_mb(raw: Raw, bystanders: Callable[[], None]) -> None:
    megabyte = (1_000_000).to_bytes(8, "big") + bytes(4) + b"x" * 1_000_000
    try:
        raw.send(b"\x01\xff" + megabyte)
        for _ in range(100):
            raw.send(b"\x00\xff" + megabyte)
        assert raw.close_code() == 1009
    except OSError:  # cut off while it still sends, which it may be after a while
        pass


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"{nope", "message is not valid JSON"),
        (b"", "message is not valid JSON"),
        (b"5", "message is not a JSON object"),
        (b"[]", "message is not a JSON object"),
        (b'{"action":"subscribe","topic":5}', "field topic must be a string"),
        (b'{"action":5}', "field action must be a string"),
        (b"{}", "missing or invalid action"),
        (b'{"action":"subscribe"}', "missing or invalid topic"),
        (b'{"action":"zzz"}', "unknown action: zzz"),
        (b'{"action":"publish","topic":"t","data":1e999}', "message is not valid JSON"),
        (b'{"a":"\\ud800"}', "message is not valid JSON"),
        (b"[" * 60_000, "message is not valid JSON"),
        (b"[" * 100_000, "the message has too many brackets"),
    ],
)
def test_bad_messages_get_an_error_and_change_nothing(
    raw: Raw, bystanders: Callable[[], None], text: bytes, error: str
) -> None:
    raw.send(masked(b'{"action":"ping","from":"raw"}'))
    raw.frame()
    raw.send(masked(text))
    assert raw.error() == error
    raw.send(masked(b'{"action":"ping","from":"raw"}'))
    assert raw.frame() == (1, b'{"action":"pong","id":"raw"}')


def test_deep_nesting_is_refused_to_its_sender(raw: Raw, bystanders: Callable[[], None]) -> None:
    raw.send(masked(b'{"action":"ping","from":"raw"}'))
    raw.frame()
    for action, more in (("publish", b""), ("publish_with_ack", b',"ack_id":"A"')):
        payload = b"[" * 600 + b"]" * 600
        head = f'{{"action":"{action}","topic":"by","data":'.encode()
        raw.send(masked(head + payload + more + b"}"))
        assert raw.error() == "message nested too deeply"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked(b"\xff\xfe"), 1007),  # not UTF-8
        (masked(b"\xed\xa0\x80"), 1007),  # a surrogate
        (b"\x81\x02{}", 1002),  # not masked
        (masked(b"", first=0x83), 1002),  # a reserved opcode
        (masked(b"{}", first=0xC1), 1002),  # a reserved bit
        (masked(b"x" * 126, first=0x89), 1002),  # a ping that is too long
        (masked(b"", first=0x09), 1002),  # a fragmented ping
        (masked(b"", first=0x80), 1002),  # a continuation of nothing
        (b"\x81\xfe\x00\x05" + bytes(4) + b"hello", 1002),  # a length in the long form
        (masked(b"\x03", first=0x88), 1002),  # half a close code
        (masked(b"\x03\xee", first=0x88), 1002),  # a close code that is never sent
    ],
)
def test_broken_frames_get_their_close_code(
    raw: Raw, bystanders: Callable[[], None], frame: bytes, code: int
) -> None:
    raw.send(frame)
    assert raw.close_code() == code


def test_a_client_that_vanishes_in_the_middle_of_a_message(
    server: Any, bystanders: Callable[[], None]
) -> None:
    for cut in (1, 3, 10):
        peer = Raw(server.address).upgrade()
        peer.send(masked(b'{"action":"ping","from":"raw"}'))
        peer.frame()
        peer.send(masked(b'{"action":"publish","topic":"by","data":1}')[:-cut])
        peer.close()
    bystanders()


def test_tls_garbage_on_a_tls_port(
    secure: tuple[Any, Any], servers: AnyDriver, clients: AnyDriver
) -> None:
    server_context, client_context = secure
    server = servers.server(ssl=server_context)
    peer = Raw(server.address)
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    peer.rest()
    peer.close()
    client = clients.client(server.url, ssl=client_context, reconnect=False)
    assert client.is_connected
