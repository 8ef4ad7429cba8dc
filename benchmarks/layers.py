"""Processes with a channel layer for Django Channels: members of a group, and who sends to it.

The benchmarks start this file as a program with a role and its arguments.
"""

import asyncio
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from actors import LIFE, tell
from blocking import PAYLOAD
from kps.io_asyncio.loop import run

GROUP = "bench"
BATCH = 50
"""Messages that are under way at a time: less than the capacity of a channel, so none is lost."""


def layer_of(kind: str, address: str) -> Any:
    """Make a channel layer; the libraries are there for the benchmarks only."""
    if kind == "kps":
        return import_module("kps.channels").KpsChannelLayer(address)
    module = import_module({"core": "channels_redis.core", "pubsub": "channels_redis.pubsub"}[kind])
    name = "RedisChannelLayer" if kind == "core" else "RedisPubSubChannelLayer"
    return getattr(module, name)(hosts=[f"redis://{address}"])


async def members(kind: str, address: str, count: str) -> None:
    """Receive in so many channels; say when all have a batch, and how long it was on its way."""
    layer = layer_of(kind, address)
    latencies: list[float] = []

    async def receive(channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            latencies.append(time.monotonic() - message["at"])
            if len(latencies) == int(count) * message["batch"]:
                done = {"type": "done", "latency": statistics.median(latencies)}
                latencies.clear()
                await layer.send(message["reply"], done)

    channels = [await layer.new_channel() for _ in range(int(count))]
    for channel in channels:
        await layer.group_add(GROUP, channel)
    tasks = [asyncio.create_task(receive(channel)) for channel in channels]
    tell(ready=True)
    await asyncio.wait(tasks, timeout=LIFE)


async def send(kind: str, address: str, processes: str, seconds: str) -> None:
    """Send one message at a time, then batches; tell how fast and how late they were."""
    layer = layer_of(kind, address)
    channel = await layer.new_channel()
    latencies: list[float] = []

    async def exchange(batch: int) -> None:
        for _ in range(batch):
            message = {"type": "bench", "payload": PAYLOAD, "batch": batch, "reply": channel}
            await layer.group_send(GROUP, {**message, "at": time.monotonic()})
        for _ in range(int(processes)):
            latencies.append((await layer.receive(channel))["latency"])

    async def for_a_while(batch: int) -> float:
        """Return how many messages were sent in a second."""
        latencies.clear()
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < float(seconds):
            await exchange(batch)
            sent += batch
        return sent / (time.monotonic() - began)

    await exchange(BATCH)  # so that both sides are warm
    await for_a_while(1)
    latency = statistics.median(latencies)
    tell(latency=latency, rate=await for_a_while(BATCH))


ROLES: dict[str, Callable[..., Awaitable[None]]] = {"members": members, "send": send}


async def main(role: str, *arguments: str) -> None:
    await ROLES[role](*arguments)


if __name__ == "__main__":
    signal.alarm(LIFE)
    run(main(*sys.argv[1:]))
