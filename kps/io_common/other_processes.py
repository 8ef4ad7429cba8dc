"""Tells whether a web application runs in several processes, as far as can be found out."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_OPTIONS = ("--workers", "-w", "--processes")
_RELOADS = "--reload"

# Programs that have a child also for one process, by what their command line has.
_ALONE_IN_A_CHILD = (("hypercorn",), ("fastapi", "dev"))


def sign_of_others(
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    is_child: bool | None = None,
) -> str:
    """Return what makes it likely that other processes run the same application; else ``""``.

    By default it looks at what this process was told. It does not see a server's settings file,
    nor other machines.
    """
    arguments = sys.argv if arguments is None else arguments
    environment = os.environ if environment is None else environment
    if is_child is None:
        is_child = multiprocessing.parent_process() is not None
    for option, value in _asked(arguments):
        if value.isdecimal() and int(value) > 1:
            return f"{option} {value}"
    workers = environment.get("WEB_CONCURRENCY", "")
    if workers.isdecimal() and int(workers) > 1:
        return f"WEB_CONCURRENCY={workers}"
    # Python hands a child the arguments of its parent.
    is_alone = _RELOADS in arguments or _has_a_child_anyway(arguments)
    return "it is a child of another process" if is_child and not is_alone else ""


def _has_a_child_anyway(arguments: Sequence[str]) -> bool:
    """Tell whether a program runs the application in a child, however many processes there are."""
    if not arguments:
        return False
    words = {*Path(arguments[0]).parts, *arguments[1:2]}  # with -m the name is that of a folder
    return any(words.issuperset(program) for program in _ALONE_IN_A_CHILD)


def _asked(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return the options in a command line that tell how many processes there are."""
    found = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        option, equals, value = argument.partition("=")
        if option in _OPTIONS:
            found.append((option, value if equals else following))
        elif argument.startswith("-w") and not argument.startswith("--"):
            found.append(("-w", argument[2:]))
    return found
