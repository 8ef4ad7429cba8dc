"""Groups: how fast their members answer, and how a slow one is spared."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from model import Case, Figure, Sample, Scale, Scenario
from peers import HERE, KPS, Server
from processes import Process
from scenarios.answers import PARALLEL, PARALLEL_CPU, SEQUENTIAL
from scenarios.flow import worker

TIME = Figure("time for all", "s", more_is_better=False)
SLOW = Figure("jobs of the slow one", has_ratio=False)
OTHERS = Figure("jobs of each other", has_ratio=False)

_EACH = 0.005  # seconds that a job takes
_TIMES_SLOWER = 10

_ONE = "one subscriber"
_EQUAL = "four equal workers"


def _process(*arguments: object) -> Process:
    return Process(sys.executable, str(HERE / "pool.py"), *map(str, arguments))


def _pool(
    stack: ExitStack, server: Server, group: str, concurrency: int, seconds: Sequence[float]
) -> list[Process]:
    """Start members, and wait until all are there."""
    pool = [
        stack.enter_context(
            _process("member", server.address, f"member-{n}", group, concurrency, each)
        )
        for n, each in enumerate(seconds)
    ]
    for process in pool:
        process.report()
    return pool


def measure_rate(
    server: Server, group: str, members: int, concurrency: int, seconds: float
) -> Sample:
    with ExitStack() as stack:
        pool = _pool(stack, server, group, concurrency, [0] * members)
        others = server.process.pid, *(process.pid for process in pool)
        asker = stack.enter_context(worker("ask", "kps", server.address, seconds, 100, *others))
        found = asker.report()
    return {
        SEQUENTIAL.title: found["sequential"]["rate"],
        PARALLEL.title: found["parallel"]["rate"],
        PARALLEL_CPU.title: found["parallel"]["cpu"] * 1e6,
    }


def measure_fairness(server: Server, slowest: float, how: str, jobs: int) -> Sample:
    with ExitStack() as stack:
        _pool(stack, server, "workers", 1, [slowest, _EACH, _EACH, _EACH])
        found = stack.enter_context(_process("give", server.address, jobs, how)).report()
    done = found["jobs"]
    slow = done.pop("member-0")
    return {TIME.title: found["seconds"], SLOW.title: slow, OTHERS.title: sum(done.values()) / 3}


def _rate(name: str, group: str, members: int, concurrency: int) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure_rate(server, group, members, concurrency, scale.seconds)

    return Case(name, run, KPS)


def _fairness(name: str, slowest: float, how: str) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure_fairness(server, slowest, how, scale.count(400, 40))

    return Case(name, run, KPS)


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="groups",
        title="Acks of a group",
        text="A client asks, and one member of a group, which is a process of its own, handles "
        "it. One at a time for a second, then 100 under way for a second. The processor time is "
        "that of all processes together, for each answer. With so short jobs it is that of the "
        "machine that bounds the rate: four members do not answer more than one.",
        figures=(SEQUENTIAL, PARALLEL, PARALLEL_CPU),
        cases=(
            _rate(_ONE, "", 1, 1),
            _rate("group of one, concurrency 100", "workers", 1, 100),
            _rate("group of four, concurrency 25", "workers", 4, 25),
            _rate("group of four, concurrency 1", "workers", 4, 1),
        ),
        reference=_ONE,
    ),
    Scenario(
        name="groups_slow",
        title="A group with a slow member",
        text=f"400 jobs at once for a group of four, each of which waits {_EACH * 1e3:.0f} ms; one "
        f"member takes {_TIMES_SLOWER} times as long. With acks each job goes to the member with "
        "the least to do. Without, the members take turns, as in a round robin; they tell the "
        "publisher what they have done. At best one slow member makes the time "
        f"{4 / (3 + 1 / _TIMES_SLOWER):.2f} times as long.",
        figures=(TIME, SLOW, OTHERS),
        cases=(
            _fairness(_EQUAL, _EACH, "acks"),
            _fairness("one of them slow", _EACH * _TIMES_SLOWER, "acks"),
            _fairness("one of them slow, in turn", _EACH * _TIMES_SLOWER, "turns"),
        ),
        reference=_EQUAL,
        most_rounds=3,
    ),
)
