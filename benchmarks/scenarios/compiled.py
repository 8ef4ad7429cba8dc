"""The compiled core beside the pure one, which the other scenarios measure."""

import os
import sys
from collections.abc import Callable, Sequence

from model import Case, Figure, Sample, Scale, Scenario
from peers import HERE, NATS, THIS_PYTHON, Server, kps_serve
from processes import Failed, NotInstalled, Process
from scenarios import fan_out
from scenarios.answers import (
    P50,
    P99,
    PARALLEL,
    PARALLEL_CPU,
    SEQUENTIAL,
    SEQUENTIAL_CPU,
    measure_requests,
    measure_round_trip,
)
from scenarios.core import LEVEL_1, LEVEL_2, STEPS
from scenarios.flow import CPU, RATE, measure

FOLDER = os.environ.get("KPS_COMPILED", "")
"""Where a compiled wheel is unpacked."""

# Nothing of the folder in which the benchmarks are started may come before what is compiled.
_COMPILED = ("env", "PYTHONSAFEPATH=1", f"PYTHONPATH={FOLDER}:{HERE}", sys.executable)

BUILDS = {"pure": THIS_PYTHON, "compiled": _COMPILED}


def _require(build: str) -> Sequence[str]:
    """How programs of a build are run, if it is there."""
    if build == "compiled" and not FOLDER:
        raise NotInstalled("not there: make bench-compiled")
    command = "import kps.protocol.build as b; print(b.BUILD)"
    with Process(*BUILDS[build], "-c", command) as process:
        found = process.wait_for(lambda line: True)
    if found != build:
        raise Failed(f"this is the {found} build")
    return BUILDS[build]


Measure = Callable[[Server, str, Scale, Sequence[str]], Sample]
"""Measures a client library with its server, in processes that are run so."""


def _flow(pairs: int) -> Measure:
    return lambda server, library, scale, python: measure(
        server, library, pairs, scale.seconds, python
    )


def _round_trip(server: Server, library: str, scale: Scale, python: Sequence[str]) -> Sample:
    return measure_round_trip(server, library, scale.seconds, python)


def _requests(server: Server, library: str, scale: Scale, python: Sequence[str]) -> Sample:
    return measure_requests(server, library, scale.seconds / 2, python)


def _clients(
    name: str,
    title: str,
    text: str,
    figures: Sequence[Figure],
    measured: Measure,
    *,
    has_blocking: bool = True,
) -> Scenario:
    """Client to client: both builds on both levels, and nats-py."""

    def case(build: str, library: str, level: str) -> Case:
        def run(server: Server | None, scale: Scale) -> Sample:
            assert server is not None
            return measured(server, library, scale, _require(build))

        peer = kps_serve(f"kps serve, {build}", python=BUILDS[build])
        return Case(f"kps, {build}{level}", run, peer)

    def reference(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measured(server, "nats", scale, THIS_PYTHON)

    return Scenario(
        name=name,
        title=title,
        text=text,
        figures=figures,
        cases=(
            *(case(build, "kps", "") for build in BUILDS),
            *(case(build, "kps-level-1", ", level 1") for build in BUILDS),
            *(case(build, "kps.sync", ", kps.sync") for build in BUILDS if has_blocking),
            Case("nats-py, nats-server", reference, NATS),
        ),
        reference="nats-py, nats-server",
    )


def _servers(subscribers: int) -> Scenario:
    """The server alone."""

    def case(build: str, level: int) -> Case:
        peer = kps_serve(f"kps serve, {build}", level=level, python=BUILDS[build])

        def run(server: Server | None, scale: Scale) -> Sample:
            assert server is not None
            _require(build)
            return fan_out.measure(server, peer, subscribers, scale.seconds)

        return Case(f"{peer.name}, level {level}", run, peer)

    def reference(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return fan_out.measure(server, NATS, subscribers, scale.seconds)

    to = "1 subscriber" if subscribers == 1 else f"{subscribers} subscribers"
    return Scenario(
        name=f"compiled_fan_out_{subscribers}",
        title=f"The server alone, compiled: 1 publisher, {to}",
        text=f"As `fan_out_{subscribers}`.",
        figures=(fan_out.RATE,),
        cases=[
            *(case(build, level) for level in (2, 1) for build in BUILDS),
            Case(NATS.name, reference, NATS),
        ],
        reference=NATS.name,
    )


def _step(build: str, step: str) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        with Process(*_require(build), str(HERE / "core_step.py"), step) as process:
            return process.report()

    return Case(f"{step}, {build}", run)


SCENARIOS: Sequence[Scenario] = (
    _clients(
        "compiled_one_to_one",
        "Compiled: one publisher, one subscriber",
        "As `one_to_one`. The server and both clients are of the build that the row names; "
        "kps.sync is the blocking client.",
        (RATE, *CPU),
        _flow(1),
    ),
    _clients(
        "compiled_many_to_many",
        "Compiled: 100 publishers, 100 subscribers, 100 topics",
        "As `many_to_many`.",
        (RATE, *CPU),
        _flow(100),
        has_blocking=False,
    ),
    _clients(
        "compiled_round_trip",
        "Compiled: round trip",
        "As `round_trip`.",
        (P50, P99),
        _round_trip,
    ),
    _clients(
        "compiled_requests",
        "Compiled: acks and requests",
        "As `requests`.",
        (SEQUENTIAL, PARALLEL, SEQUENTIAL_CPU, PARALLEL_CPU),
        _requests,
    ),
    _servers(1),
    _servers(200),
    Scenario(
        name="compiled_core",
        title="Compiled: what a message costs in the core",
        text="As `core`, each step in a process of its own.",
        figures=(LEVEL_1, LEVEL_2),
        cases=[_step(build, step) for step in STEPS for build in BUILDS],
    ),
)
