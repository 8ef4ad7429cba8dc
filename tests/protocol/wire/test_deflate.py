"""Messages deflated and inflated, held to zlib and to the examples of RFC 7692."""

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.wire.controls import Violation
from kps.protocol.wire.deflate import Inflater, deflate
from tests.protocol.helpers import THOROUGH

TAIL = b"\0\0\xff\xff"
MOST = 1 << 20

MESSAGES = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda part, times: part * times, st.binary(max_size=40), st.integers(0, 3000)),
    st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(0, 9),
              st.integers(0, 70_000)),
)  # fmt: skip


def by_hand(message: bytes, level: int = 6, bits: int = 15, memory: int = 8) -> bytes:
    """A message as other peers may deflate it."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits, memory)
    deflated = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert deflated.endswith(TAIL)
    return deflated[:-4]


def bomb(size: int) -> bytes:
    """What becomes ``size`` MiB of zeros."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    compressor.compress(bytes(1 << 20))
    compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return block * size


class TestDeflate:
    @THOROUGH
    @given(message=MESSAGES)
    def test_zlib_inflates_it(self, message: bytes) -> None:
        assert zlib.decompressobj(-15).decompress(deflate(message) + TAIL) == message

    @given(messages=st.lists(MESSAGES, max_size=5))
    def test_so_does_a_peer_that_keeps_its_window(self, messages: list[bytes]) -> None:
        peer = zlib.decompressobj(-15)
        for message in messages:
            assert peer.decompress(deflate(message) + TAIL) == message
            assert not peer.eof

    def test_each_message_stands_for_itself(self) -> None:
        message = b'{"n":1,"text":"the same again and again"}' * 50
        assert deflate(message) == deflate(message)


class TestInflate:
    @THOROUGH
    @given(
        message=MESSAGES,
        level=st.integers(0, 9),
        bits=st.integers(9, 15),
        memory=st.integers(1, 9),
    )
    def test_whatever_zlib_has_deflated(
        self, message: bytes, level: int, bits: int, memory: int
    ) -> None:
        inflater = Inflater()
        deflated = by_hand(message, level, bits, memory)
        assert inflater.inflate(deflated, MOST) == message
        assert inflater.inflated == len(message)
        assert inflater.inflate(deflated, len(message)) == message
        if message:
            too_big = inflater.inflate(deflated, len(message) - 1)
            assert too_big == Violation(1009, "message too big")

    @pytest.mark.parametrize(
        "payload",
        [
            "f2 48 cd c9 c9 07 00",
            "00 05 00 fa ff 48 65 6c 6c 6f 00",
            "f3 48 cd c9 c9 07 00 00",
            "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
        ],
        ids=["one block", "stored", "a final block", "two blocks"],
    )
    def test_the_examples_of_the_rfc(self, payload: str) -> None:
        """Section 7.2.3."""
        assert Inflater().inflate(bytes.fromhex(payload), MOST) == b"Hello"

    @pytest.mark.parametrize("payload", [b"", b"\0"])
    def test_an_empty_message(self, payload: bytes) -> None:
        assert Inflater().inflate(payload, MOST) == b""

    def test_final_blocks_may_be_followed_by_others(self) -> None:
        def final(message: bytes) -> bytes:
            compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
            return compressor.compress(message) + compressor.flush()

        inflater = Inflater()
        assert inflater.inflate(final(b"one ") + by_hand(b"two"), MOST) == b"one two"
        assert inflater.inflate(final(b"one ") * 3 + b"\0", MOST) == b"one one one "
        assert inflater.inflate(final(b"one ") * 3, 11) == Violation(1009, "message too big")

    def test_a_final_block_does_not_end_the_window(self) -> None:
        text = b"a text that comes once more, and then is not written again; "
        first = zlib.compressobj(6, zlib.DEFLATED, -15)
        second = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, text)
        payload = first.compress(text) + first.flush()
        payload += second.compress(text) + second.flush(zlib.Z_SYNC_FLUSH)[:-4]
        assert len(payload) < len(text) + 20
        assert Inflater().inflate(payload, MOST) == text * 2

    def test_very_many_final_blocks_are_refused(self) -> None:
        """Each takes as long as a message, and has two bytes."""
        inflater = Inflater()
        assert inflater.inflate(b"\x03\0" * 15, MOST) == b""
        refused = inflater.inflate(b"\x03\0" * 500_000, MOST)
        assert refused == Violation(1008, "too many final blocks in a message")

    @pytest.mark.parametrize("payload", [b"\x07", b"\xff" * 20, b"\x00\x05\x00\x00\x00Hello"])
    def test_what_was_never_deflated(self, payload: bytes) -> None:
        assert Inflater().inflate(payload, MOST) == Violation(1007, "cannot be inflated")

    @given(payload=st.binary(max_size=300), most=st.integers(0, 2000))
    def test_any_bytes_have_an_answer(self, payload: bytes, most: int) -> None:
        answer = Inflater().inflate(payload, most)
        assert isinstance(answer, Violation) or len(answer) <= most

    def test_a_limit_may_be_beyond_all_memory(self) -> None:
        assert Inflater().inflate(deflate(b"x" * 1000), 1 << 80) == b"x" * 1000

    def test_a_bomb_takes_no_more_memory_than_a_message(self) -> None:
        payload = bomb(1024)
        assert len(payload) < 1.1 * MOST
        inflater = Inflater()
        inflater.inflate(payload, 1000)
        tracemalloc.start()
        try:
            refused = inflater.inflate(payload, MOST)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert refused == Violation(1009, "message too big")
        # The message, twice while it grows, and what of the payload was not read.
        assert most < 5 * MOST
