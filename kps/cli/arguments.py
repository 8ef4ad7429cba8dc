"""Reads options from the command line, variables and a file, with the same checks."""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from kps.errors import InvalidArgument
from kps.protocol.bus.history import History
from kps.protocol.dialect.places import Position
from kps.protocol.limits import LARGEST, LONGEST, shown

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_SWITCH = {"0": False, "1": True, "false": False, "true": True}


class _Formatter(argparse.HelpFormatter):
    """Knows the width of the terminal without the help of ``shutil``, which is large."""

    def __init__(self, prog: str, **others: Any) -> None:
        super().__init__(prog, **{"width": _columns() - 2} | others)


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter} | options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        if file is sys.stdout:
            file.write(message)  # argparse ignores errors, of a full disk for instance
        else:
            super()._print_message(message, file)


def size(text: str, most: int = LARGEST) -> int:
    """Read a whole number from 1 to ``most``."""
    digits = text.lstrip("0") if text.isdecimal() else ""
    if not digits or len(digits) > 16 or not 1 <= int(digits) <= most:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {most}, not {shown(text)}"
        )
    return int(digits)


def address(text: str) -> str:
    """Read an address, of which a port alone (``8080``, ``:8080``) means the one on localhost."""
    plain = text.removeprefix(":")
    is_port = plain.isascii() and plain.isdecimal()
    return f"localhost:{plain}" if is_port and text != "0" else text


def file(text: str) -> str:
    """Read the name of a file. An empty one is refused: it must not mean that there is none."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a file")
    return text


def name(text: str) -> str:
    """Read a name. An empty one is refused: it must not mean that there is none."""
    if not text:
        raise argparse.ArgumentTypeError("must be a name that is not empty")
    return text


def header(text: str) -> str:
    """Read the name and the text of a header."""
    if text.find("=") < 1:
        raise argparse.ArgumentTypeError("must be NAME=TEXT")
    return text


def seconds(text: str) -> float:
    """Read a number of seconds above 0, up to ``LONGEST``."""
    value = _number(text)
    if not 0 < value <= LONGEST:
        raise argparse.ArgumentTypeError(
            f"must be a number of seconds above 0, up to {LONGEST:.0f}, not {shown(text)}"
        )
    return value


def rate(text: str) -> float:
    """Read a number per second; 0 means no limit."""
    value = _number(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"must be a number per second, or 0, not {shown(text)}")
    return value


def position(text: str) -> Position:
    """Read a place in the history of a topic, ``EPOCH:OFFSET``."""
    epoch, _, offset = text.rpartition(":")
    if not epoch or not text.isprintable() or not offset.isdecimal() or len(offset) > 16:
        raise argparse.ArgumentTypeError(
            f"must be EPOCH:OFFSET, which 'kps history' tells of each message, not {shown(text)}"
        )
    return Position(epoch, int(offset))


def rule(value: str | dict[str, Any]) -> History:
    """Read a rule for history: ``PATTERN=SIZE[,SECONDS]``, or a table of a TOML file."""
    if isinstance(value, str):
        found = re.fullmatch(r"(.*)=([0-9]{1,16})(?:,([0-9]+(?:\.[0-9]+)?))?", value, re.DOTALL)
        if found is None:
            raise argparse.ArgumentTypeError(
                f"must be like 'chat/**=1000' or 'chat/**=1000,3600', not {shown(value)}"
            )
        topics, most, ttl = found.groups()
        value = {"topics": topics, "size": int(most)}
        if ttl is not None:
            value["ttl"] = float(ttl)
    for name in value:
        if name not in ("topics", "size", "ttl"):
            raise argparse.ArgumentTypeError(f"it has topics, size and ttl, but no {name}")
    if "topics" not in value:
        raise argparse.ArgumentTypeError("it needs topics, a pattern")
    try:
        return History(**value)
    except InvalidArgument as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class Rules(argparse._AppendAction):
    """Rules for history, of which the first that has a topic counts.

    So those of the command line come before those of a variable or a file.
    """

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, _: object = None
    ) -> None:
        rules = getattr(namespace, self.dest) or []
        given = len(rules) - len(self.default or ())
        setattr(namespace, self.dest, [*rules[:given], values, *rules[given:]])


def set_defaults(parser: argparse.ArgumentParser, values: Mapping[str, Any], source: str) -> None:
    """Set defaults from another source, with the checks of the command line."""
    actions = {action.dest: action for action in parser._actions}
    for name, value in values.items():
        key = name.replace("-", "_")
        action = actions.get(key)
        if action is None or key in ("help", "config"):
            parser.error(f"{source} has an unknown option: {name}")
        if isinstance(action, argparse._StoreTrueAction):
            if not isinstance(value, bool) and value not in _SWITCH:
                parser.error(f"{source} has a bad {name}: it takes true or false (1 or 0)")
            parser.set_defaults(**{key: _SWITCH.get(value, value)})
            continue
        several = isinstance(action, argparse._AppendAction)
        if several != isinstance(value, list) or isinstance(value, (bool, dict)):
            parser.error(f"{source} has a value of the wrong kind for {name}")
        convert: Any = action.type or str
        read: list[Any] = []
        for item in value if several else [value]:
            if isinstance(item, dict) and not isinstance(action, Rules):
                parser.error(f"{source} has a value of the wrong kind for {name}")
            try:
                read.append(convert(item if isinstance(item, dict) else str(item)))
            except argparse.ArgumentTypeError as error:
                parser.error(f"{source} has a bad {name}: {error}")
            if action.choices is not None and read[-1] not in action.choices:
                parser.error(f"{source} has a bad {name}: {shown(item)}")
        parser.set_defaults(**{key: read if several else read[0]})


def variables(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of a parser's options that are in ``KPS_…`` variables."""
    found: dict[str, Any] = {}
    for action in parser._actions:
        value = environment.get(f"KPS_{action.dest.upper()}")
        if value is None or action.dest == "help":
            continue
        if action.dest == "config":
            parser.set_defaults(config=value)
        else:
            several = isinstance(action, argparse._AppendAction)
            comma = ",(?=[^,]*=)" if isinstance(action, Rules) else ","  # a rule may have one
            found[action.dest] = re.split(comma, value) if several else value
    return found


def read_config(parser: argparse.ArgumentParser, path: str) -> dict[str, Any]:
    """Return the values of a parser's options that are in a TOML file."""
    import tomllib

    with contextlib.ExitStack() as stack:
        try:
            return tomllib.load(stack.enter_context(open(path, "rb")))
        except (OSError, ValueError) as error:
            parser.error(f"cannot read {path}: {error}")


def _columns() -> int:
    """Return the columns of the terminal, or 80."""
    try:
        return int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(1).columns or 80
    except (ValueError, OSError):
        return 80


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0
