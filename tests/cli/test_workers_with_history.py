"""``kps serve --workers --history-file``: the first worker keeps the history of all."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import kps
from tests.cli.test_workers import PATIENCE, Served, clients
from tests.io.harness import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")

TOPICS = tuple(f"kept/{number}" for number in range(8))  # owned by several workers


class Serving:
    """Servers with one file, one after the other."""

    def __init__(self, path: Path) -> None:
        self._options = "--history", "kept/**=1000", "--history-file", str(path), "--metrics"
        self.log = path.with_name("log")
        self.served: list[Served] = []

    def start(self, workers: int) -> Served:
        served = Served(*self._options, workers=workers, log=self.log)
        self.served.append(served)
        return served

    def end(self) -> None:
        for served in self.served:
            if served.process.poll() is None:
                served.end()


@pytest.fixture
def serving(tmp_path: Path) -> Any:
    made = Serving(tmp_path / "history.db")
    yield made
    made.end()


def nothing_waits(served: Served) -> bool:
    """Whether all is in the file."""
    with urlopen(served.url.replace("ws:", "http:").replace("/ws/bus", "/metrics")) as answer:
        found = re.findall(
            r"(?m)^kps_history_file_queue_bytes\{(.*)\} (.*)$", answer.read().decode()
        )
    assert [labels for labels, _ in found] in ([], ['worker="1"'])  # it may not answer in time
    return bool(found) and float(found[0][1]) == 0


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 6 * PATIENCE))  # several servers


async def publish(served: Served, *payloads: object) -> None:
    async with clients(served, 3) as made:
        for number, payload in enumerate(payloads):
            for topic in TOPICS:
                await made[number % 3].publish_with_receipt(topic, payload)


async def places(served: Served) -> dict[str, kps.Position]:
    found = {}
    async with clients(served, 1) as (client,):
        for topic in TOPICS:
            position = (await client.history(topic, limit=1)).position
            assert position is not None
            found[topic] = position
    return found


async def check(
    served: Served, since: dict[str, kps.Position], expected: list[object], recovered: bool
) -> None:
    """What each worker has of each topic, and what it says of the places."""
    async with clients(served, 4) as made:
        for topic in TOPICS:
            for client in made:
                past = await client.history(topic, limit=1000)
                assert [message.data for message in past.messages] == expected
                assert (await client.history(topic, since=since[topic])).recovered is recovered


def test_from_one_process_to_several_and_back(serving: Serving) -> None:
    async def work() -> None:
        places_before: dict[str, kps.Position] = {}
        expected: list[object] = []
        for number, workers in enumerate((1, 3, 3, 1, 2)):
            served = await asyncio.to_thread(serving.start, workers)
            if places_before:
                await check(served, places_before, expected, True)
            expected += [f"{number} {kind}" for kind in "abc"]
            await publish(served, *expected[-3:])
            places_before = await places(served)
            assert await asyncio.to_thread(served.stop) == 0

    run(work())


@pytest.mark.parametrize("number", [0, 1])
def test_a_worker_that_begins_again_follows(serving: Serving, number: int) -> None:
    async def work() -> None:
        served = await asyncio.to_thread(serving.start, 2)
        await publish(served, 1, 2)
        victim = served.workers()[number]
        os.kill(victim, signal.SIGKILL)
        # What goes to an owner that has died is lost, until the other one has noticed.
        has_died = f"the link to hub.{1 + number} fell"
        await asyncio.to_thread(eventually, lambda: has_died in serving.log.read_text())
        await publish(served, 3)
        is_back = f"the link to hub.{2 - number} is up"
        await asyncio.to_thread(eventually, lambda: serving.log.read_text().count(is_back) == 2)
        async with clients(served, 4) as made:  # to both, which both have it
            for client in made:
                for topic in TOPICS:
                    past = await client.history(topic, limit=1000)
                    assert [message.data for message in past.messages] == [1, 2, 3]
        since = await places(served)
        assert await asyncio.to_thread(served.stop) == 0
        served = await asyncio.to_thread(serving.start, 2)
        await check(served, since, [1, 2, 3], True)

    run(work())


def test_after_all_were_killed_nobody_is_told_that_nothing_is_missing(serving: Serving) -> None:
    async def work() -> None:
        served = await asyncio.to_thread(serving.start, 2)
        await publish(served, 1, 2)
        await asyncio.to_thread(eventually, lambda: nothing_waits(served), "the writing")
        since = await places(served)
        await asyncio.to_thread(served.end)
        served = await asyncio.to_thread(serving.start, 2)
        await check(served, since, [1, 2], False)
        since = await places(served)
        assert await asyncio.to_thread(served.stop) == 0
        served = await asyncio.to_thread(serving.start, 2)
        await check(served, since, [1, 2], True)

    run(work())


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "other"
    file.write_text("something else, and no database of anybody")
    command = [sys.executable, "-m", "kps", "serve", "--address", "127.0.0.1:0", "--workers", "2"]
    command += ["--history", "t=1", "--history-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30.0)
    assert done.returncode == 1
    assert re.search(rf"cannot use the history in {re.escape(str(file))}", done.stderr)
