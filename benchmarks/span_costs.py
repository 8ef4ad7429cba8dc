"""What tracing costs a client: for a publication, and for a callback.

    python benchmarks/span_costs.py [--rounds N]

Microseconds of processor time of the program's thread, medians of several rounds in which the cases
take turns, in one process. The client is one in memory (``kps.testing.MemoryBus``), and what it
sends stays under way meanwhile, so the server has no part in this. The callback is a coroutine
function that returns at once. With an SDK the batch processor exports to a list.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from statistics import median
from time import thread_time
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import kps
from kps.testing import MemoryBus

EACH = 500
"""Publications, and callbacks, in a round."""
PAYLOAD = {"n": 1234567, "text": "x" * 43}
HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

exporter = InMemorySpanExporter()


def with_sdk(sampler: sampling.Sampler) -> trace.TracerProvider:
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def cases() -> dict[str, kps.otel.Tracing | None]:
    return {
        "off": None,
        "no SDK": kps.otel.Tracing(tracer_provider=trace.NoOpTracerProvider()),
        "SDK, not sampled": kps.otel.Tracing(tracer_provider=with_sdk(sampling.ALWAYS_OFF)),
        "SDK": kps.otel.Tracing(tracer_provider=with_sdk(sampling.ALWAYS_ON)),
    }


async def answer(message: kps.Message) -> int:
    return 1


async def each(call: Callable[[], Awaitable[Any]]) -> float:
    """The microseconds of a call, one after the other."""
    begun = thread_time()
    for _ in range(EACH):
        await call()
    return (thread_time() - begun) / EACH * 1e6


async def measure(client: kps.Client) -> tuple[float, float]:
    """A round of one case."""
    exporter.clear()
    (handler,) = client._driver.dispatcher._callbacks.values()
    callback: Callable[[kps.Message], Awaitable[Any]] = handler.callback  # type: ignore[assignment]
    message = kps.Message("topic", PAYLOAD, "me", 100)
    message._headers = HEADERS
    return (
        await each(lambda: client.publish("nobody", PAYLOAD)),
        await each(lambda: callback(message)),
    )


async def main(rounds: int) -> None:
    with MemoryBus() as bus:
        clients = {
            name: await kps.Client.connect("memory:1", tracing=tracing)
            for name, tracing in cases().items()
        }
        for client in clients.values():
            await client.subscribe("topic", answer)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
        for _ in range(rounds + 1):
            for name, client in clients.items():
                bus.latency = 1.0
                found[name].append(await measure(client))
                bus.latency = 0.0
                await bus.advance(2.0)
        print("| | a publication | a callback |\n|---|---|---|")
        for name, taken in found.items():
            figures = (f"{median(each):.1f}" for each in zip(*taken[1:], strict=True))
            print(f"| {name} |", " | ".join(figures), "|")
        for client in clients.values():
            await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    asyncio.run(main(parser.parse_args().rounds))
