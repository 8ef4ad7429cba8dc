"""Checks of the options that a program gives. All raise :class:`kps.InvalidArgument`."""

import math
import ssl as tls
from collections.abc import Iterable

from kps.errors import InvalidArgument
from kps.protocol.dialect.level2 import LEVEL
from kps.protocol.limits import ProgramLimits


def check_seconds(name: str, value: object) -> float:
    """Return a time that something may take: a number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgument(f"{name} is a number of seconds, not {value!r}")
    if not 0 < value < math.inf:
        raise InvalidArgument(f"{name} is a number of seconds above 0, not {value!r}")
    return value


def check_count(name: str, value: object) -> int:
    """Return a whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidArgument(f"{name} is a whole number from 0, not {value!r}")
    return value


def check_id(value: object) -> None:
    """Refuse an id that is no text. ``None`` and an empty one ask for a random id."""
    if value is not None and not isinstance(value, str):
        raise InvalidArgument(f"an id is a text, not {value!r}")


def check_tls(name: str, value: object) -> None:
    """Refuse a TLS context that is none."""
    if value is not None and not isinstance(value, tls.SSLContext):
        raise InvalidArgument(f"{name} is an ssl.SSLContext, not {value!r}")


def check_limits(value: object, kind: type[ProgramLimits]) -> None:
    """Refuse limits that are none, or those of the other end."""
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"limits is a kps.{kind.__name__}, not a {type(value).__name__}")


def check_level(value: object) -> int:
    """Return a level of the protocol."""
    if not isinstance(value, int) or value not in (1, LEVEL):
        raise InvalidArgument(f"level is 1 or {LEVEL}, not {value!r}")
    return value


def check_hook(name: str, value: object) -> None:
    """Refuse a hook that cannot be called."""
    if value is not None and not callable(value):
        raise InvalidArgument(f"{name} is a function, not {value!r}")


def check_texts(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return several texts. One text is a list of letters, which nobody means."""
    if isinstance(values, str):
        raise InvalidArgument(f"{name} is a list of texts, not one text: [{values!r}]")
    found = tuple(values)
    if not all(isinstance(value, str) for value in found):
        raise InvalidArgument(f"{name} is a list of texts, not {values!r}")
    return found
