"""What it costs to have it: idle connections, the client's memory, and starting."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from model import Case, Figure, Sample, Scale, Scenario
from peers import HERE, KPS, KPS_THREADS, NATS, SOCKETIO, WEBSOCKETS, Peer, Server
from processes import PATIENCE, Failed, Process, cpu_seconds, private, resident
from scenarios.flow import worker
from wires import connect

# -- idle connections --------------------------------------------------------------------

_WINDOW = 30.0
"""Seconds of being idle: all peers but nats-server send a heartbeat after 25 s or less."""


def _memory(count: int) -> Figure:
    return Figure(f"memory for each of {count:,}", "KiB", more_is_better=False)


MEMORY = _memory(10_000)


def _cpu(count: int) -> Figure:
    return Figure(f"processor time of {count:,}", "% of a core", more_is_better=False)


def measure_idle(server: Server, peer: Peer, counts: Sequence[int], window: float) -> Sample:
    """Connect more and more, and look at the server in between."""
    pid = server.process.pid
    sample: Sample = {}
    before = resident(pid)
    with worker("idle", peer.name, server.address, *counts) as clients:
        for count in counts:
            clients.report()
            time.sleep(1)  # what is freed late is freed
            sample[_memory(count).title] = (resident(pid) - before) / 1024 / count
            began, used = time.monotonic(), cpu_seconds(pid)
            time.sleep(window)
            used = cpu_seconds(pid) - used
            sample[_cpu(count).title] = 100 * used / (time.monotonic() - began)
            clients.tell("more")
    return sample


def _idle(peer: Peer, *counts: int) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        # A server that has had connections before has memory left for new ones.
        with peer.start() as fresh:
            if scale.quick:
                return measure_idle(fresh, peer, counts[:1], 1.0)
            return measure_idle(fresh, peer, counts, _WINDOW)

    return Case(peer.name, run)


# -- the client's memory -----------------------------------------------------------------

CONNECTED = Figure("connected", "MiB", more_is_better=False)
EARLY = Figure("after 100,000", "MiB", more_is_better=False, has_ratio=False)
LATE = Figure("after 1,000,000", "MiB", more_is_better=False, has_ratio=False)
GROWTH = Figure("growth between the two", "KiB", more_is_better=False, has_ratio=False)


def measure_memory(server: Server, library: str, stages: Sequence[int]) -> Sample:
    """The private memory of a client's process, over that of a bare interpreter."""
    bare = Process(sys.executable, "-c", "import time; time.sleep(60)")
    try:
        time.sleep(0.3)
        base = private(bare.pid)
    finally:
        bare.stop()
    found = []
    program = str(HERE / "remember.py")
    with Process(sys.executable, program, library, server.address, *map(str, stages)) as process:
        for _ in (0, *stages):
            process.report(120)
            time.sleep(0.3)
            found.append(private(process.pid))
            process.tell("go on")
    figures = (CONNECTED, EARLY, LATE)[: len(found)]
    sample = {
        figure.title: (size - base) / 2**20 for figure, size in zip(figures, found, strict=True)
    }
    if len(found) == 3:
        sample[GROWTH.title] = (found[2] - found[1]) / 1024
    return sample


def _client(name: str, library: str, peer: Peer, *stages: int) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        if scale.quick:  # a few messages, to see that it works, and no figures of them
            sample = measure_memory(server, library, [n // 50 for n in stages])
            return {CONNECTED.title: sample[CONNECTED.title]}
        return measure_memory(server, library, stages)

    return Case(name, run, peer)


# -- starting ----------------------------------------------------------------------------

START = Figure("from start to the first client", "ms", more_is_better=False)
IMPORT = Figure("import", "ms", more_is_better=False)

_IMPORT = "import time; t = time.perf_counter(); {}; print('\\n', time.perf_counter() - t)"


def measure_start(peer: Peer) -> float:
    """Milliseconds from starting the process until a first client is connected."""
    began = time.perf_counter()
    with peer.start() as server:
        connection = connect(peer.wire, server.address, "first")
        took = time.perf_counter() - began
        connection.close()
    return took * 1e3


def measure_import(statement: str) -> float:
    """Milliseconds for an import in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(statement)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode:
        raise Failed(done.stderr.strip().rpartition("\n")[2])
    return float(done.stdout.split()[-1]) * 1e3


def _start(peer: Peer) -> Case:
    return Case(
        peer.name,
        lambda server, scale: {START.title: statistics.median(measure_start(peer) for _ in "123")},
    )


def _import(name: str, statement: str) -> Case:
    return Case(
        name,
        lambda server, scale: {
            IMPORT.title: statistics.median(measure_import(statement) for _ in "123")
        },
    )


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="idle",
        title="Idle connections",
        text="Growth of the server's resident memory, divided by the number of connections (what "
        "the system keeps for each socket is not in it), and the server's processor time during "
        f"{_WINDOW:.0f} s with so many of them, heartbeats included (but those of nats-server, "
        "which come every two minutes). Plain sockets connect and answer. The servers "
        "are new, and are watched at the same time, in one round, because little varies. The "
        "threaded server has a thread for each connection and is measured with 1,000.",
        figures=(_memory(1_000), MEMORY, _cpu(1_000), _cpu(10_000)),
        cases=(
            _idle(KPS, 1_000, 10_000),
            _idle(KPS_THREADS, 1_000),
            _idle(NATS, 1_000, 10_000),
            _idle(SOCKETIO, 1_000, 10_000),
        ),
        reference=NATS.name,
        most_rounds=1,
        at_once=True,
    ),
    Scenario(
        name="client_memory",
        title="The client's memory",
        text="Private memory of a process with one client, over that of a bare interpreter: once "
        "it is connected, and after so many messages that it published and received itself.",
        figures=(CONNECTED, EARLY, LATE, GROWTH),
        cases=(
            _client("kps", "kps", KPS, 100_000, 1_000_000),
            _client("kps.sync", "kps.sync", KPS, 100_000, 1_000_000),
            _client("nats-py", "nats", NATS, 100_000, 1_000_000),
            _client("ksps", "ksps", KPS),
            _client("python-socketio", "socketio", SOCKETIO),
            _client("websockets", "websockets", WEBSOCKETS),
        ),
        reference="nats-py",
        most_rounds=2,
    ),
    Scenario(
        name="start",
        title="Starting a server",
        text="From starting the process to a first client that is connected.",
        figures=(START,),
        cases=[_start(peer) for peer in (KPS, KPS_THREADS, NATS, SOCKETIO, WEBSOCKETS)],
        reference=NATS.name,
    ),
    Scenario(
        name="import",
        title="Importing a client library",
        text="In a fresh interpreter, compiled before, with all files in the cache of the system.",
        figures=(IMPORT,),
        cases=(
            _import("kps", "from kps import Client"),
            _import("kps.sync", "from kps.sync import Client"),
            _import("ksps", "from ksps import Client"),
            _import("nats-py", "import nats"),
            _import("python-socketio", "import socketio, aiohttp"),
            _import("websockets", "from websockets.asyncio.client import connect"),
        ),
        reference="nats-py",
    ),
)
