"""An engine, and nodes that talk over it."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import kps
from kps.io_asyncio.server_driver import ServerDriver
from tests.io.harness import eventually
from tests.patient_kps import COMMAND
from tests.ports import kept_address, kept_port

PATIENCE = 30.0
"""Seconds after which something that should have happened counts as never happening."""

HEARTBEAT, SILENCE = 0.1, 0.6
"""Seconds, in place of 1 and 5."""


class Engine:
    """A NATS server that runs."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.port = kept_port()
        self.start()

    def start(self) -> None:
        """Start it, at its port."""
        server = Path(sys.executable).with_name("nats-server")
        command = [str(server), "-a", "127.0.0.1", "-p", str(self.port), *self._options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
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
        """End it; it may be started again."""
        self.process.kill()
        self.process.wait(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


class Node(kps.Server):
    """A server that never gives up on another node which a busy machine lets stand still.

    It goes on without one only if that says farewell, or if the engine is lost.
    """

    silence = PATIENCE
    confirm_timeout = PATIENCE

    def _new_driver(self) -> ServerDriver:
        cluster = self._settings.cluster
        assert cluster is not None
        config = replace(
            cluster.config,
            heartbeat=HEARTBEAT,
            patience=self.silence,
            confirm_timeout=self.confirm_timeout,
        )
        self._settings = replace(self._settings, cluster=replace(cluster, config=config))
        return super()._new_driver()


class QuickNode(Node):
    """A server that is quick to notice silence.

    On a busy machine it may take nodes for dead that live, so a test must bear that its links fall
    and rise again.
    """

    silence = SILENCE


@contextlib.asynccontextmanager
async def nodes(
    url: str, *names: str, kind: type[kps.Server] = Node, **options: Any
) -> AsyncIterator[list[kps.Server]]:
    """Nodes of one cluster, which all know each other.

    Those of processes of their own are not quick, so beside such they must be no ``QuickNode``
    either, but a ``kps.Server`` where they are to notice silence.
    """
    made = [kind("127.0.0.1:0", id=name, cluster=url, **options) for name in names]
    await asyncio.gather(*(node.start() for node in made))
    try:
        await all_meet(made)  # a node waits half a second for the others, and they may take longer
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


async def all_meet(made: Iterable[kps.Server]) -> None:
    """Wait until nodes know each other; they may know more."""
    names = {node.id for node in made}
    await until(lambda: all(others(node) >= names - {node.id} for node in made))


async def reaches(client: kps.Client, names: set[str]) -> None:
    """Publish on ``t`` until these clients, and nobody else, have handled what was published.

    A client that is subscribed is known to the other nodes a little later, if a node or the engine
    has stood still, or a link has fallen.
    """
    outcomes: dict[str, bool] = {}
    while outcomes != dict.fromkeys(names, True):
        ack = await client.publish_with_ack("t", "reached", timeout=20.0)
        outcomes = {name: one.success for name, one in (await ack.wait()).items()}


def others(node: kps.Server) -> set[str]:
    """The nodes whose links to one are up."""
    return set(node._driver.cluster.nodes.others)  # type: ignore[attr-defined]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 2 * PATIENCE))


class Served:
    """``kps serve`` as a node, in a process of its own."""

    def __init__(self, url: str, name: str, *options: str) -> None:
        self._command = [*COMMAND, "serve", "--cluster", url, "--id", name, *options]
        self.address = kept_address()
        self.start()

    def start(self) -> None:
        """Start it, at its address."""
        command = [*self._command, "--address", self.address]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def linked(self) -> int:
        """How many nodes there are for this one, itself included."""
        with urlopen(f"http://{self.address}/healthz", timeout=PATIENCE) as answer:
            return int(json.load(answer)["nodes"])

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it by a signal; return its exit code. It may be started again."""
        if self.is_running:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def until_linked(served: Iterable[Served]) -> None:
    """Wait until those nodes that run all see each other.

    A node starts alone if the others are not heard for half a second, and meets them later. What
    happens before that is as in a cluster that is split.
    """
    running = [node for node in served if node.is_running]
    eventually(lambda: all(node.linked() == len(running) for node in running), "the links")
