"""Draws the figures that a server publishes (spec, 12.8), for ``kps top``. It does no I/O."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from kps.cli.complaints import visible

_UNITS = ((999.5e12, 1e15, "P"), (999.5e9, 1e12, "T"), (999.5e6, 1e9, "G"), (999.5e3, 1e6, "M"),
          (9995, 1e3, "k"))  # fmt: skip
"""From what number on, one of how many is written with which letter."""
_SPANS = ((86400, "d"), (3600, "h"), (60, "m"))
_COUNTED = ("published", "delivered", "bytes_in", "bytes_out", "dropped", "refused")


class Row(NamedTuple):
    """A client, with what has happened per second."""

    name: str
    address: str = ""
    age: float = 0.0
    topics: float = 0
    received: float = 0.0
    """Messages per second from it."""
    delivered: float = 0.0
    queue: float = 0
    """Bytes that wait for it."""
    dropped: float = 0
    is_slow: bool = False
    """Whether messages wait for it for longer than a moment, or were just dropped."""


class TopicRow(NamedTuple):
    """A topic or pattern."""

    name: str
    subscribers: float
    rate: float
    """Messages per second."""
    published: float


R = TypeVar("R", Row, TopicRow)


SORTS: Final[Mapping[str, Callable[[Row], tuple[float, ...]]]] = {
    "slow": lambda row: (row.is_slow, row.queue),
    "in": lambda row: (row.received,),
    "out": lambda row: (row.delivered,),
    "dropped": lambda row: (row.dropped,),
    "age": lambda row: (row.age,),
    "topics": lambda row: (row.topics,),
}
"""By what clients are sorted, the most first. Without such a name it is by their names."""

NAME = "name"


class Line(NamedTuple):
    """A line of the picture."""

    text: str
    is_strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be seen."""

    sort: str = "slow"
    is_reversed: bool = False
    is_paused: bool = False
    has_keys: bool = True


class Figures:
    """Two objects that a server has published one after the other; the first may be missing."""

    def __init__(self, now: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> None:
        self._now = now
        # A server that has started again begins to count anew.
        is_same = before is not None and 0 < _number(before, "uptime") < _number(now, "uptime")
        self._before: Mapping[str, Any] = before if is_same and before is not None else {}
        self._seconds = _number(now, "uptime") - _number(self._before, "uptime")

    @property
    def has_rates(self) -> bool:
        """Whether there are two of them, so that it is known what has happened per second."""
        return bool(self._before)

    def clients(self) -> list[Row]:
        """Return the clients that are listed."""
        before = {_text(each, "id"): each for each in _objects(self._before, "clients")}
        return [
            self._client(each, before.get(_text(each, "id"), {}))
            for each in _objects(self._now, "clients")
        ]

    def topics(self) -> list[TopicRow]:
        """Return the topics and patterns that are listed."""
        before = {_topic(each): each for each in _objects(self._before, "topics")}
        return [
            TopicRow(
                _topic(each),
                _number(each, "subscribers"),
                self._rate(each, before.get(_topic(each), {}), "published"),
                _number(each, "published"),
            )
            for each in _objects(self._now, "topics")
        ]

    def summary(self) -> list[str]:
        """Return what is true of the whole server, in a few lines."""
        now = self._now
        counts = [
            f"clients {_short(_number(now, 'client_count'))}",
            f"topics {_short(_number(now, 'topic_count'))}",
            f"acks under way {_short(_number(now, 'pending_acks'))}",
            f"slow {sum(row.is_slow for row in self.clients())}",
            f"dropped {_short(_number(now, 'dropped'))}",
            f"lost {_short(_number(now, 'lost'))}",
        ]
        rates = {name: _short(self._rate(now, self._before, name)) for name in _COUNTED}
        lines = [
            f"kps {_text(now, 'version')}, {_text(now, 'id')}, up {_span(_number(now, 'uptime'))}",
            "  ".join(counts),
            "per second: published {published}  delivered {delivered}  bytes in {bytes_in}  "
            "out {bytes_out}  refused {refused}".format(**rates),
        ]
        nodes = [_node(each) for each in _objects(now, "nodes")]
        return [*lines, f"nodes: {', '.join(nodes)}"] if nodes else lines

    def _client(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> Row:
        queue, dropped = _number(now, "queue_bytes"), _number(now, "dropped")
        has_dropped = bool(before) and dropped > _number(before, "dropped")
        return Row(
            _text(now, "id"),
            _text(now, "address"),
            _number(now, "age"),
            _number(now, "topics"),
            self._client_rate(now, before, "received"),
            self._client_rate(now, before, "delivered"),
            queue,
            dropped,
            has_dropped or (queue > 0 and _number(before, "queue_bytes") > 0),
        )

    def _client_rate(self, now: Mapping[str, Any], before: Mapping[str, Any], name: str) -> float:
        """Return a rate of a client: as the server tells it, or by its count in the list before.

        One that was there, but not in that list, has none.
        """
        if f"{name}_rate" in now:
            return _number(now, f"{name}_rate")
        is_known = bool(before) or _number(now, "age") <= self._seconds
        return self._rate(now, before, name) if is_known else 0.0

    def _rate(self, now: Mapping[str, Any], before: Mapping[str, Any], name: str) -> float:
        """Return by how much a count has grown per second. One that is new has grown from 0."""
        if not self.has_rates:
            return 0.0
        return max(0.0, _number(now, name) - _number(before, name)) / self._seconds


def draw(figures: Figures, wish: Wish, columns: int, rows: int | None) -> list[Line]:
    """Return the picture: lines of that many columns at most, and up to so many of them."""
    clients = ordered(figures.clients(), wish)
    topics = _topics_in_order(figures.topics(), wish)
    head = [*map(Line, figures.summary()), Line("")]
    foot = [Line(_keys(wish))] if wish.has_keys else []
    if rows is None:
        for_clients, for_topics = len(clients), len(topics)
    else:
        room = max(0, rows - len(head) - len(foot) - 3)  # without two headings and a gap
        for_topics = min(len(topics), max(room // 3, room - len(clients)))
        for_clients = min(len(clients), room - for_topics)
    name, address = _flexible(columns)
    lines = [
        *head,
        Line(_client_line(_CLIENT_HEAD, name, address), is_strong=True),
        *(
            Line(_client_line(_client_cells(row), name, address), row.is_slow)
            for row in islice(clients, for_clients)
        ),
        Line(""),
        Line(_topic_line(_TOPIC_HEAD, columns), is_strong=True),
        *(Line(_topic_line(_topic_cells(row), columns)) for row in islice(topics, for_topics)),
    ]
    if rows is not None:
        lines = lines[: rows - len(foot)]
        lines += [Line("")] * (rows - len(foot) - len(lines))
    return [Line(fit(line.text, columns).rstrip(), line.is_strong) for line in (*lines, *foot)]


def ordered(clients: Sequence[Row], wish: Wish) -> list[Row]:
    """Return clients in the order that is wished: the most first, but names from a to z."""
    return _sorted(clients, None if wish.sort == NAME else SORTS[wish.sort], wish)


def _topics_in_order(topics: Sequence[TopicRow], wish: Wish) -> list[TopicRow]:
    """Return topics by name, by subscribers, or by what is published on them."""
    if wish.sort == NAME:
        return _sorted(topics, None, wish)
    by_subscribers = wish.sort == "topics"
    return _sorted(topics, lambda row: (row.subscribers if by_subscribers else row.rate,), wish)


def _sorted(
    rows: Sequence[R], amount: Callable[[R], tuple[float, ...]] | None, wish: Wish
) -> list[R]:
    """Return rows by an amount, those that have the same by their names; ``None``: by these."""
    by_name = sorted(rows, key=lambda row: row.name, reverse=wish.is_reversed)
    return by_name if amount is None else sorted(by_name, key=amount, reverse=not wish.is_reversed)


def fit(text: str, width: int, *, is_number: bool = False) -> str:
    """Return a text in exactly so many columns, harmless to a terminal."""
    kept, used = "", 0
    text = visible(text)
    for character in text:
        used += _cells(character)
        if used > width:
            break
        kept += character
    else:
        padding = " " * (width - used)
        return padding + kept if is_number else kept + padding
    while kept and sum(map(_cells, kept)) > width - 1:
        kept = kept[:-1]
    return kept + "~" * (width > 0) + " " * (width - 1 - sum(map(_cells, kept)))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# -- tables ------------------------------------------------------------------------------------

_CLIENT_HEAD = ("  client", "address", "age", "topics", "in/s", "out/s", "queue", "dropped")
_TOPIC_HEAD = ("topic", "subscribers", "in/s", "published")
_WIDTHS = (4, 6, 6, 6, 6, 7)  # columns of a client's figures
_TOPIC_WIDTHS = (11, 6, 9)


def _flexible(columns: int) -> tuple[int, int]:
    """Return the columns for the names and for the addresses of clients."""
    left = max(8, columns - 2 - sum(_WIDTHS) - len(_WIDTHS) - 1)
    address = min(21, left // 2)  # as long as 255.255.255.255:65535
    return left - address, address


def _client_cells(row: Row) -> tuple[str, ...]:
    figures = (row.received, row.delivered, row.queue, row.dropped)
    mark = "!" if row.is_slow else " "
    return (f"{mark} {row.name}", row.address, _span(row.age), _short(row.topics),
            *map(_short, figures))  # fmt: skip


def _client_line(cells: Sequence[str], name: int, address: int) -> str:
    words = [fit(cells[0], name + 2), fit(cells[1], address)]
    words += [
        fit(cell, width, is_number=True) for cell, width in zip(cells[2:], _WIDTHS, strict=True)
    ]
    return " ".join(words)


def _topic_cells(row: TopicRow) -> tuple[str, ...]:
    return row.name, _short(row.subscribers), _short(row.rate), _short(row.published)


def _topic_line(cells: Sequence[str], columns: int) -> str:
    name = max(8, columns - 2 - sum(_TOPIC_WIDTHS) - len(_TOPIC_WIDTHS))
    words = [fit(f"  {cells[0]}", name + 2)]
    words += [
        fit(cell, width, is_number=True)
        for cell, width in zip(cells[1:], _TOPIC_WIDTHS, strict=True)
    ]
    return " ".join(words)


def _keys(wish: Wish) -> str:
    sorts = " ".join(f"[{one}]" if one == wish.sort else one for one in (*SORTS, NAME))
    order = "reversed, " if wish.is_reversed else ""
    return (
        f"{'paused; ' if wish.is_paused else ''}q quit, space pause, r reverse; {order}by {sorts}"
    )


# -- values ------------------------------------------------------------------------------------


def _short(number: float) -> str:
    """Write a number in up to five characters."""
    for least, size, unit in _UNITS:
        if number >= least:
            scaled = number / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{unit}"
    return f"{number:.0f}" if number >= 9.95 or number == int(number) else f"{number:.1f}"


def _span(seconds: float) -> str:
    """Write a time in up to four characters."""
    for size, unit in _SPANS:
        if seconds >= size:
            return f"{min(seconds // size, 999):.0f}{unit}"
    return f"{seconds:.0f}s"


def _node(node: Mapping[str, Any]) -> str:
    state = _text(node, "state")
    count = _number(node, "client_count")
    about = f"{_short(count)} client{'' if count == 1 else 's'}" if state == "up" else state
    return f"{_text(node, 'id')} {about}"


def _topic(entry: Mapping[str, Any]) -> str:
    pattern = entry.get("pattern")
    return f"{pattern} (pattern)" if isinstance(pattern, str) else _text(entry, "topic")


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    return value if isinstance(value, (int, float)) else 0


def _objects(fields: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = fields.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
