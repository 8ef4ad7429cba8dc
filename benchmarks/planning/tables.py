"""Figures as tables, and their places in a page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

MILLION = 1_000_000

_BEND = 0.05  # off a line, from which a table says so

_PLACE = "<!-- plan: {} -->\n"


@dataclass
class Table:
    """A table with a name, by which a page shows it."""

    name: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def in_page(page: str, texts: Mapping[str, str]) -> str:
    """Return a page with texts in their places, each up to the next line that is empty.

    Raises ``ValueError`` if one has no place.
    """
    for name, text in texts.items():
        before, place, rest = page.partition(_PLACE.format(name))
        if not place:
            raise ValueError(f"the page has no place for {name!r}")
        page = before + place + text + "\n" + rest[rest.index("\n\n") + 2 :]
    return page


# -- numbers --------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Return a number for people, of three digits or whole."""
    if abs(value - round(value)) < 0.005 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def size(count: float) -> str:
    """Return bytes for people."""
    for unit in ("B", "KB", "MB"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def seconds(value: float) -> str:
    """Return a time for people, of two digits."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{float(f'{value * factor:.2g}'):g} {unit}"
    return f"{float(f'{value * 1e6:.2g}'):g} µs"


def listed(sizes: Sequence[int]) -> str:
    """Return the least and the most of several sizes for people."""
    return f"{sizes[0]:,} to {sizes[-1]:,}"


def beyond(text: str) -> str:
    """Mark a figure that was not measured, but extrapolated."""
    return f"*{text}*"


# -- growth ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Growth:
    """How a figure that is the same in each run grows with a size, for several, in order."""

    sizes: Sequence[int]
    values: Sequence[float]

    @property
    def each(self) -> float:
        """What one more costs: the slope from the first to the last."""
        return (self.values[-1] - self.values[0]) / (self.sizes[-1] - self.sizes[0])

    def at(self, count: int) -> float:
        """Return the figure at a size that was not measured, on the line through both ends."""
        return max(0.0, self.values[-1] + self.each * (count - self.sizes[-1]))

    def shown(self, show: Callable[[float], str]) -> str:
        """Return for a table what one more costs, with a remark if that is not always as much."""
        return f"{show(self.each)}{self.remark}" if self.each > 0 else show(0)

    @property
    def remark(self) -> str:
        """How far the figure is off a line, if that is not little."""
        return f" (±{self.bend:.0%})" if self.bend >= _BEND else ""

    @property
    def bend(self) -> float:
        """How far what is in between is off that line, as a part of the figure there."""
        pairs = list(zip(self.sizes, self.values, strict=True))[1:-1]
        return max((abs(self.at(at) / value - 1) for at, value in pairs if value), default=0.0)


@dataclass(frozen=True)
class Work:
    """How long something takes, which is never the same twice, for several sizes, in order."""

    sizes: Sequence[int]
    values: Sequence[float]

    def shown(self, count: int = 1) -> str:
        """Return for a table how long so many take: from the least to the most, by their sizes."""
        each = [value / size for value, size in zip(self.values, self.sizes, strict=True)]
        least, most = seconds(min(each) * count), seconds(max(each) * count)
        return least if least == most else f"{least} to {most}"
