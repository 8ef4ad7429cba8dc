"""The processes that are one server, and what strikes them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from processes import Failed, Process, resident

NUMBER = 3
SERVE = (sys.executable, "-m", "kps", "serve", "--history", "kept/**=5000")
SHORT = (0.5, 3.0)
"""Seconds for which a process stands still, and nobody gives it up."""
LONG = (6.0, 9.0)
"""Seconds for which it stands still, and all have given it up."""
PATIENCE = 60.0

Fault = Callable[[Random], Awaitable[None]]


class Several(ABC):
    """Processes that are one server. The first one, and what holds all together, is never killed,
    so its memory shows whether faults leave something behind.
    """

    url: str
    faults: dict[str, Fault]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    @abstractmethod
    async def start(self) -> None:
        """Start all."""

    @abstractmethod
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing behind, whatever has failed."""

    @abstractmethod
    async def is_whole(self) -> bool:
        """Tell whether all processes are there and together."""

    @abstractmethod
    def memory(self) -> dict[str, int]:
        """The memory of processes that are never killed."""

    @abstractmethod
    async def end(self) -> list[str]:
        """End all in good order; return what was wrong."""

    async def whole(self) -> None:
        """Wait until all are together again."""
        deadline = time.monotonic() + PATIENCE
        while not await self.is_whole():
            if time.monotonic() > deadline:
                raise Failed("the processes do not come together again")
            await asyncio.sleep(0.1)


class Workers(Several):
    """`kps serve --workers`."""

    async def start(self) -> None:
        options = ("--address", "127.0.0.1:0", "--workers", str(NUMBER))
        self._parent = Process(*SERVE, *options)
        said = await asyncio.to_thread(self._parent.wait_for, lambda line: "ws://" in line)
        self.url = "ws://" + said.partition("ws://")[2].split()[0]
        self._log: list[str] = []
        self._first = min(self._workers())
        self.faults = {
            "a worker is killed": self._kill,
            "a worker stands still for a moment": self._stall_shortly,
            "a worker stands still for long": self._stall,
        }

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)
        self._parent.stop()

    def _workers(self) -> list[int]:
        path = Path(f"/proc/{self._parent.pid}/task/{self._parent.pid}/children")
        with contextlib.suppress(OSError):
            return [int(number) for number in path.read_text().split()]
        return []

    async def is_whole(self) -> bool:
        self._log += self._parent.said()
        workers = self._workers()
        if len(workers) != NUMBER:
            return False
        address = self.url.split("/")[2]
        healths = [await health(address) for _ in range(4 * NUMBER)]
        return all(one is not None and one["nodes"] == NUMBER for one in healths)

    def memory(self) -> dict[str, int]:
        return {"parent": resident(self._parent.pid), "first worker": resident(self._first)}

    async def end(self) -> list[str]:
        await end_in_order(self._parent)
        self._log += self._parent.said()
        faults = [
            f"log: {line}" for line in self._log if " CRITICAL " in line or "Traceback" in line
        ]
        if self._parent.code != 0:
            faults.append(f"the server ended with {self._parent.code}")
        return faults

    def _pick(self, chance: Random) -> int:
        return chance.choice([worker for worker in self._workers() if worker != self._first])

    async def _kill(self, chance: Random) -> None:
        os.kill(self._pick(chance), signal.SIGKILL)

    async def _stall_shortly(self, chance: Random) -> None:
        await stand_still(chance.choice(self._workers()), chance.uniform(*SHORT))

    async def _stall(self, chance: Random) -> None:
        await stand_still(self._pick(chance), chance.uniform(*LONG))


class Nodes(Several):
    """Nodes over NATS, with a balancer in front of them."""

    async def start(self) -> None:
        self._engine_address = "127.0.0.1:-1"
        self._start_engine()
        self._log: list[str] = []
        self._nodes: list[Process] = []
        self._addresses = ["127.0.0.1:0"] * NUMBER
        for number in range(NUMBER):
            self._nodes.append(await asyncio.to_thread(self._start_node, number))
        self._turn = 0
        self._balancer = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        host, port = self._balancer.sockets[0].getsockname()
        self.url = f"ws://{host}:{port}/ws/bus"
        self.faults = {
            "a node is killed": self._kill,
            "a node is restarted in good order": self._restart,
            "a node stands still for a moment": self._stall_shortly,
            "a node stands still for long": self._stall,
            "the engine is killed": self._kill_engine,
            "the engine stands still for a moment": self._stall_engine_shortly,
            "the engine stands still for long": self._stall_engine,
        }

    def _start_engine(self) -> None:
        host, _, port = self._engine_address.partition(":")
        program = Path(sys.executable).with_name("nats-server")
        self._engine = Process(str(program), "-a", host, "-p", port)
        words = "client connections on "
        said = self._engine.wait_for(lambda line: words in line)
        self._engine_address = said.partition(words)[2].strip()
        self._engine.wait_for(lambda line: "Server is ready" in line)

    def _start_node(self, number: int) -> Process:
        where = ("--id", f"n{number}", "--address", self._addresses[number])
        node = Process(*SERVE, *where, "--cluster", f"nats://{self._engine_address}")
        said = node.wait_for(lambda line: "ws://" in line)
        self._addresses[number] = said.partition("ws://")[2].split("/")[0]
        return node

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._balancer.close()
        for process in (*self._nodes, self._engine):
            process.signal(signal.SIGCONT)
            await asyncio.to_thread(process.stop)

    async def is_whole(self) -> bool:
        for node in self._nodes:
            self._log += node.said()
        healths = [await health(address) for address in self._addresses]
        return all(
            one is not None and one["nodes"] == NUMBER and one["status"] == "ok" for one in healths
        )

    def memory(self) -> dict[str, int]:
        return {"first node": resident(self._nodes[0].pid)}

    async def end(self) -> list[str]:
        await asyncio.gather(*map(end_in_order, self._nodes))
        for node in self._nodes:
            self._log += node.said()
        faults = [
            f"log: {line}" for line in self._log if " CRITICAL " in line or "Traceback" in line
        ]
        return faults + [f"a node ended with {node.code}" for node in self._nodes if node.code != 0]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self._nodes:
            self._turn += 1
            host, _, port = self._addresses[self._turn % NUMBER].partition(":")
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection(host, int(port))
                await asyncio.gather(pass_on(reader, back), pass_on(there, writer))
                return
        writer.close()

    def _pick(self, chance: Random) -> int:
        return chance.randrange(1, NUMBER)

    async def _kill(self, chance: Random) -> None:
        await self._end_one(self._pick(chance), signal.SIGKILL)

    async def _restart(self, chance: Random) -> None:
        await self._end_one(self._pick(chance), signal.SIGTERM)

    async def _end_one(self, number: int, how: signal.Signals) -> None:
        node = self._nodes[number]
        node.signal(how)
        while node.code is None:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(node.stop)
        self._log += node.said()
        if how is signal.SIGTERM and node.code != 0:
            self._log.append(f"Traceback: a node ended with {node.code}")
        self._nodes[number] = await asyncio.to_thread(self._start_node, number)

    async def _stall_shortly(self, chance: Random) -> None:
        await stand_still(self._nodes[chance.randrange(NUMBER)].pid, chance.uniform(*SHORT))

    async def _stall(self, chance: Random) -> None:
        await stand_still(self._nodes[self._pick(chance)].pid, chance.uniform(*LONG))

    async def _kill_engine(self, chance: Random) -> None:
        self._engine.signal(signal.SIGKILL)
        await asyncio.to_thread(self._engine.stop)
        await asyncio.sleep(chance.uniform(0.0, 4.0))
        await asyncio.to_thread(self._start_engine)

    async def _stall_engine_shortly(self, chance: Random) -> None:
        await stand_still(self._engine.pid, chance.uniform(*SHORT))

    async def _stall_engine(self, chance: Random) -> None:
        await stand_still(self._engine.pid, chance.uniform(*LONG))


async def end_in_order(process: Process) -> None:
    """End a process by one signal, as a second one would hurry it."""
    process.signal(signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while process.code is None and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    await asyncio.to_thread(process.stop)


async def stand_still(pid: int, seconds: float) -> None:
    """Stop a process for so long."""
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on to the end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def health(address: str) -> dict[str, object] | None:
    """What a server says about its health, if it answers in time."""
    host, _, port = address.partition(":")
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                f"GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
            )
            answer = await reader.read()
            writer.close()
        return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))
    except (OSError, ValueError, TimeoutError):
        return None
