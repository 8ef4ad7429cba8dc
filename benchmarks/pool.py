"""The processes of a pool: members of a group, and who gives them jobs.

The benchmarks start this file as a program with a role and its arguments.
"""

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import kps
from actors import LIFE, tell
from blocking import PAYLOAD
from kps.io_asyncio.loop import run

GROUP = "workers"
TOPIC = "bench"


async def member(address: str, name: str, group: str, concurrency: str, seconds: str) -> None:
    """Handle jobs, each in some seconds, until this is ended; without a group as a subscriber."""
    client = await kps.Client.connect(address, id=name)

    async def handle(message: kps.Message) -> None:
        assert message.data["n"] == PAYLOAD["n"]
        if float(seconds):
            await asyncio.sleep(float(seconds))
        if not message.wants_ack:
            await client.publish_to_id(message.sender, name)

    await client.subscribe(TOPIC, handle, group=group, concurrency=int(concurrency))
    tell(ready=True)
    await asyncio.sleep(LIFE)


async def give(address: str, count: str, how: str) -> None:
    """Give so many jobs at once, with acks or without; tell who has handled how many, and when."""
    jobs, done = int(count), Counter[str]()
    all_done = asyncio.Event()

    def count_one(message: kps.Message) -> None:
        done[message.data] += 1
        if done.total() == jobs:
            all_done.set()

    client = await kps.Client.connect(address, on_id=count_one)
    began = time.monotonic()
    if how == "acks":
        acks = [await client.publish_with_ack(TOPIC, PAYLOAD, LIFE) for _ in range(jobs)]
        for ack in acks:
            (outcome,) = (await ack.wait()).values()
            assert outcome.success, outcome
            done[outcome.client_id] += 1
    else:
        for _ in range(jobs):
            await client.publish(TOPIC, PAYLOAD)
        await all_done.wait()
    tell(seconds=time.monotonic() - began, jobs=done)


ROLES: dict[str, Callable[..., Awaitable[None]]] = {"member": member, "give": give}


async def main(role: str, *arguments: str) -> None:
    await ROLES[role](*arguments)


if __name__ == "__main__":
    signal.alarm(LIFE)
    run(main(*sys.argv[1:]))
