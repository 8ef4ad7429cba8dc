"""The code blocks of a page of Markdown, and what comments in front of them say to the tests.

A comment in front of a block is for the tests only, as no reader sees it:

- ``<!-- before: CODE -->`` is code that runs first, so that the page need not show it.
- ``<!-- in the background -->``: the block does not end by itself. It goes on until the page ends.
- ``<!-- not run: REASON -->``: the block cannot run here.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]*)\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S
)
_COMMENT = re.compile(r"<!-- *(before:|in the background|not run:)((?:(?!-->).)*)-->\s*\Z", re.S)


@dataclass(frozen=True)
class Block:
    """A code block."""

    page: Path
    line: int
    """Where its code begins."""
    language: str
    code: str
    before: str = ""
    """Code that runs first."""
    in_background: bool = False
    not_run: str = ""
    """Why it cannot run."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Read the code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [_block(page, text, found) for found in _FENCE.finditer(text)]


def _block(page: Path, text: str, found: re.Match[str]) -> Block:
    ahead, told = text[: found.start()], {"before:": "", "in the background": "", "not run:": ""}
    seen = set()
    while comment := _COMMENT.search(ahead):
        kind, rest = comment.groups()
        told[kind] = rest.strip(" \n") if kind != "before:" else rest.strip("\n").strip()
        seen.add(kind)
        ahead = ahead[: comment.start()]
    indent = len(found["indent"])
    code = "".join(line[indent:] or "\n" for line in found["code"].splitlines(keepends=True))
    return Block(
        page,
        text.count("\n", 0, found.start("code")) + 1,
        found["language"],
        code,
        told["before:"],
        "in the background" in seen,
        told["not run:"],
    )
