"""Clients in Go: ours and nats.go."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from model import Case, Figure, Sample, Scale, Scenario
from peers import HERE, KPS, NATS, PLACES, Peer, Server
from processes import Failed, Process
from scenarios.flow import CPU, RATE

MANY = 64
"""Requests under way."""

ROUND = Figure("publication, p50", "µs", more_is_better=False)
ROUND_P99 = Figure("p99", "µs", more_is_better=False, has_ratio=False)
CONFIRMED = Figure("until the server has it, p50", "µs", more_is_better=False)
REQUEST = Figure("one at a time, p50", "µs", more_is_better=False)
SEQUENTIAL = Figure("answers/s")
PARALLEL = Figure(f"{MANY} under way, answers/s")
REQUEST_CPU = tuple(
    Figure(f"processor time of one of {MANY}: {who}" if who == "asker" else who, "µs", False, False)
    for who in ("asker", "server", "who answers")
)
EACH = Figure("processor time of one", "µs", more_is_better=False)
ALLOCATIONS = Figure("allocations", more_is_better=False, has_ratio=False, has_range=False)
ALLOCATED = Figure("allocated", "bytes", more_is_better=False, has_ratio=False, has_range=False)


@functools.cache
def program() -> str:
    """The Go program with the clients, built once."""
    go = shutil.which("go", path=f"{PLACES}:/usr/local/go/bin")
    if go is None:
        raise Failed("there is no go here")
    folder = tempfile.TemporaryDirectory(prefix="kps-bench-")
    atexit.register(folder.cleanup)
    path = os.path.join(folder.name, "clients")
    built = subprocess.run((go, "build", "-o", path, "."), cwd=HERE / "go", capture_output=True)
    if built.returncode:
        raise Failed(f"it does not build: {built.stderr.decode()}")
    return path


def versions() -> dict[str, str]:
    """Those of Go and nats.go."""
    said = subprocess.run((program(), "versions"), capture_output=True, check=True).stdout
    found: dict[str, str] = json.loads(said)
    return found


def _worker(role: str, *arguments: object) -> Process:
    return Process(program(), role, *map(str, arguments))


@contextmanager
def _progress() -> Iterator[str]:
    """A file in which two processes share a number."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(8)
        yield file.name


def measure_flow(server: Server, library: str, seconds: float) -> Sample:
    with ExitStack() as stack:
        common = library, server.address, stack.enter_context(_progress())
        subscriber = stack.enter_context(_worker("subscribe", *common))
        subscriber.report()
        others = server.process.pid, subscriber.pid
        publisher = stack.enter_context(_worker("publish", *common, seconds, *others))
        found = publisher.report()
    return {RATE.title: found["rate"], **_titled(CPU, found["cpu"])}


def measure_round_trip(server: Server, library: str, seconds: float) -> Sample:
    with _worker("echo", library, server.address, seconds) as process:
        found = process.report()
    return {
        ROUND.title: found["round"]["p50"] * 1e6,
        ROUND_P99.title: found["round"]["p99"] * 1e6,
        CONFIRMED.title: found["confirmed"]["p50"] * 1e6,
    }


def measure_requests(server: Server, library: str, seconds: float) -> Sample:
    with ExitStack() as stack:
        responder = stack.enter_context(_worker("answer", library, server.address))
        responder.report()
        others = server.process.pid, responder.pid
        arguments = library, server.address, seconds, MANY, *others
        asker = stack.enter_context(_worker("ask", *arguments))
        found = asker.report()
    one, many = found["sequential"], found["parallel"]
    return {
        REQUEST.title: one["p50"] * 1e6,
        SEQUENTIAL.title: one["rate"],
        PARALLEL.title: many["rate"],
        **_titled(REQUEST_CPU, many["cpu"]),
    }


def measure_alone(role: str, library: str, kind: str, seconds: float) -> Sample:
    with ExitStack() as stack:
        progress = stack.enter_context(_progress())
        peer = stack.enter_context(_worker("peer", f"{library}:{kind}", progress))
        address = peer.report()["address"]
        client = stack.enter_context(_worker(role, library, address, seconds, progress))
        found = client.report()
    return {
        RATE.title: found["rate"],
        EACH.title: found["cpu"][0] * 1e6,
        ALLOCATIONS.title: found["allocations"],
        ALLOCATED.title: found["bytes"],
    }


def measure_answers_alone(library: str, seconds: float) -> Sample:
    with ExitStack() as stack:
        progress = stack.enter_context(_progress())
        peer = stack.enter_context(_worker("peer", f"{library}:echo", progress))
        address = peer.report()["address"]
        trips = stack.enter_context(_worker("echo", library, address, seconds)).report()
        found = stack.enter_context(_worker("ask", library, address, seconds, MANY)).report()
    many = found["parallel"]
    return {
        ROUND.title: trips["round"]["p50"] * 1e6,
        REQUEST.title: found["sequential"]["p50"] * 1e6,
        PARALLEL.title: many["rate"],
        EACH.title: many["cpu"][0] * 1e6,
        ALLOCATIONS.title: many["allocations"],
        ALLOCATED.title: many["bytes"],
    }


def _titled(figures: Sequence[Figure], seconds: Sequence[float]) -> Sample:
    return {figure.title: each * 1e6 for figure, each in zip(figures, seconds, strict=True)}


def _case(name: str, measure: Any, library: str, peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        sample: Sample = measure(server, library, scale.seconds)
        return sample

    return Case(name, run, peer)


def _alone(name: str, role: str, library: str, kind: str = "single") -> Case:
    return Case(name, lambda _, scale: measure_alone(role, library, kind, scale.seconds))


def _answers_alone(name: str, library: str) -> Case:
    return Case(name, lambda _, scale: measure_answers_alone(library, scale.seconds))


_THEIRS = "nats.go, nats-server"
_RAW_THEIRS = f"{_THEIRS}, raw"

SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="go_one_to_one",
        title="Go: one publisher, one subscriber",
        text="Publisher, server and subscriber are three processes, on two cores. Publishing goes "
        "on for a second; the time is that from the first message published to the last one "
        "received, with at most 20,000 under way. Both libraries gather what waits; a single "
        "message is never delayed. JSON is made of a struct, and decoded into one, by "
        "encoding/json. The processor time is that of each process for each message: it shows "
        "whose share it is.",
        figures=(RATE, *CPU),
        cases=(
            _case("kps, kps serve", measure_flow, "kps", KPS),
            _case(_THEIRS, measure_flow, "nats", NATS),
        ),
        reference=_THEIRS,
    ),
    Scenario(
        name="go_raw",
        title="Go: the same with raw payloads",
        text="The payload is JSON already, and is not decoded, so that the libraries are all "
        "that works. kps checks that it is JSON, at either end.",
        figures=(RATE, *CPU),
        cases=(
            _case("kps, kps serve, raw", measure_flow, "kps-raw", KPS),
            _case(_RAW_THEIRS, measure_flow, "nats-raw", NATS),
        ),
        reference=_RAW_THEIRS,
    ),
    Scenario(
        name="go_send",
        title="Go: a publisher alone",
        text="A client publishes for a second to a server in another process that takes "
        "everything and does not look at it. Processor time and allocations are those of the "
        "client's process alone, for each message.",
        figures=(RATE, EACH, ALLOCATIONS, ALLOCATED),
        cases=(
            _alone("kps", "send", "kps"),
            _alone("nats.go", "send", "nats"),
        ),
        reference="nats.go",
    ),
    Scenario(
        name="go_send_raw",
        title="Go: a publisher alone, with raw payloads",
        text="The same without encoding/json.",
        figures=(RATE, EACH, ALLOCATIONS, ALLOCATED),
        cases=(
            _alone("kps, raw", "send", "kps-raw"),
            _alone("nats.go, raw", "send", "nats-raw"),
        ),
        reference="nats.go, raw",
    ),
    Scenario(
        name="go_receive",
        title="Go: a subscriber alone",
        text="A client gets messages from a server in another process that writes the same bytes "
        "again and again, as long as no more than 20,000 messages are under way: to kps 100 in a "
        "batch, or each in a frame of its own. Processor time and allocations are again those of "
        "the client's process.",
        figures=(RATE, EACH, ALLOCATIONS, ALLOCATED),
        cases=(
            _alone("kps, batches", "receive", "kps", "batches"),
            _alone("kps, one by one", "receive", "kps"),
            _alone("nats.go", "receive", "nats"),
        ),
        reference="nats.go",
    ),
    Scenario(
        name="go_receive_raw",
        title="Go: a subscriber alone, with raw payloads",
        text="The same without encoding/json.",
        figures=(RATE, EACH, ALLOCATIONS, ALLOCATED),
        cases=(
            _alone("kps, batches, raw", "receive", "kps-raw", "batches"),
            _alone("kps, one by one, raw", "receive", "kps-raw"),
            _alone("nats.go, raw", "receive", "nats-raw"),
        ),
        reference="nats.go, raw",
    ),
    Scenario(
        name="go_round_trip",
        title="Go: round trip",
        text="A client publishes a message on a topic to which it subscribes, waits until its "
        "callback has it, publishes the next one, for a second. Then it publishes one to nobody, "
        "waits until the server has handled it, and so on: with a receipt (kps), or followed by a "
        "flush (nats.go).",
        figures=(ROUND, ROUND_P99, CONFIRMED),
        cases=(
            _case("kps, kps serve", measure_round_trip, "kps", KPS),
            _case(_THEIRS, measure_round_trip, "nats", NATS),
        ),
        reference=_THEIRS,
    ),
    Scenario(
        name="go_requests",
        title="Go: requests and acks",
        text="A client asks, another one in another process handles it, and the answer comes back "
        "through the server: a request, or a publication with an ack whose outcomes are waited "
        f"for. One at a time for a second, then {MANY} under way from as many goroutines.",
        figures=(REQUEST, SEQUENTIAL, PARALLEL, *REQUEST_CPU),
        cases=(
            _case("kps, requests", measure_requests, "kps", KPS),
            _case("kps, publications with ack", measure_requests, "kps-ack", KPS),
            _case(_THEIRS, measure_requests, "nats", NATS),
        ),
        reference=_THEIRS,
    ),
    Scenario(
        name="go_answers_alone",
        title="Go: round trips and requests, a client alone",
        text="The same with a server in another process that brings back each publication and "
        "answers each request itself, and does next to nothing besides. Processor time and "
        f"allocations are those of the asking client's process, for each of {MANY} requests under "
        "way.",
        figures=(ROUND, REQUEST, PARALLEL, EACH, ALLOCATIONS, ALLOCATED),
        cases=(
            _answers_alone("kps", "kps"),
            _answers_alone("nats.go", "nats"),
        ),
        reference="nats.go",
    ),
)
