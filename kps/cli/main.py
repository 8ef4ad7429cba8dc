"""The command ``kps``: serve, subscribe and publish from a terminal.

Exit codes: 0 for success, 1 if the command failed, 2 for an invalid command line, variable or
file; some commands have more. Errors are one line on standard error. Ctrl-C ends a command with 0,
and so does a reader of its output that has seen enough, as ``head`` does; but a server goes on
without one, and ``kps check`` has another code for what it could not tell.

This module imports little, because Ctrl-C shows a traceback until it runs.
"""

import sys

try:
    import gc
    import os
    import signal
    from io import TextIOWrapper
except KeyboardInterrupt:
    sys.exit(130)  # as a shell tells of a program that Ctrl-C has ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn


def main(words: "Sequence[str] | None" = None) -> "NoReturn":
    """Run the command and exit."""

    def prepare(words: "Sequence[str]") -> "Callable[[], int]":
        from kps.cli.commands import prepare

        return prepare(words)

    start(prepare, words)


def start(
    prepare: "Callable[[Sequence[str]], Callable[[], int]]", words: "Sequence[str] | None"
) -> "NoReturn":
    """Import what a command line needs with ``prepare``, run that, and exit with its code."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while we import, it ends the process
    _open_missing()
    if isinstance(sys.stdout, TextIOWrapper):  # as ``streams.Output`` and files of TOML have it
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    gc.disable()  # what is imported stays: to look for garbage would take a tenth of the time
    run = prepare(sys.argv[1:] if words is None else words)
    gc.enable()
    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = run()
    except KeyboardInterrupt:
        code = 0
    except OSError as error:
        code = _cannot_write(error)
    if is_ours and words is None:
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
    from kps.cli.complaints import complain, of_system

    complain(f"kps: {of_system(error)}")
    return 1
