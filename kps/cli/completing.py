"""What can be completed on a command line, of the tables of all commands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kps.cli.declaring import Kind, Option
from kps.cli.manual import places, shown
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
        having_places = list(places(options))
        words = [word for each in having_places for word in each.choices]
        if name == "help":
            words = list(COMMANDS)
        yield Completed(name, about, list(shown(options)), having_places, words)


def takes_file(option: Option) -> bool:
    """Tell whether the value of an option is the name of a file."""
    return option.read is file


def takes_value(option: Option) -> bool:
    """Tell whether an option has a value."""
    return option.kind is Kind.VALUE


def quoted(text: str) -> str:
    """Return a text as one word, in single quotes, as bash and zsh read it."""
    return "'" + text.replace("'", "'\\''") + "'"
