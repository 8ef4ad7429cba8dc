"""Nodes with files for history: the whole cluster is stopped, one is killed, one was away."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import kps
from tests.cluster.harness import Engine, Served, run, until_linked

NAMES = ("n1", "n2", "n3")
TOPICS = tuple(f"kept/{number}" for number in range(8))  # owned by several nodes


class Nodes:
    """Nodes of one cluster, in processes of their own, each with its file."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self._nodes: dict[str, Served] = {}
        for name in NAMES:
            file = str(directory / f"{name}.db")
            options = "--history", "kept/**=1000", "--history-file", file
            self._nodes[name] = Served(engine.url, name, *options)
        until_linked(self._nodes.values())

    async def start(self, *names: str) -> None:
        """Start nodes; return when all that run have met."""
        await asyncio.gather(*(asyncio.to_thread(self._nodes[name].start) for name in names))
        await self.until_met()

    async def end(self, number: signal.Signals, *names: str) -> None:
        ends = (asyncio.to_thread(self._nodes[name].end, number) for name in names)
        codes = await asyncio.gather(*ends)
        assert number is signal.SIGKILL or codes == [0] * len(names)

    async def until_met(self) -> None:
        """Wait until all that run see each other, and nobody else."""
        await asyncio.to_thread(until_linked, self._nodes.values())

    async def publish(self, name: str, *payloads: object) -> None:
        async with kps.Client(self._nodes[name].url) as client:
            for topic in TOPICS:
                for payload in payloads:
                    await client.publish_with_receipt(topic, payload)

    async def places(self, name: str) -> dict[str, kps.Position]:
        found = {}
        async with kps.Client(self._nodes[name].url) as client:
            for topic in TOPICS:
                position = (await client.history(topic, limit=1)).position
                assert position is not None
                found[topic] = position
        return found

    async def has(self, name: str, expected: list[object]) -> bool:
        """Whether a node has these messages of all topics. Others may still tell it."""
        async with kps.Client(self._nodes[name].url) as client:
            for topic in TOPICS:
                past = await client.history(topic, limit=1000)
                if [message.data for message in past.messages] != expected:
                    return False
        return True

    async def recovered(self, name: str, since: dict[str, kps.Position]) -> set[bool | None]:
        async with kps.Client(self._nodes[name].url) as client:
            return {(await client.history(topic, since=since[topic])).recovered for topic in TOPICS}

    async def until_all_have(self, *expected: object) -> None:
        async with asyncio.timeout(30.0):
            for name in NAMES:
                while not await self.has(name, list(expected)):
                    await asyncio.sleep(0.05)

    async def until_all_recover(self, since: dict[str, kps.Position]) -> None:
        """Wait until all nodes know that nothing is missing; first they may only have copies."""
        async with asyncio.timeout(30.0):
            for name in NAMES:
                while await self.recovered(name, since) != {True}:
                    await asyncio.sleep(0.05)

    def close(self) -> None:
        for node in self._nodes.values():
            node.end()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    engine = Engine()
    try:
        made = Nodes(engine, tmp_path)
        try:
            yield made
        finally:
            made.close()
    finally:
        engine.end()


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
def test_the_whole_cluster_is_stopped_and_started(nodes: Nodes, at_once: bool) -> None:
    async def work() -> None:
        await nodes.publish("n1", 1, 2)
        await nodes.publish("n2", 3)
        since = await nodes.places("n1")
        for several in [NAMES] if at_once else [(name,) for name in NAMES]:
            await nodes.end(signal.SIGTERM, *several)
        await nodes.start(*reversed(NAMES))
        await nodes.until_all_have(1, 2, 3)
        await nodes.until_all_recover(since)
        await nodes.publish("n3", 4)
        await nodes.until_all_have(1, 2, 3, 4)

    run(work())


@pytest.mark.slow
def test_a_node_is_killed_and_another_was_away(nodes: Nodes) -> None:
    async def work() -> None:
        await nodes.publish("n1", 1)
        await nodes.end(signal.SIGTERM, "n3")  # whose file will be stale
        await nodes.publish("n1", 2)
        await nodes.end(signal.SIGKILL, "n1")
        await nodes.until_met()
        await nodes.publish("n2", 3)
        since = await nodes.places("n2")
        await nodes.start("n1")
        await nodes.start("n3")
        await nodes.until_all_have(1, 2, 3)
        await nodes.until_all_recover(since)  # nothing has happened but that nodes came
        await nodes.end(signal.SIGKILL, *NAMES)
        await nodes.start(*NAMES)
        await nodes.until_all_have(1, 2, 3)
        for name in NAMES:
            assert await nodes.recovered(name, since) == {False}

    run(work())
