"""Results as one picture."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

from model import Figure, Outcome, Result
from report import number

INK = "#1c2330"
QUIET = "#6b7482"
RULE = "#dfe3e8"
OURS = "#1f6fb4"
OURS_TOO = "#8fbbe0"
THEIRS = "#b9bfc7"

BAR = 0.27  # inches
HEAD = 0.62
GAP = 0.34
WIDTH = 6.1
LABELS = 1.95
MARGIN = 0.45
LOG_FROM = 25
"""The ratio of the longest bar to the shortest from which a scale is logarithmic."""


@dataclass(frozen=True)
class Panel:
    """One group of bars."""

    scenario: str
    title: str
    figure: int = 0
    note: str = ""
    without: Collection[str] = ()
    """The beginnings of cases that are only in the table, so that the bars stay few."""


_VARIANTS = (
    "kps, asyncio's loop",
    "nats-py, asyncio's loop",
    "kps, plain callback in threads",
    "kps.sync, inline",
)

COLUMNS: Sequence[Sequence[Panel]] = (
    (
        Panel(
            "one_to_one",
            "One publisher, one subscriber",
            note="client library to client library",
            without=(*_VARIANTS, "redis-py, redis-server"),
        ),
        Panel("many_to_many", "100 publishers, 100 subscribers, 100 topics"),
        Panel("requests", "Acks and requests, one at a time", without=_VARIANTS),
        Panel("requests", "Acks and requests, 100 under way", 1, without=_VARIANTS),
        Panel("round_trip", "Round trip, p50"),
        Panel("import", "Importing a client library"),
    ),
    (
        Panel("fan_out_1", "The server alone, 1 subscriber"),
        Panel("fan_out_200", "The server alone, 200 subscribers"),
        Panel("idle", "Server memory for each of 10,000 idle connections", 1),
        Panel("idle", "Processor time of 10,000 idle connections", 3),
        Panel("client_memory", "Memory of a client", note="beyond a bare interpreter"),
        Panel("start", "Starting a server", note="until its first client is connected"),
    ),
)

GROWTH = (
    ("core_subscribers", 1, "by subscribers"),
    ("core_connections", 1, "by connections"),
    ("core_topics", 1, "by topics"),
)


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw the panels of what was run."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = {result.scenario.name: result for result in results}
    columns = [
        [(panel, bars) for panel in column if (bars := _bars(found.get(panel.scenario), panel))]
        for column in COLUMNS
    ]
    columns = [column for column in columns if column] or [[]]
    growth = [entry for entry in GROWTH if entry[0] in found]
    heights = [sum(HEAD + BAR * len(bars) + GAP for _, bars in column) for column in columns]
    if growth:
        heights[-1] += HEAD + 2.1 + GAP
    width = MARGIN + len(columns) * (WIDTH + MARGIN)
    height = max(heights) + 2 * MARGIN + 0.75
    with pyplot.rc_context({"font.family": "sans-serif", "font.size": 9.5, "text.color": INK}):
        canvas = pyplot.figure(figsize=(width, height), facecolor="white")
        sheet = Sheet(canvas, width, height)
        sheet.write(MARGIN, MARGIN, "KPS beside its peers", size=17, weight="bold")
        sheet.write(
            MARGIN,
            MARGIN + 0.38,
            "Medians, with the lowest and highest round as a thin line. Figures and methods: "
            "results.md",
            color=QUIET,
        )
        for place, column in enumerate(columns):
            left = MARGIN + place * (WIDTH + MARGIN)
            top = MARGIN + 0.75
            for panel, bars in column:
                figure = found[panel.scenario].scenario.figures[panel.figure]
                _draw_bars(sheet, left, top, panel, figure, bars)
                top += HEAD + BAR * len(bars) + GAP
            if growth and place == len(columns) - 1:
                _draw_growth(sheet, left, top, found, growth)
        canvas.savefig(path)
        pyplot.close(canvas)


class Sheet:
    """A figure that is laid out in inches from its upper left corner."""

    def __init__(self, canvas: Any, width: float, height: float) -> None:
        self._canvas = canvas
        self._width = width
        self._height = height

    def write(self, left: float, top: float, text: str, **options: Any) -> None:
        x, y = left / self._width, 1 - top / self._height
        self._canvas.text(x, y, text, va="top", **options)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        bottom = 1 - (top + height) / self._height
        box = (left / self._width, bottom, width / self._width, height / self._height)
        axes = self._canvas.add_axes(box)
        for side in ("top", "right", "bottom", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=0, colors=INK)
        return axes


def _bars(result: Result | None, panel: Panel) -> list[Outcome]:
    if result is None:
        return []
    figure = result.scenario.figures[panel.figure]
    if not any(outcome.values(figure) for outcome in result.outcomes.values()):
        return []
    return [
        outcome
        for outcome in result.outcomes.values()
        if (outcome.values(figure) or (outcome.failures and not outcome.samples))
        and not outcome.case.startswith(tuple(panel.without))
    ]


def _draw_bars(
    sheet: Sheet, left: float, top: float, panel: Panel, figure: Figure, bars: Sequence[Outcome]
) -> None:
    medians = [outcome.median(figure) or 0.0 for outcome in bars]
    known = [median for median in medians if median > 0] or [1.0]
    is_log = max(known) / min(known) > LOG_FROM
    unit = figure.unit or figure.title.rpartition(", ")[2]
    aim = "more is better" if figure.more_is_better else "less is better"
    notes = [panel.note, unit, aim, "logarithmic scale" if is_log else ""]
    sheet.write(left, top, panel.title, size=11, weight="bold")
    sheet.write(left, top + 0.24, " · ".join(filter(None, notes)), size=8.5, color=QUIET)
    room = WIDTH - LABELS
    axes = sheet.axes(left + LABELS, top + HEAD - 0.1, room, BAR * len(bars))
    start = min(known) / 3 if is_log else 0.0
    if is_log:
        axes.set_xscale("log")
    # Room on the right for the figures.
    longest = max(known)
    axes.set_xlim(start or 0.0, longest * (longest / start) ** 0.32 if is_log else longest * 1.32)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xticks([])
    axes.minorticks_off()
    axes.set_yticks(range(len(bars)), [outcome.case for outcome in bars])
    axes.axvline(start or 0.0, color=INK, linewidth=1.2)
    for row, (outcome, median) in enumerate(zip(bars, medians, strict=True)):
        values = outcome.values(figure)
        axes.barh(row, median - start, left=start, height=0.66, color=_color(row, outcome.case))
        end = median
        if len(values) > 1:
            axes.plot([min(values), max(values)], [row, row], color=INK, linewidth=0.9)
            end = max(values)
        text = f"{number(median)} {figure.unit.partition(' ')[0]}" if values else "failed"
        axes.annotate(
            text,
            (max(end, start), row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold" if row == 0 else "normal",
            color=INK if values else QUIET,
        )


def _draw_growth(
    sheet: Sheet,
    left: float,
    top: float,
    found: dict[str, Result],
    growth: Sequence[tuple[str, int, str]],
) -> None:
    sheet.write(left, top, "A delivery in the core, as the server grows", size=11, weight="bold")
    note = "ns for each delivery, level 2, in memory · less is better · logarithmic scales"
    sheet.write(left, top + 0.24, note, size=8.5, color=QUIET)
    axes = sheet.axes(left + 0.45, top + HEAD, WIDTH - 1.75, 1.75)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(5, 2000)
    axes.minorticks_off()
    axes.set_yticks([10, 100, 1000], ["10", "100", "1,000"])
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    names = ("1", "10", "100", "1,000", "10,000", "100,000", "1 million")
    axes.set_xticks([10**power for power in range(len(names))], names, fontsize=8.5)
    for (name, column, label), color in zip(growth, (OURS, QUIET, OURS_TOO), strict=False):
        result = found[name]
        figure = result.scenario.figures[column]
        points = [
            (int(case.replace(",", "")), median)
            for case, outcome in result.outcomes.items()
            if (median := outcome.median(figure)) is not None
        ]
        axes.plot(
            *zip(*points, strict=True), color=color, marker="o", markersize=3.5, linewidth=1.8
        )
        axes.annotate(
            label,
            points[-1],
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )


def _color(row: int, case: str) -> str:
    if case.startswith("kps"):
        return OURS if row == 0 else OURS_TOO
    return THEIRS
