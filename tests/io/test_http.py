"""The HTTP face over real sockets, on both drivers, with curl where it is installed."""

import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kps
from tests.event_source import Event, EventReader
from tests.io.harness import PATIENCE, AnyDriver, eventually

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")


def ask(address: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Make a request; return the status and the JSON of the answer."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request("GET" if body is None else "POST", target, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def curl(*arguments: str) -> tuple[int, Any]:
    assert CURL is not None
    command = [CURL, "-s", "-m", str(PATIENCE), "-w", "\n%{http_code}", *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    body, _, status = output.rpartition("\n")
    return int(status), json.loads(body) if body.strip() else None


class EventSource:
    """What a browser's ``EventSource`` does: it reads a stream, and comes back where it was."""

    def __init__(self, address: str, target: str) -> None:
        self._address, self._target = address, target
        self.reader = EventReader()
        self.connect()

    def connect(self, address: str = "") -> None:
        """Connect again, maybe to another node."""
        self._address = address or self._address
        known = {"Last-Event-ID": self.reader.last_id} if self.reader.last_id else {}
        self.reader = EventReader(self.reader.last_id)
        self._connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        self._connection.request("GET", self._target, headers=known)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        assert self._answer.getheader("Content-Type") == "text/event-stream"
        self._ready: list[Event] = []

    def next(self) -> Event:
        while not self._ready:
            data = self._answer.read1(4096)
            assert data, "the stream has ended"
            self._ready = self.reader.feed(data)
        return self._ready.pop(0)

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


@pytest.fixture
def listen() -> Iterator[Callable[[str, str], EventSource]]:
    opened: list[EventSource] = []

    def make(address: str, target: str) -> EventSource:
        opened.append(EventSource(address, target))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


def test_what_is_posted_reaches_all(server: Any, connect: Any, listen: Any) -> None:
    bob = connect("bob")
    got: list[Any] = []
    bob.subscribe("t", lambda message: got.append((message.sender, message.data)))
    source = listen(server.address, "/sse?topic=t")
    assert ask(server.address, "/publish?topic=t&receipt=1", b'{"a":1}') == (200, {"delivered": 2})
    assert source.next().data == {"topic": "t", "from": "http:", "data": {"a": 1}}
    eventually(lambda: got == [("http:", {"a": 1})], "the message")


def test_a_request_gets_the_result_of_a_callback(server: Any, connect: Any) -> None:
    bob = connect("bob")
    bob.subscribe("sum", lambda message: sum(message.data))

    def fail(message: Any) -> None:
        raise ValueError("no such order")

    bob.subscribe("bad", fail)
    assert ask(server.address, "/request?topic=sum", b"[1, 2, 3]") == (200, 6)
    status, refusal = ask(server.address, "/request?topic=bad", b"null")
    assert (status, refusal["error"]) == (502, "no such order")
    assert ask(server.address, "/request?topic=nobody", b"null")[0] == 404


def test_a_stream_that_is_cut_goes_on_where_it_was(servers: AnyDriver, listen: Any) -> None:
    server = servers.server(history=[kps.History("h/**", size=100)])
    source = listen(server.address, "/sse?topic=h/1")
    server.publish("h/1", 1)
    assert source.next().data["data"] == 1
    source.close()
    eventually(lambda: server.count_subscribers("h/1")[2] == 0, "its end")
    server.publish("h/1", 2)
    source.connect()
    server.publish("h/1", 3)
    assert [source.next().data["data"] for _ in range(2)] == [2, 3]


def test_tokens(servers: AnyDriver) -> None:
    def auth(token: str) -> kps.Identity | None:
        rights = kps.Permissions(publish=["t"], subscribe=[])
        return kps.Identity("alice", rights) if token == "good" else None

    server = servers.server(auth=auth)
    post = "/publish?topic=t"
    assert ask(server.address, post, b"1")[0] == 401
    assert ask(server.address, post, b"1", Authorization="Bearer bad")[0] == 401
    assert ask(server.address, post, b"1", Authorization="Bearer good") == (204, None)
    assert ask(server.address, f"{post}&token=good", b"1") == (204, None)
    assert ask(server.address, "/publish?topic=u&token=good", b"1")[0] == 403
    assert ask(server.address, "/sse?topic=t&token=good")[0] == 403


def test_the_hook_of_the_upgrade(servers: AnyDriver) -> None:
    def on_upgrade(request: kps.HttpRequest) -> Any:
        return kps.Identity(request.cookies["user"]) if "user" in request.cookies else False

    server = servers.server(on_upgrade=on_upgrade)
    assert ask(server.address, "/publish?topic=t", b"1")[0] == 403
    assert ask(server.address, "/publish?topic=t", b"1", Cookie="user=alice") == (204, None)


def test_a_foreign_page_is_told_so_and_so_is_the_operator(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(server.address, "/publish?topic=t", b"1", Origin="https://evil.example")
    assert answer == (403, {"code": "forbidden", "error": "origin not allowed"})
    eventually(lambda: "https://evil.example" in caplog.text, "the line")


def test_an_option_switches_it_off(servers: AnyDriver) -> None:
    server = servers.server(http_api=False)
    connection = http.client.HTTPConnection(server.address, timeout=PATIENCE)
    connection.request("POST", "/publish?topic=t", b"1")
    assert connection.getresponse().status == 404
    connection.close()
    server = servers.server(level=1)
    connection = http.client.HTTPConnection(server.address, timeout=PATIENCE)
    connection.request("POST", "/publish?topic=t", b"1")
    assert connection.getresponse().status == 404
    connection.close()


class TestHostile:
    """Bytes that nobody should send."""

    def raw(self, server: Any, data: bytes) -> socket.socket:
        host, _, port = server.address.rpartition(":")
        sock = socket.create_connection((host, int(port)), PATIENCE)
        sock.sendall(data)
        return sock

    def read_all(self, sock: socket.socket) -> bytes:
        with sock:
            parts = []
            while part := sock.recv(65536):
                parts.append(part)
            return b"".join(parts)

    def test_a_body_that_does_not_come(self, servers: AnyDriver) -> None:
        server = servers.server(limits=kps.ServerLimits(handshake_timeout=100.0))
        part = b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12"
        sock = self.raw(server, part)
        eventually(lambda: server._hub.stats.bytes_in == len(part), "the part that comes")
        servers.skip(100.0)
        assert self.read_all(sock).startswith(b"HTTP/1.1 408 ")

    def test_a_body_without_an_end(self, servers: AnyDriver) -> None:
        server = servers.server(limits=kps.ServerLimits(max_message=10_000, close_timeout=0.5))
        sock = self.raw(
            server,
            b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        answer: list[bytes] = []
        reader = threading.Thread(target=lambda: answer.append(sock.recv(65536)))
        reader.start()
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline:
                sock.sendall(b"3e8\r\n" + b"1" * 1000 + b"\r\n")
        except OSError:
            pass  # the server has closed
        else:
            raise AssertionError("the server goes on reading")
        reader.join(PATIENCE)
        sock.close()
        assert answer[0].startswith(b"HTTP/1.1 413 ")

    def test_a_length_that_is_too_small_smuggles_nothing(self, server: Any, connect: Any) -> None:
        got: list[Any] = []
        connect("bob").subscribe("t", lambda message: got.append(message.data))
        inner = b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n2"
        sock = self.raw(server, inner[:-1] + b"1" + inner)
        sock.shutdown(socket.SHUT_WR)
        assert self.read_all(sock).count(b"HTTP/1.1") == 1
        assert ask(server.address, "/publish?topic=t", b"3") == (204, None)
        eventually(lambda: 3 in got, "the last message")
        assert got == [1, 3]

    def test_readers_that_stop_reading(self, servers: AnyDriver) -> None:
        limits = kps.ServerLimits(queue_bytes=200_000, close_timeout=0.5)
        server = servers.server(limits=limits)
        begin = b"GET /sse?topic=t HTTP/1.1\r\nHost: x\r\n\r\n"
        readers = [self.raw(server, begin) for _ in range(20)]
        eventually(lambda: server.count_subscribers("t")[2] == 20, "all readers")
        for number in range(400):
            server.publish("t", [number, "a" * 50_000])
            if not server.count_subscribers("t")[2]:
                break
        eventually(lambda: server.count_subscribers("t")[2] == 0, "the end of all of them")
        for reader in readers:
            reader.close()


@needs_curl
class TestCurl:
    def test_publishing(self, server: Any) -> None:
        url = f"http://{server.address}/publish?topic=t"
        assert curl("-d", '{"a": 1}', url) == (204, None)
        assert curl("-d", "hello", url)[0] == 400
        assert curl("-H", "Content-Type: text/plain", "-d", "hello", url) == (204, None)
        assert curl(url)[0] == 405
        assert curl("-X", "POST", url)[0] == 411
        assert curl("-0", "-d", "1", url) == (204, None)

    def test_bodies(self, server: Any) -> None:
        url = f"http://{server.address}/publish?topic=t&receipt=1"
        body = "[" + "1," * 100_000 + "1]"
        for header in ("Expect: 100-continue", "Transfer-Encoding: chunked", "Expect:"):
            command = ["curl", "-s", "-m", "20", "-H", header, "--data-binary", "@-", url]
            output = subprocess.run(command, input=body, capture_output=True, text=True, check=True)
            assert json.loads(output.stdout) == {"delivered": 0}

    def test_a_stream(self, server: Any) -> None:
        assert CURL is not None
        url = f"http://{server.address}/sse?topic=t"
        with subprocess.Popen([CURL, "-sN", url], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"retry: 3000\n"
            server.publish("t", "hello")
            lines = [process.stdout.readline() for _ in range(2)]
            process.kill()
        assert json.loads(lines[1].removeprefix(b"data: "))["data"] == "hello"
