"""The command lines of the documentation are command lines.

Each ``kps ...`` in a block for a shell is read by the table of its command, with its variables. So
a page shows no command or option that is not there, and no value that is not taken. Files that a
page only speaks of may be missing. A block in front of which stands why it is not run (``blocks``)
is left out.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kps.cli.line import Mistake, asks_for_help
from kps.cli.registry import find, load
from kps.cli.sources import Settled
from tests.docs.blocks import ROOT, Block, blocks_of

PAGES = [ROOT / "README.md"]
for folder in ("docs", "examples"):
    PAGES += sorted((ROOT / folder).rglob("*.md"))

_SHELLS = ("sh", "bash", "console")
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_DESCRIPTOR = re.compile(r"(?<=\s)\d(?=[<>])")
_NO_FILE = re.compile(r"cannot read .*: (no such file|there is no)")


class Line(NamedTuple):
    """A command line of a page."""

    block: Block
    environment: dict[str, str]
    words: list[str]

    def __str__(self) -> str:
        return f"{self.block}: {shlex.join(['kps', *self.words])}"


def commands_of(block: Block) -> Iterator[Line]:
    """Yield the command lines of ``kps`` in a block, also in pipes and substitutions."""
    code = block.code.replace("\\\n", " ")
    for line in code.splitlines():
        if block.language == "console":
            if not line.startswith("$ "):
                continue  # what is printed
            line = line.removeprefix("$ ")
        for words in _simple_commands(line):
            environment = {}
            while words and _ASSIGNMENT.match(words[0]):
                name, _, environment[name] = words.pop(0).partition("=")
            if words[:1] == ["kps"]:
                yield Line(block, environment, words[1:])


def _simple_commands(line: str) -> Iterator[list[str]]:
    """Split a line of a shell at what is between commands; leave out where output goes."""
    reader = shlex.shlex(_DESCRIPTOR.sub("", line), posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    words: list[str] = []
    is_file = False
    for token in reader:
        if set(token) <= set("();<>|&"):
            is_file = token in ("<", ">", ">>", ">&")
            if not is_file:
                yield words
                words = []
        elif not is_file:
            words.append(token)
        else:
            is_file = False
    yield words


LINES = [
    line
    for page in PAGES
    for block in blocks_of(page)
    if block.language in _SHELLS and not block.not_run
    for line in commands_of(block)
]


@pytest.mark.parametrize("line", LINES, ids=str)
def test_it_is_one(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert faults(line) == []


def faults(line: Line) -> list[str]:
    """Return what is wrong with a command line."""
    if line.words[:1] == ["--version"]:
        return []
    try:
        name, rest = find(line.words or ["help"])
        command = load(name)
        if name == "help" and rest:
            find(rest)
        if asks_for_help(rest):
            return []
        settled = Settled.read(command, rest, line.environment)
        found = [fault for fault in settled.faults if not _NO_FILE.match(fault)]
        if not settled.faults and command.judge is None:
            settled.options()
    except Mistake as mistake:
        return [str(mistake)]
    return found + [f"the variable {name} means nothing" for name in settled.unknown]


def test_a_shell_is_read_as_shells_do() -> None:
    code = (
        "kps pub t 'a | kps b' | kps sub t --count 1 > file 2>/dev/null  # kps nothing\n"
        "KPS_TOKEN=x kps req t \\\n  '[1]' && source <(kps completion bash)\n"
        "echo kps; (kps serve --port 0 &)\n"
    )
    block = Block(Path(ROOT / "x.md"), 1, "sh", code)
    assert [line.words for line in commands_of(block)] == [
        ["pub", "t", "a | kps b"],
        ["sub", "t", "--count", "1"],
        ["req", "t", "[1]"],
        ["completion", "bash"],
        ["serve", "--port", "0"],
    ]


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("kps subb t", "there is no command 'subb'; did you mean sub?"),
        ("kps sub t --cuont 1", "there is no option --cuont"),
        ("kps sub t --count x", "argument --count: must be a whole number from 1 to"),
        ("kps top --sort size", "argument --sort: must be one of "),
        ("KPS_TOKNE=x kps sub t", "the variable KPS_TOKNE means nothing; did you mean"),
        ("kps help subb", "there is no command 'subb'; did you mean sub?"),
    ],
)
def test_what_is_wrong_is_found(code: str, fault: str) -> None:
    [line] = commands_of(Block(Path(ROOT / "x.md"), 1, "sh", code))
    [found] = faults(line)
    assert found.startswith(fault)
