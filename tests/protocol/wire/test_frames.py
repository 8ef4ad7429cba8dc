"""Frames as bytes, held to wsproto."""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from kps.protocol.wire.frames import (
    SEPARATOR,
    Masker,
    mask,
    read_header,
    read_pong,
    read_texts,
    size_of_masked,
    text_frame,
)
from kps.protocol.wire.frames import read_text as read_alone
from tests.protocol.helpers import BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, frame

# Around each point at which the form of the length changes.
SIZES = [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 65535, 65536, 70000]


def text_by_wsproto(data: bytes, reader: ConnectionType) -> str:
    connection = Connection(reader)
    connection.receive_data(data)
    events = [event for event in connection.events() if isinstance(event, TextMessage)]
    assert events[-1].message_finished
    return "".join(event.data for event in events)


class TestTextFrame:
    @pytest.mark.parametrize("size", SIZES)
    def test_unmasked_is_the_same_as_wsprotos(self, size: int) -> None:
        payload = b"x" * size
        expected = Connection(ConnectionType.SERVER).send(TextMessage("x" * size))
        assert text_frame(payload) == bytes(expected)

    @pytest.mark.parametrize("size", SIZES)
    def test_masked_is_read_by_wsproto(self, size: int) -> None:
        payload = bytes(33 + i % 90 for i in range(size))
        data = Masker(lambda n: bytes(range(256)) * (n // 256 + 1)).text_frame(payload)
        assert text_by_wsproto(data, ConnectionType.SERVER) == payload.decode()
        assert len(data) == size_of_masked(size)

    @given(st.text())
    def test_any_text_survives(self, text: str) -> None:
        payload = text.encode()
        assert text_by_wsproto(text_frame(payload), ConnectionType.CLIENT) == text
        masked = Masker(lambda n: bytes(255 - i % 256 for i in range(n))).text_frame(payload)
        assert text_by_wsproto(masked, ConnectionType.SERVER) == text


class TestMasker:
    def test_no_key_is_used_twice(self) -> None:
        drawn = iter(range(1 << 32))
        masker = Masker(lambda n: b"".join(next(drawn).to_bytes(4, "big") for _ in range(n // 4)))
        keys = [masker.text_frame(b"")[2:6] for _ in range(5000)]
        assert keys == [i.to_bytes(4, "big") for i in range(5000)]

    def test_entropy_is_drawn_in_bulk(self) -> None:
        draws: list[int] = []

        def entropy(n: int) -> bytes:
            draws.append(n)
            return bytes(n)

        masker = Masker(entropy)
        for _ in range(100):
            masker.text_frame(b"x")
        assert len(draws) == 1

    @given(
        st.text(max_size=200),
        st.lists(
            st.tuples(st.integers(0, 700), st.sampled_from([1, 2, 8, 9, 60, 200])),
            min_size=1,
            max_size=4,
        ),
        st.text(max_size=20),
    )
    def test_many_frames(self, head: str, shapes: list[tuple[int, int]], tail: str) -> None:
        """Whether all messages are of one size or not, each frame is one that wsproto reads."""
        drawn: list[bytes] = []

        def entropy(n: int) -> bytes:
            drawn.append(bytes((len(drawn) * 31 + i * 7) % 256 for i in range(n)))
            return drawn[-1]

        begin, end = head.encode(), tail.encode()
        payloads = [
            bytes((n + i) % 128 for i in range(size)) for size, n in shapes for _ in range(n)
        ]
        data = Masker(entropy).text_frames(begin, SEPARATOR.join(payloads), end)
        texts = [begin + payload + end for payload in payloads]
        connection = Connection(ConnectionType.SERVER)
        connection.receive_data(data)
        events = [event for event in connection.events() if isinstance(event, TextMessage)]
        assert [event.data.encode() for event in events if event.message_finished] == texts
        position, used = 0, b""
        while header := read_header(data, position):
            used += data[header.start - 4 : header.start]
            position = header.start + header.length
        random = b"".join(drawn)
        # Each random byte is used once at most.
        assert not Counter(used) - Counter(random)

    @given(st.binary(max_size=200), st.binary(min_size=4, max_size=4))
    def test_masking_twice_gives_the_payload_back(self, payload: bytes, key: bytes) -> None:
        masked = mask(payload, key)
        assert masked == bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
        assert mask(masked, key) == payload

    @pytest.mark.parametrize("size", [2046, 2048, 2049, 2051, 5001, 65535, 65536, 65537, 100_003])
    def test_masking_long_payloads(self, size: int) -> None:
        payload = bytes(i * 7 % 256 for i in range(size))
        for key in (KEY, b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1"):
            expected = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
            assert mask(payload, key) == expected


def read_text(data: bytes, position: int, end: int, is_masked: bool) -> tuple[bytes, int] | None:
    """Read one message; return it and where the next frame starts."""
    messages: list[bytes] = []
    after = read_texts(data[:end], position, position + 1, is_masked, 10**9, messages)
    assert (after > position) is bool(messages)
    return (messages[0], after) if messages else None


class TestReadAlone:
    @given(
        st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)),
        st.booleans(),
        st.sampled_from([0, 124, 125, 126, 65_535, 65_536, 70_000]),
        st.lists(st.tuples(st.integers(0, 20), st.integers(0, 255)), max_size=1),
        st.integers(-2, 2),
    )
    def test_is_the_same_as_reading_all(
        self,
        payload: bytes,
        is_masked: bool,
        longer: int,
        changes: list[tuple[int, int]],
        more: int,
    ) -> None:
        written = bytearray(frame(b"x" * longer + payload, key=KEY if is_masked else None))
        for place, byte in changes:
            if place < len(written):
                written[place] = byte
        data = bytes(written) + b"x" * more if more > 0 else bytes(written[: len(written) + more])
        for masked in (is_masked, not is_masked):
            for longest in (10**6, 126):
                messages: list[bytes] = []
                after = read_texts(data, 0, len(data), masked, longest, messages)
                alone = read_alone(data, masked, longest)
                assert alone is None or (after, messages) == (len(data), [alone])
                if len(messages) == 1 and after == len(data) and 8 <= len(data) < 65_536:
                    assert alone == messages[0]


class TestReadTexts:
    @pytest.mark.parametrize("key", [None, KEY])
    def test_messages_in_a_row(self, key: bytes | None) -> None:
        payloads = [b"x" * size for size in (0, 1, 125, 126, 70_000, 3)]
        ends = list(accumulate(len(frame(payload, key=key)) for payload in payloads))
        data = b"".join(frame(payload, key=key) for payload in payloads)
        for stop in {0, 1, *ends, *(end + 1 for end in ends[:-1])}:
            messages: list[bytes] = []
            after = read_texts(data, 0, stop, key is not None, 70_000, messages)
            begun = bisect_left(ends, stop) + 1 if stop else 0
            assert messages == payloads[:begun]
            assert after == (ends[begun - 1] if begun else 0)

    def test_longer_messages_and_those_that_are_no_text_are_left(self) -> None:
        for last in (b"x" * 11, b"\xff" * 10, "\ud800".encode("utf-8", "surrogatepass")):
            messages: list[bytes] = []
            first = frame("é".encode() * 5, key=None)
            data = first + frame(last, key=None) + frame(b"behind", key=None)
            assert read_texts(data, 0, len(data), False, 10, messages) == len(first)
            assert messages == ["é".encode() * 5]

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("key", [None, KEY])
    def test_whole_message(self, size: int, key: bytes | None) -> None:
        payload = bytes(i % 127 for i in range(size))
        data = b"before" + frame(payload, key=key) + b"after"
        end = len(data) - 5
        assert read_text(data, 6, end, key is not None) == (payload, end)
        assert read_text(data, 6, len(data), key is not None) == (payload, end)
        assert read_text(data, 6, end - 1, key is not None) is None
        assert read_text(data, 6, end, key is None) is None

    @pytest.mark.parametrize("key", [None, KEY])
    def test_what_is_not_all_there(self, key: bytes | None) -> None:
        for size in (0, 1, 125, 126, 65536):
            data = frame(bytes(size), key=key)
            for end in [*range(min(16, len(data))), len(data) - 1]:
                assert read_text(data[:end], 0, end, key is not None) is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"opcode": BINARY},
            {"opcode": CONTINUATION},
            {"opcode": PING},
            {"opcode": CLOSE},
            {"fin": False},
            {"reserved": 1},
            {"reserved": 4},
            {"length_bytes": 2},
            {"length_bytes": 8},
        ],
    )
    @pytest.mark.parametrize("key", [None, KEY])
    def test_what_is_left_to_wsproto(self, wrong: dict[str, Any], key: bytes | None) -> None:
        data = frame(b"payload", key=key, **wrong)
        assert read_text(data, 0, len(data), key is not None) is None


# Frames that are read together must be read as those that come alone.

A_MESSAGE = st.one_of(
    st.integers(0, 300).map(lambda size: b"x" * size),
    st.sampled_from([b"\xff" * 40, "é".encode() * 30, "é".encode()[:1] + b"x" * 125, b"y" * 3000]),
)
OTHERS: list[dict[str, Any]] = [
    {"opcode": PONG},
    {"fin": False},
    {"reserved": 4},
    {"length_bytes": 2},
    {"claim": 100},
]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Many frames, most of them texts, of which several in a row are alike."""
    is_masked = draw(st.booleans())
    random = Random(draw(st.integers(0, 99)))

    def key() -> bytes | None:
        return random.randbytes(4) if is_masked else None

    data = b""
    for payload, count, varied in draw(
        st.lists(st.tuples(A_MESSAGE, st.sampled_from([1, 3, 20, 150]), st.booleans()), max_size=6)
    ):
        for number in range(count):
            data += frame(payload[number % 7 if varied else 0 :], key=key())
        if draw(st.integers(0, 5)) == 0:
            data += frame(b"x" * 50, key=key(), **draw(st.sampled_from(OTHERS)))
    return data, is_masked


def read_one_by_one(
    data: bytes, stop: int, is_masked: bool, longest: int
) -> tuple[list[bytes], int]:
    messages: list[bytes] = []
    position, before = 0, -1
    while before < position < stop:
        before = position
        position = read_texts(data, position, position + 1, is_masked, longest, messages)
    return messages, position


class TestReadManyTexts:
    @given(streams(), st.data())
    def test_is_the_same_as_one_by_one(
        self, stream: tuple[bytes, bool], draw: st.DataObject
    ) -> None:
        data, is_masked = stream
        longest = draw.draw(st.sampled_from([10**6, 2999, 120]))
        for end in (len(data), draw.draw(st.integers(0, len(data)))):
            for stop in (end, draw.draw(st.integers(0, end))):
                messages: list[bytes] = []
                after = read_texts(data[:end], 0, stop, is_masked, longest, messages)
                expected = read_one_by_one(data[:end], stop, is_masked, longest)
                assert (messages, after) == expected

    @pytest.mark.parametrize("key", [None, KEY])
    @pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 124, 125, 126, 129, 300, 511, 512])
    def test_a_row_of_each_size(self, size: int, key: bytes | None) -> None:
        payloads = [bytes((i * 7 + n) % 127 for i in range(size)) for n in range(600)]
        ends = list(accumulate(len(frame(payload, key=key)) for payload in payloads))
        data = b"".join(frame(payload, key=key) for payload in payloads)
        for end in (ends[-1], ends[-1] - 1):
            for stop in (ends[-1], end, ends[300], ends[300] + 1, ends[301] - 1):
                messages: list[bytes] = []
                after = read_texts(data[:end], 0, stop, key is not None, 1000, messages)
                begun = min(bisect_left(ends, stop) + 1, bisect_left(ends, end + 1))
                assert messages == payloads[:begun]
                assert after == ends[begun - 1]

    @pytest.mark.parametrize("key", [None, KEY])
    @pytest.mark.parametrize("place", [0, 1, 2, 60, 99, 199])
    @pytest.mark.parametrize("varied", [0, 3])
    def test_one_that_is_no_utf8_among_many(
        self, key: bytes | None, place: int, varied: int
    ) -> None:
        payloads = [b"x" * (140 + varied * n % 4) for n in range(200)]
        payloads[50] = "é".encode() * 70  # as a whole it is fine, unlike the next one
        payloads[place] = payloads[place][:-1] + b"\xc3"
        data = b"".join(frame(payload, key=key) for payload in payloads)
        messages: list[bytes] = []
        after = read_texts(data, 0, len(data), key is not None, 1000, messages)
        assert messages == payloads[:place]
        assert after == sum(len(frame(payload, key=key)) for payload in payloads[:place])


class TestReadHeader:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("key", [None, KEY])
    def test_reads_what_was_written(self, size: int, key: bytes | None) -> None:
        data = frame(bytes(size), key=key)
        header = read_header(b"before" + data, 6)
        assert header is not None
        assert (header.length, header.masked, header.minimal) == (size, key is not None, True)
        assert header.start == 6 + len(data) - size
        assert not header.is_control

    @pytest.mark.parametrize("length_bytes", [0, 2, 8])
    @pytest.mark.parametrize("key", [None, KEY])
    def test_is_none_until_the_header_is_all_there(
        self, length_bytes: int, key: bytes | None
    ) -> None:
        data = frame(key=key, claim=7, length_bytes=length_bytes)
        assert [read_header(data[:n], 0) is None for n in range(len(data))] == [True] * len(data)
        assert read_header(data, 0) is not None

    @pytest.mark.parametrize(
        ("length_bytes", "claim", "minimal"),
        [
            (2, 125, False),
            (2, 126, True),
            (8, 65535, False),
            (8, 65536, True),
            (8, (1 << 63) - 1, True),
            (8, 1 << 63, False),
        ],
    )
    def test_knows_which_length_is_minimal(
        self, length_bytes: int, claim: int, minimal: bool
    ) -> None:
        header = read_header(frame(claim=claim, length_bytes=length_bytes), 0)
        assert header is not None
        assert (header.length, header.minimal) == (claim, minimal)

    def test_knows_control_frames(self) -> None:
        for opcode in (PING, CLOSE):
            header = read_header(frame(opcode=opcode), 0)
            assert header is not None
            assert header.is_control


class TestPong:
    @pytest.mark.parametrize("key", [None, KEY])
    @pytest.mark.parametrize("size", [0, 1, 125])
    def test_a_whole_one_is_passed_over(self, size: int, key: bytes | None) -> None:
        data = b"before" + frame(b"x" * size, opcode=PONG, key=key)
        assert read_pong(data + b"after", 6, len(data) + 5, key is not None) == len(data)
        for end in range(6, len(data)):
            assert read_pong(data, 6, end, key is not None) is None

    @pytest.mark.parametrize(
        "wrong",
        [
            frame(b"x", opcode=PING),
            frame(b"x", opcode=PONG, fin=False),
            frame(b"x", opcode=PONG, reserved=4),
            frame(b"x", opcode=PONG, key=None),
            frame(b"x" * 126, opcode=PONG),
            frame(b"x" * 5, opcode=PONG, length_bytes=2),
        ],
    )
    def test_anything_else_is_not(self, wrong: bytes) -> None:
        assert read_pong(wrong, 0, len(wrong), True) is None
