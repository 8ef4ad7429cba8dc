"""What the soak says in the end: sums, memory, and a picture."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from chart import INK, OURS, QUIET, RULE
from machine import machine

MIB = 2**20
SHORTEST = 600
"""Seconds below which a run says nothing about growth: memory pools still fill."""
GROWTH = 1 * MIB
"""What memory may grow by over the last two thirds of a run, by the fitted line, and be flat."""

CRITERION = (
    "A line is fitted (least squares) to the resident memory over the last two thirds of the run. "
    "Memory counts as flat if that line rises by less than 1 MiB from its beginning to its end."
)
COLORS = (OURS, "#c1662c", "#3c8d5a", "#8a5aa8", QUIET, "#b0a030")


@dataclass
class Sample:
    """One look at all processes."""

    at: float
    """Seconds since the beginning."""
    memory: dict[str, int]
    """Resident, in bytes, by process."""
    descriptors: dict[str, int]
    published: int
    """By the first three servers so far."""
    delivered: int
    lag: float
    """How late the event loop of the clients was at most, in seconds."""
    round_trip: float
    """The longest of one ping a second to each server, in seconds."""


@dataclass
class Outcome:
    """A run of the soak."""

    driver: str
    minutes: float
    samples: list[Sample] = field(default_factory=list)
    deliveries: dict[str, dict[str, int]] = field(default_factory=dict)
    """Where messages ended, by policy of the server."""
    others: dict[str, dict[str, int]] = field(default_factory=dict)
    """What else there was."""
    features: dict[str, int] = field(default_factory=dict)
    """What there was at the server that has history, presence and groups."""
    failures: list[str] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    """Cores that each process used on average."""


@dataclass(frozen=True)
class Growth:
    """A line through the last two thirds of what a process held."""

    mean: float
    rise: float
    """From the line's beginning to its end, in bytes."""
    seconds: float

    @property
    def is_flat(self) -> bool:
        return self.rise < GROWTH

    @property
    def is_known(self) -> bool:
        return self.seconds >= SHORTEST * 2 / 3


def growth(samples: Sequence[Sample], name: str) -> Growth:
    """Fit the line for one process."""
    latest = samples[len(samples) // 3 :]
    times = np.array([sample.at for sample in latest])
    memory = np.array([sample.memory[name] for sample in latest], float)
    seconds = float(times[-1] - times[0])
    slope = float(np.polyfit(times - times[0], memory, 1)[0]) if seconds else 0.0
    return Growth(float(memory.mean()), slope * seconds, seconds)


def render(outcome: Outcome) -> str:
    """Everything as one Markdown document."""
    samples = outcome.samples
    lines = [
        "# Soak",
        "",
        f"Made by `make soak` on {datetime.date.today():%Y-%m-%d}: {outcome.minutes:g} minutes, "
        f"`{outcome.driver}` driver, kps {version('kps')}, {machine()}. {_verdict(outcome)}",
        "",
        "Three servers run, one under each slow-consumer policy, with the same traffic on each: "
        "single messages and batches from three publishers on both levels (asyncio and blocking), "
        "direct messages, ack requests, receipts, relays from one server to the next, refused "
        "messages; clients that come, subscribe, have a topic of their own for a moment, and leave "
        "in an orderly way, without a word or by a reset; a process with subscriptions that is "
        "killed every few seconds while it reads and publishes; a process of slow readers that is "
        "stopped by a signal for 12 of every 40 seconds, so that their queues overflow; and a "
        "hostile process, whose clients flood the servers with tiny publications, mistakes, pings, "
        "fragments and topics, or never read what comes for them.",
        "",
        "A fourth server keeps history, and has presence and groups. Clients read streams by "
        "topics and patterns, and their connections are reset every few seconds; one history is "
        "longer than all absences, and one is shorter than some. Two callers ask for jobs, and one "
        "of them, whose messages have ids, also sends receipts and direct requests, while its "
        "connection is reset with calls under way. Five members of a group do the jobs: one of "
        "them is slow, one fails at some, and one leaves the group and joins it again. Three more, "
        "two of which lose their connections too, are in a process that is killed every ten "
        "seconds, often after it was stopped for a while, together with a reader that goes on at "
        "the place that it has noted, and a publisher that sends again what it has not noted. "
        "Guests come to topics whose members are observed, and go in all ways that observers are "
        "told apart.",
        "",
        "![memory, descriptors and rates over time](soak.svg)",
        "",
        "## The books",
        "",
        "Every message has a number. Subscribers that stay must have every number in order, and "
        "what they miss must be what the server counted as dropped for them. For clients that come "
        "and go, receipts tell how often each message was queued; what did not arrive may only be "
        "the end of what went to a connection that broke. Each ack request must end with one "
        "outcome for each subscriber that was asked. At the end the server's own figures must be "
        "what the clients sent, had, missed and were refused, and a server must have no client, "
        "topic, descriptor, task, thread or object more than before the first of them came.",
        "",
        *_table("deliveries, by policy of the server", outcome.deliveries),
        "",
        "What was on its way when a connection broke cannot be known to either end; here it is the "
        "difference between receipts and arrivals, which must begin where the subscriber's own "
        "account ends.",
        "",
        *_table("besides", outcome.others),
        "",
        "At the fourth server each subscription must have every number once and in order, but for "
        "what the client was told is lost, and each connection must have each message once, "
        "however many patterns have it. Every call with a message id must succeed, and be handled "
        "once. Each job must have one outcome, a success. No attempt at it may begin twice, also "
        "in a process that is killed then, so a job that is repeated tells it by an `attempt` "
        "above 1. An observer must be told what each guest has done, and know the members that "
        "the server tells others at the same version.",
        "",
        *_table("features", {"features": outcome.features}),
        "",
    ]
    if outcome.failures:
        lines += ["**What does not match:**", ""]
        lines += [f"- {failure}" for failure in outcome.failures]
        lines += [""]
    lines += ["## Memory", "", CRITERION, ""]
    lines += [
        "| | mean | rise of the line | in MiB an hour | | processor |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for name in samples[0].memory if samples else ():
        found = growth(samples, name)
        an_hour = found.rise / found.seconds * 3600 / MIB if found.seconds else 0.0
        verdict = (
            ("flat" if found.is_flat else "**grows**") if found.is_known else "too short a run"
        )
        lines.append(
            f"| {name} | {found.mean / MIB:.1f} MiB | {found.rise / 1024:+,.0f} KiB "
            f"| {an_hour:+.2f} | {verdict} | {outcome.cpu.get(name, 0) * 100:.0f} % of a core |"
        )
    lines += [""]
    if samples:
        lags = sorted(sample.lag for sample in samples)
        trips = sorted(sample.round_trip for sample in samples)
        lines += [
            f"The event loop of the clients was late by {_middle(lags)} in the median of the "
            f"{len(samples)} samples (the longest in each), at most {lags[-1] * 1000:.0f} ms; the "
            f"longest round trip to a server took {_middle(trips)}, at most "
            f"{trips[-1] * 1000:.0f} ms. All processes together took "
            f"{sum(outcome.cpu.values()) * 100:.0f} % of a core.",
            "",
        ]
    return "\n".join(lines)


def _table(title: str, columns: Mapping[str, Mapping[str, int]]) -> list[str]:
    names = dict.fromkeys(name for column in columns.values() for name in column)
    lines = [
        f"| {title} | " + " | ".join(f"`{column}`" for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for name in names:
        cells = [f"{column[name]:,}" for column in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _middle(values: Sequence[float]) -> str:
    return f"{values[len(values) // 2] * 1000:.1f} ms"


def _verdict(outcome: Outcome) -> str:
    if outcome.failures:
        return f"**{len(outcome.failures)} things do not match.**"
    deliveries = sum(sums["for subscribers"] for sums in outcome.deliveries.values())
    return f"All {deliveries:,} deliveries are accounted for, with nothing left over."


def draw(outcome: Outcome, path: Path) -> None:
    """Draw memory, descriptors, rates and delays over time."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    samples = outcome.samples
    minutes = [sample.at / 60 for sample in samples]
    panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]] = (
        ("Resident memory, MiB", _by_process(samples, lambda s: s.memory, MIB)),
        ("Open descriptors", _by_process(samples, lambda s: s.descriptors, 1)),
        (
            "Messages a second, the first three servers together",
            {
                "published": _rates(samples, lambda s: s.published),
                "delivered": _rates(samples, lambda s: s.delivered),
            },
        ),
        (
            "Longest delay in each sample, ms",
            {
                "round trip to a server": [sample.round_trip * 1000 for sample in samples],
                "clients' event loop": [sample.lag * 1000 for sample in samples],
            },
        ),
    )
    with pyplot.rc_context({"font.family": "sans-serif", "font.size": 9.5, "text.color": INK}):
        figure, axes = pyplot.subplots(
            len(panels), 1, sharex=True, figsize=(10, 11), layout="constrained", facecolor="white"
        )
        figure.suptitle(
            f"{outcome.minutes:g} minutes of mixed traffic, {outcome.driver} driver",
            fontsize=14,
            fontweight="bold",
            x=0.01,
            ha="left",
        )
        for one, (title, lines) in zip(axes, panels, strict=True):
            _panel(one, title, minutes, lines)
        axes[-1].set_xlabel("minutes", color=QUIET)
        figure.savefig(path)
        pyplot.close(figure)


def _panel(axes: Any, title: str, minutes: Sequence[float], lines: Mapping[str, Any]) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(length=0, colors=INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    for (name, values), color in zip(lines.items(), COLORS, strict=False):
        axes.plot(minutes[-len(values) :], values, color=color, linewidth=1.1, label=name)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _by_process(
    samples: Sequence[Sample], find: Callable[[Sample], dict[str, int]], unit: int
) -> dict[str, list[float]]:
    names = list(find(samples[0])) if samples else []
    return {name: [find(sample)[name] / unit for sample in samples] for name in names}


def _rates(samples: Sequence[Sample], find: Callable[[Sample], int]) -> list[float]:
    return [
        (find(after) - find(before)) / (after.at - before.at) for before, after in pairwise(samples)
    ]
