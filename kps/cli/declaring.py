"""The language in which commands declare what they take.

Each command has one table of its options. Its command line, its variables and its file are read by
that table, and its help, its page and the completion of shells are written from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum, auto
from typing import Any, Generic, NamedTuple, TypeVar

from kps.cli.readers import text

T = TypeVar("T")
D = TypeVar("D")


class Kind(Enum):
    """How an option stands on the command line."""

    ARGUMENT = auto()
    """By its place."""
    VALUE = auto()
    """As ``--name VALUE`` or ``--name=VALUE``."""
    SWITCH = auto()
    """As ``--name``."""
    REST = auto()
    """As all that follows ``--``."""


class Heading(NamedTuple):
    """A group of options in the help."""

    title: str
    about: str = ""


OPTIONS = Heading("options")
CONNECTION = Heading("connection")
TLS = Heading("TLS", "Any of these options turns TLS on. Files are PEM.")
LOG = Heading("log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing that a command takes."""

    kind: Kind
    help: str
    name: str = ""
    """The name of its attribute."""
    flag: str = ""
    """``--name``; empty for what has its place, and for what is not on the command line."""
    has_flag: bool = True
    metavar: str = ""
    read: Callable[[str], object] = text
    """Reads a value. Raises :class:`BadValue`."""
    read_table: Callable[[dict[str, object]], object] | None = None
    """Reads one that is written as a table in a file, if it may be. Raises :class:`BadValue`."""
    default: object = None
    is_needed: bool = False
    is_many: bool = False
    """Whether it has any number of values."""
    is_joined: bool = False
    """Whether values of the command line come before those of variables or a file, and do not
    stand in their place."""
    choices: tuple[str, ...] = ()
    heading: Heading = OPTIONS
    variable: str | None = None
    """Its environment variable; empty if it has none, ``None``: the command's prefix makes it."""
    ignores_empty: bool = False
    """Whether an empty variable is as none."""
    separator: str = ","
    """A regular expression for what is between several values in a variable."""
    key: str | None = None
    """Its name in a file; empty if it is in none, ``None`` if that is its own name."""
    is_secret: bool = False
    needs: str = ""
    """The name of an option without which it means nothing."""

    @property
    def label(self) -> str:
        """What errors call it."""
        return self.flag or self.metavar


class Ends(NamedTuple):
    """How a command ends that fails."""

    invalid: int = 2
    """The exit code for an invalid command line, variable or file."""
    failed: int = 1
    tell: Callable[[int, str], object] | None = None
    """Tells why, if not by a line on standard error."""
    unknown: int | None = None
    """The exit code if Ctrl-C has ended it, or its output cannot be written or has no reader, also
    if it has an outcome. ``None``: 0, but 1 for an output that cannot be written."""


class Command(Generic[T]):
    """A command. Its ``options`` are a dataclass whose fields are declared by the functions below.

    ``run`` gets an instance, and returns the exit code. In its place ``judge`` gets what the
    sources give (``sources.Settled``), with all faults. A command with a ``prefix`` has a variable
    for each option, that prefix and its name; one with an option ``config`` has a file.
    """

    def __init__(
        self,
        name: str,
        options: type[T],
        run: Callable[[T], int] | None = None,
        *,
        usage: Sequence[str] = (),
        about: Sequence[str] = (),
        examples: Sequence[tuple[str, str]] = (),
        exits: Mapping[int, str] | None = None,
        prefix: str = "",
        more: Sequence[Option] = (),
        make: Callable[..., T] | None = None,
        ends: Ends = Ends(),  # noqa: B008
        judge: Callable[[Any], int] | None = None,
    ) -> None:
        self.name = name
        """What is written to run it, with the program: ``kps sub``."""
        self.make: Callable[..., T] = options if make is None else make
        """Makes the options of their values, by name: of those of ``more``, too."""
        self.run = run
        self.about = about
        """Paragraphs about it."""
        self.examples = examples
        """Command lines, each with what it does."""
        self.exits = exits or {}
        """What exit codes mean besides 0 and those of all commands."""
        self.prefix = prefix
        self.ends = ends
        self.judge = judge
        self.options = tuple(
            replace(each, variable=f"{prefix}{each.name.upper()}" if prefix else "")
            if each.variable is None
            else each
            for each in (*options_of(options), *more)
        )
        self.usage = usage or (_usage(name, self.options),)


def options_of(options: type) -> list[Option]:
    """Return the options of a dataclass: by headings, those without one of their own first.

    Among these, what the class itself declares comes before what it inherits.
    """
    found = fields_of(options)
    headings = [OPTIONS, *(each.heading for each in found if each.heading != LOG), LOG]
    families = [{each.name for each in fields(one)} for one in options.__mro__ if is_dataclass(one)]

    def order(option: Option) -> tuple[int, int]:
        is_own = option.heading == OPTIONS
        age = sum(option.name in names for names in families) if is_own else 0
        return headings.index(option.heading), age

    return sorted(found, key=order)


def fields_of(options: type) -> list[Option]:
    """Return the options that a dataclass declares, in the order of its fields."""
    found = []
    for each in fields(options):
        option = each.metadata.get("option")
        if isinstance(option, Option):
            is_flag = option.kind in (Kind.VALUE, Kind.SWITCH) and option.has_flag
            flag = option.flag or (f"--{each.name.replace('_', '-')}" if is_flag else "")
            key = each.name if option.key is None else option.key
            found.append(replace(option, name=each.name, flag=flag, key=key))
    return found


def _usage(name: str, options: Sequence[Option]) -> str:
    words = [name]
    if any(each.flag for each in options):
        words.append("[options]")
    for each in options:
        if each.kind is Kind.ARGUMENT:
            word = f"{each.metavar} ..." if each.is_many else each.metavar
            words.append(word if each.is_needed else f"[{word}]")
        elif each.kind is Kind.REST:
            words.append(f"-- {each.metavar}")
    return " ".join(words)


# -- the fields of a dataclass of options ----------------------------------------------------


def argument(
    metavar: str, help: str, *, read: Callable[[str], T], choices: Sequence[str] = ()
) -> T:
    """Declare a value that has its place, and must be there."""
    declared: T = _declare(
        Kind.ARGUMENT, help, metavar=metavar, read=read, choices=tuple(choices), is_needed=True
    )
    return declared


def optional(metavar: str, help: str, *, read: Callable[[str], T]) -> T | None:
    """Declare a value that has its place, and may be missing."""
    declared: T | None = _declare(Kind.ARGUMENT, help, metavar=metavar, read=read)
    return declared


def arguments(metavar: str, help: str) -> Sequence[str]:
    """Declare any number of values that have their places."""
    declared: Sequence[str] = _declare(
        Kind.ARGUMENT, help, metavar=metavar, is_many=True, default=()
    )
    return declared


def rest(metavar: str, help: str) -> Sequence[str]:
    """Declare all that follows ``--``, as it is."""
    declared: Sequence[str] = _declare(
        Kind.REST, help, metavar=metavar, read=str, is_many=True, default=()
    )
    return declared


def option(
    metavar: str,
    help: str,
    *,
    read: Callable[[str], T],
    default: D,
    choices: Sequence[str] = (),
    heading: Heading = OPTIONS,
    variable: str | None = None,
    ignores_empty: bool = False,
    key: str | None = None,
    has_flag: bool = True,
    is_secret: bool = False,
    needs: str = "",
) -> T | D:
    """Declare an option with one value. One with ``choices`` need have no ``metavar``."""
    declared: T | D = _declare(
        Kind.VALUE,
        help,
        metavar=metavar or "|".join(choices),
        read=read,
        default=default,
        choices=tuple(choices),
        heading=heading,
        variable=variable,
        ignores_empty=ignores_empty,
        key=key,
        has_flag=has_flag,
        is_secret=is_secret,
        needs=needs,
    )
    return declared


def several(
    metavar: str,
    help: str,
    *,
    read: Callable[[str], T],
    heading: Heading = OPTIONS,
    flag: str = "",
    key: str | None = None,
    separator: str = ",",
    read_table: Callable[[dict[str, object]], D] | None = None,
    is_joined: bool = False,
) -> Sequence[T | D]:
    """Declare an option that may be repeated."""
    declared: Sequence[T | D] = _declare(
        Kind.VALUE,
        f"{help}; repeatable",
        metavar=metavar,
        read=read,
        default=(),
        is_many=True,
        heading=heading,
        flag=flag,
        key=key,
        separator=separator,
        read_table=read_table,
        is_joined=is_joined,
    )
    return declared


def switch(
    help: str,
    *,
    heading: Heading = OPTIONS,
    variable: str | None = None,
    key: str | None = None,
) -> bool:
    """Declare an option without a value."""
    declared: bool = _declare(
        Kind.SWITCH, help, default=False, heading=heading, variable=variable, key=key
    )
    return declared


def _declare(kind: Kind, help: str, *, default: object = None, **more: Any) -> Any:
    declared = Option(kind=kind, help=help, default=default, **more)
    return field(default=default, metadata={"option": declared})
