"""A testee: the process that plays the program of a vector, on top of the client that is judged."""

import asyncio
import json
from asyncio import StreamReader
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kps.protocol.dialect.level2 import LEVEL
from kps.testing.conformance.client_vectors import ClientVector
from kps.testing.conformance.news import News

_LONGEST_LINE = 2**26
_LINES_SHOWN = 20
_LAST = 5.0  # seconds for a testee to end by itself
_FIRST = 30.0  # seconds for it to start


class TesteeFailed(Exception):
    """The testee has ended, does not answer, or does not keep to its protocol."""


class Testee:
    """Starts a testee, tells it what to do, and gathers what its program is told."""

    def __init__(self, command: Sequence[str], news: News, patience: float) -> None:
        self.name = ""
        self.needs: frozenset[str] = frozenset()
        """The features that it knows."""
        self.level = LEVEL
        """The highest level that it knows."""
        self.without: frozenset[str] = frozenset()
        """Verbs for which its client has no call."""
        self.told: list[dict[str, Any]] = []
        """What the program was told, and the vector has not asked for."""
        self._command = command
        self._news = news
        self._patience = patience
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._complaints: deque[str] = deque(maxlen=_LINES_SHOWN)
        self._has_begun = False
        self._syncs = 0
        self._synced = 0
        self._is_idle = True  # whether no vector is under way
        self._fault = ""

    async def start(self) -> None:
        """Start the process. Raises :class:`TesteeFailed`."""
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, stderr=pipe, limit=_LONGEST_LINE
            )
        except OSError as error:
            raise TesteeFailed(f"the testee cannot be started: {error}") from None
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.ensure_future(self._read(process.stdout)),
            asyncio.ensure_future(self._read_complaints(process.stderr)),
        ]
        await self._until(lambda: self._has_begun, "has not said who it is", _FIRST)

    def why_not(self, vector: ClientVector) -> str:
        """Return why the client cannot be judged by a vector; nothing if it can."""
        if lacking := vector.needs - self.needs:
            return f"the client does not have {', '.join(sorted(lacking))}"
        if self.level == 1 and not vector.on_level_1:
            return "the client knows level 1 only"
        if lacking := vector.verbs & self.without:
            return f"the client has no call for {', '.join(sorted(lacking))}"
        return ""

    async def begin(self, name: str, url: str, options: Mapping[str, Any]) -> None:
        """Begin a vector."""
        self.told.clear()
        self._is_idle = False
        self._write({"vector": name, "url": url, "options": options})
        await self.sync()

    async def do(self, step: Mapping[str, Any]) -> None:
        """Let the program do something, and wait until that has begun."""
        self._write(step)
        await self.sync()

    async def sync(self) -> None:
        """Wait until all steps have begun."""
        self._syncs += 1
        self._write({"sync": self._syncs})
        await self._until(lambda: self._synced == self._syncs, "does not answer a sync")

    async def end(self) -> None:
        """End a vector."""
        if not self._is_idle:
            self._write({"end": True})
            await self._until(lambda: self._is_idle, "does not end the vector")
            self._complaints.clear()

    async def stop(self) -> None:
        """End the process."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _LAST)
        except TimeoutError:
            process.kill()
            await process.wait()
        await asyncio.gather(*self._readers)

    def said(self) -> str:
        """Return the last lines of its standard error."""
        return "".join(f"\n  testee:   {line}" for line in self._complaints)

    async def _until(
        self, condition: Callable[[], bool], otherwise: str, patience: float | None = None
    ) -> None:
        is_in_time = await self._news.until(
            lambda: bool(self._fault) or condition(), patience or self._patience
        )
        if self._fault or not is_in_time:
            raise TesteeFailed(self._fault or f"the testee {otherwise}")

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    async def _read(self, output: StreamReader) -> None:
        try:
            while line := await output.readline():
                self._take(line)
                self._news.announce()
            self._fault = self._fault or "the testee has ended"
        except ValueError:
            self._fault = "the testee has written a line that is too long"
        self._news.announce()

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        match said:
            case {"told": str()}:
                if not self._is_idle:
                    self.told.append(said)
            case {"synced": int(number)}:
                self._synced = number
            case {"ended": True}:
                self._is_idle = True
            case {"testee": str(name), "needs": list(needs)}:
                self.name, self.needs, self._has_begun = name, frozenset(needs), True
                self.level = said.get("level", LEVEL)
                self.without = frozenset(said.get("without", ()))
            case _:
                self._fault = self._fault or f"the testee has written {line[:200]!r}"

    async def _read_complaints(self, output: StreamReader) -> None:
        while data := await output.read(2**16):
            self._complaints.extend(data.decode(errors="replace").splitlines())
