"""Checks of a program's options, and of where it calls. All raise a :class:`kps.KPSError`."""

import math
import ssl as tls
import threading
from collections.abc import Iterable

from kps.errors import InvalidArgument, InvalidState
from kps.protocol.dialect.level2 import LEVEL
from kps.protocol.limits import ProgramLimits


def check_seconds(name: str, value: object) -> float:
    """Return a number of seconds, which is above 0."""
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
    """Refuse an id that is not a string. ``None`` and ``""`` ask for a random id."""
    if value is not None and not isinstance(value, str):
        raise InvalidArgument(f"an id is a text, not {value!r}")


def check_tls(name: str, value: object) -> None:
    """Refuse anything but a TLS context or ``None``."""
    if value is not None and not isinstance(value, tls.SSLContext):
        raise InvalidArgument(f"{name} is an ssl.SSLContext, not {value!r}")


def check_limits(value: object, kind: type[ProgramLimits]) -> None:
    """Refuse anything but limits of this kind or ``None``."""
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"limits is a kps.{kind.__name__}, not a {type(value).__name__}")


def check_level(value: object) -> int:
    """Return a level of the protocol."""
    if not isinstance(value, int) or value not in (1, LEVEL):
        raise InvalidArgument(f"level is 1 or {LEVEL}, not {value!r}")
    return value


def check_main_thread() -> None:
    """Raise :class:`kps.InvalidState` outside the main thread, which alone gets signals."""
    if threading.current_thread() is not threading.main_thread():
        raise InvalidState(
            "run() handles signals, so only the main thread may call it; "
            "in another thread start and stop the server, or open and close the client"
        )


def check_hook(name: str, value: object) -> None:
    """Refuse a hook that cannot be called."""
    if value is not None and not callable(value):
        raise InvalidArgument(f"{name} is a function, not {value!r}")


def check_texts(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return several strings. A single string is refused: it would be read as its letters."""
    if isinstance(values, str):
        raise InvalidArgument(f"{name} is a list of texts, not one text: [{values!r}]")
    found = tuple(values)
    if not all(isinstance(value, str) for value in found):
        raise InvalidArgument(f"{name} is a list of texts, not {values!r}")
    return found
