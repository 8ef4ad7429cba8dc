"""How the bytes of a connection are read, beside what comes of it (see ``test_websocket``)."""

import pytest

from kps.protocol.wire.controls import CloseReceived, Control, PingReceived, Violation
from kps.protocol.wire.frames import LONGEST_HEADER
from kps.protocol.wire.reader import FrameReader
from kps.testing.network import split
from tests.protocol.helpers import (
    BINARY,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    close_frame,
    frame,
)

LONGEST = 1 << 20
STREAM_FROM = 16 * 1024
"""Bytes from which a frame is not kept until it is all there."""
CHUNK = b"x" * (256 * 1024)
"""What a driver reads at once."""


def readers(longest: int = LONGEST) -> list[tuple[FrameReader, bytes | None]]:
    """A reader for each end, with the key that frames to it are masked with."""
    return [
        (FrameReader(is_client=is_client, max_message=longest), None if is_client else KEY)
        for is_client in (False, True)
    ]


def read_all(reader: FrameReader, data: bytes, *, is_open: bool = True) -> list[bytes | Control]:
    """Messages and controls in their order, until there is nothing more or it has ended."""
    told: list[bytes | Control] = []
    reader.feed(data)
    while True:
        messages: list[bytes] = []
        control = reader.read(messages, is_open=is_open)
        assert not (messages and control), "a control comes by itself"
        told += messages
        if control is not None:
            told.append(control)
        if isinstance(control, (CloseReceived, Violation)) or not (messages or control):
            return told


class TestOrder:
    def test_messages_come_up_to_the_next_control(self) -> None:
        for reader, key in readers():
            reader.feed(
                frame(b"1", key=key)
                + frame(b"2", key=key)
                + frame(b"?", opcode=PING, key=key)
                + frame(b"3", key=key)
            )
            messages: list[bytes] = []
            assert reader.read(messages, is_open=True) is None
            assert messages == [b"1", b"2"]
            messages = []
            assert isinstance(reader.read(messages, is_open=True), PingReceived)
            assert messages == []
            assert reader.has_more
            assert reader.read(messages, is_open=True) is None
            assert messages == [b"3"]
            assert not reader.has_more

    @pytest.mark.parametrize("sizes", [[], [1], [7]])
    def test_all_kinds_of_messages_keep_their_places(self, sizes: list[int]) -> None:
        for reader, key in readers():
            data = (
                frame(b"1", key=key)
                + frame(b"2", fin=False, key=key)
                + frame(b"?", opcode=PING, key=key)
                + frame(b"2", opcode=CONTINUATION, key=key)
                + frame(b"3", key=key)
                + frame(b"", opcode=PONG, key=key)
                + frame(b"4", opcode=BINARY, key=key)
                + frame(b"5", key=key)
                + close_frame(1000, "bye", key=key)
            )
            told = [one for piece in split(data, sizes) for one in read_all(reader, piece)]
            first, ping, *others, end = told
            assert first == b"1"
            assert isinstance(ping, PingReceived)
            assert others == [b"22", b"3", b"4", b"5"]
            assert isinstance(end, CloseReceived)
            assert (end.code, end.reason) == (1000, "bye")

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_a_text_within_a_message_in_fragments_is_a_violation(self, opcode: int) -> None:
        for reader, key in readers():
            start = frame(b"1", fin=False, opcode=opcode, key=key)
            (told,) = read_all(reader, start + frame(b"2", key=key) + frame(b"3", key=key))
            assert isinstance(told, Violation)

    def test_what_is_behind_a_close_frame_or_a_violation_waits_for_nobody(self) -> None:
        for reader, key in readers():
            data = frame(b"1", key=key) + close_frame(1000, key=key) + frame(b"2", key=key)
            first, end = read_all(reader, data)
            assert first == b"1"
            assert isinstance(end, CloseReceived)
            reader.clear()
            assert not reader.has_more

    def test_a_pong_takes_time_though_it_has_no_content(self) -> None:
        for reader, key in readers():
            reader.feed(frame(b"", opcode=PONG, key=key) * 1000)
            messages: list[bytes] = []
            while reader.has_more:
                before, reader.allowance = reader.controls, 3200
                assert reader.read(messages, is_open=True) is None
                assert 0 < reader.controls - before <= 100
            assert reader.controls == 1000

    def test_messages_are_passed_over_when_it_is_not_open(self) -> None:
        for reader, key in readers():
            data = (
                frame(b"1", key=key)
                + frame(b"2", fin=False, key=key)
                + frame(b"?", opcode=PING, key=key)
                + frame(b"2", opcode=CONTINUATION, key=key)
            )
            assert read_all(reader, data, is_open=False) == []
            (end,) = read_all(reader, close_frame(1001, key=key), is_open=False)
            assert isinstance(end, CloseReceived)


class TestWhatIsKept:
    """Tens of thousands of connections may be within a frame at any time."""

    @staticmethod
    def kept(reader: FrameReader) -> int:
        return len(reader._data) + len(reader._fragments) + len(reader._waiting)

    def test_nothing_between_frames(self) -> None:
        for reader, key in readers():
            for opcode in (TEXT, BINARY, PING, PONG):
                read_all(reader, frame(b"{}", opcode=opcode, key=key))
                assert self.kept(reader) == 0

    @pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG])
    @pytest.mark.parametrize("size", [1, 3, 7])
    def test_of_a_large_chunk_only_the_beginning_of_its_last_frame(
        self, opcode: int, size: int
    ) -> None:
        for reader, key in readers():
            begun = frame(b"x" * 9, opcode=opcode, key=key)[:size]
            read_all(reader, frame(CHUNK, key=key) + begun)
            assert self.kept(reader) <= size

    def test_a_text_waits_until_it_is_all_there(self) -> None:
        for reader, key in readers():
            data = frame(b"x" * (STREAM_FROM - 1), key=key)
            told: list[bytes | Control] = []
            for piece in split(data, [1000]):
                assert told == []
                told = read_all(reader, piece)
                assert len(reader._data) < STREAM_FROM + LONGEST_HEADER
            assert told == [b"x" * (STREAM_FROM - 1)]
            assert reader._others is None, "wsproto was not needed"

    def test_a_large_text_does_not_wait_twice(self) -> None:
        for reader, key in readers():
            told: list[bytes | Control] = []
            for piece in split(frame(CHUNK, key=key), [10_000]):
                assert told == []
                told = read_all(reader, piece)
                assert len(reader._data) <= LONGEST_HEADER
            assert told == [CHUNK]

    def test_nothing_once_it_is_cleared(self) -> None:
        for reader, key in readers():
            read_all(reader, frame(CHUNK, fin=False, key=key) + b"\x80")
            assert self.kept(reader) > len(CHUNK)
            reader.clear()
            assert self.kept(reader) == 0
            assert not reader.has_more

    def test_whole_texts_and_pongs_need_no_wsproto(self) -> None:
        """Most connections never have anything else, and wsproto's view of one is large."""
        for reader, key in readers():
            for size in (0, 125, 126, 65_535, 65_536, 100_000):
                payload = "é".encode() * (size // 2)
                data = frame(payload, key=key) + frame(b"", opcode=PONG, key=key)
                assert read_all(reader, data) == [payload]
            assert reader._others is None
