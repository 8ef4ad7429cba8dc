"""Two hundred connections on the threaded server, with steady traffic and clients that come and go.

It starts ``kps serve --threads`` as a process and prints, every few seconds, what the server
costs in threads, descriptors and memory. When all clients have gone, the server must cost what
it did before they came; if not, it exits with 1.

    python benchmarks/steady_threads.py [--connections 200] [--seconds 60]
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import kps

TOPICS = 20
RATE = 5.0  # messages a second from each client
CHURN = 10  # clients that are replaced in each second


class Counts:
    sent = 0
    received = 0


def cost(process_id: int) -> dict[str, float]:
    """Threads, descriptors and resident memory (MiB) of a process."""
    status = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{process_id}/status").read_text().splitlines()
        if ":" in line
    )
    return {
        "threads": int(status["Threads"]),
        "descriptors": len(list(Path(f"/proc/{process_id}/fd").iterdir())),
        "MiB": round(int(status["VmRSS"].split()[0]) / 1024, 1),
    }


async def talk(url: str, number: int, counts: Counts, end: asyncio.Event) -> None:
    """One client: subscribe to a topic, and publish on it at a steady rate."""

    async def receive(message: kps.Message) -> None:
        counts.received += 1

    async with kps.Client(url, reconnect=False) as client:
        topic = f"topic-{number % TOPICS}"
        await client.subscribe(topic, receive)
        while not end.is_set():
            await client.publish(topic, {"from": number})
            counts.sent += 1
            await asyncio.sleep(1 / RATE)


async def run(connections: int, seconds: float) -> bool:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kps", "serve", "--threads", "--address", "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    url = (await server.stdout.readline()).decode().split()[-1]
    try:
        async with kps.Client(url):  # what a first connection brings for good has come
            pass
        await asyncio.sleep(0.5)
        before = cost(server.pid)
        print(json.dumps({"idle": before}))
        counts, ends = Counts(), [asyncio.Event() for _ in range(connections)]
        clients = [
            asyncio.create_task(talk(url, number, counts, end)) for number, end in enumerate(ends)
        ]
        began = time.monotonic()
        turn = 0
        while time.monotonic() - began < seconds:
            await asyncio.sleep(1)
            for _ in range(CHURN):
                number = turn % connections
                turn += 1
                ends[number].set()
                await clients[number]
                ends[number] = asyncio.Event()
                clients[number] = asyncio.create_task(talk(url, number, counts, ends[number]))
            if turn // CHURN % 10 == 0:
                at = round(time.monotonic() - began)
                report: dict[str, Any] = {"seconds": at, **cost(server.pid)}
                print(json.dumps(report | {"sent": counts.sent, "received": counts.received}))
        for end in ends:
            end.set()
        await asyncio.gather(*clients)
        after = cost(server.pid)
        deadline = time.monotonic() + 10
        while after["threads"] != before["threads"] and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            after = cost(server.pid)
        print(json.dumps({"all gone": after, "replaced": turn}))
    finally:
        server.terminate()
        await server.wait()
    print(json.dumps({"server exit code": server.returncode}))
    return all(after[what] == before[what] for what in ("threads", "descriptors"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    sys.exit(0 if asyncio.run(run(options.connections, options.seconds)) else 1)


if __name__ == "__main__":
    main()
