"""A process with one client and as little else as possible, so that its memory can be looked at.

It publishes and receives so many messages, says so, and waits for a line of input before it
goes on. What a library does not need is not imported.
"""

import signal
import sys
import time
from typing import Any

from blocking import BlockingKps

AHEAD = 1000
"""Messages under way at most."""
PATIENCE = 10.0


class Counter:
    """How many messages have come."""

    def __init__(self) -> None:
        self.received = 0

    def receive(self, data: Any) -> None:
        self.received += 1


def report(messages: int) -> None:
    """Say how far it is, and wait."""
    print(f'{{"messages": {messages}}}', flush=True)
    sys.stdin.readline()


def remember_blocking(address: str, stages: list[int]) -> None:
    client = BlockingKps()
    client.connect(address)
    counter = Counter()
    client.subscribe("bench", counter.receive)
    publish = client.publisher("bench")

    def wait_for(count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while counter.received < count:
            if time.monotonic() > deadline:
                sys.exit(f"{counter.received} of {count} messages arrived")
            time.sleep(0.001)

    sent = 0
    report(0)
    for stage in stages:
        while sent < stage:
            publish()
            sent += 1
            if sent - counter.received >= AHEAD:
                wait_for(sent - AHEAD // 2)
        wait_for(stage)
        report(stage)


async def remember(library: str, address: str, stages: list[int]) -> None:
    import asyncio

    from libraries import LIBRARIES

    client = LIBRARIES[library]()
    await client.connect(address)
    counter = Counter()
    await client.subscribe("bench", counter.receive)
    publish = client.publisher("bench")

    async def wait_for(count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while counter.received < count:
            if time.monotonic() > deadline:
                sys.exit(f"{counter.received} of {count} messages arrived")
            await asyncio.sleep(0.001)

    sent = 0
    report(0)
    for stage in stages:
        while sent < stage:
            await publish()
            sent += 1
            if sent - counter.received >= AHEAD:
                await wait_for(sent - AHEAD // 2)
        await client.flush()
        await wait_for(stage)
        report(stage)


def main() -> None:
    library, address, *stages = sys.argv[1:]
    signal.alarm(300)
    if library == "kps.sync":
        remember_blocking(address, [int(stage) for stage in stages])
    else:
        import asyncio

        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(remember(library, address, [int(stage) for stage in stages]))


if __name__ == "__main__":
    main()
