"""Write ``docs/command-line.md``: all commands, from the tables by which they read their options.

python docs/make_command_line_page.py
"""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kps.cli.connecting import PatientOptions
from kps.cli.declaring import (
    CONNECTION,
    LOG,
    OPTIONS,
    TLS,
    Command,
    Heading,
    Option,
    options_of,
)
from kps.cli.manual import default_of, label, places, sentence
from kps.cli.registry import COMMANDS, load

PAGE = Path(__file__).parent / "command-line.md"

_WIDTH = 130

_SHARED = (CONNECTION, TLS, LOG)
"""Headings of options that are described once, for all commands."""

_HEAD = """\
# The command line

<!-- Written by make_command_line_page.py: change the commands, and run it. -->

`kps help COMMAND` or `kps COMMAND --help` prints what is here. `kps --version` prints the version.

| command | what it does |
|---|---|
"""

_IN_COMMON = """\
The exit code is 0 if all went well, also if Ctrl-C, or the end of the output's reader
(`kps sub news | head -1`), has ended a command. It is 1 if the command has failed, and 2 for an
invalid command line, variable or file; some commands have more or others. Errors are one line on
standard error. On a terminal, control characters and the like in what others have written are
shown as JSON escapes; a pipe gets the text as it is.

An option with a value is `--name VALUE` or `--name=VALUE`. Behind `--` nothing is an option. Where
options can be variables or be in a file, the command line overrides variables, and variables
override the file. A variable that is nearly one of a command's is refused, so that a slip is seen.

Each client takes these:"""


def written() -> str:
    """Return the page as it should be."""
    known: dict[tuple[Option, ...], str] = {}
    rows = [
        f"| [`{_name(name)}`](#{_anchor(name)}) | {summary} |\n"
        for name, (_, summary) in COMMANDS.items()
    ]
    shared = [each for each in options_of(PatientOptions) if each.heading in _SHARED]
    common = [textwrap.fill(text, _WIDTH) for text in _IN_COMMON.split("\n\n")]
    parts = [
        _HEAD,
        *rows,
        "\n## What all commands have in common\n\n",
        "\n\n".join(common) + "\n",
        *_table(shared, has_keys=False),
        f"\nThose of TLS: {TLS.about[:1].lower()}{TLS.about[1:]}\n",
    ]
    for name, (_, summary) in COMMANDS.items():
        command = load(name)
        parts += _section(command, name, summary, known.get(command.options, ""))
        known.setdefault(command.options, name)
    return "".join(parts)


def _section(command: Command[Any], name: str, summary: str, same_as: str) -> Iterator[str]:
    """Yield the section of a command, whose options may be those of another one."""
    yield f"\n## {_name(name)}\n\n{sentence(summary)}\n\n"
    usage = "\n".join(command.usage)
    yield f"```text\n{usage}\n```\n"
    for paragraph in command.about:
        yield f"\n{_wrapped(paragraph)}\n"
    if same_as:
        yield f"\nIts options are [those of `{_name(same_as)}`](#{_anchor(same_as)}).\n"
    else:
        yield from _options(command)
    if command.examples:
        yield "\n```sh\n"
        width = max(len(example) for example, about in command.examples if about)
        for example, about in command.examples:
            yield f"{example:<{width}}  # {about}\n" if about else f"{example}\n"
        yield "```\n"
    if command.exits:
        yield "\n| exit code | meaning |\n|---|---|\n"
        yield from (f"| {code} | {meaning} |\n" for code, meaning in command.exits.items())


def _options(command: Command[Any]) -> Iterator[str]:
    if arguments := list(places(command.options)):
        yield "\n| argument | meaning |\n|---|---|\n"
        yield from (f"| `{_cell(label(each))}` | {_plain(each.help)} |\n" for each in arguments)
    shared = []
    has_file = any(each.name == "config" for each in command.options)
    for heading in dict.fromkeys(each.heading for each in command.options):
        found = [each for each in command.options if each.heading == heading and each.flag]
        if heading in _SHARED and not command.prefix:
            shared += found
        elif found:
            yield from _heading(heading)
            yield from _table(found, has_keys=has_file)
    if shared:
        flags = ", ".join(f"`{each.flag}`" for each in shared)
        text = f"Besides [those of all clients](#what-all-commands-have-in-common): {flags}."
        yield f"\n{textwrap.fill(text, _WIDTH, break_on_hyphens=False)}\n"


def _heading(heading: Heading) -> Iterator[str]:
    if heading != OPTIONS:
        about = f": {heading.about[:1].lower()}{heading.about[1:]}" if heading.about else ""
        yield f"\n**{sentence(heading.title)[:-1]}**{_plain(about)}\n"


def _table(options: Sequence[Option], *, has_keys: bool) -> Iterator[str]:
    """Yield a table of options, with their names in a file if there is one."""
    has_variables = any(each.variable for each in options)
    columns = ["option", "meaning", "default"]
    columns += ["variable"] * has_variables + ["in the file"] * has_keys
    yield f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    for each in options:
        default = default_of(each)
        cells = [f"`{_cell(label(each))}`", _plain(each.help), f"`{default}`" if default else ""]
        if has_variables:
            cells.append(f"`{each.variable}`" if each.variable else "")
        if has_keys:
            cells.append(f"`{each.key}`" if each.key else "")
        yield f"| {' | '.join(cells)} |\n"


def _name(name: str) -> str:
    return f"kps {name}"


def _anchor(name: str) -> str:
    return f"kps-{name.replace(' ', '-')}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _wrapped(text: str) -> str:
    return textwrap.fill(_plain(text), _WIDTH, break_on_hyphens=False, break_long_words=False)


def _plain(text: str) -> str:
    """Return a text with its stars and bars as they are."""
    return _cell(text).replace("*", "\\*").replace("<", "\\<")


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
