"""Standard input, output and error: in threads, so that they stop nothing else."""

import asyncio
import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from kps.cli.complaints import OutputEnded, cannot_write, visible
from kps.errors import KPSError
from kps.io_common.system_errors import describe

T = TypeVar("T")

_CHUNK = 64 * 1024
_CHUNKS_AHEAD = 4  # of the input, that wait for the program
_ROOM = 1024 * 1024  # bytes of output that wait for its reader
_BOM = b"\xef\xbb\xbf"


class Output:
    """Writes to standard output in a thread; a reader that pauses stops only what writes.

    When the output fails, ``guard`` cancels whoever writes.
    """

    def __init__(self, file: int = 1) -> None:
        self._is_terminal = os.isatty(file)
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._pending: deque[bytes] = deque()
        self._size = 0  # bytes that are pending or being written
        self._changed = asyncio.Event()
        self._failed = asyncio.Event()
        self._error: OSError | None = None
        self._woken, self._waker = os.pipe()
        threading.Thread(target=self._run, name="kps-output", daemon=True).start()

    async def write(self, line: bytes) -> None:
        """Write a line of JSON, soon; return when there is room for another one."""
        data = (visible(line.decode()).encode() if self._is_terminal else line) + b"\n"
        with self._lock:
            is_first = not self._pending
            self._pending.append(data)
            self._size += len(data)
        if is_first:
            with contextlib.suppress(OSError):  # the thread has ended: ``guard`` says why
                os.write(self._waker, b"x")
        await self._until(_ROOM)

    async def finish(self) -> None:
        """Return when everything is written."""
        await self._until(0)

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of ``work``; when the output fails before, cancel it and raise.

        Raises :class:`OutputEnded` when the reader has exited, even if there is nothing to write,
        and :class:`kps.KPSError` when the output cannot be written.
        """
        task = self._loop.create_task(work)
        failed = self._loop.create_task(self._failed.wait())
        try:
            await asyncio.wait({task, failed}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            task.cancel()
            failed.cancel()
            try:
                await asyncio.gather(task, failed, return_exceptions=True)
            finally:
                os.close(self._waker)  # which ends the thread, once nobody writes to it
        if self._error is None:
            raise OutputEnded
        raise KPSError(cannot_write(self._error))

    async def _until(self, most: int) -> None:
        while self._size > most:
            self._changed.clear()
            await self._changed.wait()

    def _run(self) -> None:
        """Write what is pending, in the thread."""
        try:
            while self._wait():
                if not os.read(self._woken, _CHUNK):
                    return
                self._write_pending()
        except BrokenPipeError:
            pass
        except OSError as error:
            self._error = error
        finally:
            os.close(self._woken)
        self._tell(self._failed)

    def _write_pending(self) -> None:
        while True:
            with self._lock:
                data = b"".join(self._pending)
                self._pending.clear()
            if not data:
                return
            view = memoryview(data)
            while view:
                try:
                    written = os.write(self._file, view[:_CHUNK])
                except BlockingIOError:  # whoever shares the output has set it so
                    select.select([], [self._file], [])
                    continue
                view = view[written:]
                with self._lock:
                    self._size -= written
                self._tell(self._changed)

    def _wait(self) -> bool:
        """Wait for something to write; return ``False`` when the reader is gone."""
        if not hasattr(select, "poll"):  # on Windows
            return True
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        poll.register(self._file, 0)  # for errors only
        ends = select.POLLERR | select.POLLHUP
        events = dict(poll.poll())
        return self._woken in events or not events.get(self._file, 0) & ends

    def _tell(self, event: asyncio.Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(event.set)


Line = tuple[int, bytes | None]
"""A line and its number, from 1; ``None`` in place of one that is too long."""


class Lines:
    """Splits input into lines; of one that is too long it tells at once, and keeps nothing."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._number = 1
        self._parts: list[bytes] = []
        self._size = 0
        self._is_told = False

    def feed(self, data: bytes) -> list[Line]:
        """Return the lines that end in ``data``, or become too long."""
        *ends, rest = data.split(b"\n")
        lines: list[Line] = []
        for end in ends:
            lines += self._add(end)
            lines += self._take()
        return lines + self._add(rest)

    def end(self) -> list[Line]:
        """Return the last line, if it has no end."""
        return self._take() if self._size else []

    def _add(self, part: bytes) -> list[Line]:
        self._size += len(part)
        if self._size <= self._most + 1:  # one more for a carriage return
            if part:
                self._parts.append(part)
            return []
        self._parts.clear()
        was_told, self._is_told = self._is_told, True
        return [] if was_told else [(self._number, None)]

    def _take(self) -> list[Line]:
        number, was_told = self._number, self._is_told
        line = b"".join(self._parts).removesuffix(b"\r")
        if number == 1:
            line = line.removeprefix(_BOM)
        self._number += 1
        self._parts.clear()
        self._size = 0
        self._is_told = False
        if was_told:
            return []
        return [(number, line if len(line) <= self._most else None)]


class Input:
    """Reads lines from standard input in a thread, so that Ctrl-C need not wait for a line."""

    def __init__(self, most: int, file: int = 0) -> None:
        self._file = file
        self._lines = Lines(most)
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(_CHUNKS_AHEAD)
        self._chunks: asyncio.Queue[list[Line] | OSError | None] = asyncio.Queue()
        threading.Thread(target=self._run, name="kps-input", daemon=True).start()

    def close(self) -> None:
        """Yield no more lines than those that were read."""
        self._chunks.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Line]:
        """Yield the lines. Raises :class:`kps.KPSError` when the input cannot be read."""
        while (chunk := await self._chunks.get()) is not None:
            if isinstance(chunk, OSError):
                raise KPSError(f"cannot read the input: {describe(chunk)}")
            self._room.release()
            for line in chunk:
                yield line

    def _run(self) -> None:
        try:
            while data := self._read():
                if lines := self._lines.feed(data):
                    self._give(lines)
            self._give(self._lines.end())
            self._give(None)
        except OSError as error:
            self._give(error)

    def _read(self) -> bytes:
        while True:
            try:
                return os.read(self._file, _CHUNK)
            except BlockingIOError:  # whoever shares the input has set it so
                select.select([self._file], [], [])

    def _give(self, chunk: list[Line] | OSError | None) -> None:
        if isinstance(chunk, list):
            self._room.acquire()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)
