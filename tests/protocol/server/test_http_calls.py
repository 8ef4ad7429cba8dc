"""Requests over HTTP that have one answer: ``POST /publish`` and ``POST /request``."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import Refused
from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.server.events import (
    ConnectRequested,
    LoginRefused,
    OriginRefused,
    StrangerLeft,
    TokenPresented,
    UpgradeRequested,
)
from kps.protocol.server_limits import RatePolicy, ServerLimits
from kps.protocol.wire.http import HttpResponse
from tests.protocol.helpers import Stage, request
from tests.protocol.server.http_face import HOST, Asker, answer_ask, post, stream, worker

FORM = ("Content-Type", "application/x-www-form-urlencoded")
TEXT = ("Content-Type", "text/plain; charset=UTF-8")


class TestPublish:
    def test_it_reaches_the_subscribers(self) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        assert post(stage, "/publish?topic=t", b'{"a": 1.50}').reply == (204, None)
        assert b'"data":{"a": 1.50}' in bob.read()
        assert bob.raw.count(b'"from":"http:"') == 1
        assert stage.hub.stats.published == 1

    def test_it_is_no_client(self) -> None:
        stage = Stage()
        asker = post(stage, "/publish?topic=t")
        assert asker.reply == (204, None)
        asker.connection.receive_eof(stage.clock.now)
        asker.connection.connection_lost(stage.clock.now)
        assert [type(event) for event in stage.hub.events()] == [StrangerLeft]
        assert (stage.hub.stats.connections, stage.hub.clients) == (0, {})
        assert stage.hub.connections == {}
        assert stage.hub.state.tally.received == 1

    @pytest.mark.parametrize("header", [FORM, TEXT, ("Content-Type", "application/json")])
    def test_what_a_body_is(self, header: tuple[str, str]) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        assert post(stage, "/publish?topic=t", b"[1,\n 2]", [header]).reply == (204, None)
        (got,) = bob.take()
        assert got["data"] == ("[1,\n 2]" if header is TEXT else [1, 2])

    def test_a_receipt_tells_how_many_got_it(self) -> None:
        stage = Stage()
        for count in range(3):
            assert post(stage, "/publish?topic=t&receipt=1").reply == (200, {"delivered": count})
            worker(stage, "t", f"bob-{count}")

    def test_acks_tell_who_handled_it(self) -> None:
        stage = Stage()
        alice, bob, eve = (worker(stage, "t", name) for name in ("alice", "bob", "eve"))
        asker = post(stage, "/publish?topic=t&ack=2", b"1")
        answer_ask(alice, result={"n": 12345678901234567890})
        answer_ask(bob, success=False, error="no disk")
        assert not asker.has_reply
        stage.advance(2.1)
        assert asker.reply == (
            200,
            {
                "complete": False,
                "responses": {
                    "alice": {"success": True, "result": {"n": 12345678901234567890}},
                    "bob": {"success": False, "error": "no disk"},
                },
                "missing": ["eve"],
            },
        )
        assert eve.closed is None

    def test_acks_of_nobody(self) -> None:
        stage = Stage()
        assert post(stage, "/publish?topic=t&ack=2").reply == (200, {"complete": True})

    def test_a_direct_message(self) -> None:
        stage = Stage()
        bob = worker(stage, "other")
        assert post(stage, "/publish?to=bob", b"7").reply == (204, None)
        assert bob.take() == [{"action": "direct_message", "from": "http:", "data": 7}]
        assert post(stage, "/publish?to=eve").reply[0] == 404
        status, reply = post(stage, "/publish?to=eve&ack=1").reply
        assert (status, reply["code"]) == (404, "no_such_client")
        asker = post(stage, "/publish?to=bob&ack=1")
        answer_ask(bob)
        assert asker.reply == (200, {"complete": True, "responses": {"bob": {"success": True}}})

    def test_headers_come_from_those_of_the_request(self) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        headers = [("traceparent", "00-ab"), ("Kps-Header-Unit", "°C"), ("X-Other", "no")]
        post(
            stage,
            "/publish?topic=t",
            headers=[(n, v.encode().decode("latin-1")) for n, v in headers],
        )
        (got,) = bob.take()
        assert got["headers"] == {"traceparent": "00-ab", "unit": "°C"}

    def test_a_key_makes_it_handled_once(self) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        for key in ('"k1"', "k1"):
            headers = [("Idempotency-Key", key)]
            assert post(stage, "/publish?topic=t&receipt=1", b"1", headers).reply == (
                200,
                {"delivered": 1},
            )
        assert len(bob.take()) == 1
        status, reply = post(stage, "/publish?topic=t", b"2", [("Idempotency-Key", "k1")]).reply
        assert (status, reply["code"]) == (409, "message_id_in_use")

    def test_a_key_finds_the_answer_of_a_request_whose_connection_was_lost(self) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        headers = [("Idempotency-Key", "k")]
        lost = post(stage, "/request?topic=t", b"1", headers)
        lost.connection.connection_lost(stage.clock.now)
        again = post(stage, "/request?topic=t", b"1", headers)
        assert not again.has_reply
        answer_ask(bob, result="done")
        assert again.reply == (200, "done")


class TestRequest:
    def test_the_first_result_is_the_answer(self) -> None:
        stage = Stage()
        alice, bob = worker(stage, "t", "alice"), worker(stage, "t", "bob")
        asker = post(stage, "/request?topic=t", b"1")
        answer_ask(alice, success=False, error="busy")
        assert not asker.has_reply
        answer_ask(bob, result=[1])
        assert asker.reply == (200, [1])
        assert len(stage.hub.state.acks) == 0

    def test_one_of_a_group(self) -> None:
        stage = Stage()
        bob = stage.peer().upgrade()
        bob.ask({"action": "ping", "from": "bob", "proto": 2})
        bob.ask({"action": "subscribe", "topic": "t", "group": "g"})
        asker = post(stage, "/request?topic=t&key=k&retry=0", b"1")
        answer_ask(bob, success=False, error="broken")
        status, reply = asker.reply
        assert (status, reply["code"], reply["error"]) == (502, "failed", "broken")

    @pytest.mark.parametrize("target", ["/request?topic=t", "/request?to=bob"])
    def test_all_that_can_become_of_it(self, target: str) -> None:
        stage = Stage()
        assert _told(post(stage, target)) == (404, "nobody")
        bob = worker(stage, "t")
        asker = post(stage, target + "&timeout=3")
        stage.advance(2.9)
        assert not asker.has_reply
        stage.advance(0.2)
        assert _told(asker) == (504, "timeout")
        bob.take()
        asker = post(stage, target)
        answer_ask(bob, success=False, error="no")
        assert asker.reply == (502, {"code": "failed", "error": "no", "errors": {"bob": "no"}})
        asker = post(stage, target)
        answer_ask(bob)
        assert asker.reply == (200, None)
        assert asker.raw.endswith(b"\r\n\r\nnull\n")
        asker = post(stage, target)
        bob.connection.connection_lost(stage.clock.now)
        assert _told(asker) == (502, "failed")


def _told(asker: Asker) -> tuple[int, str]:
    status, reply = asker.reply
    return status, reply["code"]


REFUSED: list[tuple[str, bytes, list[tuple[str, str]], int, str]] = [
    ("/publish", b"1", [], 400, "bad_request"),
    ("/publish?topic=", b"1", [], 400, "bad_request"),
    ("/publish?topic=a&topic=b", b"1", [], 400, "bad_request"),
    ("/publish?topic=a&to=b", b"1", [], 400, "bad_request"),
    ("/publish?topic=a&receipt=maybe", b"1", [], 400, "bad_request"),
    ("/publish?topic=a&ack=0", b"1", [], 400, "bad_request"),
    ("/publish?topic=a&ack=nan", b"1", [], 400, "bad_request"),
    ("/publish?topic=a&ack=1&retry=-1", b"1", [], 400, "bad_request"),
    ("/publish?to=b&receipt=1", b"1", [], 400, "bad_request"),
    ("/publish?topic=a%00", b"1", [], 400, "bad_request"),
    ("/publish?topic=a%FF", b"1", [], 400, "bad_request"),
    ("/publish?topic=__kps/stats", b"1", [], 403, "forbidden"),
    ("/publish?topic=" + 300 * "a", b"1", [], 400, "bad_request"),
    ("/publish?topic=a", b"", [], 400, "bad_message"),
    ("/publish?topic=a", b"hello", [], 400, "bad_message"),
    ("/publish?topic=a", b'1,"topic":"b"', [], 400, "bad_message"),
    ("/publish?topic=a", b'1}{"action":"publish"', [], 400, "bad_message"),
    ("/publish?topic=a", b'"\xff"', [], 400, "bad_message"),
    ("/publish?topic=a", b"\xff", [TEXT], 400, "bad_message"),
    ("/publish?topic=a", 200 * b"[" + 200 * b"]", [], 400, "bad_message"),
    ("/publish?topic=a", b"[" + 80_000 * b"[]," + b"1]", [], 400, "bad_message"),
    ("/publish?topic=a", b"1", [("Content-Type", "image/png")], 415, "content_type"),
    ("/publish?topic=a", b"1", [(TEXT[0], "text/plain; charset=utf-16")], 415, "content_type"),
    ("/publish?topic=a", b"1", [("Content-Encoding", "gzip")], 415, "content_type"),
    ("/publish?topic=a", b"1", [("Origin", "http://localhost:9313")] * 2, 400, "bad_request"),
    ("/publish?topic=a", b"1", [("Transfer-Encoding", "chunked")], 400, "bad_request"),
    ("/publish?topic=a", b"1", [("Kps-Header-A", 9000 * "a")], 400, "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "body", "headers", "status", "code"), REFUSED)
def test_refusals_say_what_is_wrong(
    target: str, body: bytes, headers: list[tuple[str, str]], status: int, code: str
) -> None:
    stage = Stage()
    asker = post(stage, target, body, headers)
    assert _told(asker) == (status, code)
    assert asker.reply[1]["error"]
    assert stage.hub.stats.published == 0


@pytest.mark.parametrize("path", ["/publish", "/request"])
def test_methods(path: str) -> None:
    stage = Stage()
    for method in ("GET", "HEAD", "PUT", "DELETE", "POS", "O"):
        asker = post(stage, f"{path}?topic=t", b"1", method=method)
        asker.read()
        assert asker.fields["allow"] == "POST, OPTIONS"
        assert asker.raw.startswith(b"HTTP/1.1 405 ")
    assert _told(post(stage, f"{path}?topic=t", None)) == (411, "length")


def test_a_server_that_has_no_face() -> None:
    for target in ("/publish?topic=t", "/request?topic=t", "/sse?topic=t"):
        asker = post(Stage(has_http=False), target)
        asker.read()
        assert asker.raw.startswith(b"HTTP/1.1 404 ")


class TestBodies:
    @given(st.data())
    def test_it_does_not_matter_how_it_comes(self, data: st.DataObject) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        body = b"[" + b",".join(data.draw(st.lists(st.just(b'"some text"'), max_size=9))) + b"]"
        headers, sent = [], body
        if data.draw(st.booleans(), "chunked"):
            cuts = data.draw(st.lists(st.integers(1, 20), max_size=9))
            sent = b""
            rest = body
            for cut in [*cuts, len(body)]:
                if part := rest[:cut]:
                    sent += b"%x\r\n%b\r\n" % (len(part), part)
                rest = rest[cut:]
            sent += b"0\r\n\r\n"
            headers = [("Transfer-Encoding", "chunked")]
        else:
            headers = [("Content-Length", str(len(body)))]
        asker = Asker(stage.hub, stage.clock)
        asker.method = "POST"
        head = request("/publish?topic=t", method="POST", headers=[HOST, *headers])
        asker.feed(head + sent, data.draw(st.lists(st.integers(1, 60))))
        stage.finish()
        assert asker.reply == (204, None)
        (got,) = bob.take()
        assert got["data"] == ["some text"] * body.count(b"some")

    def test_one_that_is_said_to_be_too_long_is_not_read(self) -> None:
        stage = Stage(limits=ServerLimits(max_message=1000))
        headers = [("Content-Length", "1001"), ("Expect", "100-continue")]
        asker = post(stage, "/publish?topic=t", None, headers)
        assert _told(asker) == (413, "too_large")
        assert _told(post(stage, "/publish?topic=t", None, [("Content-Length", "9" * 15)])) == (
            413,
            "too_large",
        )
        assert post(stage, "/publish?topic=t", b"1" * 300).reply[0] in (204, 400)

    def test_one_without_an_end_is_read_up_to_the_limit(self) -> None:
        stage = Stage(limits=ServerLimits(max_message=1000))
        asker = post(stage, "/publish?topic=t", None, [("Transfer-Encoding", "chunked")])
        for _ in range(10):
            asker.feed(b"64\r\n" + b"1" * 100 + b"\r\n")
            assert not asker.has_reply
        asker.feed(b"64\r\n" + b"1" * 100 + b"\r\n")
        assert _told(asker) == (413, "too_large")
        for _ in range(100):  # it goes on, and nothing of it stays
            asker.feed(b"64\r\n" + b"1" * 100 + b"\r\n")
        assert stage.hub.stats.published == 0
        stage.advance(10)
        assert asker.connection.output.name == "ABORT"

    def test_a_text_counts_as_its_json_does(self) -> None:
        stage = Stage(limits=ServerLimits(max_message=1000))
        asker = post(stage, "/publish?topic=t", b"\n" * 600, [TEXT])
        assert _told(asker) == (413, "too_large")

    def test_one_that_is_slow_ends(self) -> None:
        stage = Stage()
        asker = post(stage, "/publish?topic=t", None, [("Content-Length", "30")])
        for _ in range(9):
            stage.advance(1.0)
            asker.feed(b"1")
        assert not asker.has_reply
        stage.advance(1.1)
        assert asker.read().startswith(b"HTTP/1.1 408 ")
        assert stage.hub.stats.published == 0

    def test_a_client_is_told_to_send_it_once_it_may(self) -> None:
        stage = Stage(asks_upgrade=True)
        headers = [("Content-Length", "1"), ("Expect", "100-continue")]
        asker = post(stage, "/publish?topic=t&receipt=1", None, headers)
        assert asker.read() == b""
        asker.decide(True)
        assert asker.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
        asker.raw = b""
        asker.feed(b"1")
        assert asker.reply == (200, {"delivered": 0})

    def test_what_follows_a_body_is_nothing(self) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        smuggled = request("/publish?topic=t", method="POST", headers=[HOST]) + b"2"
        asker = post(stage, "/publish?topic=t", None, [("Content-Length", "1")])
        asker.feed(b"1" + smuggled)
        asker.feed(smuggled)
        assert asker.reply == (204, None)
        assert [got["data"] for got in bob.take()] == [1]
        assert asker.connection.output.name == "HALF_CLOSE"

    def test_one_that_stops_in_the_middle_is_not_handled(self) -> None:
        stage = Stage()
        asker = post(stage, "/publish?topic=t", None, [("Content-Length", "3")])
        asker.feed(b"12")
        asker.connection.receive_eof(stage.clock.now)
        asker.connection.connection_lost(stage.clock.now)
        assert (stage.hub.stats.published, stage.hub.connections) == (0, {})

    def test_chunks_that_are_none(self) -> None:
        stage = Stage()
        asker = post(stage, "/publish?topic=t", None, [("Transfer-Encoding", "chunked")])
        asker.feed(b"zz\r\n1\r\n")
        assert asker.read().startswith(b"HTTP/1.1 400 ")
        assert stage.hub.stats.published == 0


class TestOrigins:
    def test_a_foreign_page_is_refused_before_all_else(self) -> None:
        stage = Stage(asks_upgrade=True)
        bob = worker_when_asked(stage)
        for method, headers in (
            ("POST", []),
            ("OPTIONS", [("Access-Control-Request-Method", "POST")]),
            ("PUT", []),
        ):
            asker = post(
                stage, "/publish?topic=t", b"1", [("Origin", "http://evil.example"), *headers],
                method=method,
            )  # fmt: skip
            assert asker.reply == (403, {"code": "forbidden", "error": "origin not allowed"})
            assert "access-control-allow-origin" not in asker.fields
        told = stage.hub.events()
        assert [one.origin for one in told if isinstance(one, OriginRefused)] == [
            "http://evil.example"
        ]
        assert not [one for one in told if isinstance(one, UpgradeRequested)]
        assert bob.take() == []

    def test_the_pages_of_the_server_and_listed_ones_may(self) -> None:
        stage = Stage(origins=("https://app.example",))
        for origin in ("http://localhost:9313", "https://app.example"):
            asker = post(stage, "/publish?topic=t", b"1", [("Origin", origin)])
            assert asker.reply == (204, None)
            assert asker.fields["access-control-allow-origin"] == origin
            assert asker.fields["access-control-allow-credentials"] == "true"
            assert asker.fields["vary"] == "Origin"
        asker = post(
            stage,
            "/publish?topic=t",
            None,
            [
                ("Origin", "https://app.example"),
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Headers", "authorization,content-type"),
            ],
            method="OPTIONS",
        )
        assert asker.reply == (204, None)
        assert asker.fields["access-control-allow-headers"] == "authorization,content-type"
        assert asker.fields["access-control-allow-methods"] == "POST, OPTIONS"

    def test_a_foreign_page_that_hides_its_origin(self) -> None:
        """As one that loads an image does: it could take the id of another client."""
        stage = Stage(origins=("https://app.example",))
        alice = stage.peer("alice")
        for site in ("cross-site", "same-site"):
            asker = stream(stage, "/sse?topic=t&id=alice", headers=[("Sec-Fetch-Site", site)])
            assert asker.reply == (403, {"code": "forbidden", "error": "origin not allowed"})
        told = stage.hub.events()
        assert [one.origin for one in told if isinstance(one, OriginRefused)] == [""]
        assert alice.connection.closed is None
        for site in ("same-origin", "none"):
            reader = stream(stage, "/sse?topic=t", headers=[("Sec-Fetch-Site", site)])
            assert reader.events() == []
        listed = ("Origin", "https://app.example"), ("Sec-Fetch-Site", "cross-site")
        assert stream(stage, "/sse?topic=t", headers=listed).events() == []
        stage = Stage(origins=("*",))
        reader = stream(stage, "/sse?topic=t", headers=[("Sec-Fetch-Site", "cross-site")])
        assert reader.events() == []

    def test_what_no_answer_can_repeat(self) -> None:
        wanted = "Access-Control-Request-Headers", "\xe9"
        asker = post(Stage(), "/publish?topic=t", b"1", [wanted], method="OPTIONS")
        assert asker.reply == (204, None)
        assert not [name for name in asker.fields if name.startswith("access-control-allow-")]
        foreign = post(Stage(), "/publish?topic=t", b"1", [("Origin", "http://\xe9")])
        assert foreign.reply[0] == 403
        assert not [name for name in foreign.fields if name.startswith("access-control-allow-")]

    def test_any_page_gets_no_cookies(self) -> None:
        stage = Stage(origins=("*",))
        asker = post(stage, "/publish?topic=t", b"1", [("Origin", "https://any.example")])
        assert asker.fields["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in asker.fields

    def test_refusals_can_be_read_too(self) -> None:
        stage = Stage()
        asker = post(stage, "/publish", b"1", [("Origin", "http://localhost:9313")])
        assert asker.reply[0] == 400
        assert asker.fields["access-control-allow-origin"] == "http://localhost:9313"


def worker_when_asked(stage: Stage) -> Any:
    peer = stage.peer()
    stage.hub.take_unflushed()
    from tests.protocol.helpers import upgrade

    peer.feed(upgrade())
    peer.decide(True)
    peer.read_upgrade()
    peer.ask({"action": "ping", "from": "bob"})
    peer.ask({"action": "subscribe", "topic": "t"})
    stage.hub.events()
    return peer


class TestWhoMay:
    def test_the_hook_sees_the_request_with_its_cookies(self) -> None:
        stage = Stage(asks_upgrade=True)
        asker = post(stage, "/publish?topic=t", b"1", [("Cookie", "session=s")])
        (asked,) = stage.hub.events()
        assert isinstance(asked, UpgradeRequested)
        assert asked.request.cookies == {"session": "s"}
        assert asked.request.method == "POST"
        assert not asker.has_reply
        asker.decide(Identity("alice", Permissions(publish=["t"])))
        assert asker.reply == (204, None)

    def test_its_refusals(self) -> None:
        stage = Stage(asks_upgrade=True)
        for verdict, status, code in (
            (False, 403, "forbidden"),
            (HttpResponse.text(401, "log in"), 401, "unauthorized"),
            (HttpResponse.text(500, "internal server error"), 500, "unavailable"),
        ):
            asker = post(stage, "/publish?topic=t")
            asker.decide(verdict)
            assert _told(asker) == (status, code)
        asker = post(stage, "/publish?topic=t")
        asker.decide(HttpResponse(402, b"{}", "application/problem+json"))
        assert asker.reply == (402, {})
        assert stage.hub.stats.published == 0

    def test_a_token_is_needed_where_clients_need_one(self) -> None:
        stage = Stage(asks_token=True)
        assert _told(post(stage, "/publish?topic=t")) == (401, "unauthorized")
        assert any(isinstance(event, LoginRefused) for event in stage.hub.events())
        for target, headers in (
            ("/publish?topic=t", [("Authorization", "Bearer secret")]),
            ("/publish?topic=t&token=secret", []),
        ):
            asker = post(stage, target, b"1", headers)
            (shown,) = (e for e in stage.hub.events() if isinstance(e, TokenPresented))
            assert shown.token == "secret"
            asker.identify(Identity("alice", Permissions(publish=["other"])))
            assert _told(asker) == (403, "forbidden")
        asker = post(stage, "/publish?topic=t", b"1", [("Authorization", "Bearer wrong")])
        asker.identify(None)
        assert _told(asker) == (401, "unauthorized")
        assert asker.fields["www-authenticate"] == "Bearer"
        asker = post(stage, "/publish?topic=t", b"1", [("Authorization", "Bearer old")])
        asker.identify(Identity("alice", lifetime=0))
        assert _told(asker) == (401, "unauthorized")

    def test_permissions_are_those_of_anonymous_clients(self) -> None:
        stage = Stage(permissions=Permissions(publish=["a/*"], direct=[]))
        assert post(stage, "/publish?topic=a/b").reply == (204, None)
        assert _told(post(stage, "/publish?topic=b")) == (403, "forbidden")
        assert _told(post(stage, "/publish?to=b")) == (403, "forbidden")
        assert _told(post(stage, "/request?topic=b")) == (403, "forbidden")

    def test_the_sender_is_the_identity(self) -> None:
        stage = Stage(asks_upgrade=True)
        bob = worker_when_asked(stage)
        post(stage, "/publish?topic=t", b"1").decide(Identity("alice"))
        assert [got["data"]["from"] for got in bob.take()] == ["http:alice"]

    def test_no_client_has_the_id_of_a_sender(self) -> None:
        stage = Stage()
        peer = stage.peer().upgrade()
        (refusal,) = peer.ask({"action": "ping", "from": "http:alice", "proto": 2})
        assert refusal["action"] == "error"

    def test_the_hook_that_decides_on_ids_decides_on_senders(self) -> None:
        stage = Stage(asks_connect=True)
        for verdict, status in ((True, 204), (Refused("not you"), 403), (None, 503)):
            asker = post(stage, "/publish?topic=t")
            (asked,) = (e for e in stage.hub.events() if isinstance(e, ConnectRequested))
            assert asked.client.id == "http:"
            asker.identify(verdict)
            assert asker.reply[0] == status

    def test_a_hook_that_takes_too_long(self) -> None:
        stage = Stage(asks_upgrade=True)
        asker = post(stage, "/publish?topic=t")
        stage.advance(11)
        assert asker.read().startswith(b"HTTP/1.1 503 ")
        asker.decide(True)
        assert stage.hub.stats.published == 0


class TestLimits:
    def test_rates_delay_an_answer(self) -> None:
        stage = Stage(limits=ServerLimits(message_rate=2.0))
        for _ in range(2):
            asker = post(stage, "/publish?topic=t")
            assert asker.has_reply
            asker.connection.connection_lost(stage.clock.now)
        late = post(stage, "/publish?topic=t")
        assert not late.has_reply
        stage.advance(0.6)
        assert late.reply == (204, None)

    @pytest.mark.parametrize("policy", [RatePolicy.ERROR, RatePolicy.CLOSE])
    def test_rates_refuse(self, policy: RatePolicy) -> None:
        stage = Stage(limits=ServerLimits(message_rate=1.0, rate_policy=policy))
        asker = post(stage, "/publish?topic=t")
        assert asker.reply == (204, None)
        asker.connection.connection_lost(stage.clock.now)
        assert _told(post(stage, "/publish?topic=t")) == (429, "rate_limited")

    def test_a_limit(self) -> None:
        stage = Stage(limits=ServerLimits(max_awaited_acks=1))
        worker(stage, "t")
        worker(stage, "t", "eve")
        assert _told(post(stage, "/request?topic=t")) == (429, "limit_reached")

    def test_a_server_that_stops(self) -> None:
        stage = Stage()
        bob = worker(stage, "t")
        asker = post(stage, "/request?topic=t")
        bob.take()
        stage.hub.shutdown(1.0, stage.clock.now, [asker.connection.number])
        assert _told(asker) == (503, "unavailable")
        assert _told(post(stage, "/publish?topic=t")) == (503, "unavailable")

    def test_an_identity_that_expires_while_it_waits(self) -> None:
        stage = Stage(asks_upgrade=True)
        worker_when_asked(stage)
        asker = post(stage, "/request?topic=t&timeout=60")
        asker.decide(Identity("alice", lifetime=5.0))
        stage.advance(6)
        assert _told(asker) == (401, "unauthorized")

    def test_one_that_goes_away_leaves_nothing(self) -> None:
        stage = Stage()
        worker(stage, "t")
        asker = post(stage, "/request?topic=t")
        assert len(stage.hub.state.acks) == 1
        asker.connection.connection_lost(stage.clock.now)
        stage.finish()
        assert len(stage.hub.state.acks) == 0
        assert len(stage.hub.connections) == 1
