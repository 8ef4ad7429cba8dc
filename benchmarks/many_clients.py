"""A thousand clients on one server, a hundred thousand messages, clients cut off on the way.

It starts ``kps serve`` as a process, and checks what the guarantees say: every subscriber
that stays connected gets every message of its topic exactly once and in its publisher's
order; nothing grows without bound; the server ends empty. It prints figures, and exits with 1
when something is not so.

    python benchmarks/many_clients.py [--clients 1000] [--messages 100000]
"""

import argparse
import asyncio
import contextlib
import json
import logging
import resource
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import kps

TOPICS = 100
PUBLISHERS = 10


class Subscriber:
    """One client, and what it has received."""

    def __init__(self, number: int) -> None:
        self.topic = f"topic-{number % TOPICS}"
        self.id = f"subscriber-{number}"
        self.received: dict[str, list[int]] = defaultdict(list)
        self.cut = False
        self.client: kps.Client

    async def connect(self, address: str) -> None:
        self.client = await kps.Client.connect(address, id=self.id, reconnect=False)
        await self.client.subscribe(self.topic, self.receive)

    async def receive(self, message: kps.Message) -> None:
        self.received[message.sender].append(message.data)


async def publish(address: str, name: str, messages: int, half: asyncio.Event) -> None:
    async with kps.Client(address, id=name, reconnect=False) as client:
        for number in range(messages):
            if number == messages // 2:
                half.set()
            await client.publish(f"topic-{number % TOPICS}", number)
        await client.flush()


def memory(process_id: int) -> float:
    """Resident memory in MiB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def descriptors(process_id: int) -> int:
    return len(list(Path(f"/proc/{process_id}/fd").iterdir()))


async def health(address: str) -> dict[str, Any]:
    def get() -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    return await asyncio.to_thread(get)


async def run(clients: int, messages: int) -> dict[str, Any]:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kps", "serve", "--address", "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    url = (await server.stdout.readline()).decode().split()[-1]
    address = url.removeprefix("ws://").partition("/")[0]
    figures: dict[str, Any] = {"server MiB": {"empty": memory(server.pid)}}
    try:
        subscribers = [Subscriber(number) for number in range(clients)]
        for start in range(0, clients, 100):
            await asyncio.gather(*(s.connect(url) for s in subscribers[start : start + 100]))
        figures["server MiB"]["all connected"] = memory(server.pid)
        before = descriptors(server.pid)

        half = asyncio.Event()
        began = time.perf_counter()
        publishing = asyncio.gather(
            *(publish(url, f"publisher-{n}", messages // PUBLISHERS, half)
              for n in range(PUBLISHERS))
        )  # fmt: skip
        await half.wait()
        victims = subscribers[::5]
        for victim in victims:  # the way of a crashed program: no close frame, a reset
            victim.cut = True
            for connection in list(victim.client._driver.connections):
                connection.abort()
        figures["server MiB"]["in the middle"] = memory(server.pid)
        await publishing
        survivors = [s for s in subscribers if not s.cut]
        for survivor in survivors:
            await survivor.client.flush()
        deadline = time.monotonic() + 60
        each = messages // TOPICS
        while any(sum(map(len, s.received.values())) < each for s in survivors):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.01)
        took = time.perf_counter() - began

        lost = disordered = 0
        for survivor in survivors:
            topic = int(survivor.topic.rpartition("-")[2])
            expected = [n for n in range(messages // PUBLISHERS) if n % TOPICS == topic]
            for publisher in range(PUBLISHERS):
                received = survivor.received[f"publisher-{publisher}"]
                lost += len(set(expected) - set(received))
                disordered += received != sorted(set(received))
        for victim in victims:
            for received in victim.received.values():
                disordered += received != sorted(set(received))
        state = await health(address)
        figures |= {
            "clients": clients,
            "cut off": len(victims),
            "published": messages,
            "delivered to survivors": sum(
                len(got) for s in survivors for got in s.received.values()
            ),
            "lost": lost,
            "out of order or twice": disordered,
            "seconds": round(took, 1),
            "clients known to the server at the end": state["clients"],
            "descriptors freed": before - descriptors(server.pid),
        }
        await asyncio.gather(*(s.client.close() for s in subscribers))
        while (state := await health(address))["clients"]:
            await asyncio.sleep(0.01)
        figures["topics left when all have gone"] = state["topics"]
        figures["server MiB"]["all gone"] = memory(server.pid)
        figures["client process MiB, peak"] = round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1
        )
        figures["ok"] = not lost and not disordered and not state["topics"]
    finally:
        server.terminate()
        _, log = await server.communicate()
    figures["server exit code"] = server.returncode
    figures["server log"] = log.decode().splitlines()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=100_000)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * options.clients + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
    figures = asyncio.run(run(options.clients, options.messages))
    print(json.dumps(figures, indent=2))
    sys.exit(0 if figures["ok"] else 1)


if __name__ == "__main__":
    main()
