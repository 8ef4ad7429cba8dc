"""The help of the commands."""

import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from kps.cli.declaring import Command, Kind, Option
from kps.cli.registry import COMMANDS

_LEFT = 24
"""The column of what is said about each option."""
_MOST_LEFT = 44
"""The same of examples."""
_WIDEST = 100


def overview(columns: int) -> str:
    """Return the help of ``kps``."""
    return "\n".join(
        [
            "Usage: kps COMMAND [options]",
            "",
            "A real-time publish/subscribe bus over WebSockets.",
            "",
            "Commands:",
            *(
                line
                for name, (_, summary) in COMMANDS.items()
                for line in _row(name, summary, columns)
            ),
            "",
            "Options:",
            *_row("--version", "print the version", columns),
            *_row("-h, --help", "print this; behind a command, print its help", columns),
            "",
            "Examples:",
            *_row("kps serve", "run a server", columns),
            *_row("kps sub news", "print what is published on a topic", columns),
            *_row("kps pub news hello", "publish on it", columns),
            *_row("kps help serve", "print the help of a command", columns),
            "",
        ]
    )


def manual(command: Command[Any], summary: str, columns: int) -> str:
    """Return the help of a command, of which ``summary`` tells what it does."""
    parts = [
        "\n".join(
            f"{'       ' if n else 'Usage: '}{usage}" for n, usage in enumerate(command.usage)
        ),
        *(_wrapped(text, columns) for text in (sentence(summary), *command.about)),
    ]
    headings = list(dict.fromkeys(each.heading for each in shown(command.options)))
    if arguments := [(label(each), each.help) for each in places(command.options)]:
        parts.append(_section("arguments", "", arguments, columns))
    for heading in headings:
        rows = [
            (label(each), about(each)) for each in shown(command.options) if each.heading == heading
        ]
        parts.append(_section(heading.title, heading.about, rows, columns))
    if command.examples:
        parts.append(_section("examples", "", command.examples, columns, _left(command.examples)))
    if command.exits:
        rows = [(str(code), meaning) for code, meaning in command.exits.items()]
        parts.append(_section("exit codes", "", rows, columns))
    return "\n\n".join(parts) + "\n"


def shown(options: Sequence[Option]) -> Iterator[Option]:
    """Yield the options that have a flag."""
    return (each for each in options if each.flag)


def places(options: Sequence[Option]) -> Iterator[Option]:
    """Yield the options that have their places, or follow ``--``."""
    return (each for each in options if each.kind in (Kind.ARGUMENT, Kind.REST))


def label(option: Option) -> str:
    """Return how an option is written."""
    value = f" {option.metavar}" if option.flag and option.metavar else option.metavar
    return f"{option.flag}{value}"


def about(option: Option) -> str:
    """Return what an option means, and its default."""
    parts = [option.help]
    default = default_of(option)
    if default:
        parts.append(f"default: {default}")
    return "; ".join(parts)


def default_of(option: Option) -> str:
    """Return the default of an option; empty if that goes without saying."""
    default = option.default
    if default is None or default is False or default == ():
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def columns() -> int:
    """Return the columns of the terminal, or 80."""
    try:
        given = int(os.environ.get("COLUMNS") or 0)
        return given if given > 0 else os.get_terminal_size(1).columns or 80
    except (ValueError, OSError):
        return 80


def _left(rows: Sequence[tuple[str, str]]) -> int:
    """Return the column behind the left side of rows, unless that is long."""
    return min(_MOST_LEFT, 4 + max(len(left) for left, _ in rows))


def _section(
    title: str, about: str, rows: Sequence[tuple[str, str]], columns: int, left: int = _LEFT
) -> str:
    lines = [f"{title[:1].upper()}{title[1:]}:"]
    if about:
        lines += textwrap.wrap(about, _width(columns), initial_indent="  ", subsequent_indent="  ")
    for name, meaning in rows:
        lines += _row(name, meaning, columns, left)
    return "\n".join(lines)


def _row(name: str, meaning: str, columns: int, left: int = _LEFT) -> list[str]:
    """Return the lines for an option: its name, and beside or below it what it means."""
    indent = " " * left
    lines = textwrap.wrap(
        meaning,
        _width(columns),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    if not lines:
        return [f"  {name}"]
    if len(name) + 4 <= left:
        lines[0] = f"  {name}".ljust(left) + lines[0][left:]
        return lines
    return [f"  {name}", *lines]


def _wrapped(text: str, columns: int) -> str:
    return textwrap.fill(text, _width(columns), break_on_hyphens=False)


def _width(columns: int) -> int:
    return max(_LEFT + 20, min(columns, _WIDEST))


def sentence(summary: str) -> str:
    """Return a summary as a sentence."""
    return f"{summary[:1].upper()}{summary[1:]}."
