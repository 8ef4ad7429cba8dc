"""What can be completed on a command line, of the tables of all commands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kps.cli.declaring import Kind, Option
from kps.cli.manual import shown
from kps.cli.readers import file
from kps.cli.registry import COMMANDS, load

HELP = "--help"


@dataclass(frozen=True)
class Completed:
    """A command as it is completed."""

    name: str
    """One word or two, without the program."""
    about: str
    flags: Sequence[Option]
    places: Sequence[Option]
    """What has its place, or follows ``--``."""
    words: Sequence[str]
    """What may stand where it takes no option."""


def completed() -> Iterator[Completed]:
    """Yield all commands."""
    for name, (_, about) in COMMANDS.items():
        options = load(name).options
        places = [each for each in options if each.kind in (Kind.ARGUMENT, Kind.REST)]
        words = [word for each in places for word in each.choices]
        if name == "help":
            words = list(COMMANDS)
        yield Completed(name, about, list(shown(options)), places, words)


def takes_file(option: Option) -> bool:
    """Tell whether the value of an option is the name of a file."""
    return option.read is file


def takes_value(option: Option) -> bool:
    """Tell whether an option has a value."""
    return option.kind is Kind.VALUE


def pairs() -> dict[str, list[str]]:
    """Return the second words of commands of two words, by the first ones."""
    found: dict[str, list[str]] = {}
    for name in COMMANDS:
        first, _, second = name.partition(" ")
        if second:
            found.setdefault(first, []).append(second)
    return found


def quoted(text: str) -> str:
    """Return a text as one word, in single quotes, as bash and zsh read it."""
    return "'" + text.replace("'", "'\\''") + "'"
