"""What one subscriber that stops reading costs the others."""

import gc
import itertools
import selectors
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass

import numpy as np

import kps.sync
from model import Case, Figure, Sample, Scale, Scenario
from peers import Server, kps_serve
from processes import Failed, cpu_seconds
from wires import KpsWire, connect, exchange

READERS = 500
BURST = 100
"""Messages that the publisher writes at once, as one batch."""
WINDOW = 8
"""Bursts under way at most: more raise the throughput by little, and the latency by much."""
FILL = 600
"""Bursts after which the policy acts on who reads none: 4 MB, more than the system's buffers."""
SLICE = 100
"""Bursts for each look at readers with a slow one among them, and without."""
SLICES = 8
CLOSINGS = 2
"""The same where the slow one is closed, and each look begins with a new one."""

TOPIC = "bench"
MARKER = b'"at":'
"""Stands before the time in the last message of a burst, and nowhere else."""
TIME = 10**18
"""Added to the time, so that it always has as many digits."""
DIGITS = len(str(TIME))
TEXT = b"x" * 43
FILLER = b'{"n":1234567,"text":"' + TEXT + b'"}'
PATIENCE = 10.0

CALM = Figure("p50 without", "µs", more_is_better=False, has_ratio=False)
SLOW = Figure("p50 with", "µs", more_is_better=False, has_ratio=False)
CALM_TAIL = Figure("p99 without", "µs", more_is_better=False, has_ratio=False)
SLOW_TAIL = Figure("p99 with", "µs", more_is_better=False, has_ratio=False)
RATIO = Figure("p99 with / without", more_is_better=False, has_ratio=False)
COST = Figure("server's processor time with / without", more_is_better=False, has_ratio=False)
RATE = Figure("deliveries/s with", has_ratio=False)
DROPPED = Figure("dropped for the slow one", has_ratio=False)

COMMON = ("--queue-bytes", str(2**18), "--log-level", "warning", "--heartbeat-interval", "600")
"""A queue that overflows soon; and no pings, which plain sockets do not answer."""
TOO_SLOW = "client slow left: slow consumer (1008)"
"""What the server logs when it has closed the connection."""


class Reader:
    """One subscriber that reads at once."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        self.name = name
        self.connection = connection
        self.bursts = 0
        self._tail = b""

    def receive(self, latencies: list[int]) -> None:
        """Read what is there, and note how long each burst took."""
        data = self.connection.recv(1 << 18)
        now = time.monotonic_ns()
        if not data:
            raise Failed(f"the server closed {self.name} behind {self._tail!r}")
        data = self._tail + data
        end = 0
        while (found := data.find(MARKER, end)) >= 0:
            start = found + len(MARKER)
            if start + DIGITS > len(data):
                break
            end = start + DIGITS
            latencies.append(now - int(data[start:end]) + TIME)
            self.bursts += 1
        self._tail = data[max(end, len(data) - len(MARKER) - DIGITS) :]


@dataclass
class Flow:
    """What some bursts gave."""

    p50: float
    """Microseconds, of each burst at each reader."""
    p99: float
    rate: float
    """Deliveries a second."""
    cpu: float
    """Seconds of processor time of the server."""


class Audience:
    """One publisher and all readers, on plain sockets in this one thread."""

    def __init__(self, server: Server, wire: KpsWire, stack: ExitStack) -> None:
        self._server = server
        self._wire = wire
        self._selector = stack.enter_context(selectors.DefaultSelector())
        for number in range(READERS):
            name = f"reader-{number}"
            connection = _connect(server, wire, name, stack)
            exchange(connection, *wire.subscribing(TOPIC))
            connection.setblocking(False)
            reader = Reader(name, connection)
            self._selector.register(connection, selectors.EVENT_READ, reader)
        self._publisher = _connect(server, wire, "publisher", stack)
        self._sent = 0

    def flow(self, bursts: int) -> Flow:
        """Publish so many bursts, never more than the window ahead of the slowest reader."""
        # The server is done with what others sent before.
        exchange(self._publisher, *self._wire.subscribing("nothing"))
        latencies: list[int] = []
        readers: Counter[int] = Counter()  # that have a burst, by its number
        complete = self._sent
        last = complete + bursts
        began, cpu = time.monotonic(), self._cpu()
        while complete < last:
            while self._sent < min(last, complete + WINDOW):
                self._send()
            ready = self._selector.select(PATIENCE)
            if not ready:
                raise Failed(f"nothing came after {complete} of {self._sent} bursts")
            for key, _ in ready:
                reader = key.data
                before = reader.bursts
                reader.receive(latencies)
                readers.update(range(before + 1, reader.bursts + 1))
            while readers[complete + 1] == READERS:
                complete += 1
                del readers[complete]
        took = time.monotonic() - began
        p50, p99 = np.percentile(latencies, (50, 99)) / 1000
        rate = len(latencies) * BURST / took
        return Flow(float(p50), float(p99), rate, self._cpu() - cpu)

    def _send(self) -> None:
        last = b'{"at":' + str(TIME + time.monotonic_ns()).encode() + b',"text":"' + TEXT + b'"}'
        burst = [FILLER] * (BURST - 1) + [last]
        self._publisher.sendall(self._wire.publishing(TOPIC, burst))
        self._sent += 1

    def _cpu(self) -> float:
        return cpu_seconds(self._server.process.pid)


class SlowReader:
    """A subscriber that never reads. It still writes, so it can subscribe and unsubscribe."""

    def __init__(self, server: Server, wire: KpsWire, stack: ExitStack) -> None:
        self._wire = wire
        self._connection = _connect(server, wire, "slow", stack)
        # So that it is the server's queue that fills, rather than the system's buffers.
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def subscribe(self) -> None:
        self._connection.sendall(self._wire.subscribing(TOPIC)[0])

    def unsubscribe(self) -> None:
        self._connection.sendall(self._wire.unsubscribing(TOPIC))


def measure_drops(server: Server, wire: KpsWire, slices: int, first: bool) -> Sample:
    """With a slow reader whose queue is full all the time, and without, in turn."""
    with ExitStack() as stack:
        before = _dropped(server)
        audience = Audience(server, wire, stack)
        slow = SlowReader(server, wire, stack)
        slow.subscribe()
        audience.flow(FILL)

        def look(with_slow: bool) -> Flow:
            if with_slow:
                slow.subscribe()
            else:
                slow.unsubscribe()
            return audience.flow(SLICE)

        return _sample(look, slices, first, lambda: _dropped(server) - before)


def measure_close(server: Server, wire: KpsWire, slices: int, first: bool) -> Sample:
    """With a slow reader until it is closed and some time after, and without, in turn."""
    with ExitStack() as stack:
        before = _dropped(server)
        audience = Audience(server, wire, stack)
        audience.flow(SLICE)

        def look(with_slow: bool) -> Flow:
            with ExitStack() as inner:
                if with_slow:
                    SlowReader(server, wire, inner).subscribe()
                flow = audience.flow(FILL + SLICE)
            if with_slow:
                server.process.wait_for(lambda line: TOO_SLOW in line)
            return flow

        return _sample(look, min(slices, CLOSINGS), first, lambda: _dropped(server) - before)


def _sample(
    look: Callable[[bool], Flow], slices: int, first: bool, dropped: Callable[[], int]
) -> Sample:
    """Look with and without, in turn; medians of what was seen."""
    flows: dict[bool, list[Flow]] = {False: [], True: []}
    gc.collect()
    gc.disable()
    try:
        for number in range(2 * slices):
            with_slow = (number % 4 in (1, 2)) is not first  # without, with, with, without
            flows[with_slow].append(look(with_slow))
    finally:
        gc.enable()
    if not (count := dropped()):
        raise Failed("the policy did not act")

    calm, slow = _median(flows[False]), _median(flows[True])
    return {
        CALM.title: calm.p50,
        SLOW.title: slow.p50,
        CALM_TAIL.title: calm.p99,
        SLOW_TAIL.title: slow.p99,
        RATIO.title: slow.p99 / calm.p99,
        COST.title: slow.cpu / calm.cpu,
        RATE.title: slow.rate,
        DROPPED.title: count,
    }


def _median(flows: Sequence[Flow]) -> Flow:
    return Flow(*map(statistics.median, zip(*map(astuple, flows), strict=True)))


def _dropped(server: Server) -> int:
    """What the server dropped so far, by its own figures."""
    with kps.sync.Client(server.address) as client:
        dropped: int = next(iter(client.subscribe("__kps/stats"))).data["dropped"]
        return dropped


def _connect(server: Server, wire: KpsWire, name: str, stack: ExitStack) -> socket.socket:
    connection = connect(wire, server.address, name)
    stack.callback(_hang_up, connection)
    return connection


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _case(policy: str, *options: str) -> Case:
    name = " ".join(("kps serve", *options)) + f", {policy}"
    peer = kps_serve(name, "--overflow", policy, *COMMON, *options)
    wire = KpsWire()
    measure = measure_close if policy == "close" else measure_drops
    rounds = itertools.count()

    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure(server, wire, scale.count(SLICES, 1), next(rounds) % 2 == 1)

    return Case(name, run, peer)


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="slow_reader",
        title=f"One slow reader among {READERS}",
        text=f"{READERS} subscribers read at once, on plain sockets in one process, which "
        f"publishes too: batches of {BURST} messages with the time of publishing in the last one, "
        f"and {WINDOW} of them under way at most. The next one leaves when the slowest of the "
        f"{READERS} has the oldest, so that the server always has something to do, and a latency "
        "is not the length of a queue that grows. It is the time from publishing to reading, of "
        "each batch at each reader. One more subscriber reads nothing at all. Looks at the others "
        f"with it and without it alternate: {SLICES} of each in a round, of {SLICE} batches, where "
        "its queue (of 256 KiB) is full all the time and the server drops what it cannot take; "
        f"{CLOSINGS} of each where the server closes it with 1008 in the middle of a look, of "
        f"{FILL + SLICE} batches. A round is the median of its looks, and counts only if the "
        "policy acted.",
        figures=(CALM, SLOW, CALM_TAIL, SLOW_TAIL, RATIO, COST, RATE, DROPPED),
        cases=[
            _case("close"),
            _case("drop_oldest"),
            _case("drop_newest"),
            _case("drop_oldest", "--threads"),
        ],
        most_rounds=3,
    ),
)
