"""The command ``kps bench``: measures a server and its network from one Python process."""

import argparse
import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from kps.cli.connecting import client_options
from kps.errors import KPSError
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import run
from kps.protocol.bus.message import Message

_UNDER_WAY = 10_000  # most messages that are published and not yet received
_AT_ONCE = 100  # pending ack requests
_PATIENCE = 20.0  # seconds beyond those of the measurements


def bench(options: argparse.Namespace) -> int:
    """Print the measurements."""

    async def show() -> None:
        async with asyncio.timeout(4 * options.seconds + _PATIENCE):
            async for line in measure(
                options.address,
                options.seconds,
                options.size,
                **client_options(options),
            ):
                print(line, flush=True)

    try:
        run(show())
    except TimeoutError:
        raise KPSError("a message did not arrive: the server is overloaded, or gone") from None
    return 0


async def measure(address: str, seconds: float, size: int, **options: Any) -> AsyncIterator[str]:
    """Take each measurement for ``seconds``; yield a line for each.

    ``size`` is the bytes of the payload's JSON; ``options`` are those of the clients.
    """
    async with (
        Client(address, reconnect=False, **options) as publisher,
        Client(address, reconnect=False, **options) as subscriber,
    ):
        bench = _Bench(publisher, seconds, "x" * max(0, size - 2))
        await publisher.publish_with_receipt(bench.topic, None)  # raises if it is not allowed
        await subscriber.subscribe(bench.topic, bench.received)
        yield f"throughput   {await bench.throughput():>10,.0f} messages/s"
        p50, p99 = await bench.round_trip()
        yield f"a message    {p50 * 1e6:>10,.0f} µs p50, {p99 * 1e6:,.0f} µs p99"
        yield f"acks         {await bench.acks(1):>10,.0f} /s one at a time"
        yield f"             {await bench.acks(_AT_ONCE):>10,.0f} /s with {_AT_ONCE} under way"


class _Bench:
    """The measurements, on a random topic: a publisher, and the callback of its subscriber."""

    def __init__(self, publisher: Client, seconds: float, payload: str) -> None:
        self.topic = f"kps-bench-{uuid.uuid4().hex}"
        self._publisher = publisher
        self._seconds = seconds
        self._payload = payload
        self._received = 0
        self._arrived = asyncio.Event()

    async def received(self, message: Message) -> None:
        self._received += 1
        self._arrived.set()

    async def throughput(self) -> float:
        """Return the messages per second, from the first one published to the last one received."""
        self._received = published = 0
        began = time.perf_counter()
        while time.perf_counter() < began + self._seconds:
            for _ in range(100):
                await self._publisher.publish(self.topic, self._payload)
            published += 100
            await self._until(published - _UNDER_WAY)
        await self._until(published)
        return published / (time.perf_counter() - began)

    async def round_trip(self) -> tuple[float, float]:
        """Return the seconds from publishing to arrival: the median and the 99th percentile."""
        times: list[float] = []
        ends = time.perf_counter() + self._seconds
        while (began := time.perf_counter()) < ends:
            expected = self._received + 1
            await self._publisher.publish(self.topic, self._payload)
            await self._until(expected)
            times.append(time.perf_counter() - began)
        times.sort()
        return times[len(times) // 2], times[len(times) * 99 // 100]

    async def acks(self, at_once: int) -> float:
        """Return the answered ack requests per second, with ``at_once`` pending."""
        began = time.perf_counter()

        async def ask() -> int:
            answered = 0
            while time.perf_counter() < began + self._seconds:
                ack = await self._publisher.publish_with_ack(self.topic, self._payload)
                answered += len(await ack.wait())
            return answered

        answered = sum(await asyncio.gather(*(ask() for _ in range(at_once))))
        return answered / (time.perf_counter() - began)

    async def _until(self, received: int) -> None:
        while self._received < received:
            self._arrived.clear()
            await self._arrived.wait()
