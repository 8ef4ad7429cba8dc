"""A server of several processes under traffic while these die, stand still and are restarted.

``--over workers``: `kps serve --workers 3`. ``--over nats``: three nodes over a NATS server, with a
balancer in front of them, and the engine is struck as well. A fault strikes every few seconds, as a
seed decides. When all processes are together again, everything must be as if nothing had happened;
what may be lost is only what was under way. It exits with 1 if not, or if memory grows.

    python benchmarks/soak_nodes.py --over workers --minutes 10
    python benchmarks/soak_nodes.py --over nats --minutes 10
    python benchmarks/soak_nodes.py --write      # both, and keep soak_nodes.md
"""

import argparse
import asyncio
import datetime
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from machine import machine
from soak_nodes_servers import Nodes, Several, Workers
from soak_nodes_traffic import Traffic
from soak_report import SHORTEST, Sample, growth

HERE = Path(__file__).parent
KINDS: dict[str, type[Several]] = {"workers": Workers, "nats": Nodes}

REST = (3.0, 6.0)
"""Seconds between the moment when all is whole again, and the next fault."""
SAMPLE_EVERY = 2.0
MIB = 2**20


@dataclass
class Outcome:
    """A run."""

    over: str
    minutes: float
    faults: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)
    """By fault, the longest time in seconds until all was whole again."""


async def soak(over: str, minutes: float, seed: int) -> Outcome:
    """Run for so long."""
    chance = random.Random(seed)
    outcome = Outcome(over, minutes)
    began = time.monotonic()
    async with KINDS[over]() as servers:
        await servers.whole()
        async with Traffic(servers.url) as traffic, sampling(servers, outcome):
            await traffic.settle()
            while time.monotonic() < began + minutes * 60:
                await traffic.calm(chance.uniform(*REST))
                name, strike = chance.choice(list(servers.faults.items()))
                outcome.faults[name] += 1
                struck = time.monotonic()
                traffic.disturb(name)
                await strike(chance)
                await servers.whole()
                await traffic.settle()
                took = time.monotonic() - struck
                outcome.longest[name] = max(outcome.longest.get(name, 0.0), took)
            await traffic.finish()
        outcome.counts = traffic.counts()
        outcome.failures += traffic.failures
        outcome.failures += await servers.end()
    outcome.failures += faults_of_memory(outcome)
    return outcome


def faults_of_memory(outcome: Outcome) -> list[str]:
    """Tell which processes grow, and of which that is not known though the run was long enough."""
    is_long = outcome.minutes * 60 >= SHORTEST + 4 * SAMPLE_EVERY
    if not outcome.samples:
        return ["nobody has looked at the memory"] if is_long else []
    faults = []
    for name in outcome.samples[-1].memory:
        found = growth(outcome.samples, name)
        if found.is_known and not found.is_flat:
            faults.append(f"{name}: memory grows by {found.rise / MIB:.1f} MiB")
        elif is_long and not found.is_known:
            faults.append(f"{name}: its memory is known for {found.seconds:.0f} s only")
    return faults


@asynccontextmanager
async def sampling(servers: Several, outcome: Outcome) -> AsyncIterator[None]:
    """Look at the memory of those processes that are never killed."""
    began = time.monotonic()

    async def look() -> None:
        while True:
            await asyncio.sleep(SAMPLE_EVERY)
            memory = servers.memory()
            at = time.monotonic() - began
            outcome.samples.append(Sample(at, memory, {}, 0, 0, 0.0, 0.0))

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking  # which raises what it has met


def render(outcomes: list[Outcome]) -> str:
    """What happened, as Markdown."""
    lines = [
        "# Soak of several processes",
        "",
        f"Made by `python benchmarks/soak_nodes.py --write` on {datetime.date.today():%Y-%m-%d}: "
        f"kps {version('kps')}, {machine()}.",
        "",
        "Three workers, or three nodes over NATS behind a balancer, have steady traffic: a stream "
        "without history and one with it, ack requests to all and to ids, jobs for a group, an id "
        "that one client after the other takes over, and presence. Every few seconds a process is "
        "killed, stopped (SIGSTOP) for less or for more than the silence after which nodes give "
        "each other up, or restarted; over NATS the engine is, too. Once all are together again, "
        "each subscriber must hear each node, each id must have one holder, presence must tell who "
        "is there, and nothing is lost until the next fault. In all that time nothing comes twice "
        "or out of order, each ack request ends with one outcome for each who was asked, and no "
        "job is done more often than attempts were told.",
        "",
    ]
    for outcome in outcomes:
        samples = outcome.samples
        verdict = "**what does not match is below**" if outcome.failures else "all of this held"
        lines += [f"## Over {outcome.over}", "", f"{outcome.minutes:g} minutes; {verdict}.", ""]
        lines += ["| fault | times | whole again after, at most |", "|---|---:|---:|"]
        for name, times in sorted(outcome.faults.items()):
            lines.append(f"| {name} | {times} | {outcome.longest[name]:.1f} s |")
        lines += ["", "| what there was | |", "|---|---:|"]
        lines += [f"| {name} | {count:,} |" for name, count in outcome.counts.items()]
        lines += [
            "",
            "| memory of who is never killed | mean | rise |",
            "|---|---:|---:|",
        ]
        for name in samples[-1].memory if samples else ():
            found = growth(samples, name)
            verdict = ("flat" if found.is_flat else "**grows**") if found.is_known else "short run"
            rise = f"{found.rise / 1024:+,.0f} KiB ({verdict})"
            lines.append(f"| {name} | {found.mean / MIB:.1f} MiB | {rise} |")
        lines += ["", *(f"- {failure}" for failure in outcome.failures[:40]), ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--over", choices=KINDS, action="append", help="default: both")
    parser.add_argument("--minutes", type=float, default=12.0, help="for each; default: 12")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--write", action="store_true", help="keep soak_nodes.md")
    options = parser.parse_args()
    logging.getLogger("kps").setLevel(logging.CRITICAL)  # of connections that end
    outcomes = []
    for over in options.over or KINDS:
        print(f"{over}, seed {options.seed}", flush=True)
        outcomes.append(asyncio.run(soak(over, options.minutes, options.seed)))
    text = render(outcomes)
    print(text)
    if options.write:
        (HERE / "soak_nodes.md").write_text(text)
    sys.exit(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    main()
