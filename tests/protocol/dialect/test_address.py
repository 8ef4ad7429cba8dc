"""Addresses of servers, as programs and as messages between servers write them."""

from dataclasses import replace

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import InvalidArgument
from kps.protocol.dialect.address import Address, RelayTarget, origin_of
from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.client_handshake import ClientWebSocket
from kps.protocol.wire.frames import text_frame

NOT_ADDRESSES = [
    "",
    ":",
    ":9313",
    "host:port",
    "host:99999",
    "host:-1",
    "ftp://host",
    "ws://",
    "ws://:80",
    "a host",
    "host\n",
    "ws://host/a path",
    "ws://host/\x00",
    "ho\x00st",
    "hö.st",
    "[::1",
    "::1",
    "a..b",
    "x" * 64 + ".example",
    "localhost:",
    "ws://localhost:/x",
    "0",
    "8080",
    "0:9313",
    "ws://0/",
    "127.1:80",
    "0x7f000001",
    "1.2.3.4.5",
    "0177.0.0.1",
    "me:secret@localhost:9313",
    "ws://me@localhost",
    "localhost:9313#x",
    "localhost:9_3",
    "localhost:+93",
    "localhost:\u0661",
    "localhost:" + "9" * 5000,
]


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "host", "port", "secure", "target"),
        [
            ("localhost", "localhost", 9313, False, "/ws/bus"),
            ("bus.example:8080", "bus.example", 8080, False, "/ws/bus"),
            ("127.0.0.1:1", "127.0.0.1", 1, False, "/ws/bus"),
            ("[::1]:9313", "::1", 9313, False, "/ws/bus"),
            ("[::1]", "::1", 9313, False, "/ws/bus"),
            ("ws://bus.example", "bus.example", 80, False, "/ws/bus"),
            ("wss://bus.example", "bus.example", 443, True, "/ws/bus"),
            ("http://bus.example", "bus.example", 80, False, "/ws/bus"),
            ("https://bus.example:8443", "bus.example", 8443, True, "/ws/bus"),
            ("ws://bus.example:9313/other", "bus.example", 9313, False, "/other"),
            ("ws://bus.example/", "bus.example", 80, False, "/"),
            ("bus.example:9313/other?a=1&b=2", "bus.example", 9313, False, "/other?a=1&b=2"),
            ("ws://bus.example?a=1", "bus.example", 80, False, "/ws/bus?a=1"),
            ("WS://BUS.Example:1", "bus.example", 1, False, "/ws/bus"),
        ],
    )
    def test_is_read(self, text: str, host: str, port: int, secure: bool, target: str) -> None:
        assert Address.parse(text) == Address(host, port, secure, target)

    def test_what_is_in_the_address_wins(self) -> None:
        assert Address.parse("h", path="/p", secure=True) == Address("h", 9313, True, "/p")
        assert Address.parse("ws://h/q", path="/p", secure=True) == Address("h", 80, False, "/q")
        assert Address.parse("h", path="p").target == "/p"

    @pytest.mark.parametrize("text", NOT_ADDRESSES)
    def test_what_is_no_address(self, text: str) -> None:
        with pytest.raises(InvalidArgument, match="not a server address"):
            Address.parse(text)

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("localhost:99999", "out of range: it is a number up to 65535"),
            ("localhost:http", "a port is a number"),
            ("localhost:", "a port is a number"),
            ("8080", "as in localhost:8080"),
            ("0", "as in 127.0.0.1"),
            ("::1", r"as in \[::1\]:9313"),
            ("::1:9313", r"as in \[::1\]:9313"),
        ],
    )
    def test_hints(self, text: str, hint: str) -> None:
        with pytest.raises(InvalidArgument, match=hint):
            Address.parse(text)

    @pytest.mark.parametrize("path", ["/a path", "/ä", "/\x00", "/a\n"])
    def test_what_is_no_path(self, path: str) -> None:
        with pytest.raises(InvalidArgument):
            Address.parse("localhost", path=path)

    @pytest.mark.parametrize("text", ["localhost:1", "[::1]:1", "wss://h:8443/x?y=1"])
    def test_url_reads_back(self, text: str) -> None:
        address = Address.parse(text)
        path = address.target.partition("?")[0]
        assert Address.parse(address.url) == replace(address, target=path)

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("localhost:port?token=secret", None),
            ("ws://localhost/a b?token=secret", None),
            ("ws://localhost/?token=secret\n", None),
            ("localhost", "/ws/bus?token=secret\n"),
            ("localhost", "/ws bus?token=secret"),
        ],
    )
    def test_no_query_is_shown(self, text: str, path: str | None) -> None:
        """There may be a token in it."""
        with pytest.raises(InvalidArgument) as refused:
            Address.parse(text, path=path)
        assert "secret" not in str(refused.value)
        address = Address.parse("ws://localhost:1/x?token=secret")
        assert address.url == "ws://localhost:1/x"
        assert "secret" not in repr(address)

    @pytest.mark.parametrize(
        "text",
        [
            "bob:secret@host:1",
            "bob@host",
            "ws://bob:secret@host",
            "ws://bob:secret@host:99999/x?y",
            "wss://:secret@[::1]:1",
            "ws://bob:secret@[",
            "bob:secret:secret@host:1",
            "bob:secret/@host:1",
            "bob:secret?secret@host:1",
            "bob:secret#@host:1",
            "bob:se@cret@host",
            "bob:sécret secret@host",
            "ftp://bob:secret@host",
        ],
    )
    def test_no_user_is_taken_nor_shown(self, text: str) -> None:
        for parse in (Address.parse, RelayTarget.parse):
            with pytest.raises(InvalidArgument) as refused:
                parse(text)
            for secret in ("bob", "secret", "cret", "IPv6"):
                assert secret not in str(refused.value)
        with pytest.raises(InvalidArgument, match="no user and no password"):
            Address.parse(text.replace("?", ""))

    @given(st.one_of(st.text(), st.from_regex(r"(wss?://)?[a-z0-9.\[\]:@-]*(:\d*)?[/?#!-~]*")))
    def test_every_address_can_be_put_into_a_request(self, text: str) -> None:
        try:
            address = Address.parse(text)
        except InvalidArgument:
            return
        end = ClientWebSocket(
            host=address.netloc,
            target=address.target,
            headers=[],
            key=bytes(16),
            text_frame=text_frame,
            limits=ConnectionLimits(),
            now=0.0,
        )
        reader = h11.Connection(h11.SERVER)
        reader.receive_data(end.data_to_send())
        request = reader.next_event()
        assert isinstance(request, h11.Request)
        assert request.target.decode() == address.target
        assert dict(request.headers)[b"host"].decode() == address.netloc


class TestRelayTarget:
    @pytest.mark.parametrize(
        ("text", "address", "path", "proxied"),
        [
            ("bus.example:9313", "bus.example:9313", "/ws/bus", ""),
            ("bus.example:9313/other", "bus.example:9313", "/other", ""),
            ("proxy:80::inner.example", "proxy:80", "/ws/bus", "inner.example"),
            ("proxy:80/a::inner:9313", "proxy:80", "/a", "inner:9313"),
            ("proxy:80/a::inner:9313/b", "proxy:80", "/b", "inner:9313"),
            ("bus.example:9313/", "bus.example:9313", "/", ""),
            ("[::1]:9313/a::inner", "[::1]:9313", "/a", "inner"),
            ("[fe80::1]:80", "[fe80::1]:80", "/ws/bus", ""),
        ],
    )
    def test_is_read(self, text: str, address: str, path: str, proxied: str) -> None:
        assert RelayTarget.parse(text) == RelayTarget(address, path, proxied)

    @pytest.mark.parametrize("text", ["", "/path", "::inner", "a b:1", "a:1\n", "a:1?x", "a\x00"])
    def test_what_is_no_address(self, text: str) -> None:
        with pytest.raises(InvalidArgument, match="not a server address"):
            RelayTarget.parse(text)

    @pytest.mark.parametrize(
        "text", ["10.0.0.1@127.0.0.1:1", "127.0.0.1:22#:1", "a\\b:1", "a:1:2", "http://a:1", "a:x"]
    )
    def test_what_would_lead_elsewhere_than_it_says(self, text: str) -> None:
        with pytest.raises(InvalidArgument, match="not a server address"):
            RelayTarget.parse(text)

    @given(st.text())
    def test_anything_else_raises_nothing_else(self, text: str) -> None:
        try:
            target = RelayTarget.parse(text)
        except InvalidArgument:
            return
        assert target.address
        assert target.path.startswith("/")

    @pytest.mark.parametrize(
        ("address", "secure", "client_id", "origin"),
        [
            ("bus.example:9313", False, "", "ws://bus.example:9313/ws/bus"),
            ("bus.example:9313", True, "alice", "alice---wss://bus.example:9313/ws/bus"),
            ("bus.example:80", False, "", "ws://bus.example/ws/bus"),
            ("bus.example:443", True, "", "wss://bus.example/ws/bus"),
            ("bus.example:443", False, "", "ws://bus.example:443/ws/bus"),
        ],
    )
    def test_origin(self, address: str, secure: bool, client_id: str, origin: str) -> None:
        assert origin_of(address, "/ws/bus", secure=secure, client_id=client_id) == origin
