"""Deflated messages in frames, at both ends that have agreed on them (RFC 7692, section 6)."""

import tracemalloc
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.client_handshake import ClientWebSocket
from kps.protocol.wire.deflate import deflate
from kps.protocol.wire.frames import Masker, deflated_frame
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.server_handshake import ServerWebSocket
from kps.protocol.wire.websocket import Closed, ClosedBy, Output, State, WebSocket
from kps.testing.network import split
from tests.protocol.helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    THOROUGH,
    Answer,
    close_frame,
    frame,
    output,
    upgrade,
)
from tests.protocol.wire.test_deflate import bomb, by_hand
from tests.protocol.wire.test_websocket import NOW, both_ends, feed, sent_by

LIMITS = ConnectionLimits(max_message=200_000)
RSV1 = 4
ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def server_end(limits: ConnectionLimits = LIMITS, *, compresses: bool = True) -> ServerWebSocket:
    """The server's end of a connection, before the handshake."""
    return ServerWebSocket(
        limits=limits,
        path="/ws/bus",
        respond=lambda request: HttpResponse.text(404, "not found"),
        peer="",
        now=NOW,
        compresses=compresses,
    )


def client_end(limits: ConnectionLimits = LIMITS, *, offers: bool = True) -> ClientWebSocket:
    """The client's end of a connection, before the handshake."""
    return ClientWebSocket(
        host="localhost",
        target="/ws/bus",
        headers=[],
        key=bytes(16),
        text_frame=Masker(bytes).text_frame,
        limits=limits,
        now=NOW,
        offers_compression=offers,
    )


def agreed(limits: ConnectionLimits = LIMITS) -> list[tuple[WebSocket, bytes | None]]:
    """Both ends of a connection with compression; with the key that frames to each have."""
    server, client = server_end(limits), client_end(limits)
    shake_hands(server, client)
    assert server.deflates
    return [(server, KEY), (client, None)]


def shake_hands(server: ServerWebSocket, client: ClientWebSocket) -> None:
    feed(server, client.data_to_send())
    server.accept()
    feed(client, server.data_to_send())
    assert (server.state, client.state) == (State.OPEN, State.OPEN)


class TestHandshake:
    @pytest.mark.parametrize("compresses", [False, True])
    @pytest.mark.parametrize("offers", [False, True])
    def test_both_ends_must_want_it(self, compresses: bool, offers: bool) -> None:
        server, client = server_end(compresses=compresses), client_end(offers=offers)
        shake_hands(server, client)
        assert server.deflates is (compresses and offers)
        for end in (server, client):
            assert (end.reader.inflater is not None) is (compresses and offers)

    @pytest.mark.parametrize(
        ("offer", "answer", "deflates"),
        [
            ("permessage-deflate; client_max_window_bits", ANSWER, True),
            (
                "permessage-deflate; server_max_window_bits=10",
                f"{ANSWER}; server_max_window_bits=10",
                False,
            ),
            ("x-webkit-deflate-frame", None, False),
        ],
    )
    def test_the_server_answers(self, offer: str, answer: str | None, deflates: bool) -> None:
        end = server_end()
        feed(end, upgrade(changed={"sec-websocket-extensions": offer}))
        end.accept()
        found = Answer(end.data_to_send())
        assert (found.status, found.headers.get("sec-websocket-extensions")) == (101, answer)
        assert end.deflates is deflates
        assert (end.reader.inflater is not None) is (answer is not None)

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ("permessage-deflate", "it does not compress as it was asked to"),
            (f"{ANSWER}; level=9", "it does not compress as it was asked to"),
            ("other", "it does not compress as it was asked to"),
        ],
    )
    def test_the_client_takes_what_it_asked_for_only(self, answer: str, reason: str) -> None:
        server, client = server_end(), client_end()
        feed(server, client.data_to_send())
        server.accept()
        feed(client, server.data_to_send().replace(ANSWER.encode(), answer.encode()))
        assert client.closed == Closed(1006, f"not a WebSocket server: {reason}", ClosedBy.FAULT)
        assert output(client) is Output.ABORT

    def test_without_it_a_deflated_message_is_a_violation(self) -> None:
        for end, key in both_ends():
            assert feed(end, frame(deflate(b"{}"), reserved=RSV1, key=key)) == []
            assert end.closed is not None
            assert (end.closed.code, end.closed.by) == (1002, ClosedBy.FAULT)


@dataclass
class Sent:
    """Messages in frames, and what is to come of them."""

    data: bytes = b""
    messages: list[bytes] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)


TEXTS = st.one_of(
    st.text(max_size=30),
    st.builds(lambda part, times: part * times, st.text(max_size=10), st.integers(0, 400)),
).map(lambda text: text.encode())


@st.composite
def streams(draw: st.DrawFn, key: bytes | None) -> Sent:
    """Messages, deflated or not, in any number of frames, with controls between these."""
    sent = Sent()
    for _ in range(draw(st.integers(1, 6))):
        text = draw(TEXTS)
        sent.messages.append(text)
        is_deflated = draw(st.booleans())
        levels = st.integers(0, 9)
        payload = by_hand(text, draw(levels), draw(st.integers(9, 15))) if is_deflated else text
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        first = draw(st.sampled_from([TEXT, TEXT, TEXT, BINARY]))
        for n, part in enumerate(parts):
            if draw(st.integers(0, 3)) == 0:
                control = draw(st.sampled_from([PING, PONG]))
                note = draw(st.binary(max_size=5))
                sent.data += frame(note, opcode=control, key=key)
                sent.pings += [note] if control == PING else []
            sent.data += frame(
                part,
                opcode=CONTINUATION if n else first,
                fin=n == len(parts) - 1,
                reserved=RSV1 if is_deflated and not n else 0,
                key=key,
            )
    return sent


SIZES = st.lists(st.integers(1, 60), max_size=6)


class TestMessages:
    @THOROUGH
    @given(sent=streams(KEY), sizes=SIZES)
    def test_the_server_gets_them_as_they_were(self, sent: Sent, sizes: list[int]) -> None:
        self.check(agreed()[0][0], sent, sizes)

    @THOROUGH
    @given(sent=streams(None), sizes=SIZES)
    def test_the_client_gets_them_as_they_were(self, sent: Sent, sizes: list[int]) -> None:
        self.check(agreed()[1][0], sent, sizes)

    @staticmethod
    def check(end: WebSocket, sent: Sent, sizes: list[int]) -> None:
        extra = end.reader.extra
        got = [message for piece in split(sent.data, sizes) for message in feed(end, piece)]
        assert got == sent.messages
        assert sent_by(end).pongs == sent.pings
        assert end.state is State.OPEN
        beside = end.reader.extra - extra
        assert 0 <= beside <= len(sent.data), "of each message the bytes that came are subtracted"

    @pytest.mark.parametrize("sizes", [[], [1], [1000], [20_000]])
    @pytest.mark.parametrize(
        "text", [b"[" + b'"some text",' * 15_000 + b"0]", b"\xc3\xa9" * 90_000]
    )
    def test_large_ones(self, text: bytes, sizes: list[int]) -> None:
        for level in (0, 1):  # level 0 only stores, so the frame is large as well
            for end, key in agreed():
                data = frame(by_hand(text, level), reserved=RSV1, key=key) + frame(b"{}", key=key)
                got = [message for piece in split(data, sizes) for message in feed(end, piece)]
                assert got == [text, b"{}"]

    def test_those_of_our_server_come_to_our_client(self) -> None:
        (_, _), (client, _) = agreed()
        texts = [b"", b"{}", b'{"n":1}' * 100, b"x" * 199_999]
        assert feed(client, b"".join(deflated_frame(deflate(text)) for text in texts)) == texts

    def test_a_whole_text_needs_no_wsproto(self) -> None:
        for end, key in agreed():
            feed(end, frame(deflate(b"{}" * 3000), reserved=RSV1, key=key))
            assert end.reader._others is None

    def test_nothing_of_it_is_kept(self) -> None:
        for end, key in agreed():
            text = b'{"n":1}' * 1000
            cut = frame(deflate(text)[:10], reserved=RSV1, fin=False, key=key)
            cut += frame(deflate(text)[10:], opcode=CONTINUATION, key=key)
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                for data in (frame(deflate(text), reserved=RSV1, key=key), cut) * 20:
                    assert feed(end, data) == [text]
                after, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            # Of wsproto, which was needed for the frames, but not for each message.
            assert after - before < 30_000

    def test_it_goes_on_in_the_closing_handshake(self) -> None:
        for end, key in agreed():
            end.close(1000, "", NOW)
            data = frame(deflate(b"{}"), reserved=RSV1, key=key) + close_frame(1000, key=key)
            assert feed(end, data) == []
            assert end.closed == Closed(1000, "", ClosedBy.LOCAL)
            assert end.state is State.DRAINING


def closing_of(end: WebSocket, data: bytes, sizes: list[int]) -> tuple[int, str]:
    """The code and the reason with which an end closes, for a fault of its peer."""
    for piece in split(data, sizes):
        assert feed(end, piece) == []
    assert end.closed is not None
    assert end.closed.by is ClosedBy.FAULT
    sent = sent_by(end)
    assert sent.closed == (end.closed.code, end.closed.reason)
    return sent.closed


@pytest.mark.parametrize("sizes", [[], [1], [7]])
class TestViolations:
    @pytest.mark.parametrize(
        ("opcode", "reserved"),
        [
            (CONTINUATION, RSV1),
            (PING, RSV1),
            (PONG, RSV1),
            (CLOSE, RSV1),
            (TEXT, 2),
            (TEXT, 1),
            (TEXT, RSV1 | 2),
            (BINARY, RSV1 | 1),
            (3, RSV1),
        ],
    )
    def test_reserved_bits(self, opcode: int, reserved: int, sizes: list[int]) -> None:
        for end, key in agreed():
            begun = b""
            if opcode == CONTINUATION:
                begun = frame(deflate(b"{}")[:2], fin=False, reserved=RSV1, key=key)
            wrong = frame(b"\0\0", opcode=opcode, reserved=reserved, key=key)
            assert closing_of(end, begun + wrong, sizes)[0] == 1002

    def test_a_message_within_another_one(self, sizes: list[int]) -> None:
        for end, key in agreed():
            begun = frame(deflate(b"{}")[:2], fin=False, reserved=RSV1, key=key)
            data = begun + frame(deflate(b"{}"), reserved=RSV1, key=key)
            assert closing_of(end, data, sizes)[0] == 1002

    def test_a_close_frame_that_is_wrong_within_a_message(self, sizes: list[int]) -> None:
        for end, key in agreed():
            begun = frame(b"\xff\xff", fin=False, reserved=RSV1, key=key)
            assert closing_of(end, begun + close_frame(999, key=key), sizes)[0] == 1002

    @pytest.mark.parametrize("fin", [False, True])
    def test_what_cannot_be_inflated(self, fin: bool, sizes: list[int]) -> None:
        for end, key in agreed():
            data = frame(b"\xff\xff", reserved=RSV1, fin=fin, key=key)
            if not fin:
                data += frame(b"\xff", opcode=CONTINUATION, key=key)
            assert closing_of(end, data, sizes) == (1007, "cannot be inflated")

    @pytest.mark.parametrize("fin", [False, True])
    def test_a_text_that_is_not_utf_8(self, fin: bool, sizes: list[int]) -> None:
        for end, key in agreed():
            data = frame(deflate(b"\xff"), reserved=RSV1, fin=fin, key=key)
            if not fin:
                data += frame(b"", opcode=CONTINUATION, key=key)
            assert closing_of(end, data, sizes)[0] == 1007

    @pytest.mark.parametrize("fin", [False, True])
    def test_a_message_that_becomes_too_large(self, fin: bool, sizes: list[int]) -> None:
        for end, key in agreed(ConnectionLimits(max_message=1000)):
            for size in (1000, 1001):
                data = frame(deflate(b"x" * size), reserved=RSV1, fin=fin, key=key)
                if not fin:
                    data += frame(b"", opcode=CONTINUATION, key=key)
                if size == 1000:
                    assert [one for piece in split(data, sizes) for one in feed(end, piece)] == [
                        b"x" * 1000
                    ]
                else:
                    assert closing_of(end, data, sizes) == (1009, "message too big")

    def test_one_that_is_too_large_before(self, sizes: list[int]) -> None:
        for end, key in agreed(ConnectionLimits(max_message=1000)):
            data = frame(b"", reserved=RSV1, claim=1001, key=key)
            assert closing_of(end, data, sizes) == (1009, "message too big")


@pytest.mark.parametrize("pieces", [1, 20])
def test_a_bomb_takes_no_more_memory_than_a_message(pieces: int) -> None:
    """A megabyte that would become a gigabyte, in one frame or in several."""
    most = 1 << 20
    payload = bomb(1024)[:most]
    size = -(-len(payload) // pieces)
    for end, key in agreed(ConnectionLimits(max_message=most)):
        parts = [payload[at : at + size] for at in range(0, len(payload), size)]
        data = b"".join(
            frame(
                part,
                opcode=CONTINUATION if n else TEXT,
                fin=n == pieces - 1,
                reserved=0 if n else RSV1,
                key=key,
            )
            for n, part in enumerate(parts)
        )
        tracemalloc.start()
        try:
            assert closing_of(end, data, [256 * 1024]) == (1009, "message too big")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 10 * most
