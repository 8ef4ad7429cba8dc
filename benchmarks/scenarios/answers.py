"""How long an answer takes, and how many there are in a second."""

from collections.abc import Sequence
from contextlib import ExitStack

from model import Case, Figure, Sample, Scale, Scenario
from peers import (
    KPS,
    KPS_THREADS,
    MOSQUITTO,
    NATS,
    PICOWS,
    REDIS,
    SOCKETIO,
    SOCKETIO_REQUESTS,
    THIS_PYTHON,
    WEBSOCKETS,
    Peer,
    Server,
)
from scenarios.flow import worker

P50 = Figure("p50", "µs", more_is_better=False)
P99 = Figure("p99", "µs", more_is_better=False)
P999 = Figure("p99.9", "µs", more_is_better=False)
SEQUENTIAL = Figure("one at a time, answers/s")
PARALLEL = Figure("100 under way, answers/s")
SEQUENTIAL_CPU = Figure("processor time of one", "µs", more_is_better=False, has_range=False)
PARALLEL_CPU = Figure("of one of 100", "µs", more_is_better=False, has_range=False)


def measure_round_trip(
    server: Server, library: str, seconds: float, python: Sequence[str] = THIS_PYTHON
) -> Sample:
    with worker("echo", library, server.address, seconds, python=python) as process:
        found = process.report()
    figures = {"p50": P50, "p99": P99, "p999": P999}
    return {figure.title: found[key] * 1e6 for key, figure in figures.items()}


def measure_requests(
    server: Server, library: str, seconds: float, python: Sequence[str] = THIS_PYTHON
) -> Sample:
    with ExitStack() as stack:
        responder = stack.enter_context(worker("answer", library, server.address, python=python))
        responder.report()
        others = server.process.pid, responder.pid
        asking = worker("ask", library, server.address, seconds, 100, *others, python=python)
        asker = stack.enter_context(asking)
        found = asker.report()
    return {
        SEQUENTIAL.title: found["sequential"]["rate"],
        PARALLEL.title: found["parallel"]["rate"],
        SEQUENTIAL_CPU.title: found["sequential"]["cpu"] * 1e6,
        PARALLEL_CPU.title: found["parallel"]["cpu"] * 1e6,
    }


def _round_trip(name: str, library: str, peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure_round_trip(server, library, scale.seconds)

    return Case(name, run, peer)


def _requests(name: str, library: str, peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure_requests(server, library, scale.seconds / 2)

    return Case(name, run, peer)


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="round_trip",
        title="Round trip",
        text="A client publishes a message to a topic to which it subscribes itself, waits until "
        "its handler has it, publishes the next one, for a second: two ways over the network and "
        "one pass through the server. The percentiles are those of each round.",
        figures=(P50, P99, P999),
        cases=(
            _round_trip("kps", "kps", KPS),
            _round_trip("kps, plain callback inline", "kps-inline", KPS),
            _round_trip("kps, level 1", "kps-level-1", KPS),
            _round_trip("kps.sync, asyncio server", "kps.sync", KPS),
            _round_trip("kps.sync, threaded server", "kps.sync", KPS_THREADS),
            _round_trip("ksps, kps serve", "ksps", KPS),
            _round_trip("nats-py, nats-server", "nats", NATS),
            _round_trip("redis-py, redis-server", "redis", REDIS),
            _round_trip("aiomqtt, mosquitto", "mqtt", MOSQUITTO),
            _round_trip("python-socketio", "socketio", SOCKETIO),
            _round_trip("websockets, a relay", "websockets", WEBSOCKETS),
            _round_trip("picows, a relay", "picows", PICOWS),
        ),
        reference="nats-py, nats-server",
    ),
    Scenario(
        name="requests",
        title="Acks and requests",
        text="A client asks, another client in another process handles it, and the answer comes "
        "back through the server: a publication with an ack (kps, ksps), a request with a reply "
        "(nats-py), or a call to the server, which calls the other client (python-socketio). One "
        "at a time for half a second, then 100 under way for half a second. The processor time is "
        "that of all three processes together, for each answer. kps.sync asks in the same way "
        "whether its callbacks are inline or not; what differs is the client that answers.",
        figures=(SEQUENTIAL, PARALLEL, SEQUENTIAL_CPU, PARALLEL_CPU),
        cases=(
            _requests("kps", "kps", KPS),
            _requests("kps, plain callback in threads", "kps-threads", KPS),
            _requests("kps, plain callback inline", "kps-inline", KPS),
            _requests("kps, level 1", "kps-level-1", KPS),
            _requests("kps.sync, asyncio server", "kps.sync", KPS),
            _requests("kps.sync, threaded server", "kps.sync", KPS_THREADS),
            _requests("kps.sync, inline, asyncio server", "kps.sync-inline", KPS),
            _requests("ksps, kps serve", "ksps", KPS),
            _requests("nats-py, nats-server", "nats", NATS),
            _requests("kps, asyncio's loop", "kps-plain", KPS),
            _requests("nats-py, asyncio's loop", "nats-plain", NATS),
            _requests("python-socketio", "socketio", SOCKETIO_REQUESTS),
        ),
        reference="nats-py, nats-server",
    ),
)
