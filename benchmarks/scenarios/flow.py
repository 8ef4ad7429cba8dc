"""Messages a second from client library to client library."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

from model import Case, Figure, Sample, Scale, Scenario
from peers import (
    HERE,
    KPS,
    KPS_THREADS,
    MOSQUITTO,
    NATS,
    PICOWS,
    REDIS,
    SOCKETIO,
    THIS_PYTHON,
    WEBSOCKETS,
    Peer,
    Server,
)
from processes import Process

RATE = Figure("messages/s")


def _cpu(title: str) -> Figure:
    return Figure(title, "µs", more_is_better=False, has_ratio=False, has_range=False)


CPU = _cpu("processor time: publisher"), _cpu("server"), _cpu("subscriber")


def worker(*arguments: object, python: Sequence[str] = THIS_PYTHON) -> Process:
    """Start a process with a client library in it."""
    return Process(*python, str(HERE / "actors.py"), *map(str, arguments))


def measure(
    server: Server,
    library: str,
    pairs: int,
    seconds: float,
    python: Sequence[str] = THIS_PYTHON,
) -> Sample:
    """One round: subscribers in one process, publishers in another."""
    with ExitStack() as stack:
        progress = stack.enter_context(tempfile.NamedTemporaryFile())
        progress.truncate(8 * pairs)
        common = (library, server.address, progress.name, pairs)
        subscriber = stack.enter_context(worker("subscribe", *common, python=python))
        subscriber.report()
        others = server.process.pid, subscriber.pid
        publishing = worker("publish", *common, seconds, *others, python=python)
        publisher = stack.enter_context(publishing)
        found = publisher.report()
    cpu = {figure.title: each * 1e6 for figure, each in zip(CPU, found["cpu"], strict=True)}
    return {RATE.title: found["rate"], **cpu}


def _case(name: str, library: str, peer: Peer, pairs: int = 1) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure(server, library, pairs, scale.seconds)

    return Case(name, run, peer)


_HOW = (
    "Publishers, server and subscribers are three processes. Publishing goes on for a second; the "
    "time is that from the first message published to the last one received. JSON is encoded and "
    "decoded in each case. At most 20,000 messages are under way, so that no peer runs into the "
    "bounds of its queues. The processor time is that of each process, all its threads together, "
    "for each message."
)
_INLINE = (
    "A callback of KPS is a coroutine function unless the row says that it is a plain one. Those "
    "run in threads, or inline, which is on the event loop; those of kps.sync on a thread of "
    "their own, or inline, which is on the thread that reads."
)

SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="one_to_one",
        title="One publisher, one subscriber",
        text=f"{_HOW}\n\n{_INLINE}\n\nTwo cases run their clients on asyncio's own event loop, "
        "as a program does that does not choose. A publication of redis-py waits for the answer "
        "of the server, unless it is one of a pipeline. aiomqtt publishes with the quality of "
        "service 0. The relays made with websockets and picows have thirty lines: they pass text "
        "on to whoever subscribes to its topic, and have no ids, acks, limits or bounded queues; "
        "picows calls plain functions.",
        figures=(RATE, *CPU),
        cases=(
            _case("kps", "kps", KPS),
            _case("kps, plain callback in threads", "kps-threads", KPS),
            _case("kps, plain callback inline", "kps-inline", KPS),
            _case("kps, level 1", "kps-level-1", KPS),
            _case("kps.sync, asyncio server", "kps.sync", KPS),
            _case("kps.sync, threaded server", "kps.sync", KPS_THREADS),
            _case("kps.sync, inline, asyncio server", "kps.sync-inline", KPS),
            _case("kps.sync, inline, threaded server", "kps.sync-inline", KPS_THREADS),
            _case("ksps, kps serve", "ksps", KPS),
            _case("nats-py, nats-server", "nats", NATS),
            _case("kps, asyncio's loop", "kps-plain", KPS),
            _case("nats-py, asyncio's loop", "nats-plain", NATS),
            _case("redis-py, redis-server", "redis", REDIS),
            _case("redis-py, pipelines of 100", "redis-pipelines", REDIS),
            _case("aiomqtt, mosquitto", "mqtt", MOSQUITTO),
            _case("python-socketio", "socketio", SOCKETIO),
            _case("websockets, a relay", "websockets", WEBSOCKETS),
            _case("picows, a relay", "picows", PICOWS),
        ),
        reference="nats-py, nats-server",
    ),
    Scenario(
        name="many_to_many",
        title="100 publishers, 100 subscribers, 100 topics",
        text="As above, with 100 connections in each of the two client processes. Publishers take "
        "turns after 16 messages.",
        figures=(RATE, *CPU),
        cases=(
            _case("kps", "kps", KPS, 100),
            _case("kps, level 1", "kps-level-1", KPS, 100),
            _case("nats-py, nats-server", "nats", NATS, 100),
            _case("redis-py, pipelines of 100", "redis-pipelines", REDIS, 100),
            _case("aiomqtt, mosquitto", "mqtt", MOSQUITTO, 100),
            _case("python-socketio", "socketio", SOCKETIO, 100),
        ),
        reference="nats-py, nats-server",
    ),
)
