"""An engine, and nodes that talk over it."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import kps
from kps.io_asyncio.server_driver import ServerDriver

PATIENCE = 30.0
"""Seconds after which something that should have happened counts as never happening."""

HEARTBEAT, SILENCE = 0.1, 0.6
"""Seconds, in place of 1 and 5."""


class Engine:
    """A NATS server that runs."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.port = -1
        self.start()

    def start(self) -> None:
        """Start it, at the port that it had before."""
        server = Path(sys.executable).with_name("nats-server")
        command = [str(server), "-a", "127.0.0.1", "-p", str(self.port), *self._options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            found = re.search(r"client connections on 127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found[1])
            if "Server is ready" in line:
                return
        raise AssertionError("".join(lines))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"nats://{self.address}"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


class Node(kps.Server):
    """A server that is quick to notice silence."""

    def _new_driver(self) -> ServerDriver:
        cluster = self._settings.cluster
        assert cluster is not None
        config = replace(cluster.config, heartbeat=HEARTBEAT, patience=SILENCE)
        self._settings = replace(self._settings, cluster=replace(cluster, config=config))
        return super()._new_driver()


@contextlib.asynccontextmanager
async def nodes(
    url: str, *names: str, kind: type[kps.Server] = Node, **options: Any
) -> AsyncIterator[list[kps.Server]]:
    """Nodes of one cluster, which all know each other.

    Those of processes of their own are not quick, so beside such they must be no ``Node`` either.
    """
    made = [kind("127.0.0.1:0", id=name, cluster=url, **options) for name in names]
    await asyncio.gather(*(node.start() for node in made))
    try:
        yield made
    finally:
        await asyncio.gather(*(node.stop(0.0) for node in made))


@contextlib.asynccontextmanager
async def clients(*places: kps.Server | str, **options: Any) -> AsyncIterator[list[kps.Client]]:
    """Clients of nodes, or of URLs: ``c0``, ``c1`` and so on."""
    made = []
    try:
        for number, place in enumerate(places):
            url = place if isinstance(place, str) else place.url
            made.append(await kps.Client.connect(url, id=f"c{number}", reconnect=0.05, **options))
        yield made
    finally:
        for client in made:
            await client.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event announces."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def others(node: kps.Server) -> set[str]:
    """The nodes whose links to one are up."""
    return set(node._driver.cluster.nodes.others)  # type: ignore[attr-defined]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 2 * PATIENCE))


class Served:
    """``kps serve`` as a node, in a process of its own."""

    def __init__(self, url: str, name: str, *options: str) -> None:
        self._command = [sys.executable, "-W", "error", "-m", "kps", "serve", "--cluster", url]
        self._command += ["--id", name, *options]
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Start it, at the address that it had before."""
        command = [*self._command, "--address", self.address]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.address = self.url.split("/")[2]

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it by a signal; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code
