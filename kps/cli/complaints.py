"""What commands say when they fail, in texts that do no harm to a terminal."""

import contextlib
import errno
import sys
import unicodedata

from kps.errors import KPSError
from kps.io_common.system_errors import describe

# What a terminal obeys, or hides: controls, bidi marks and the like, line separators.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    """Return a text with escapes, as in JSON, for characters that a terminal obeys or hides."""
    return text if text.isprintable() else "".join(map(_visible, text))


def complain(text: str) -> None:
    """Write one line to standard error, if that can be written to."""
    with contextlib.suppress(OSError):
        print(visible(text), file=sys.stderr, flush=True)


def cannot_write(error: OSError) -> str:
    """Return an error of the output in words."""
    return f"cannot write the output: {describe(error)}"


def of_system(error: OSError) -> str:
    """Return an error in words that a command has not foreseen: it is one of the output."""
    is_of_opening = error.errno in (errno.EMFILE, errno.ENFILE)  # before there was any output
    return describe(error) if is_of_opening else cannot_write(error)


class OutputEnded(KPSError):
    """The reader of the output has seen enough, as ``head`` has."""


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[n : n + 4]}" for n in range(0, len(units), 4))
