"""Plays vectors for clients within one function: no process, no socket, and no waiting.

The client is that of asyncio as it is, with its callbacks, time-outs and reconnecting. Only what
is outside of it is replaced: the network by pairs of transports in memory, the time by that of a
:class:`VirtualLoop`, and chance by a seed.
"""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from kps.io_asyncio.client import Client
from kps.io_asyncio.runtime import Runtime
from kps.protocol.dialect.address import Address
from kps.testing.conformance.client_vectors import ClientVector
from kps.testing.conformance.news import News
from kps.testing.conformance.play import Play
from kps.testing.conformance.scripted_server import LONGEST_REQUEST, ScriptedServer
from kps.testing.testee.on_asyncio import Program
from kps.testing.testee.spelling import Step, Teller
from kps.testing.virtual_loop import VirtualLoop

_PATIENCE = 60.0  # which costs nothing


def play_in_memory(vector: ClientVector) -> str:
    """Play a vector; return what is wrong, or nothing."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_play(vector))


async def _play(vector: ClientVector) -> str:
    news = News()
    server = _Server(news)
    return await Play(vector, _Testee(server, news), server, news, _PATIENCE).run()


class _Testee:
    """The program, on a client in memory."""

    def __init__(self, server: "_Server", news: News) -> None:
        self.told: list[dict[str, Any]] = []
        self._server = server
        self._news = news
        self._program: Program

    async def begin(self, name: str, url: str, options: Mapping[str, Any]) -> None:
        random = Random(name)

        class InMemory(Client):
            _new_runtime = staticmethod(lambda: _Runtime(self._server, random))

        self._program = Program(url, options, Teller(self._take), InMemory)

    async def do(self, step: Step) -> None:
        await self._program.begin(step)

    async def sync(self) -> None:
        await self._program.settle()

    async def end(self) -> None:
        await self._program.end()

    def said(self) -> str:
        return ""

    def _take(self, told: Mapping[str, Any]) -> None:
        self.told.append(json.loads(json.dumps(told)))  # as a judge in another process reads it
        self._news.announce()


class _Runtime(Runtime):
    """The running loop, and one server that is always there."""

    def __init__(self, server: "_Server", random: Random) -> None:
        super().__init__()
        self.entropy = random.randbytes
        self.chance = random.random
        self._server = server

    async def connect(
        self,
        protocol: Callable[[], asyncio.Protocol],
        address: Address,
        tls: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        self._server.connect(protocol())


class _Server(ScriptedServer):
    """Is told who connects."""

    async def start(self) -> str:
        return "memory:1"

    def connect(self, protocol: asyncio.Protocol) -> None:
        """Connect a client."""
        reader = asyncio.StreamReader(limit=LONGEST_REQUEST)
        here = _End(asyncio.StreamReaderProtocol(reader, self.came))
        there = _End(protocol)
        here.peer, there.peer = there, here
        here.begin()
        there.begin()


class _End(asyncio.Transport):
    """One end of a connection in memory. What is written arrives in the next turn of the loop."""

    peer: "_End"

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        """What has arrived; empty bytes are the end."""
        self._is_reading = True
        self._has_written_eof = False
        self._is_closing = False

    def begin(self) -> None:
        """Tell the protocol of its transport."""
        self._protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._has_written_eof:
            self._loop.call_soon(self.peer._arrive, bytes(data))

    def write_eof(self) -> None:
        if not self._has_written_eof:
            self._has_written_eof = True
            self._loop.call_soon(self.peer._arrive, b"")

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.write_eof()
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._loop.call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def _arrive(self, data: bytes) -> None:
        self._waiting.append(data)
        self._deliver()

    def _deliver(self) -> None:
        while self._waiting and self._is_reading and not self._is_closing:
            data = self._waiting.popleft()
            if data:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()
