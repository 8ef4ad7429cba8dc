"""What Python programs get, client library to client library: messages, and answers, a second.

Publisher, server and subscriber are three processes on loopback. Everything is started here and
measured in turn in the same run; ratios of medians are what counts:

* ``kps`` with ``kps serve`` (level 1)
* the original's client ``ksps`` with ``kps serve``
* ``nats-py`` with ``nats-server``: core publish and subscribe, and requests

    python benchmarks/clients.py [--rounds 5] [--write]

``--write`` keeps the table in ``benchmarks/clients.md``.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kps.io_asyncio.loop import run

PAYLOAD = {"n": 1234567, "text": "x" * 43}
CASES = {"kps": (40_000, 2_000), "ksps": (5_000, 500), "nats": (40_000, 2_000)}
"""Messages, and requests, in a round: some tenths of seconds of work for each."""
PATIENCE = 60.0

Publish = Callable[[], Awaitable[object]]


class Bench:
    """One client library. ``receive`` is called for each message of the subscriber."""

    async def subscriber(self, address: str, receive: Callable[[], None]) -> None:
        """Subscribe to ``bench``, and answer whoever wants an answer."""
        raise NotImplementedError

    async def publisher(self, address: str) -> tuple[Publish, Publish]:
        """Connect; return what publishes one message, and what asks and waits for an answer."""
        raise NotImplementedError


class Kps(Bench):
    async def subscriber(self, address: str, receive: Callable[[], None]) -> None:
        import kps

        async def handle(message: kps.Message) -> None:
            receive()

        client = await kps.Client.connect(address)
        await client.subscribe("bench", handle)

    async def publisher(self, address: str) -> tuple[Publish, Publish]:
        import kps

        client = await kps.Client.connect(address)

        async def ask() -> None:
            ack = await client.publish_with_ack("bench", PAYLOAD)
            assert len(await ack.wait()) == 1

        return lambda: client.publish("bench", PAYLOAD), ask


class Ksps(Bench):
    async def _connect(self, address: str) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            import ksps

            client = await ksps.Client.NewClient(Address=address)
        await asyncio.sleep(0.2)  # it does not tell when the server knows it
        return client

    async def subscriber(self, address: str, receive: Callable[[], None]) -> None:
        async def handle(data: Any, unsubscribe: Any) -> None:
            receive()

        client = await self._connect(address)
        await client.Subscribe("bench", handle)
        await asyncio.sleep(0.2)

    async def publisher(self, address: str) -> tuple[Publish, Publish]:
        client = await self._connect(address)

        async def ask() -> None:
            ack = await client.PublishWithAck("bench", PAYLOAD, 5.0)
            assert len(await ack.Wait()) == 1

        return lambda: client.Publish("bench", PAYLOAD), ask


class Nats(Bench):
    async def subscriber(self, address: str, receive: Callable[[], None]) -> None:
        import nats

        async def handle(message: Any) -> None:
            json.loads(message.data)
            receive()
            if message.reply:
                await message.respond(b"{}")

        client = await nats.connect(f"nats://{address}")
        await client.subscribe("bench", cb=handle)
        await client.flush()

    async def publisher(self, address: str) -> tuple[Publish, Publish]:
        import nats

        client = await nats.connect(f"nats://{address}")
        return (
            lambda: client.publish("bench", json.dumps(PAYLOAD).encode()),
            lambda: client.request("bench", json.dumps(PAYLOAD).encode(), timeout=5),
        )


LIBRARIES: dict[str, type[Bench]] = {"kps": Kps, "ksps": Ksps, "nats": Nats}


async def subscribe(name: str, address: str) -> None:
    """The subscriber's process: tells when it is ready, and how long each round's messages took."""
    messages, requests = CASES[name]
    total = requests + messages
    received = 0
    began = 0.0
    finished = asyncio.Event()

    def receive() -> None:
        nonlocal received, began
        received += 1
        if received == requests + 1:
            began = time.perf_counter()
        if received == total:
            print(json.dumps(messages / (time.perf_counter() - began)), flush=True)
            finished.set()

    await LIBRARIES[name]().subscriber(address, receive)
    print("ready", flush=True)
    await asyncio.wait_for(finished.wait(), PATIENCE)


async def publish(name: str, address: str) -> None:
    """The publisher's process: first the requests, one after the other, then the messages."""
    messages, requests = CASES[name]
    send, ask = await LIBRARIES[name]().publisher(address)
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - began)
    print(json.dumps({"rate": requests / sum(times), "p50": statistics.median(times)}), flush=True)
    for _ in range(messages):
        await send()
    await asyncio.sleep(PATIENCE)  # until the subscriber has got all, and this is ended


def measure(name: str, address: str) -> dict[str, float]:
    """One round of one library."""

    def start(role: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, __file__, "--role", role, name, address],
            stdout=subprocess.PIPE,
            text=True,
        )

    subscriber = start("subscribe")
    assert subscriber.stdout is not None
    assert subscriber.stdout.readline() == "ready\n"
    publisher = start("publish")
    assert publisher.stdout is not None
    answers = json.loads(publisher.stdout.readline())
    rate = json.loads(subscriber.stdout.readline())
    for process in (publisher, subscriber):
        process.terminate()
        process.communicate()
    return {"messages/s": rate, "answers/s": answers["rate"], "answer p50 µs": answers["p50"] * 1e6}


def servers() -> dict[str, tuple[str, "subprocess.Popen[str]"]]:
    """Start what the installed libraries need: an address for each library."""
    kps = subprocess.Popen(
        [sys.executable, "-m", "kps", "serve", "--address", "127.0.0.1:0", "--log-level", "error"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert kps.stdout is not None
    address = kps.stdout.readline().split("//")[1].split("/")[0]
    found = {"kps": (address, kps)}
    if importlib.util.find_spec("ksps"):
        found["ksps"] = (address, kps)
    program = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.defpath}")
    if program and importlib.util.find_spec("nats"):
        nats = subprocess.Popen(
            [program, "--addr", "127.0.0.1", "--port", "-1"], stderr=subprocess.PIPE, text=True
        )
        assert nats.stderr is not None
        for line in nats.stderr:
            if "Listening for client connections on" in line:
                found["nats"] = (line.split()[-1], nats)
                break
    return found


def render(results: dict[str, list[dict[str, float]]], rounds: int) -> str:
    lines = [
        "# Client library to client library",
        "",
        f"Medians of {rounds} rounds in one run of `benchmarks/clients.py`, the libraries in turn;",
        f"three processes on {os.cpu_count()} cores, {platform.python_implementation()} "
        f"{platform.python_version()}, {platform.system()}; the payload is an object of 66 bytes.",
        "An answer is an ack (`kps`, `ksps`) or the reply to a request (`nats`), one at a time.",
        "",
        "| | messages/s, one to one | answers/s | an answer takes, p50 |",
        "|---|---|---|---|",
    ]
    titles = {
        "kps": "kps, `kps serve`",
        "ksps": "ksps 1.0.0, `kps serve`",
        "nats": "nats-py, nats-server",
    }
    for name, found in results.items():
        median = {key: statistics.median(one[key] for one in found) for key in found[0]}
        lines.append(
            f"| {titles[name]} | {median['messages/s']:,.0f} | {median['answers/s']:,.0f} "
            f"| {median['answer p50 µs']:,.0f} µs |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--role", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, name, address = options.role
        run({"subscribe": subscribe, "publish": publish}[role](name, address))
        return
    started = servers()
    try:
        results: dict[str, list[dict[str, float]]] = {name: [] for name in started}
        for _ in range(options.rounds):
            for name, (address, _) in started.items():
                results[name].append(measure(name, address))
    finally:
        for _, process in started.values():
            process.terminate()
            process.wait()
    table = render(results, options.rounds)
    print(table)
    if options.write:
        Path(__file__).with_suffix(".md").write_text(table)


if __name__ == "__main__":
    main()
