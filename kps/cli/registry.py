"""The commands: what each does, and where it is. So ``kps sub`` imports nothing of the others."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from kps.cli.declaring import Command
from kps.cli.line import Mistake, UnknownOption
from kps.io_common.suggestions import hint

COMMANDS = {
    "serve": ("serve", "run a server"),
    "config check": ("config", "say what is wrong with the options of a server, and where"),
    "sub": ("subscribe", "subscribe, and print one JSON object per message"),
    "pub": ("publish", "publish a message, or the lines of the input"),
    "req": ("request", "ask, and print the result"),
    "reply": ("reply", "answer each message with the output of a command, or with a fixed text"),
    "history": ("history", "print messages of a topic with history"),
    "presence": ("presence", "print who is subscribed to a topic"),
    "top": ("top", "show the clients and topics of a server, live"),
    "rtt": ("rtt", "measure round trips over the bus"),
    "check": ("check", "say whether a server works, for monitoring"),
    "bench": ("bench", "measure the throughput of a running server"),
    "bridge mqtt": ("bridge", "carry messages between the bus and an MQTT broker"),
    "token": ("token", "make a token for an identity, as TOML for --tokens"),
    "conformance": ("conformance", "judge a server, or a client, by the specification's vectors"),
    "completion": ("completion", "print what makes a shell complete command lines"),
    "help": ("help", "print the help of a command"),
}
"""The module of each command, which has it as ``COMMAND``, and what it does."""

FIRST_WORDS = tuple(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))


def load(name: str) -> Command[Any]:
    """Import a command."""
    module = importlib.import_module(f"kps.cli.{COMMANDS[name][0]}")
    command: Command[Any] = module.COMMAND
    return command


def every() -> Iterator[Command[Any]]:
    """Import all commands."""
    return map(load, COMMANDS)


def pairs() -> dict[str, list[str]]:
    """Return the second words of commands of two words, by the first ones."""
    found: dict[str, list[str]] = {}
    for name in COMMANDS:
        first, _, second = name.partition(" ")
        if second:
            found.setdefault(first, []).append(second)
    return found


def find(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the name of the command with which a line begins, and the rest of the line.

    Raises :class:`Mistake`.
    """
    first, rest = words[0], words[1:]
    if first.startswith("-"):
        raise UnknownOption(first.partition("=")[0])
    if first in COMMANDS:
        return first, rest
    seconds = pairs().get(first)
    if seconds is None:
        known = (*FIRST_WORDS, "--version")
        raise Mistake(f"there is no command {first!r}{hint(first, known)}")
    if rest and rest[0] in seconds:
        return f"{first} {rest[0]}", rest[1:]
    raise Mistake(f"{first} is followed by {' or '.join(seconds)}")
