"""Two nodes that are one for their clients: KPS over NATS beside python-socketio over Redis."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from generator import DELIVERIES_IN_FLIGHT
from model import Case, Figure, Sample, Scale, Scenario
from peers import (
    HERE,
    KPS,
    KPS_NODES,
    KPS_WORKERS,
    NATS,
    SOCKETIO,
    SOCKETIO_NODES,
    SOCKETIO_NODES_REQUESTS,
    Nodes,
    Peer,
    Server,
)
from processes import Process
from scenarios import workers
from scenarios.answers import P50, P99, PARALLEL, PARALLEL_CPU, SEQUENTIAL
from scenarios.flow import worker

UNTIL = Figure("until the outcome", "s", more_is_better=False, has_ratio=False)
LOST = Figure("receivers there", has_ratio=False, has_range=False)
GONE = Figure("named as disconnected", has_ratio=False, has_range=False)
SILENT = Figure("timed out", has_ratio=False, has_range=False)
ANSWERED = Figure("answers of the others", has_ratio=False, has_range=False)

_MOST_OF_SLOW = 40_000  # deliveries of python-socketio under way, some seconds of its work
_RECEIVERS = 20
_WORKING = 0.2  # seconds in which all receivers have the message, and work on it
_OUR_PATIENCE = 30  # seconds of an ack's timeout, which is not what ends it
_THEIR_PATIENCE = 10


def measure_latency(server: Server, library: str, seconds: float) -> Sample:
    here, there = server.addresses[0], server.addresses[-1]
    with worker("echo", library, here, seconds, there) as process:
        found = process.report()
    return {P50.title: found["p50"] * 1e6, P99.title: found["p99"] * 1e6}


def measure_requests(server: Server, library: str, seconds: float) -> Sample:
    here, there = server.addresses[0], server.addresses[-1]
    with ExitStack() as stack:
        responder = stack.enter_context(worker("answer", library, there))
        responder.report()
        others = *server.pids, responder.pid
        found = stack.enter_context(worker("ask", library, here, seconds, 100, *others)).report()
    return {
        SEQUENTIAL.title: found["sequential"]["rate"],
        PARALLEL.title: found["parallel"]["rate"],
        PARALLEL_CPU.title: found["parallel"]["cpu"] * 1e6,
    }


def measure_death(peer: Peer, role: str, receivers: int, seconds: float) -> Sample:
    """Kill the second node of a new server, once its receivers have been asked."""
    with ExitStack() as stack:
        server = stack.enter_context(peer.start())
        program = str(HERE / "dying.py")
        arguments = role, receivers, seconds, *server.addresses
        asker = stack.enter_context(Process(sys.executable, program, *map(str, arguments)))
        asker.report()
        time.sleep(_WORKING)
        # The second one; of workers, whose parent gives connections to them in turn, too.
        victim = server.nodes[1].process.pid if isinstance(server, Nodes) else server.pids[2]
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        asker.tell(str(killed))
        found = asker.report()
    return {
        UNTIL.title: found["seconds"],
        LOST.title: found["lost"],
        GONE.title: found["gone"],
        SILENT.title: found["silent"],
        ANSWERED.title: found["answered"],
    }


def _fan_out(name: str, peer: Peer, most: int = DELIVERIES_IN_FLIGHT) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return workers.fan_out(server, peer, scale.count(200, 20), scale.seconds, most)

    return Case(name, run, peer)


def _latency(name: str, library: str, peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure_latency(server, library, scale.seconds)

    return Case(name, run, peer)


def _requests(name: str, library: str, peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure_requests(server, library, scale.seconds)

    return Case(name, run, peer)


def _ours(scale: Scale) -> int:
    return _OUR_PATIENCE


def _theirs(scale: Scale) -> int:
    return scale.count(_THEIR_PATIENCE, 2)


def _death(name: str, role: str, peer: Peer, patience: Callable[[Scale], int]) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        return measure_death(peer, role, scale.count(_RECEIVERS, 4), patience(scale))

    return Case(name, run)


_ONE, _WORKERS, _NODES = "kps, one process", "kps, two workers", "kps, two nodes over NATS"
_THEIR_ONE, _THEIR_NODES = "python-socketio, one process", "python-socketio, two over Redis"
_FLOOR = "nats-py, one nats-server"

SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="nodes_200",
        title="Two nodes: 1 publisher, 200 subscribers",
        text="The same generator; the publisher is at one node, half of the subscribers at each. "
        "At most 400,000 deliveries are under way, of python-socketio 40,000, which keep it busy "
        "for seconds. To python-socketio the messages are events that a handler emits to a room, "
        "as in the other tables. The processor time of the servers is that of both nodes and of "
        "nats-server, or of redis-server.",
        figures=workers.FIGURES,
        cases=(
            _fan_out(_ONE, KPS),
            _fan_out(_WORKERS, KPS_WORKERS),
            _fan_out(_NODES, KPS_NODES),
            _fan_out(_THEIR_ONE, SOCKETIO, _MOST_OF_SLOW),
            _fan_out(_THEIR_NODES, SOCKETIO_NODES, _MOST_OF_SLOW),
        ),
        reference=_THEIR_NODES,
    ),
    Scenario(
        name="nodes_latency",
        title="Two nodes: from one to the other",
        text="A client publishes at one node, another one in the same process has subscribed at "
        "the other node; when its callback has the message, the next one is published. With one "
        "process both are there. Of two workers the parent gives each one of the clients. Two "
        "clients of nats-py at one nats-server are the floor: the nodes of KPS talk over that.",
        figures=(P50, P99),
        cases=(
            _latency(_ONE, "kps", KPS),
            _latency(_WORKERS, "kps", KPS_WORKERS),
            _latency(_NODES, "kps", KPS_NODES),
            _latency(_THEIR_ONE, "socketio", SOCKETIO),
            _latency(_THEIR_NODES, "socketio", SOCKETIO_NODES),
            _latency(_FLOOR, "nats", NATS),
        ),
        reference=_FLOOR,
    ),
    Scenario(
        name="nodes_requests",
        title="Two nodes: acks and requests from one to the other",
        text="A client at one node asks, one in another process at the other node answers: an ack "
        "of KPS, a request of nats-py, an event of python-socketio whose handler calls the client "
        "that answers. One at a time for a second, then 100 under way for a second. The processor "
        "time is that of all processes together, for each answer.",
        figures=(SEQUENTIAL, PARALLEL, PARALLEL_CPU),
        cases=(
            _requests(_ONE, "kps", KPS),
            _requests(_WORKERS, "kps", KPS_WORKERS),
            _requests(_NODES, "kps", KPS_NODES),
            _requests(_THEIR_NODES, "socketio", SOCKETIO_NODES_REQUESTS),
            _requests(_FLOOR, "nats", NATS),
        ),
        reference=_FLOOR,
    ),
    Scenario(
        name="nodes_death",
        title="Two nodes: one dies while its receivers are asked",
        text=f"A client asks {_RECEIVERS} receivers, half of them at the other node. {_WORKING} s "
        "after all have the message, that node is killed (SIGKILL), and then the others answer. "
        "The time is from there until the asker has the outcome of all. KPS names each receiver "
        f"and what became of it, long before the timeout of {_OUR_PATIENCE} s: over NATS when the "
        "node has been silent for 5 s, between workers when their connection ends.\n\nAn emit of "
        "python-socketio to a room takes a callback, which is called for the first answer and "
        "then forgotten, without the id of who answers; and no process knows how many there are "
        "in a room of several processes, so only the time ends it. Who keeps the ids of all "
        "clients itself can call each of them, and learns at the timeout who has not answered; a "
        "call that ends so does not tell who has gone from who is slow, at the same process "
        f"neither. The timeout is {_THEIR_PATIENCE} s here, in place of its default of 60 s.",
        figures=(UNTIL, LOST, GONE, SILENT, ANSWERED),
        cases=(
            _death(_NODES, "kps", KPS_NODES, _ours),
            _death(_WORKERS, "kps", KPS_WORKERS, _ours),
            _death(
                "python-socketio, a room with a callback",
                "socketio-room",
                SOCKETIO_NODES_REQUESTS,
                _theirs,
            ),
            _death(
                "python-socketio, a call to each",
                "socketio-each",
                SOCKETIO_NODES_REQUESTS,
                _theirs,
            ),
        ),
        most_rounds=3,
    ),
)
