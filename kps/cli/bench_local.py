"""Measurements whose publisher and subscriber are in one process."""

import asyncio
import time
import uuid
from array import array
from collections.abc import AsyncGenerator

from kps.cli.measuring import Load, Result, row, times_row
from kps.cli.percentiles import percentiles
from kps.io_asyncio.client import Client
from kps.protocol.bus.message import Message

_UNDER_WAY = 10_000  # most messages that are published and not yet received
_AT_ONCE = 100  # pending ack requests


async def measure(load: Load) -> AsyncGenerator[Result, None]:
    """Take the measurements one after the other. With a rate there is a single one."""
    async with load.new_client() as publisher, load.new_client() as subscriber:
        bench = _Bench(publisher, load)
        await publisher.publish_with_receipt(bench.topic, None)  # raises if it is not allowed
        await subscriber.subscribe(bench.topic, bench.received)
        await subscriber.flush()
        if load.rate is not None:
            yield await bench.on_time()
            return
        yield await bench.throughput()
        yield await bench.one_by_one()
        yield await bench.acks("acks", "acks", 1, "one at a time")
        yield await bench.acks("acks_at_once", "", _AT_ONCE, f"with {_AT_ONCE} under way")


class _Bench:
    """A publisher, and the callback of its subscriber."""

    def __init__(self, publisher: Client, load: Load) -> None:
        self.topic = load.topic or f"kps-bench-{uuid.uuid4().hex}"
        self._load = load
        self._publisher = publisher
        self._payload = load.payload(0)
        self._received = 0
        self._arrived = asyncio.Event()
        self._arrivals = array("d")

    async def received(self, message: Message) -> None:
        """Note that a message of this process has arrived."""
        if message.sender == self._publisher.id:
            self._received += 1
            self._arrivals.append(time.perf_counter())
            self._arrived.set()

    async def throughput(self) -> Result:
        """Measure messages per second, from the first one published to the last one received."""
        self._begin()
        published = 0
        began = time.perf_counter()
        async for _ in self._load.moments(began):
            for _ in range(100):
                await self._publisher.publish(self.topic, self._payload)
            published += 100
            await self._until(published - _UNDER_WAY)
        await self._until(published)
        rate = published / (time.perf_counter() - began)
        return Result("throughput", {"per_second": rate}, [row("throughput", rate, "messages/s")])

    async def one_by_one(self) -> Result:
        """Measure the time from publishing to arrival, one message at a time."""
        self._begin()
        times = array("d")
        async for began in self._load.moments(time.perf_counter()):
            expected = self._received + 1
            await self._publisher.publish(self.topic, self._payload)
            await self._until(expected)
            times.append(time.perf_counter() - began)
        return self._message(times)

    async def on_time(self) -> Result:
        """Publish at the given rate; measure the time from when a message is due to its arrival."""
        self._begin()
        began = time.perf_counter()
        due = array("d")
        async for moment in self._load.moments(began):
            due.append(moment)
            await self._publisher.publish(self.topic, self._payload)
        await self._until(len(due))
        took = self._arrivals[-1] - began
        result = self._message(
            array(
                "d", (arrival - moment for arrival, moment in zip(self._arrivals, due, strict=True))
            )
        )
        reached = len(due) / max(took, self._load.seconds)
        figures = {"per_second": reached, **result.figures}
        return Result("on_time", figures, [row("rate", reached, "messages/s"), *result.lines])

    async def acks(self, name: str, label: str, at_once: int, about: str) -> Result:
        """Measure answered ack requests per second, with ``at_once`` pending."""
        began = time.perf_counter()

        async def ask() -> int:
            answered = 0
            async for _ in self._load.moments(began):
                ack = await self._publisher.publish_with_ack(self.topic, self._payload)
                answered += len(await ack.wait())
            return answered

        answered = sum(await asyncio.gather(*(ask() for _ in range(at_once))))
        rate = answered / (time.perf_counter() - began)
        return Result(name, {"per_second": rate}, [row(label, rate, f"/s {about}")])

    def _message(self, times: "array[float]") -> Result:
        figures = percentiles(times)
        return Result("message", {"seconds": figures}, [times_row("a message", figures)])

    def _begin(self) -> None:
        self._received = 0
        self._arrivals = array("d")

    async def _until(self, received: int) -> None:
        while self._received < received:
            self._arrived.clear()
            await self._arrived.wait()
