"""Real servers of web applications, and an application called without any."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from kps.asgi import Application, Scope

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 30.0


@contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """Serve an application with uvicorn, in a thread; give ``host:port``."""
    uvicorn = pytest.importorskip("uvicorn")
    options.setdefault("ws", "wsproto")
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, **options)
    server = uvicorn.Server(config)
    ready = threading.Event()

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        ready.set()
        await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        assert server.started
        yield "{}:{}".format(*server.servers[0].sockets[0].getsockname()[:2])
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextmanager
def program(*arguments: str, says: str, **environment: str) -> Iterator[str]:
    """Run a server of applications as a program; give the rest of the line that it says."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**environment, "PATH": "", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if says in line:
                break
        else:
            raise AssertionError("".join(lines))
        yield line.partition(says)[2].split()[0]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that no event announces."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)


async def turns() -> None:
    """Let the event loop do all that it can do now."""
    for _ in range(20):
        await asyncio.sleep(0)


class Caller:
    """A server of applications made by hand, with one client."""

    def __init__(self, app: Application, path: str = "/", **changed: Any) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        """What the application sent."""
        self.room = asyncio.Event()
        """Whether the client takes what the application sends."""
        self.room.set()
        self._given: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()
        scope: Scope = {
            "type": "websocket",
            "path": path,
            "headers": [(b"host", b"bus.example")],
            "client": ("192.0.2.7", 4711),
            **changed,
        }
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    @property
    def waiting(self) -> int:
        """Messages that the application has not received."""
        return self._given.qsize()

    async def _receive(self) -> dict[str, Any]:
        given = await self._given.get()
        if isinstance(given, Exception):
            raise given
        return given

    async def _send(self, message: Any) -> None:
        self.sent.put_nowait(dict(message))
        await self.room.wait()

    def give(self, kind: str, **fields: Any) -> None:
        self._given.put_nowait({"type": kind, **fields})

    def give_failure(self, error: Exception) -> None:
        """Let the server fail to tell the application what it waits for."""
        self._given.put_nowait(error)

    def say(self, **fields: Any) -> None:
        self.give("websocket.receive", text=orjson.dumps(fields).decode())

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            return await self.sent.get()

    async def hear(self) -> Any:
        """The next message of the bus."""
        return orjson.loads((await self.next())["text"])

    async def connected(self, name: str) -> "Caller":
        """Connect, and register under an id."""
        self.give("websocket.connect")
        assert (await self.next())["type"] == "websocket.accept"
        self.say(action="ping", proto=2, **{"from": name})
        assert (await self.hear())["action"] == "pong"
        return self

    async def end(self) -> None:
        self.give("websocket.disconnect", code=1000)
        async with asyncio.timeout(PATIENCE):
            await self.task
