"""The command ``kps``: serve, subscribe and publish from a terminal.

Exit codes: 0 for success, 1 if the command failed, 2 for an invalid command line, variable or
file; ``kps req`` has two more. Errors are one line on standard error. Ctrl-C ends a command with 0,
and so does a reader of its output that has seen enough, as ``head`` does; but a server goes on
without one.

This module imports little, because Ctrl-C shows a traceback until it runs.
"""

import gc
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn


def main(arguments: "Sequence[str] | None" = None) -> "NoReturn":
    """Run the command and exit."""

    def load() -> "Callable[[Sequence[str]], int]":
        from kps.cli.commands import run

        return run

    start(load, arguments)


def start(
    load: "Callable[[], Callable[[Sequence[str]], int]]", arguments: "Sequence[str] | None"
) -> "NoReturn":
    """Import a command with ``load``, run it, and exit with its code."""
    _open_missing()
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while we import, it ends the process
    gc.disable()  # what is imported stays: to look for garbage would take a tenth of the time
    run = load()
    gc.enable()
    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        code = 0
    except SystemExit as end:  # of the parser, which has said why
        code = end.code if isinstance(end.code, int) else 1
    except OSError as error:
        code = _cannot_write(error)
    if is_ours and arguments is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the interpreter ends
    sys.exit(_flushed(code))


def _open_missing() -> None:
    """Open ``/dev/null`` in place of standard streams that are closed.

    Otherwise the next sockets would take their numbers, for which libuv ends the process.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            # Python has made it None.
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _flushed(code: int) -> int:
    """Write what is left of the output; return the exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left goes there
        return code or _cannot_write(error)
    return code


def _cannot_write(error: OSError) -> int:
    """Say why the output failed, unless its reader has seen enough; return the exit code."""
    if isinstance(error, BrokenPipeError):
        return 0
    from kps.cli.complaints import cannot_write, complain

    complain(f"kps: {cannot_write(error)}")
    return 1
