"""What arrives on the port before, or instead of, a WebSocket."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.access.admission import read_networks
from kps.protocol.build import BUILD
from kps.protocol.server.events import OriginRefused, StrangerLeft, UpgradeRequested
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.protocol.wire.websocket import Output
from tests.protocol.helpers import Answer, Peer, Stage, json_frame, output, request, upgrade

PING = {"action": "ping", "from": "alice"}
PONG = {"action": "pong", "id": "alice"}


def ask(data: bytes, stage: Stage | None = None, *, method: str = "GET") -> Answer:
    """Send one request; return the answer, which must be the last thing that comes."""
    peer = (stage or Stage()).peer()
    peer.feed(data)
    answer = Answer(peer.read(), method)
    assert answer.headers["connection"] == "close"
    assert answer.rest == b""
    assert output(peer.connection) is Output.HALF_CLOSE
    return answer


class TestHealth:
    def test_get(self) -> None:
        stage = Stage(version="1.2.3")
        for client_id in ("alice", "bob"):
            peer = stage.peer(client_id)
            peer.ask({"action": "subscribe", "topic": "news"})
        peer.ask({"action": "subscribe", "topic": "weather"})
        stage.peer()  # a connection that is no client yet
        stage.clock.advance(12.5)
        answer = ask(request("/healthz"), stage)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert orjson.loads(answer.body) == {
            "status": "ok",
            "version": "1.2.3",
            "build": BUILD,
            "uptime": 12.5,
            "clients": 2,
            "topics": 2,
            "nodes": 1,
        }

    def test_head_is_the_same_without_a_body(self) -> None:
        get, head = ask(request("/healthz")), ask(request("/healthz", method="HEAD"), method="HEAD")
        assert head.status == 200
        assert head.headers == get.headers
        assert int(head.headers["content-length"]) == len(get.body)
        assert head.body == b""

    def test_with_a_query_or_a_whole_url(self) -> None:
        assert ask(request("/healthz?verbose=1")).status == 200
        assert ask(request("http://localhost:9313/healthz")).status == 200

    def test_http_1_0(self) -> None:
        assert ask(request("/healthz", version="1.0", headers=[])).status == 200

    def test_while_stopping(self) -> None:
        stage = Stage()
        stage.hub.shutdown(5, stage.clock.now)
        answer = ask(request("/healthz"), stage)
        assert answer.status == 503
        assert orjson.loads(answer.body)["status"] == "stopping"


class TestNotFound:
    @pytest.mark.parametrize("target", ["/", "/ws/bus", "/ws/bus/", "/healthz/", "/../etc", "*"])
    def test_other_paths(self, target: str) -> None:
        assert ask(request(target)).status == 404

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
    def test_other_methods(self, method: str) -> None:
        assert ask(request("/healthz", method=method), method=method).status == 404

    @pytest.mark.parametrize("target", ["/", "/ws", "/ws/bus/", "/healthz", "/WS/BUS"])
    def test_upgrade_on_another_path(self, target: str) -> None:
        assert ask(upgrade(target)).status == 404

    def test_body_is_not_waited_for(self) -> None:
        headers = [("Host", "x"), ("Content-Length", "1000000")]
        peer = Stage().peer()
        peer.feed(request("/", method="POST", headers=headers))
        assert Answer(peer.read()).status == 404
        peer.feed(b"x" * 1000)
        assert peer.read() == b""


class TestBadRequest:
    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS where plain text is spoken
            b"\x00" * 20,
            b"GET\r\n\r\n",
            b"GET / HTTP/one\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",  # no Host
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nNo Colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
            upgrade("http://[/ws/bus"),
        ],
    )
    def test_unreadable(self, data: bytes) -> None:
        assert ask(data).status == 400

    @pytest.mark.parametrize(
        "changed",
        [
            {"sec-websocket-key": None},
            {"sec-websocket-version": None},
            {"connection": None},
            {"connection": "keep-alive"},
            {"upgrade": "websocket2"},
            {"host": "xn--\xff"},
            {"host": "me@bus.example", "origin": "http://bus.example"},
        ],
    )
    def test_upgrade_with_wrong_headers(self, changed: dict[str, str | None]) -> None:
        assert ask(upgrade(changed=changed)).status == 400

    @pytest.mark.parametrize("version", ["8", "12", "14", "x"])
    def test_upgrade_to_another_version_is_told_ours(self, version: str) -> None:
        answer = ask(upgrade(changed={"sec-websocket-version": version}))
        assert answer.status == 426
        assert answer.headers["sec-websocket-version"] == "13"

    def test_upgrade_takes_get(self) -> None:
        assert ask(upgrade(method="POST"), method="POST").status == 400

    def test_upgrade_takes_http_1_1(self) -> None:
        assert ask(upgrade(version="1.0")).status == 400

    @pytest.mark.parametrize(
        "target",
        [
            "//x/ws/bus",
            "///ws/bus",
            "foo:/ws/bus",
            "http://localhost:9313/ws/bus",
            "ws://localhost:9313/ws/bus",
            "/ws/bus#x",
            "/ws/bus?a#x",
            "ws/bus",
        ],
    )
    def test_upgrade_names_a_path_and_nothing_else(self, target: str) -> None:
        """A proxy may have rules for the path, and must not read another one than we do."""
        assert ask(upgrade(target)).status == 400

    @pytest.mark.parametrize("target", ["//x/", "//", "/healthz#x", "foo:/healthz", "healthz", "?"])
    def test_plain_request_for_an_ambiguous_target(self, target: str) -> None:
        assert ask(request(target)).status == 404

    @pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.1"])
    def test_other_versions_of_http(self, version: str) -> None:
        assert ask(upgrade(version=version)).status == 505
        assert ask(request("/healthz", version=version)).status == 505

    @pytest.mark.parametrize(
        "field",
        [
            "Content-Length: 5",
            "Content-Length: 0005",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            "Origin: http://bus.example",
            "Authorization: Bearer x",
            "Host: other",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            "Upgrade: websocket",
            "uPGRADE: h2c",
        ],
    )
    def test_upgrade_with_a_body_or_a_field_twice(self, field: str) -> None:
        """The body would be read as frames; of two values another program may take the other."""
        stage = Stage(asks_upgrade=True)
        peer = stage.peer()
        head = upgrade(changed={"origin": "http://x", "host": "x", "authorization": "Bearer y"})
        peer.feed(head[:-2] + field.encode() + b"\r\n\r\n" + json_frame(PING))
        assert Answer(peer.read()).status == 400
        assert stage.hub.events() == []

    def test_upgrade_whose_protocol_a_proxy_repeated(self) -> None:
        peer = Stage().peer()
        peer.feed(upgrade(changed={"upgrade": "websocket, WebSocket"}))
        assert Answer(peer.read()).status == 101

    def test_upgrade_to_one_of_several_protocols(self) -> None:
        assert ask(upgrade(changed={"upgrade": "h2c, websocket"})).status == 400

    def test_upgrade_with_an_empty_body(self) -> None:
        peer = Stage().peer()
        peer.feed(upgrade(changed={"content-length": "0"}))
        assert Answer(peer.read()).status == 101

    def test_tokens_in_any_case_and_among_others(self) -> None:
        peer = Stage().peer()
        peer.feed(upgrade(changed={"connection": "keep-alive, UPGRADE", "upgrade": "WebSocket"}))
        assert Answer(peer.read()).status == 101


class TestHeadSize:
    LIMIT = 2000

    def sized(self, size: int) -> bytes:
        start = b"GET /healthz HTTP/1.1\r\nHost: x\r\nCookie: "
        return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"

    @pytest.mark.parametrize("sizes", [[], [1], [999], [1999, 1, 1]])
    def test_up_to_the_limit(self, sizes: list[int]) -> None:
        stage = Stage(limits=ServerLimits(max_head=self.LIMIT))
        peer = stage.peer()
        peer.feed(self.sized(self.LIMIT), sizes)
        stage.finish()
        assert Answer(peer.read()).status == 200

    @pytest.mark.parametrize("sizes", [[], [1], [999], [2000]])
    @pytest.mark.parametrize("size", [2001, 2010, 100_000])
    def test_past_the_limit(self, size: int, sizes: list[int]) -> None:
        stage = Stage(limits=ServerLimits(max_head=self.LIMIT))
        peer = stage.peer()
        peer.feed(self.sized(size), sizes)
        stage.finish()
        assert Answer(peer.read()).status == 431

    def test_past_the_limit_without_an_end(self) -> None:
        stage = Stage(limits=ServerLimits(max_head=self.LIMIT))
        assert ask(b"GET /" + b"x" * self.LIMIT, stage).status == 431

    @pytest.mark.parametrize("sizes", [[], [1], [100]])
    def test_frames_behind_the_head_do_not_count(self, sizes: list[int]) -> None:
        stage = Stage(limits=ServerLimits(max_head=300))
        peer = stage.peer()
        peer.feed(upgrade() + json_frame(PING) + json_frame({"pad": "x" * 1000}), sizes)
        peer.read_upgrade()
        refusal = {"action": "error", "error": "missing or invalid action"}
        assert peer.take() == [PONG, refusal]
        assert peer.ask(PING) == [PONG]

    def test_default_leaves_room_for_cookies_and_tokens(self) -> None:
        peer = Stage().peer()
        peer.feed(upgrade(changed={"cookie": "x" * 8000, "authorization": "Bearer " + "y" * 7000}))
        assert Answer(peer.read()).status == 101


class TestTime:
    @pytest.mark.parametrize("start", [b"", b"GET /healthz HTT", upgrade()[:-1]])
    def test_request_that_never_ends_is_408(self, start: bytes) -> None:
        stage = Stage(limits=ServerLimits(handshake_timeout=10, close_timeout=5))
        peer = stage.peer()
        if start:
            peer.feed(start)
        stage.advance(9.9)
        peer.feed(b"G" if not start else b"X")  # a byte now and then does not help
        assert peer.read() == b""
        stage.advance(0.1)
        assert stage.hub.take_unflushed() == [peer.connection.number]
        assert Answer(peer.read()).status == 408
        assert output(peer.connection) is Output.HALF_CLOSE

    def test_answer_lingers_until_the_peer_hangs_up(self) -> None:
        stage = Stage(limits=ServerLimits(close_timeout=5))
        peer = stage.peer()
        peer.feed(request("/"))
        assert output(peer.connection) is Output.HALF_CLOSE
        peer.feed(b"the rest of what it wanted to say")
        peer.connection.receive_eof(stage.clock.now)
        assert Answer(peer.read()).status == 404
        assert output(peer.connection) is Output.CLOSE

    def test_peer_that_does_not_hang_up_is_dropped(self) -> None:
        stage = Stage(limits=ServerLimits(close_timeout=5))
        peer = stage.peer()
        peer.feed(request("/"))
        peer.read()
        stage.advance(4.9)
        assert output(peer.connection) is Output.HALF_CLOSE
        stage.advance(0.1)
        assert output(peer.connection) is Output.ABORT

    def test_open_connection_has_no_deadline_of_the_handshake(self) -> None:
        stage = Stage(limits=ServerLimits(handshake_timeout=10, heartbeat_interval=1000))
        peer = stage.peer("alice")
        stage.advance(100)
        assert output(peer.connection) is Output.KEEP
        assert peer.ask(PING) == [PONG]


class TestOrigin:
    def status(
        self,
        origin: str | None,
        *allowed: str,
        host: str = "bus.example:9313",
        forwarded: str | None = None,
        **config: Any,
    ) -> int:
        stage = Stage(origins=allowed, **config)
        peer = stage.peer()
        fields = {"origin": origin, "host": host, "x-forwarded-proto": forwarded}
        peer.feed(upgrade(changed=fields))
        return Answer(peer.read()).status

    def test_none(self) -> None:
        assert self.status(None) == 101

    @pytest.mark.parametrize(
        "origin",
        [
            "http://evil.example",
            "http://bus.example",
            "https://bus.example:9314",
            "null",
            "http://[",
        ],
    )
    def test_foreign(self, origin: str) -> None:
        assert self.status(origin) == 403

    @pytest.mark.parametrize("origin", ["http://bus.example:9313", "https://BUS.example:9313"])
    def test_same(self, origin: str) -> None:
        assert self.status(origin) == 101

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("https://bus.example", "bus.example:443"),
            ("https://bus.example", "bus.example"),
            ("http://bus.example:80", "bus.example"),
            ("http://[::1]:9313", "[::1]:9313"),
        ],
    )
    def test_same_with_and_without_the_default_port(self, origin: str, host: str) -> None:
        assert self.status(origin, host=host) == 101

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("null", ""),
            ("", "bus.example"),
            ("*", "bus.example"),
            ("http://", ""),
            ("http://bus.example", "bus.example:443"),
            ("https://bus.example", "bus.example:80"),
            ("http://bus.example/", "bus.example"),
            ("http://bus.example/x", "bus.example"),
            ("http://bus.example?", "bus.example"),
            ("http://bus.example#", "bus.example"),
            ("http://me@bus.example", "bus.example"),
            ("//bus.example", "bus.example"),
            ("bus.example", "bus.example"),
            ("ftp://bus.example", "bus.example"),
            ("ws://bus.example", "bus.example"),
            ("file://bus.example", "bus.example"),
            ("chrome-extension://bus.example", "bus.example"),
            ("http://bus.example, http://bus.example", "bus.example"),
            ("http://bus.example http://bus.example", "bus.example"),
            ("http://bus.example:99999", "bus.example:99999"),
            ("http://bus.example:", "bus.example:"),
        ],
    )
    def test_not_the_whole_of_the_same_origin(self, origin: str, host: str) -> None:
        assert self.status(origin, host=host) == 403

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_same_scheme_as_the_server(self, scheme: str) -> None:
        """A page that came over plain HTTP may be anybody's, and has the visitor's cookies."""
        origin = f"{scheme}://bus.example:9313"
        assert self.status(origin, is_secure=True) == (101 if scheme == "https" else 403)

    @pytest.mark.parametrize(
        ("forwarded", "schemes"),
        [
            ("https", ["https"]),
            ("wss", ["https"]),
            ("HTTPS", ["https"]),
            ("https, http", ["https"]),
            ("http", ["http"]),
            ("ws", ["http"]),
            (None, ["http", "https"]),
            ("gopher", ["http", "https"]),
        ],
    )
    def test_same_scheme_as_a_known_proxy_says(
        self, forwarded: str | None, schemes: list[str]
    ) -> None:
        proxies = read_networks(["192.0.2.0/24"])
        for scheme in ("http", "https"):
            status = self.status(
                f"{scheme}://bus.example:9313", forwarded=forwarded, proxies=proxies
            )
            assert status == (101 if scheme in schemes else 403)

    def test_others_say_nothing_about_the_scheme(self) -> None:
        origin = "http://bus.example:9313"
        assert self.status(origin, forwarded="https") == 101
        assert self.status(origin, forwarded="http", is_secure=True) == 403
        others = read_networks(["198.51.100.1"])
        assert self.status(origin, forwarded="http", is_secure=True, proxies=others) == 403

    def test_the_hook_sees_the_scheme(self) -> None:
        for is_secure, scheme in ((False, ""), (True, "https")):
            stage = Stage(asks_upgrade=True, is_secure=is_secure)
            stage.peer().feed(upgrade())
            (event,) = stage.hub.events()
            assert isinstance(event, UpgradeRequested)
            assert event.request.scheme == scheme

    def test_a_refused_origin_is_told_once(self) -> None:
        stage = Stage()
        for origin in ("http://a.example", "http://b.example", "http://a.example"):
            stage.peer().feed(upgrade(changed={"origin": origin}))
        assert stage.hub.events() == [
            OriginRefused("192.0.2.1:40000", "http://a.example"),
            OriginRefused("192.0.2.1:40000", "http://b.example"),
        ]

    def test_allowed(self) -> None:
        assert self.status("https://app.example", "https://app.example", "http://x") == 101
        assert self.status("https://app.example.evil", "https://app.example") == 403
        assert self.status("http://app.example", "https://app.example") == 403

    def test_all_allowed(self) -> None:
        assert self.status("http://evil.example", "*") == 101
        assert self.status("", "*") == 101

    def test_files_allowed(self) -> None:
        assert self.status("null", "null") == 101
        assert self.status("file://", "null") == 403

    def test_plain_requests_are_not_checked(self) -> None:
        headers = [("Host", "x"), ("Origin", "http://evil.example")]
        assert ask(request("/healthz", headers=headers)).status == 200


class TestAsking:
    """The program decides about each upgrade."""

    def asked(self, extra: bytes = b"") -> tuple[Stage, Peer, UpgradeRequested]:
        stage = Stage(asks_upgrade=True)
        peer = stage.peer()
        peer.feed(upgrade("/ws/bus?token=x", changed={"authorization": "Bearer y"}) + extra)
        (event,) = stage.hub.events()
        assert isinstance(event, UpgradeRequested)
        assert event.session == peer.connection.number
        assert peer.read() == b""
        assert peer.connection.wants_pause
        return stage, peer, event

    def test_program_sees_the_request(self) -> None:
        _, _, event = self.asked()
        assert event.request.method == "GET"
        assert event.request.path == "/ws/bus"
        assert event.request.query == "token=x"
        assert event.request.header("Authorization") == "Bearer y"
        assert event.request.header("cookie", "none") == "none"
        assert event.request.peer == "192.0.2.1:40000"

    def test_accept(self) -> None:
        _, peer, _ = self.asked()
        peer.decide(True)
        peer.read_upgrade()
        assert not peer.connection.wants_pause
        assert peer.ask(PING) == [PONG]

    @pytest.mark.parametrize("later", [b"", json_frame({"action": "subscribe", "topic": "t"})])
    def test_what_came_with_the_request_is_not_lost(self, later: bytes) -> None:
        _, peer, _ = self.asked(json_frame(PING))
        if later:
            peer.feed(later, [1])
        assert peer.read() == b""
        peer.decide(True)
        peer.read_upgrade()
        answers = [PONG, {"action": "subscribed", "topic": "t"}]
        assert peer.take() == answers[: 2 if later else 1]

    def test_refuse(self) -> None:
        stage, peer, _ = self.asked(json_frame(PING))
        response = HttpResponse(401, b"who?\n", headers=(("www-authenticate", "Bearer"),))
        peer.decide(response)
        answer = Answer(peer.read())
        assert (answer.status, answer.body) == (401, b"who?\n")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert output(peer.connection) is Output.HALF_CLOSE
        assert stage.hub.clients == {}

    @pytest.mark.parametrize(
        ("verdict", "status"),
        [
            (True, 101),
            ("anything that is true", 403),
            (("no", 403), 403),
            (False, 403),
            (None, 403),
            (HttpResponse.text(418, "I am a teapot"), 418),
        ],
    )
    def test_verdict_of_a_hook(self, verdict: object, status: int) -> None:
        _, peer, _ = self.asked()
        peer.decide(verdict)
        assert Answer(peer.read()).status == status

    def test_refusal_with_a_status_of_its_own(self) -> None:
        _, peer, _ = self.asked()
        peer.decide(HttpResponse(499, b""))
        assert Answer(peer.read()).status == 499

    def test_second_decision_does_nothing(self) -> None:
        _, peer, _ = self.asked()
        peer.decide(True)
        peer.read_upgrade()
        peer.decide(HttpResponse.text(403, "no"))
        peer.decide(True)
        assert peer.read() == b""
        assert peer.ask(PING) == [PONG]

    def test_decision_that_takes_too_long(self) -> None:
        stage, peer, _ = self.asked()
        stage.advance(stage.hub.limits.handshake_timeout)
        assert Answer(peer.read()).status == 503
        peer.decide(True)
        assert peer.read() == b""

    def test_client_that_left_meanwhile(self) -> None:
        stage, peer, _ = self.asked()
        peer.connection.connection_lost(stage.clock.now)
        peer.decide(True)
        peer.decide(HttpResponse.text(403, "no"))
        assert peer.read() == b""
        assert stage.hub.connections == {}
        assert stage.hub.next_deadline() is None

    def test_program_is_not_asked_about_what_cannot_be(self) -> None:
        stage = Stage(asks_upgrade=True)
        for data in (
            request("/healthz"),
            upgrade("/other"),
            upgrade(changed={"origin": "http://evil.example"}),
            upgrade(changed={"sec-websocket-key": None}),
        ):
            stage.peer().feed(data)
        assert not [e for e in stage.hub.events() if isinstance(e, UpgradeRequested)]


class TestStopping:
    def test_new_upgrades_are_refused(self) -> None:
        stage = Stage()
        stage.hub.shutdown(5, stage.clock.now)
        assert ask(upgrade(), stage).status == 503

    @pytest.mark.parametrize("data", [b"", b"GET /ws/bus HTTP/1.1\r\n"])
    def test_unfinished_requests_are_answered(self, data: bytes) -> None:
        stage = Stage()
        peer = stage.peer()
        if data:
            peer.feed(data)
        stage.hub.shutdown(5, stage.clock.now)
        assert Answer(peer.read()).status == 503

    def test_undecided_upgrades_are_answered(self) -> None:
        stage = Stage(asks_upgrade=True)
        peer = stage.peer()
        peer.feed(upgrade())
        stage.hub.shutdown(5, stage.clock.now)
        assert Answer(peer.read()).status == 503


class TestLoss:
    @pytest.mark.parametrize("data", [b"", b"GET ", request("/"), upgrade(), upgrade() + b"\x81"])
    def test_nothing_is_left_of_a_connection_that_breaks(self, data: bytes) -> None:
        stage = Stage()
        peer = stage.peer()
        if data:
            peer.feed(data)
        peer.connection.receive_eof(stage.clock.now)
        assert output(peer.connection) is Output.CLOSE
        for _ in range(2):
            peer.connection.connection_lost(stage.clock.now)
        assert stage.hub.connections == {}
        assert stage.hub.next_deadline() is None
        assert peer.connection.closed is not None
        assert stage.hub.events() == [StrangerLeft("192.0.2.1:40000", peer.connection.closed)]
        assert stage.hub.take_unflushed() == []


class TestHttpRequest:
    def test_first_header_of_a_name_counts(self) -> None:
        asked = HttpRequest("GET", "/", (("x-a", "1"), ("x-a", "2")))
        assert asked.header("X-A") == "1"

    @given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
    def test_any_target_gets_an_answer(self, target: str) -> None:
        assert ask(request(target)).status in (200, 400, 404)
        peer = Stage().peer()
        peer.feed(upgrade(target))
        assert Answer(peer.read()).status in (101, 400, 404)

    @given(st.text(st.characters(max_codepoint=0xFF)))
    def test_any_header_gets_an_answer(self, value: str) -> None:
        for name in ("host", "origin", "upgrade", "connection", "sec-websocket-key", "x-any"):
            peer = Stage().peer()
            peer.feed(upgrade(changed={name: value}))
            assert Answer(peer.read()).status in (101, 400, 403, 404)
