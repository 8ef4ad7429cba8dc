"""The command ``kps token``."""

import contextlib
import os
import stat
import sys
from dataclasses import dataclass
from io import FileIO

from kps.auth.tokens import new_token
from kps.cli import readers
from kps.cli.declaring import Command, argument, option
from kps.errors import InvalidArgument
from kps.io_common.system_errors import describe_file
from kps.io_common.toml import NotTOML, parse

if sys.platform != "win32":
    import fcntl


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """What ``kps token`` takes."""

    name: str = argument("NAME", "name of the identity", read=readers.text)
    add: str | None = option(
        "FILE",
        "add the lines to this file, and print the token alone; a new file is for its user only",
        read=readers.file,
        default=None,
    )


def make_token(options: TokenOptions) -> int:
    """Make a token, and print what the options ask for.

    Without a file the output has the lines of a token file, and standard error the token. Raises
    :class:`kps.InvalidArgument` for a name that cannot be, or that the file has already, and for a
    file that cannot be used.
    """
    token, lines = new_token(options.name)
    if options.add is not None:
        _add(options.add, options.name, lines)
        print(token)
    else:
        print(lines, end="", flush=True)
        print(f"the token, shown only now: {token}", file=sys.stderr)
    return 0


def _add(path: str, name: str, lines: str) -> None:
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)
        with open(os.open(path, flags, 0o600), "r+b", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidArgument(f"cannot use {path}: it is no file that keeps anything")
            if sys.platform != "win32":  # another such command may find that the name is free
                fcntl.flock(file, fcntl.LOCK_EX)
            content = file.read()
            if name in parse(content):
                raise InvalidArgument(
                    f"{path} has {name!r} already: add the output of 'kps token' to its tokens"
                )
            gap = b"\n" if content else b""
            if content and not content.endswith(b"\n"):
                gap += b"\n"
            _append(file, gap + lines.encode())
    except OSError as error:
        raise InvalidArgument(f"cannot write {path}: {describe_file(error, path)}") from None
    except NotTOML:  # do not show it: it holds secrets
        raise InvalidArgument(f"cannot use {path}: it is not TOML") from None


def _append(file: FileIO, data: bytes) -> None:
    """Write all of the data behind a file, or nothing: a part of it would make it useless."""
    size = os.fstat(file.fileno()).st_size
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise


COMMAND = Command(
    "kps token",
    TokenOptions,
    make_token,
    about=[
        "The output has the digest of the token. The token itself is on standard error. With --add "
        "the digest goes into the file, and the output is the token, for a script.",
        "Take the # from the line ids, and the identity may use the ids NAME and NAME/…, and "
        "nobody else's; its clients then need one of them: --id NAME.",
    ],
    examples=[
        ("kps token alice >> tokens.toml", "adds an identity to a file of tokens"),
        ("KPS_TOKEN=$(kps token django --add tokens.toml)", "the same, in a script"),
    ],
)
