"""The processes with client libraries in them: publishers, subscribers, askers, the idle.

The benchmarks start this file as a program with a role and its arguments; it tells what it
found as lines of JSON. Each ends by itself, or is ended by who started it.
"""

import asyncio
import importlib
import json
import math
import mmap
import os
import resource
import selectors
import signal
import socket
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from blocking import PAYLOAD, BlockingKps
from kps.io_asyncio.loop import run
from libraries import LIBRARIES, PLAIN, Library
from peers import KPS, KPS_THREADS, NATS, REDIS, SOCKETIO
from processes import Failed, cpu_seconds
from wires import PAYLOAD as PAYLOAD_BYTES
from wires import Wire, connect, discard

LIFE = 300
"""Seconds after which a process ends in any case."""

IN_FLIGHT = 20_000
"""Messages under way at most, in all: far below the bounds of any peer's queues."""

BLOCKING = "kps.sync"
INLINE = "-inline"
"""How the name ends if the callbacks of the blocking client are inline."""


class Progress:
    """How many messages each subscriber has: memory that two processes share."""

    def __init__(self, path: str, subscribers: int) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * subscribers)
        self.received = memoryview(self._map).cast("q")

    def receiver(self, number: int) -> Callable[[Any], None]:
        """What counts the messages of one subscriber, and looks into each."""
        received = self.received
        expected = PAYLOAD["n"]
        count = 0

        def receive(data: Any) -> None:
            nonlocal count
            assert data["n"] == expected
            count += 1
            received[number] = count

        return receive


class Meter:
    """The processor time of this process, and then of some others."""

    def __init__(self, *others: str) -> None:
        self._pids = (os.getpid(), *map(int, others))
        self._before = self._now()

    def each(self, count: int) -> list[float]:
        """Seconds since it was made, of each process, for each of so many things."""
        spent = zip(self._now(), self._before, strict=True)
        return [(now - before) / count for now, before in spent]

    def _now(self) -> list[float]:
        return [cpu_seconds(pid) for pid in self._pids]


# -- messages a second: a process of subscribers, a process of publishers ----------------


async def subscribe(library: str, address: str, progress: str, pairs: str) -> None:
    """Subscribe to a topic with each of some connections, until this is ended."""
    counts = Progress(progress, int(pairs))
    clients = []
    for number in range(int(pairs)):
        client = LIBRARIES[library]()
        await client.connect(address)
        await client.subscribe(f"bench.{number}", counts.receiver(number))
        clients.append(client)
    tell(ready=True)
    await asyncio.sleep(LIFE)


def subscribe_blocking(library: str, address: str, progress: str, pairs: str) -> None:
    """The same with the blocking client."""
    counts = Progress(progress, 1)
    client = BlockingKps(inline=library.endswith(INLINE))
    client.connect(address)
    client.subscribe("bench.0", counts.receiver(0))
    tell(ready=True)
    time.sleep(LIFE)


async def publish(
    library: str, address: str, progress: str, pairs: str, seconds: str, *others: str
) -> None:
    """Publish for some time with each of some connections; tell when all has arrived.

    The others are the processes of the server and of the subscribers, whose work is measured too.
    """
    count = int(pairs)
    received = Progress(progress, count).received
    clients: list[Library] = []
    for _ in range(count):
        client = LIBRARIES[library]()
        await client.connect(address)
        clients.append(client)
    window = IN_FLIGHT // count
    pause = max(0.001, count / 10_000)
    sent = [0] * count

    async def send(number: int, most: float, until: float) -> None:
        publish = clients[number].publisher(f"bench.{number}")
        done = sent[number]
        most += done
        while done < most:
            await publish()
            done += 1
            if done % 16 == 0:
                if time.monotonic() >= until:
                    break
                while done - received[number] >= window:
                    sent[number] = done
                    await asyncio.sleep(pause)
                if count > 1:
                    await asyncio.sleep(0)  # the others' turn
        sent[number] = done
        await clients[number].flush()

    async def all_received() -> None:
        progressed = time.monotonic(), sum(received)
        while (arrived := sum(received)) < sum(sent):
            now = time.monotonic()
            if arrived > progressed[1]:
                progressed = now, arrived
            elif now - progressed[0] > 10:
                raise Failed(f"{sum(sent) - arrived} of {sum(sent)} messages did not arrive")
            await asyncio.sleep(0.001)

    # Everything that happens only once happens before.
    await asyncio.gather(*(send(number, 100, math.inf) for number in range(count)))
    await all_received()
    warm_up = sum(sent)
    meter = Meter(*others)
    began = time.monotonic()
    until = began + float(seconds)
    await asyncio.gather(*(send(number, math.inf, until) for number in range(count)))
    await all_received()
    took, done = time.monotonic() - began, sum(sent) - warm_up
    tell(rate=done / took, cpu=meter.each(done))


def publish_blocking(
    library: str, address: str, progress: str, pairs: str, seconds: str, *others: str
) -> None:
    """The same with the blocking client."""
    received = Progress(progress, 1).received
    client = BlockingKps()
    client.connect(address)
    publish = client.publisher("bench.0")
    sent = 0

    def wait_for(count: int) -> None:
        deadline = time.monotonic() + 10
        while received[0] < count:
            if time.monotonic() > deadline:
                raise Failed(f"{count - received[0]} of {sent} messages did not arrive")
            time.sleep(0.001)

    def send(until: float) -> None:
        nonlocal sent
        while True:
            publish()
            sent += 1
            if sent % 16 == 0:
                if time.monotonic() >= until:
                    break
                if sent - received[0] >= IN_FLIGHT:
                    wait_for(sent - IN_FLIGHT + 1)
        wait_for(sent)

    send(0)
    warm_up = sent
    meter = Meter(*others)
    began = time.monotonic()
    send(began + float(seconds))
    took, done = time.monotonic() - began, sent - warm_up
    tell(rate=done / took, cpu=meter.each(done))


# -- round trips: a client that receives what it publishes -------------------------------


async def echo(library: str, address: str, seconds: str, there: str = "") -> None:
    """Publish one message, wait until it comes back, and so on; or until it is there.

    That is at a client of another server, in this process too.
    """
    client = LIBRARIES[library]()
    await client.connect(address)
    receiver = client
    if there:
        receiver = LIBRARIES[library]()
        await receiver.connect(there)
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()

    def receive(data: Any) -> None:
        assert data["n"] == PAYLOAD["n"]
        arrived.set_result(None)

    await receiver.subscribe("bench", receive)
    if there:  # without it a new nats-server has lost the first message, in one of seven runs
        await asyncio.sleep(0.2)
    publish = client.publisher("bench")

    async def once() -> None:
        nonlocal arrived
        arrived = loop.create_future()
        await publish()
        await arrived

    for _ in range(100):
        await once()
    tell(**percentiles(await repeat(once, float(seconds))))


def echo_blocking(library: str, address: str, seconds: str) -> None:
    """The same with the blocking client and its iterator."""
    client = BlockingKps()
    client.connect(address)
    publish = client.publisher("bench")
    times: list[float] = []
    with client.messages("bench") as messages:
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            began = time.perf_counter()
            publish()
            message = next(messages)
            times.append(time.perf_counter() - began)
            assert message.data["n"] == PAYLOAD["n"]
    tell(**percentiles(times[100:] or times))


# -- requests, or acks -------------------------------------------------------------------


async def answer(library: str, address: str) -> None:
    """Handle what is asked, until this is ended."""
    client = LIBRARIES[library]()
    await client.connect(address)
    await client.answer("bench")
    tell(ready=True)
    await asyncio.sleep(LIFE)


def answer_blocking(library: str, address: str) -> None:
    """The same with the blocking client."""
    client = BlockingKps(inline=library.endswith(INLINE))
    client.connect(address)
    client.subscribe("bench", lambda data: None)
    tell(ready=True)
    time.sleep(LIFE)


async def ask(library: str, address: str, seconds: str, in_flight: str, *others: str) -> None:
    """Ask one after the other, then with many requests under way.

    The others are the processes of the server and of who answers, whose work is measured too.
    """
    client = LIBRARIES[library]()
    await client.connect(address)
    once = client.asker("bench")
    for _ in range(20):
        await once()

    async def rate(most: int) -> dict[str, float]:
        meter = Meter(*others)
        began = time.monotonic()
        times = await asyncio.gather(*(repeat(once, float(seconds)) for _ in range(most)))
        took, done = time.monotonic() - began, sum(map(len, times))
        return {"rate": done / took, "cpu": sum(meter.each(done))}

    tell(sequential=await rate(1), parallel=await rate(int(in_flight)))


def ask_blocking(library: str, address: str, seconds: str, in_flight: str, *others: str) -> None:
    """The same with the blocking client: many acks are begun before the first is waited for."""
    client = BlockingKps()
    client.connect(address)

    def rate(most: int) -> dict[str, float]:
        meter = Meter(*others)
        began = time.monotonic()
        pending: deque[Any] = deque()
        done = 0
        while time.monotonic() - began < float(seconds):
            pending.append(client.ask("bench"))
            if len(pending) == most:
                assert len(pending.popleft().wait()) == 1
                done += 1
        for ack in pending:
            assert len(ack.wait()) == 1
            done += 1
        took = time.monotonic() - began
        return {"rate": done / took, "cpu": sum(meter.each(done))}

    rate(1)
    tell(sequential=rate(1), parallel=rate(int(in_flight)))


# -- a server's own publications ---------------------------------------------------------


async def publish_within(handler: str, seconds: str) -> None:
    """Publish in the program that runs the server, to nobody or to a callback there."""
    server = importlib.import_module("kps").Server("127.0.0.1:0")
    await server.start()
    received = 0

    def receive(message: Any) -> None:
        nonlocal received
        assert message.data["n"] == PAYLOAD["n"]
        received += 1

    async def handle(message: Any) -> None:
        receive(message)

    if handler == "plain":
        server.subscribe("bench", receive, inline=True)
    elif handler == "coroutine":
        server.subscribe("bench", handle)
    times = []
    sent = 0
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        began = time.process_time()
        for _ in range(100):
            for _ in range(100):
                await server.publish("bench", PAYLOAD)
            sent += 100
            await asyncio.sleep(0)
            while handler != "nobody" and received < sent:
                await asyncio.sleep(0)
        times.append((time.process_time() - began) / 10_000)
    await server.stop()
    tell(each=statistics.median(times))


# -- plain sockets: idle connections, and one that floods --------------------------------

WIRES: dict[str, Wire] = {
    peer.name: peer.wire for peer in (KPS, KPS_THREADS, NATS, REDIS, SOCKETIO)
}


def idle(peer: str, address: str, *counts: str) -> None:
    """Hold so many connections that do nothing but answer; more at each line of input."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    wire = WIRES[peer]
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    connections: list[socket.socket] = []
    for count in map(int, counts):
        began = time.monotonic()
        while len(connections) < count:
            connection = connect(wire, address, f"idle-{len(connections)}")
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
            connections.append(connection)
            if len(connections) % 100 == 0:
                _serve(selector, wire, 0)
        tell(connected=count, seconds=time.monotonic() - began)
        while not _serve(selector, wire, None):
            pass


def _serve(selector: selectors.BaseSelector, wire: Wire, timeout: float | None) -> bool:
    """Answer what came; tell whether there was a line of input."""
    goes_on = False
    for key, _ in selector.select(timeout):
        if not isinstance(key.fileobj, socket.socket):
            goes_on = True
            if not sys.stdin.readline():  # who started this has gone
                sys.exit()
            continue
        data = key.fileobj.recv(4096)
        if not data:
            raise Failed("the server closed an idle connection")
        if reply := wire.answer(data):
            key.fileobj.sendall(reply)
    return goes_on


def flood(peer: str, address: str) -> None:
    """Publish to nobody as fast as the server reads, until this is ended."""
    connection = connect(WIRES[peer], address, "flood")
    connection.settimeout(None)
    threading.Thread(target=discard, args=(connection,), daemon=True).start()
    burst = WIRES[peer].publishing("flood", [PAYLOAD_BYTES] * 100)
    tell(ready=True)
    while True:
        connection.sendall(burst)


# -- within ------------------------------------------------------------------------------


def tell(**findings: object) -> None:
    print(json.dumps(findings), flush=True)


async def repeat(once: Callable[[], Awaitable[object]], seconds: float) -> list[float]:
    """Do it for some time; return how long each took."""
    times = []
    end = time.perf_counter() + seconds
    before = time.perf_counter()
    while before < end:
        await once()
        now = time.perf_counter()
        times.append(now - before)
        before = now
    return times


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """Median, and what all but one in a hundred, and in a thousand, stay below."""
    ordered = sorted(times)
    return {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * part))]
        for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
    }


ROLES: dict[str, Callable[..., Any]] = {
    "subscribe": subscribe,
    "publish": publish,
    "echo": echo,
    "answer": answer,
    "ask": ask,
    "within": publish_within,
}
BLOCKING_ROLES: dict[str, Callable[..., None]] = {
    "subscribe": subscribe_blocking,
    "publish": publish_blocking,
    "echo": echo_blocking,
    "answer": answer_blocking,
    "ask": ask_blocking,
}
SOCKET_ROLES: dict[str, Callable[..., None]] = {"idle": idle, "flood": flood}


def main() -> None:
    role, name, *arguments = sys.argv[1:]
    signal.alarm(LIFE)
    try:
        if role in SOCKET_ROLES:
            SOCKET_ROLES[role](name, *arguments)
        elif name.startswith(BLOCKING):
            BLOCKING_ROLES[role](name, *arguments)
        else:
            on_loop = asyncio.run if name.endswith(PLAIN) else run
            on_loop(ROLES[role](name, *arguments))
    except Failed as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
