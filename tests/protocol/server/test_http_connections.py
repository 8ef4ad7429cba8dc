"""One request on each connection: old clients, those that would go on, and those that ask first.

By RFC 9112. The answers are read here by hand, as a client of HTTP/1.0 reads them: a head, and
then all that comes.
"""

import pytest

from kps.protocol.wire.websocket import Output
from tests.event_source import EventReader
from tests.protocol.helpers import Peer, Stage, output, request
from tests.protocol.server.http_face import HOST, Headers, worker

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
KEEP_ALIVE = ("Connection", "keep-alive")
EXPECTS = ("Expect", "100-continue")
ONE_BYTE = ("Content-Length", "1")
PUBLISH = "/publish?topic=t&receipt=1"
VERSIONS = ("1.0", "1.1")


class Caller(Peer):
    """Somebody who writes requests by hand."""

    def call(
        self, method: str, target: str, *headers: tuple[str, str], version: str, body: bytes = b""
    ) -> "Caller":
        """Send a request in a new turn. One of HTTP/1.0 names no host."""
        self._hub.take_unflushed()
        named: Headers = [HOST] if version == "1.1" else []
        head = request(target, method=method, version=version, headers=[*named, *headers])
        self.feed(head + body)
        return self

    @property
    def reply(self) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """The line of the status, the fields by name in lower case, and all that follows."""
        self.read()
        head, found, rest = bytes(self.raw).partition(b"\r\n\r\n")
        assert found, self.raw
        line, *fields = head.split(b"\r\n")
        pairs = [field.split(b": ", 1) for field in fields]
        names = [name.lower() for name, _ in pairs]
        assert len(names) == len(set(names))
        return line, dict(zip(names, (value for _, value in pairs), strict=True)), rest


def caller(stage: Stage) -> Caller:
    return Caller(stage.hub, stage.clock)


def delivered(one: Caller, count: int) -> bool:
    """Tell whether a publication was answered, and the connection ends with that."""
    line, fields, rest = one.reply
    body = b'{"delivered":%d}\n' % count
    ends = fields[b"connection"] == b"close" and output(one.connection) is Output.HALF_CLOSE
    is_whole = fields[b"content-length"] == b"%d" % len(body) and rest == body
    return line == b"HTTP/1.1 200 OK" and ends and is_whole


class TestOldClients:
    def test_one_publishes(self) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        one = caller(stage).call("POST", PUBLISH, ONE_BYTE, version="1.0", body=b"1")
        assert delivered(one, 1)
        assert [message["data"] for message in bob.take()] == [1]

    def test_a_stream_has_no_chunks(self) -> None:
        stage = Stage()
        one = caller(stage).call("GET", "/sse?topic=t", KEEP_ALIVE, version="1.0")
        stage.hub.publish("t", "hello", stage.clock.now)
        line, fields, rest = one.reply
        assert line == b"HTTP/1.1 200 OK"
        assert fields[b"connection"] == b"close"
        assert not {b"transfer-encoding", b"content-length"} & fields.keys()
        (event,) = EventReader().feed(rest)
        assert event.data["data"] == "hello"

    @pytest.mark.parametrize("body", [b"", b"1"])
    def test_a_body_has_a_length(self, body: bytes) -> None:
        one = caller(Stage()).call("POST", PUBLISH, version="1.0", body=body)
        assert one.reply[0] == b"HTTP/1.1 411 Length Required"

    @pytest.mark.parametrize(
        ("method", "target"), [("POST", PUBLISH), ("GET", "/sse?topic=t"), ("GET", "/healthz")]
    )
    @pytest.mark.parametrize("length", [(), (ONE_BYTE,)])
    def test_none_may_send_chunks(self, method: str, target: str, length: Headers) -> None:
        """Who passes on a request of HTTP/1.0 may not know them, and see another end of it."""
        stage = Stage()
        chunked = ("Transfer-Encoding", "chunked")
        body = b"1\r\n1\r\n0\r\n\r\n"
        one = caller(stage).call(method, target, chunked, *length, version="1.0", body=body)
        line, fields, _ = one.reply
        assert (line, fields[b"connection"]) == (b"HTTP/1.1 400 Bad Request", b"close")
        assert (stage.hub.stats.published, stage.hub.clients) == (0, {})

    def test_none_is_told_to_go_on(self) -> None:
        stage = Stage()
        one = caller(stage).call("POST", PUBLISH, ONE_BYTE, EXPECTS, version="1.0")
        assert one.read() == b""
        one.feed(b"1")
        assert delivered(one, 0)


@pytest.mark.parametrize("version", VERSIONS)
class TestOneRequest:
    """The answer tells that the connection ends, and nothing is read that follows."""

    def test_a_second_publication_is_not_read(self, version: str) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        again = request("/publish?topic=t", method="POST", headers=[HOST, ONE_BYTE]) + b"2"
        one = caller(stage)
        one.call("POST", PUBLISH, KEEP_ALIVE, ONE_BYTE, version=version, body=b"1" + again)
        assert delivered(one, 1)
        one.feed(again)
        assert one.read() == b""
        assert delivered(one, 1)
        assert [message["data"] for message in bob.take()] == [1]
        one.connection.receive_eof(stage.clock.now)
        assert output(one.connection) is Output.CLOSE

    def test_nor_one_behind_a_stream(self, version: str) -> None:
        stage = Stage()
        again = request("/publish?topic=t", method="POST", headers=[HOST, ONE_BYTE]) + b"2"
        one = caller(stage).call("GET", "/sse?topic=t", version=version, body=again)
        one.feed(again)
        assert stage.hub.stats.published == 0
        assert one.reply[2] == b"retry: 3000\n\n"
        assert output(one.connection) is Output.KEEP

    def test_nor_one_behind_a_page(self, version: str) -> None:
        stage = Stage()
        again = request("/healthz", headers=[HOST])
        one = caller(stage).call("GET", "/healthz", KEEP_ALIVE, version=version, body=again)
        one.feed(again)
        line, fields, rest = one.reply
        assert (line, fields[b"connection"]) == (b"HTTP/1.1 200 OK", b"close")
        assert len(rest) == int(fields[b"content-length"])


def status_for(host: str, version: str) -> bytes:
    """The line of the status for a request that names a host."""
    one = caller(Stage())
    one.feed(request("/healthz", version=version, headers=[("Host", host)]))
    return one.reply[0]


@pytest.mark.parametrize("version", VERSIONS)
class TestHosts:
    @pytest.mark.parametrize("host", ["a b", "a/b", "a?b", "me@a", "a:b", "[::1", "a, b:1", "ä"])
    def test_what_is_no_host_is_refused(self, version: str, host: str) -> None:
        assert status_for(host, version) == b"HTTP/1.1 400 Bad Request"

    @pytest.mark.parametrize("host", ["", "a", "a_b.c:1", "a:", "[::1]:9313", "[fe80::1%25eth0]"])
    def test_any_host_will_do(self, version: str, host: str) -> None:
        assert status_for(host, version) == b"HTTP/1.1 200 OK"


class TestThoseThatAskFirst:
    @pytest.mark.parametrize("text", ["100-continue", "100-CONTINUE"])
    def test_one_is_told_to_send_the_body(self, text: str) -> None:
        stage = Stage()
        one = caller(stage).call("POST", PUBLISH, ONE_BYTE, ("Expect", text), version="1.1")
        assert one.read() == CONTINUE
        one.raw = b""
        one.feed(b"1")
        assert delivered(one, 0)

    @pytest.mark.parametrize(
        ("method", "target", "headers", "status"),
        [
            ("POST", "/publish", [ONE_BYTE], b"400"),
            ("PUT", PUBLISH, [ONE_BYTE], b"405"),
            ("POST", PUBLISH, [("Content-Length", "9999999")], b"413"),
            ("POST", PUBLISH, [ONE_BYTE, ("Content-Type", "text/html")], b"415"),
            ("POST", "/elsewhere", [ONE_BYTE], b"404"),
            ("POST", PUBLISH, [ONE_BYTE, ("Origin", "http://evil.example")], b"403"),
        ],
    )
    def test_one_that_is_refused_does_not_send_it(
        self, method: str, target: str, headers: Headers, status: bytes
    ) -> None:
        one = caller(Stage()).call(method, target, EXPECTS, *headers, version="1.1")
        line, fields, _ = one.reply
        assert (line.split()[1], fields[b"connection"]) == (status, b"close")

    def test_what_else_is_expected_is_nothing(self) -> None:
        expects = ("Expect", "the-unexpected")
        one = caller(Stage()).call("POST", PUBLISH, ONE_BYTE, expects, version="1.1", body=b"1")
        assert delivered(one, 0)
