"""Standard input and output of the commands, without a server."""

import asyncio
import contextlib
import json
import os
import pty
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.cli.complaints import OutputEnded, visible
from kps.cli.readers import address
from kps.cli.streams import Input, Lines, Output
from kps.errors import KPSError

PATIENCE = 30.0


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


class TestVisible:
    @pytest.mark.parametrize("text", ["", "abc é 日本語\u3000 🚀", "a\\b"])
    def test_what_can_be_seen_stays(self, text: str) -> None:
        assert visible(text) == text

    @pytest.mark.parametrize(
        ("hidden", "shown"),
        [
            ("\x1b", r"\u001b"),
            ("\x00", r"\u0000"),
            ("\n", r"\u000a"),
            ("\x7f", r"\u007f"),
            ("\x9b", r"\u009b"),
            ("\x85", r"\u0085"),
            ("\u202e", r"\u202e"),
            ("\u2066", r"\u2066"),
            ("\u200f", r"\u200f"),
            ("\u061c", r"\u061c"),
            ("\ufeff", r"\ufeff"),
            ("\u00ad", r"\u00ad"),
            ("\u2028", r"\u2028"),
            ("\u2029", r"\u2029"),
            ("\U000e0041", r"\udb40\udc41"),
            ("\ud800", r"\ud800"),
        ],
    )
    def test_what_a_terminal_obeys_or_hides(self, hidden: str, shown: str) -> None:
        assert visible(f"a{hidden}b") == f"a{shown}b"

    @given(st.text())
    def test_json_stays_the_same(self, text: str) -> None:
        line = json.dumps({text: text}, ensure_ascii=False)
        assert json.loads(visible(line)) == {text: text}


class TestLines:
    def split(self, data: bytes, size: int, most: int = 10) -> list[tuple[int, bytes | None]]:
        lines = Lines(most)
        found = []
        for start in range(0, len(data), size):
            found += lines.feed(data[start : start + size])
            assert sum(map(len, lines._parts)) <= most + 1
        return found + lines.end()

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    @pytest.mark.parametrize(
        ("data", "lines"),
        [
            (b"", []),
            (b"a", [b"a"]),
            (b"a\n", [b"a"]),
            (b"a\nb", [b"a", b"b"]),
            (b"\n\n", [b"", b""]),
            (b"a\r\nb\r\r\n\r", [b"a", b"b\r", b""]),
            (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [b"a", b"\xef\xbb\xbfb"]),
            (b"0123456789\n0123456789\r\n", [b"0123456789", b"0123456789"]),
            (b"0123456789a\nb\n", [None, b"b"]),
            (b"0123456789\r\r\nb\n", [None, b"b"]),
            (b"a\n" + b"x" * 5000 + b"\nb\n" + b"x" * 5000, [b"a", None, b"b", None]),
        ],
    )
    def test_split(self, data: bytes, lines: list[bytes | None], size: int) -> None:
        assert self.split(data, size) == list(enumerate(lines, 1))


def test_a_line_that_is_too_long_is_told_before_it_ends() -> None:
    lines = Lines(10)
    assert lines.feed(b"a\n" + b"x" * 100) == [(1, b"a"), (2, None)]
    assert lines.feed(b"x" * 100) == []
    assert lines.feed(b"x\nb\n") == [(3, b"b")]


async def read_all(source: Input) -> list[tuple[int, bytes | None]]:
    return [line async for line in source]


class TestInput:
    def test_lines_come_as_they_are_written(self) -> None:
        async def scenario() -> None:
            with pipe() as (reader, writer):
                lines: AsyncIterator[tuple[int, bytes | None]] = aiter(Input(10, reader))
                for number, line in enumerate((b"a", b"b"), 1):
                    os.write(writer, line + b"\n")
                    assert await anext(lines) == (number, line)
                os.write(writer, b"the end that is too long")
                os.close(writer)
                assert await anext(lines) == (3, None)
                with pytest.raises(StopAsyncIteration):
                    await anext(lines)

        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))

    def test_reads_no_further_than_the_program(self) -> None:
        async def scenario() -> None:
            with pipe() as (reader, writer):
                os.set_blocking(writer, False)
                source = Input(100, reader)
                written = 0
                with contextlib.suppress(BlockingIOError):
                    while True:
                        written += os.write(writer, b"line\n" * 1000)
                        await asyncio.sleep(0)
                        assert written < 10_000_000
                os.set_blocking(writer, True)
                os.close(writer)
                assert len(await read_all(source)) == -(-written // 5)

        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))

    def test_what_cannot_be_read(self, tmp_path: os.PathLike[str]) -> None:
        async def scenario() -> None:
            directory = os.open(tmp_path, os.O_RDONLY)
            with pytest.raises(KPSError, match="cannot read the input: is a directory"):
                await read_all(Input(10, directory))
            os.close(directory)

        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))

    def test_a_wait_for_a_line_can_be_ended(self) -> None:
        async def scenario() -> None:
            with pipe() as (reader, writer):
                waiting = asyncio.create_task(read_all(Input(10, reader)))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                os.close(writer)

        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))


class TestOutput:
    def test_is_written_in_order_and_whole(self) -> None:
        async def work(output: Output) -> None:
            for number in range(10_000):
                await output.write(b"%d\xc2\x9b" % number)
            await output.finish()

        read: list[bytes] = []
        with pipe() as (reader, writer):

            def collect() -> None:
                while data := os.read(reader, 65536):
                    read.append(data)

            thread = threading.Thread(target=collect)
            thread.start()

            async def scenario() -> None:
                output = Output(writer)
                await output.guard(work(output))

            asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
            os.close(writer)
            thread.join()
        assert b"".join(read) == b"".join(b"%d\xc2\x9b\n" % n for n in range(10_000))

    def test_a_reader_that_pauses_stops_only_who_writes(self) -> None:
        async def scenario() -> None:
            with pipe() as (reader, writer):
                output = Output(writer)
                written = 0

                async def work() -> None:
                    nonlocal written
                    for _ in range(100):
                        await output.write(b"x" * 100_000)
                        written += 1
                    await output.finish()

                writing = asyncio.create_task(output.guard(work()))
                while written < 10:
                    await asyncio.sleep(0)  # the loop goes on
                for _ in range(100):
                    await asyncio.sleep(0)
                assert written <= 12  # a MiB, and what is in the pipe
                assert not writing.done()
                left = 100 * 100_001
                while left:
                    left -= len(await asyncio.to_thread(os.read, reader, 1_000_000))
                await writing

        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))

    def test_the_end_of_the_reader_ends_the_work_even_without_a_word(self) -> None:
        cleaned = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        async def scenario() -> None:
            with pipe() as (reader, writer):
                output = Output(writer)
                working = asyncio.create_task(output.guard(work()))
                await asyncio.sleep(0)
                os.close(reader)
                with pytest.raises(OutputEnded):
                    await working

        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
        assert cleaned == [True]

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
    def test_a_full_disk(self) -> None:
        async def scenario() -> None:
            full = os.open("/dev/full", os.O_WRONLY)
            output = Output(full)

            async def work() -> None:
                await output.write(b"x")
                await output.finish()

            with pytest.raises(KPSError, match="cannot write the output: no space left"):
                await output.guard(work())
            os.close(full)

        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))

    def test_a_terminal_gets_escapes(self) -> None:
        async def scenario() -> None:
            master, slave = pty.openpty()
            output = Output(slave)

            async def work() -> None:
                await output.write('"\x9b2J\u202eé"'.encode())
                await output.finish()

            await output.guard(work())
            assert os.read(master, 1000) == '"\\u009b2J\\u202eé"\r\n'.encode()
            os.close(slave)
            os.close(master)

        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("8080", "localhost:8080"),
        (":8080", "localhost:8080"),
        (":0", "localhost:0"),
        ("0", "0"),  # a port, or all addresses? It is refused later
        ("localhost:8080", "localhost:8080"),
        ("localhost", "localhost"),
        ("::1", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
        (":", ":"),
        ("\u0661", "\u0661"),
    ],
)
def test_a_port_alone_means_localhost(text: str, meant: str) -> None:
    assert address(text) == meant
