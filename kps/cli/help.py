"""The command ``kps help``."""

from collections.abc import Sequence
from dataclasses import dataclass

from kps.cli.declaring import Command, arguments
from kps.cli.manual import columns, manual, overview
from kps.cli.registry import COMMANDS, find, load


@dataclass(frozen=True, kw_only=True)
class HelpOptions:
    """What ``kps help`` takes."""

    words: Sequence[str] = arguments("COMMAND", "of which command; all of them if there is none")


def show_help(options: HelpOptions) -> int:
    """Print the help of a command, or of all. Raises :class:`Mistake` for one that is not there."""
    if options.words:
        print_manual(find(options.words)[0])
    else:
        print(overview(columns()), end="")
    return 0


def print_manual(name: str) -> None:
    """Print the help of a command."""
    print(manual(load(name), COMMANDS[name][1], columns()), end="")


COMMAND = Command(
    "kps help",
    HelpOptions,
    show_help,
    examples=[("kps help serve", "what 'kps serve --help' prints"), ("kps help config check", "")],
)
