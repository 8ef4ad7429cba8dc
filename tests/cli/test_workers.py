"""``kps serve --workers``: several processes that are one server."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kps
from tests.io.harness import eventually
from tests.io.test_http import EventSource, ask
from tests.patient_kps import COMMAND

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")

PATIENCE = 30.0


class Served:
    """A server with workers that runs. Its log goes to a file, if there is one for that."""

    def __init__(self, *options: str, workers: int = 2, log: Path | None = None) -> None:
        command = [*COMMAND, "serve", "--address", "127.0.0.1:0", "--workers", str(workers)]
        command += ["--id", "hub", *options]
        with contextlib.ExitStack() as stack:
            stderr = None if log is None else stack.enter_context(log.open("w"))
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def workers(self) -> list[int]:
        """The processes of the workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in path.read_text().split()]

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def end(self) -> None:
        self.process.send_signal(signal.SIGSTOP)  # so that it starts none again meanwhile
        for number in [*self.workers(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()
        else:
            assert server.process.stdout is not None
            server.process.stdout.close()


@contextlib.asynccontextmanager
async def clients(served: Served, count: int) -> AsyncIterator[list[kps.Client]]:
    made = [
        await kps.Client.connect(served.url, id=f"c{number}", reconnect=0.1)
        for number in range(count)
    ]
    try:
        yield made
    finally:
        for client in made:
            await client.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 3 * PATIENCE))


async def until_all_hear(made: list[kps.Client], data: object) -> None:
    """Publish on ``t`` until all clients handle it.

    Those that have come back are known to all workers a little later.
    """
    names, reached = {client.id for client in made}, set[str]()
    while reached != names:
        with contextlib.suppress(kps.KPSError):  # the publisher may not be back itself
            ack = await made[0].publish_with_ack("t", data, timeout=PATIENCE)
            reached = {name for name, one in (await ack.wait()).items() if one.success}
        await asyncio.sleep(0.01)


async def until_one_dies(served: Served, victim: int, made: list[kps.Client]) -> None:
    """Kill a worker, and wait until another one has its place and all clients are connected."""
    os.kill(victim, signal.SIGKILL)
    await asyncio.to_thread(eventually, lambda: victim not in served.workers())
    await asyncio.to_thread(eventually, lambda: len(served.workers()) == 2)
    for client in made:
        while not await _is_answered(client):  # it may not have looked at its connection yet
            await asyncio.sleep(0.01)


async def _is_answered(client: kps.Client) -> bool:
    with contextlib.suppress(kps.KPSError):
        await client.flush()
        return True
    return False


def is_alive(number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, 0)
        return True
    return False


def test_clients_of_all_workers_hear_each_other(served: Served) -> None:
    async def work() -> None:
        async with clients(served, 6) as made:
            streams = [await client.subscribe("t") for client in made]
            for number, client in enumerate(made):
                assert await client.publish_with_receipt("t", number) == 6
            for stream in streams:
                got = [(await anext(stream)).data for _ in made]
                assert sorted(got) == list(range(6))

    run(work())


def test_acks_ids_and_direct_messages(served: Served) -> None:
    async def work() -> None:
        async with clients(served, 4) as made:
            for client in made:

                async def answer(message: kps.Message, name: str = client.id) -> str:
                    return name

                await client.subscribe("ask", answer)
            for client in made:
                ack = await client.publish_with_ack("ask", 1, timeout=PATIENCE)
                responses = await ack.wait()
                assert {name: one.result for name, one in responses.items()} == {
                    f"c{number}": f"c{number}" for number in range(4)
                }
                with pytest.raises(kps.NobodyThere):
                    await client.request("nobody", 1, timeout=PATIENCE)

    run(work())


def test_requests_over_http_reach_all_workers(served: Served) -> None:
    """Each of them goes to one of the workers, and so do the clients."""
    address = served.url.split("/")[2]

    async def work() -> None:
        streams = [EventSource(address, "/sse?topic=t") for _ in range(4)]
        async with clients(served, 4) as made:
            for client in made:
                await client.subscribe("t", lambda _: None)
            await made[0].subscribe("ask", lambda message: message.data + 1)
            for number in range(4):
                post = partial(ask, address, "/publish?topic=t&receipt=1", b"%d" % number)
                assert await asyncio.to_thread(post) == (200, {"delivered": 8})
                request = partial(ask, address, "/request?topic=ask", b"%d" % number)
                assert await asyncio.to_thread(request) == (200, number + 1)
                acked = partial(ask, address, "/publish?topic=t&ack=30", b"-1")
                status, answer = await asyncio.to_thread(acked)
                assert (status, answer["complete"], len(answer["responses"])) == (200, True, 4)
        for stream in streams:
            got = [stream.next().data["data"] for _ in range(8)]
            assert sorted(got) == [-1, -1, -1, -1, 0, 1, 2, 3]
            stream.close()

    run(work())


def test_streams_go_on_at_any_worker() -> None:
    """Those that come back go to a worker with few connections, which may be another one."""
    served = Served("--history", "kept/**=100", workers=3)
    try:
        address = served.url.split("/")[2]
        topics = [f"kept/{number}" for number in range(6)]
        sources = {topic: EventSource(address, f"/sse?topic={topic}") for topic in topics}
        got: dict[str, list[int]] = {topic: [] for topic in topics}
        for number in range(0, 6, 2):
            for topic, source in sources.items():
                post = f"/publish?topic={topic}"
                assert ask(address, post, b"%d" % number) == (204, None)
                got[topic].append(source.next().data["data"])
                source.close()
                assert ask(address, post, b"%d" % (number + 1)) == (204, None)
            for topic, source in sources.items():
                source.connect()
                got[topic].append(source.next().data["data"])
        for source in sources.values():
            source.close()
        assert got == {topic: list(range(6)) for topic in topics}
    finally:
        served.end()


def test_what_is_posted_again_to_any_worker_is_handled_once(served: Served) -> None:
    address = served.url.split("/")[2]
    sources = [EventSource(address, "/sse?topic=t")]

    def all_know() -> bool:
        post = "/publish?topic=t&receipt=1"
        return all(ask(address, post, b"0") == (200, {"delivered": 1}) for _ in range(10))

    eventually(all_know, "each worker knows of the subscription")
    for _ in range(6):
        key = {"Idempotency-Key": "k"}
        assert ask(address, "/publish?topic=t&receipt=1", b"1", **key) == (200, {"delivered": 1})
        sources.append(EventSource(address, "/sse?topic=u"))
    assert ask(address, "/publish?topic=t", b"2") == (204, None)
    told = []
    while 2 not in told:
        told.append(sources[0].next().data["data"])
    assert [one for one in told if one] == [1, 2]
    for source in sources:
        source.close()


def test_a_group_over_workers(served: Served) -> None:
    async def work() -> None:
        async with clients(served, 5) as made:
            boss, *workers = made
            all_at_once = asyncio.Barrier(len(workers))
            for client in workers:

                async def job(message: kps.Message, name: str = client.id) -> str:
                    await all_at_once.wait()
                    return name

                await client.subscribe("jobs", job, group="workers")
            acks = [
                await boss.publish_with_ack("jobs", number, timeout=PATIENCE)
                for number in range(20)
            ]
            done = [(await ack.wait())["workers of jobs"] for ack in acks]
            assert all(one.success for one in done)
            assert {one.attempts for one in done if isinstance(one, kps.GroupResponse)} == {1}
            assert {one.client_id for one in done} == {client.id for client in workers}

    run(work())


def test_connections_are_shared_evenly(served: Served) -> None:
    async def work() -> None:
        async with clients(served, 6):
            counts = [sockets_of(number) for number in served.workers()]
            assert len(counts) == 2
            assert abs(counts[0] - counts[1]) <= 1

    run(work())


def sockets_of(process: int) -> int:
    """Number of TCP connections of a process."""
    links = (os.readlink(path) for path in Path(f"/proc/{process}/fd").iterdir())
    own = {link for link in links if link.startswith("socket:")}
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    established = {f"socket:[{line.split()[9]}]" for line in table if line.split()[3] == "01"}
    return len(own & established)


def test_a_worker_that_dies_comes_back_and_so_do_its_clients(served: Served) -> None:
    async def work() -> None:
        async with clients(served, 4) as made:
            got: list[asyncio.Queue[object]] = []
            for client in made:
                queue: asyncio.Queue[object] = asyncio.Queue()

                async def take(message: kps.Message, queue: asyncio.Queue[object] = queue) -> None:
                    queue.put_nowait(message.data)

                await client.subscribe("t", take)
                got.append(queue)
            await until_one_dies(served, served.workers()[0], made)
            await until_all_hear(made, "after")
            for queue in got:
                while await queue.get() != "after":
                    pass

    run(work())


def test_a_worker_that_stands_still_is_let_go(served: Served) -> None:
    """Its clients are gone for the others, it gets no connections, and later all is well again."""

    async def work() -> None:
        async with clients(served, 6) as made:
            for client in made:
                await client.subscribe("t", lambda message: message.data)
            still, works = served.workers()
            os.kill(still, signal.SIGSTOP)
            try:
                reached: set[str] = set()
                while len(reached) != 3:  # once the link has fallen
                    speakers = [one for one in made if await _answers(one)]
                    if not speakers:  # the other worker is slow
                        continue
                    ack = await speakers[0].publish_with_ack("t", 1, timeout=PATIENCE)
                    reached = {name for name, one in (await ack.wait()).items() if one.success}
                for number in range(4):
                    await (await kps.Client.connect(served.url, id=f"new-{number}")).close()
            finally:
                os.kill(still, signal.SIGCONT)
            assert works in served.workers()
            await until_all_hear(made, 2)

    run(work())


async def _answers(client: kps.Client) -> bool:
    """Whether the worker of a client answers."""
    with contextlib.suppress(asyncio.TimeoutError):
        async with asyncio.timeout(0.5):
            await client.flush()
        return True
    return False


def test_a_worker_that_begins_again_has_the_history() -> None:
    served = Served("--history", "kept/**=100000")

    async def work() -> None:
        async with clients(served, 4) as made:
            for number in range(200):
                await made[number % 4].publish_with_receipt("kept/t", number)
            await until_one_dies(served, served.workers()[0], made)
            for client in made:
                past = await client.history("kept/t", limit=1000)
                assert len(past.messages) == 200

    try:
        run(work())
    finally:
        served.end()


def test_all_end_with_the_parent(served: Served) -> None:
    workers = served.workers()
    assert served.stop() == 0
    assert not any(map(is_alive, workers))


def test_workers_end_when_the_parent_is_killed(served: Served) -> None:
    workers = served.workers()
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait(PATIENCE)
    eventually(lambda: not any(map(is_alive, workers)), "the end of the workers")


@pytest.mark.parametrize(("name", "more"), [("--threads", []), ("--cluster", ["nats://localhost"])])
def test_what_does_not_go_with_workers(name: str, more: list[str]) -> None:
    command = [sys.executable, "-m", "kps", "serve", "--workers", "2", name, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert re.fullmatch(rf"kps serve: {name} does not go with several --workers.*\n", done.stderr)


@pytest.mark.parametrize("value", ["x", "", "[1]", '[99, "a", "h", 1]'])
def test_the_variable_of_workers_is_not_for_others(value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kps", "serve"],
        env={**os.environ, "KPS_WORKER": value},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "KPS_WORKER is for the workers of kps serve" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_may_be_interrupted(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "kps", "serve", "--address", "127.0.0.1:0", "--workers", "3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    eventually(lambda: bool(path.read_text()), "the first worker")
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0
    assert process.stdout is not None
    process.stdout.close()
