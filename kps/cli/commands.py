"""Runs commands: reads their options, and puts what goes wrong into one line."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from kps.cli.advice import advice
from kps.cli.complaints import OutputEnded, complain, of_system
from kps.cli.declaring import Command, Ends
from kps.cli.line import Mistake, UnknownOption, asks_for_help
from kps.cli.log_lines import log
from kps.cli.manual import columns, manual
from kps.cli.misspelt import explain, stray
from kps.cli.registry import COMMANDS, find, load
from kps.cli.sources import Settled
from kps.errors import InvalidArgument, KPSError, MessageTooLarge
from kps.io_common.logger import write
from kps.protocol.build import BUILD
from kps.version import __version__


def prepare(words: Sequence[str]) -> Callable[[], int]:
    """Import what a command line needs; return what runs it, and returns the exit code."""
    if list(words[:1]) == ["--version"]:
        return _print_version
    if not words or words[0] in ("-h", "--help"):
        words = ["help"]
    try:
        name, rest = find(words)
    except UnknownOption as unknown:
        return partial(_refuse, "kps", stray(unknown.flag))
    except Mistake as mistake:
        return partial(_refuse, "kps", str(mistake))
    return partial(run_command, load(name), COMMANDS[name][1], rest, os.environ)


def _print_version() -> int:
    print(f"kps {__version__} ({BUILD})")
    return 0


def run_command(
    command: Command[Any], summary: str, words: Sequence[str], environment: Mapping[str, str]
) -> int:
    """Run a command with the rest of its line; return the exit code."""
    unknown = command.ends.unknown
    try:
        code = _run_line(command, summary, words, environment)
        if unknown is not None:
            sys.stdout.flush()  # while it is known what it means that this fails
    except KeyboardInterrupt:
        if unknown is None:
            raise
        _tell(command.name, command.ends, unknown, "Ctrl-C has ended it")
        return unknown
    except OSError as error:
        if unknown is None:
            raise
        if not isinstance(error, BrokenPipeError):
            complain(f"{command.name}: {of_system(error)}")
        return unknown
    return code


def _run_line(
    command: Command[Any], summary: str, words: Sequence[str], environment: Mapping[str, str]
) -> int:
    if asks_for_help(words):
        print(manual(command, summary, columns()), end="")
        return 0
    try:
        settled = Settled.read(command, words, environment)
        if command.judge is not None:
            return command.judge(settled)
        options = settled.options()
        is_json = getattr(options, "log_format", "text") == "json"
        log(getattr(options, "log_level", "error"), as_json=is_json)
        for variable in settled.unknown:
            text = "the variable %(variable)s means nothing"
            write(logging.WARNING, "unknown_variable", text, variable=variable)
        return _run(command, options, settled, is_json=is_json)
    except OutputEnded:
        return 0
    except UnknownOption as unknown:
        return _refuse(command.name, explain(command, unknown.flag), command.ends)
    except Mistake as mistake:
        return _refuse(command.name, str(mistake), command.ends)


def _run(command: Command[Any], options: Any, settled: Settled, *, is_json: bool) -> int:
    assert command.run is not None
    try:
        code: int = command.run(options)
    except OutputEnded:
        raise
    except KPSError as error:
        reason = str(error) + advice(error, settled)
        if isinstance(error, InvalidArgument) and not isinstance(error, MessageTooLarge):
            raise Mistake(reason) from None
        if is_json:
            write(logging.ERROR, "failed", "%(reason)s", reason=reason)
        else:
            _tell(command.name, command.ends, command.ends.failed, reason)
        return command.ends.failed
    return code


def _refuse(name: str, reason: str, ends: Ends = Ends()) -> int:  # noqa: B008
    """Say why a command line, a variable or a file is invalid; return the exit code."""
    text = f"{reason} (see {name if name == 'kps help' else f'{name} --help'})"
    _tell(name, ends, ends.invalid, text)
    return ends.invalid


def _tell(name: str, ends: Ends, code: int, reason: str) -> None:
    """Say why a command ends with an exit code."""
    if ends.tell is not None:
        ends.tell(code, reason)
    else:
        complain(f"{name}: {reason}")
