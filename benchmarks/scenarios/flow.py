"""Messages a second from client library to client library."""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

from model import Case, Figure, Sample, Scale, Scenario
from peers import HERE, KPS, KPS_THREADS, NATS, SOCKETIO, WEBSOCKETS, Peer, Server
from processes import Process

RATE = Figure("messages/s")


def worker(*arguments: object) -> Process:
    """Start a process with a client library in it."""
    return Process(sys.executable, str(HERE / "actors.py"), *map(str, arguments))


def measure(server: Server, library: str, pairs: int, seconds: float) -> Sample:
    """One round: subscribers in one process, publishers in another."""
    with ExitStack() as stack:
        progress = stack.enter_context(tempfile.NamedTemporaryFile())
        progress.truncate(8 * pairs)
        common = (library, server.address, progress.name, pairs)
        subscriber = stack.enter_context(worker("subscribe", *common))
        subscriber.report()
        publisher = stack.enter_context(worker("publish", *common, seconds))
        return {RATE.title: publisher.report()["rate"]}


def _case(name: str, library: str, peer: Peer, pairs: int = 1) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure(server, library, pairs, scale.seconds)

    return Case(name, run, peer)


_HOW = (
    "Publishers, server and subscribers are three processes. Publishing goes on for a second; the "
    "time is that from the first message published to the last one received. JSON is encoded and "
    "decoded in each case. At most 20,000 messages are under way, so that no peer runs into the "
    "bounds of its queues."
)

SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="one_to_one",
        title="One publisher, one subscriber",
        text=_HOW + " Two cases run their clients on asyncio's own event loop, as a program does "
        "that does not choose. The relay made with websockets has thirty lines: it passes text on "
        "to whoever subscribes to its topic, and has no ids, acks, limits or bounded queues.",
        figures=(RATE,),
        cases=(
            _case("kps", "kps", KPS),
            _case("kps, level 1", "kps-level-1", KPS),
            _case("kps.sync, asyncio server", "kps.sync", KPS),
            _case("kps.sync, threaded server", "kps.sync", KPS_THREADS),
            _case("ksps, kps serve", "ksps", KPS),
            _case("nats-py, nats-server", "nats", NATS),
            _case("kps, asyncio's loop", "kps-plain", KPS),
            _case("nats-py, asyncio's loop", "nats-plain", NATS),
            _case("python-socketio", "socketio", SOCKETIO),
            _case("websockets, a relay", "websockets", WEBSOCKETS),
        ),
        reference="nats-py, nats-server",
    ),
    Scenario(
        name="many_to_many",
        title="100 publishers, 100 subscribers, 100 topics",
        text="As above, with 100 connections in each of the two client processes. Publishers take "
        "turns after 16 messages.",
        figures=(RATE,),
        cases=(
            _case("kps", "kps", KPS, 100),
            _case("kps, level 1", "kps-level-1", KPS, 100),
            _case("nats-py, nats-server", "nats", NATS, 100),
            _case("python-socketio", "socketio", SOCKETIO, 100),
        ),
        reference="nats-py, nats-server",
    ),
)
