"""Finds out what was meant by an option or a variable that a command does not have."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kps.cli.declaring import Command
from kps.cli.registry import every, load
from kps.io_common.suggestions import hint, nearest

PREFIX = "KPS_"
GENERAL = ("--version", "--help")
"""The options that stand in front of all commands."""
_LIKENESS = 0.8
_MOST_NAMED = 3  # of the commands that have an option
WORKER = "KPS_WORKER"
"""The variable that workers of a server have: ``handing.VARIABLE``, which most commands do without.
"""
_NOT_OPTIONS = {WORKER, "KPS_TOPIC", "KPS_FROM", "KPS_ATTEMPT"}
"""Variables that KPS itself sets: for workers, and for the commands of ``kps reply``."""

OF_CLIENTS = frozenset(
    {
        "KPS_ADDRESS",
        "KPS_TOKEN",
        "KPS_MQTT_CONFIG",
        "KPS_MQTT_BROKER",
        "KPS_MQTT_USER",
        "KPS_MQTT_PASSWORD",
    }
)
"""Variables of the commands without a prefix. Their tables have them, too, but a server does not
import those."""

_OF_KUBERNETES = re.compile("KPS_(SERVICE_(HOST|PORT.*)|PORT(_[0-9]+_.*)?)")
"""What it tells every container about a service that is called kps."""


def stray(flag: str) -> str:
    """Return what to say about an option in front of all commands."""
    names = _commands_with(flag)
    if not names:
        meant = hint(f"--{flag.lstrip('-').lower()}", GENERAL)
        return f"there is no option {flag}{meant}"
    return f"the option {flag} stands behind its command, as in '{names[0]} {flag}'"


def _commands_with(flag: str) -> Sequence[str]:
    return [each.name for each in every() if any(flag == option.flag for option in each.options)]


def explain(command: Command[Any], flag: str) -> str:
    """Return what to say about an option that a command does not have."""
    flags = [option.flag for option in command.options if option.flag]
    text = f"there is no option {flag}"
    if others := _commands_with(flag):
        have = "has" if len(others) == 1 else "have"
        text += f" ({' and '.join(others[:_MOST_NAMED])} {have} one)"
    return text + hint(f"--{flag.lstrip('-')}", flags)


class Unknown(NamedTuple):
    """A variable that means nothing to any command."""

    name: str
    meant: str | None
    """The one that is probably meant."""

    def __str__(self) -> str:
        about = f"the variable {self.name} means nothing"
        return about if self.meant is None else f"{about}; did you mean {self.meant}?"


def unknown_variables(command: Command[Any], environment: Mapping[str, str]) -> list[Unknown]:
    """Return the variables that begin as ours do, and mean nothing.

    Those that are like none of the command are left out, unless each of its options has a variable.
    """
    own = _variables(command)
    found = [
        Unknown(name, _meant(name, own))
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in own and not _is_of_others(name)
    ]
    if command.prefix:
        return found
    found = [each for each in found if each.meant]
    if not found:
        return []
    of_server = _variables(load("serve"))
    return [each for each in found if each.name not in of_server]


def _variables(command: Command[Any]) -> list[str]:
    return [option.variable for option in command.options if option.variable]


def _meant(name: str, names: Sequence[str]) -> str | None:
    ends = [each.removeprefix(PREFIX) for each in names]
    meant = nearest(name.removeprefix(PREFIX), ends, _LIKENESS)
    return None if meant is None else PREFIX + meant


def _is_of_others(name: str) -> bool:
    return name in _NOT_OPTIONS | OF_CLIENTS or _OF_KUBERNETES.fullmatch(name) is not None
