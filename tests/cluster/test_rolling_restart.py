"""All nodes are restarted, one after the other, under traffic: nothing is lost without a word."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import kps
from tests.cluster.harness import PATIENCE, Engine, Served, until_linked

NAMES = ("n1", "n2", "n3")
MEMBERS = 4


class Balancer:
    """Passes each connection on to the next node that takes it."""

    def __init__(self, nodes: list[Served]) -> None:
        self._nodes = nodes
        self._turn = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"ws://{host}:{port}/ws/bus"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self._nodes:
            self._turn += 1
            host, _, port = self._nodes[self._turn % len(self._nodes)].address.partition(":")
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection(host, int(port))
                await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
                return
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
def served() -> Iterator[list[Served]]:
    engine = Engine()
    nodes = [Served(engine.url, name, "--history", "kept/**=100000") for name in NAMES]
    try:
        until_linked(nodes)
        yield nodes
    finally:
        for node in nodes:
            node.end()
        engine.end()


class Traffic:
    """What clients send and get while nodes are restarted."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_over = False
        self.asked = self.unknown = 0
        self.outcomes: Counter[str] = Counter()
        self.kept: list[int] = []  # as far as the publisher knows
        self.got: list[int] = []
        self.places: list[tuple[int, int | None, str | None]] = []
        self.lost = 0
        self.jobs: dict[int, kps.GroupResponse | None] = {}
        self.done: Counter[int] = Counter()

    async def run(self, restart: asyncio.Task[None]) -> None:
        async with contextlib.AsyncExitStack() as stack:

            async def client(name: str, **options: Any) -> kps.Client:
                made = await kps.Client.connect(self.url, id=name, reconnect=0.05, **options)
                stack.push_async_callback(made.close)
                return made

            reader = await client("reader", on_lost=self._missed)
            await reader.subscribe("kept/t", self._got)
            for number in range(MEMBERS):
                member = await client(f"member-{number}")
                await member.subscribe("ask", lambda message: message.data)
                await member.subscribe("jobs", self._job, group="workers")
            publishers = [await client(f"publisher-{number}") for number in range(3)]
            work = [self._ask(publishers[0]), self._keep(publishers[1]), self._jobs(publishers[2])]
            tasks = [asyncio.create_task(one) for one in work]
            await restart
            self.is_over = True
            await asyncio.gather(*tasks)
            async with asyncio.timeout(PATIENCE):
                while not set(self.kept) <= set(self.got):
                    await asyncio.sleep(0.01)

    def _missed(self, lost: kps.Lost) -> None:
        self.lost += 1

    def _got(self, message: kps.Message) -> None:
        self.got.append(message.data)
        position = message.position
        epoch = None if position is None else position.epoch
        self.places.append((message.data, message.offset, epoch))

    def _job(self, message: kps.Message) -> int:
        self.done[message.data] += 1
        return int(message.data)

    async def _ask(self, client: kps.Client) -> None:
        """Each request ends, and names for each member how it fared."""
        while not self.is_over:
            try:
                ack = await client.publish_with_ack("ask", self.asked, timeout=PATIENCE)
                responses = await ack.wait()
            except kps.KPSError:
                self.unknown += 1  # the publisher itself had to go to another node
                await asyncio.sleep(0.01)
                continue
            self.asked += 1
            self.outcomes.update(one.error or "done" for one in responses.values())
            await asyncio.sleep(0.002)

    async def _keep(self, client: kps.Client) -> None:
        """What has a receipt is kept, and comes, once."""
        number = 0
        while not self.is_over:
            number += 1
            with contextlib.suppress(kps.KPSError):
                await client.publish_with_receipt("kept/t", number)
                self.kept.append(number)
            await asyncio.sleep(0.002)

    async def _jobs(self, client: kps.Client) -> None:
        number = 0
        while not self.is_over:
            number += 1
            self.jobs[number] = None
            with contextlib.suppress(kps.KPSError):
                ack = await client.publish_with_ack("jobs", number, timeout=PATIENCE)
                for response in (await ack.wait()).values():
                    assert isinstance(response, kps.GroupResponse)
                    self.jobs[number] = response
            await asyncio.sleep(0.002)


@pytest.mark.slow
def test_nothing_is_lost_without_a_word(served: list[Served]) -> None:
    async def restart_all() -> None:
        await asyncio.sleep(0.3)
        for node in served:
            code = await asyncio.to_thread(node.end, signal.SIGTERM)
            assert code == 0
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(until_linked, served)
            await asyncio.sleep(0.3)

    async def work() -> Traffic:
        async with Balancer(served) as url:
            traffic = Traffic(url)
            await traffic.run(asyncio.create_task(restart_all()))
            return traffic

    traffic = asyncio.run(asyncio.wait_for(work(), 4 * PATIENCE))
    assert traffic.asked > 0
    assert set(traffic.outcomes) <= {"done", "disconnected"}
    twice = {number for number, times in Counter(traffic.got).items() if times > 1}
    assert not [place for place in traffic.places if place[0] in twice], "nothing comes twice"
    assert traffic.got == sorted(traffic.got), "in the order in which it was published"
    assert not traffic.lost, "all owners have handed their topics over"
    for number, response in traffic.jobs.items():
        if response is not None:
            assert response.error in (None, "no member")  # they may all be on their way
            assert traffic.done[number] <= response.attempts
            assert traffic.done[number] >= response.success
