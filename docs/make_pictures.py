"""Draws the pictures of the documentation: who sends what to whom, from top to bottom.

Run ``python docs/make_pictures.py`` after a change. A test compares the files.

The pictures of the examples (``docs/pictures/example-NAME.*``) are made by their tests when
``KPS_PICTURES=1`` is set: of a page by ``node --test example-NAME.test.js`` in ``tests/web``, of
what a terminal shows by ``pytest tests/examples/test_NAME.py``.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "pictures"

_COLUMN, _ROW, _TOP, _EDGE = 205, 38, 64, 95  # pixels
_STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1d2733; text-anchor: middle;
         paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
  .who { font-weight: 600; stroke: none }
  .note { fill: #5b6875; font-style: italic }
  .failed, text.broken { fill: #b3261e }
  line { stroke: #2563a8; stroke-width: 1.6 }
  .life { stroke: #c3ccd5; stroke-dasharray: 4 4; stroke-width: 1 }
  line.broken { stroke: #b3261e; stroke-dasharray: 6 4 }
  .box { fill: #eaf2fb; stroke: #2563a8 }
  .paper { fill: #ffffff; stroke: #dde3e9 }
"""


class Step(NamedTuple):
    """An arrow with a text; or, within one column, a note."""

    source: str
    target: str
    text: str
    kind: str = ""
    """``broken`` for what does not arrive, ``failed`` for a text that tells of a failure."""


class Picture(NamedTuple):
    """Who takes part, from left to right, and what happens."""

    title: str
    parties: Sequence[str]
    steps: Sequence[Step]


PICTURES = {
    "topic": Picture(
        "A publication goes to all subscribers of its topic",
        ("alice", "server", "bob", "carol"),
        (
            Step("bob", "server", "subscribe: news"),
            Step("carol", "server", "subscribe: news"),
            Step("alice", "server", "publish on news: hello"),
            Step("server", "bob", "hello"),
            Step("server", "carol", "hello"),
        ),
    ),
    "ack": Picture(
        "Each receiver answers, and the publisher learns of each",
        ("alice", "server", "bob", "carol"),
        (
            Step("alice", "server", "publish on orders, with ack"),
            Step("server", "bob", "order 7"),
            Step("server", "carol", "order 7"),
            Step("bob", "server", "handled: stored"),
            Step("server", "alice", "bob: handled, “stored”"),
            Step("carol", "server", "failed: disk full", "failed"),
            Step("server", "alice", "carol: failed, “disk full”", "failed"),
            Step("alice", "alice", "bob and carol: complete", "note"),
        ),
    ),
    "receipt": Picture(
        "A receipt says to how many the server has passed it on",
        ("alice", "server", "bob", "carol"),
        (
            Step("alice", "server", "publish on news, with receipt"),
            Step("server", "bob", "hello"),
            Step("server", "carol", "hello"),
            Step("server", "alice", "receipt: 2"),
        ),
    ),
    "group": Picture(
        "A group is one receiver: each message goes to one of its members",
        ("boss", "server", "ann", "bob"),
        (
            Step("boss", "server", "resize cat.png, with ack"),
            Step("server", "ann", "cat.png, attempt 1"),
            Step("ann", "server", "connection lost", "broken"),
            Step("server", "bob", "cat.png, attempt 2"),
            Step("bob", "server", "handled: cat-small.png"),
            Step("server", "boss", "by bob, after 2 attempts"),
        ),
    ),
    "history": Picture(
        "Who comes back gets what it has missed, in order, each message once",
        ("alice", "server", "bob"),
        (
            Step("alice", "server", "publish: one"),
            Step("server", "bob", "one (offset 1)"),
            Step("server", "bob", "connection lost", "broken"),
            Step("alice", "server", "publish: two"),
            Step("alice", "server", "publish: three"),
            Step("bob", "server", "subscribe, since offset 1"),
            Step("server", "bob", "two, three"),
            Step("bob", "bob", "recovered", "note"),
        ),
    ),
    "presence": Picture(
        "Observers learn who comes and goes",
        ("alice", "server", "bob"),
        (
            Step("alice", "server", "subscribe: room, presence"),
            Step("server", "alice", "members: alice"),
            Step("bob", "server", "subscribe: room"),
            Step("server", "alice", "joined: bob"),
            Step("bob", "server", "connection lost", "broken"),
            Step("server", "server", "5 seconds to come back", "note"),
            Step("server", "alice", "left: bob (lost)"),
        ),
    ),
}


def drawn(picture: Picture) -> str:
    """Return a picture as SVG."""
    at = {party: _EDGE + _COLUMN * number for number, party in enumerate(picture.parties)}
    width = 2 * _EDGE + _COLUMN * (len(at) - 1)
    height = _TOP + _ROW * len(picture.steps) + 24
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        f"<title>{escape(picture.title)}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#2563a8"/></marker></defs>',
        f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
    ]
    for party, x in at.items():
        lines += [
            f'<line class="life" x1="{x}" y1="46" x2="{x}" y2="{height - 12}"/>',
            f'<rect class="box" x="{x - 46}" y="14" width="92" height="30" rx="6"/>',
            f'<text class="who" x="{x}" y="34">{escape(party)}</text>',
        ]
    for number, step in enumerate(picture.steps):
        lines += _arrow(step, at[step.source], at[step.target], _TOP + _ROW * (number + 0.6))
    return "\n".join([*lines, "</svg>", ""])


def _arrow(step: Step, start: int, end: int, y: float) -> list[str]:
    middle, way = (start + end) / 2, 1 if end > start else -1
    text = f'<text class="{step.kind}" x="{middle:g}" y="{y - 7:g}">{escape(step.text)}</text>'
    if start == end:
        return [text]
    head = "" if step.kind == "broken" else ' marker-end="url(#head)"'
    arrow = f'x1="{start}" y1="{y:g}" x2="{end - 3 * way}" y2="{y:g}"{head}'
    return [f'<line class="{step.kind}" {arrow}/>', text]


def main() -> None:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(drawn(picture), encoding="utf-8")


if __name__ == "__main__":
    main()
