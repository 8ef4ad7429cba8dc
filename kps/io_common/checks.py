"""Checks of a program's options, and of where it calls. All raise a :class:`kps.KPSError`."""

import inspect
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from types import FunctionType, MethodType

from kps.errors import InvalidArgument, InvalidState
from kps.io_common.suggestions import hint
from kps.protocol.bus.given import check_id
from kps.protocol.dialect.level2 import LEVEL
from kps.protocol.limits import ProgramLimits, shown

STARTS_ONCE = (
    "it has started before, and starts once: either connect() or start() starts it, or 'with' and "
    "'async with' do; after its end make a new one"
)
"""What is wrong with a second start of a client or server."""


def check_names(owner: str, options: Collection[str], known: Collection[str]) -> None:
    """Refuse options that there are not, with the nearest one that there is."""
    for name in sorted(set(options).difference(known)):
        face = owner.rpartition(" ")[2].capitalize()
        advice = hint(name, known) or f"; see help(kps.{face})"
        raise InvalidArgument(f"{owner} has no option {shown(name)}{advice}")


def check_count(name: str, value: object) -> int:
    """Return a whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidArgument(f"{name} is a whole number from 0, not {shown(value)}")
    return value


def check_own_id(value: object, limits: ProgramLimits) -> None:
    """Refuse an id that cannot be sent. ``None`` and ``""`` ask for a random id."""
    if value is not None and not (isinstance(value, str) and value == ""):
        check_id(value, limits)


def check_files(options: Mapping[str, object], *names: str) -> None:
    """Refuse options that are neither the path of a file nor ``None``."""
    for name in names:
        value = options.get(name)
        if value is not None and not isinstance(value, str | os.PathLike):
            raise InvalidArgument(f"{name} is the path of a file, not {shown(value)}")


def check_tls(name: str, value: object) -> None:
    """Refuse anything but a TLS context or ``None``."""
    if value is None:
        return
    import ssl as tls  # as whoever has a context has done

    if not isinstance(value, tls.SSLContext):
        raise InvalidArgument(f"{name} is an ssl.SSLContext, not {shown(value)}")


def check_tracing(value: object) -> None:
    """Refuse anything but a :class:`kps.otel.Tracing` or ``None``."""
    if value is None:
        return
    from kps.otel import Tracing  # as whoever has one has done

    if not isinstance(value, Tracing):
        raise InvalidArgument(f"tracing is a kps.otel.Tracing, not {shown(value)}")


def check_limits(value: object, kind: type[ProgramLimits]) -> None:
    """Refuse anything but limits of this kind or ``None``."""
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"limits is a kps.{kind.__name__}, not a {type(value).__name__}")


def check_level(value: object) -> int:
    """Return a level of the protocol."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in (1, LEVEL):
        raise InvalidArgument(f"level is 1 or {LEVEL}, not {shown(value)}")
    return value


def check_main_thread() -> None:
    """Raise :class:`kps.InvalidState` outside the main thread, which alone gets signals."""
    if threading.current_thread() is not threading.main_thread():
        raise InvalidState(
            "run() handles signals, so only the main thread may call it; "
            "in another thread start and stop the server, or open and close the client"
        )


def check_hook(name: str, value: object) -> None:
    """Refuse a hook that cannot be called, or whose body a call would not run."""
    if value is not None and not callable(value):
        raise InvalidArgument(f"{name} is a function, not {shown(value)}")
    if inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value):
        raise InvalidArgument(f"{name} is a generator function, which never runs: {shown(value)}")
    if value is not None:
        _check_arguments(name, value, _ARGUMENTS.get(name, 1))


_ARGUMENTS = {"on_frame": 2, "on_close": 0, "auth.reload": 0}
"""With how many arguments hooks are called, unless it is one."""


def _check_arguments(name: str, function: Callable[..., object], count: int) -> None:
    """Refuse a function that cannot be called with that many arguments, where Python can tell."""
    plain, given = function, count
    if isinstance(function, MethodType):
        plain, given = function.__func__, count + 1
    if type(plain) is FunctionType:
        code = plain.__code__
        if code.co_argcount == given and not code.co_kwonlyargcount:
            return  # most functions, for which ``inspect`` takes much longer
    try:
        signature = inspect.signature(function)
    except Exception:  # not every callable has one, and a program's may raise anything
        return
    try:
        signature.bind(*range(count))
    except TypeError as error:
        times = ("no argument", "one argument", "two arguments")[count]
        text = f"{name} is called with {times}; {shown(function)} does not fit: {error}"
        raise InvalidArgument(text) from None


def check_texts(name: str, values: object) -> tuple[str, ...]:
    """Return several strings. A single string is refused: it would be read as its letters."""
    if isinstance(values, str):
        raise InvalidArgument(f"{name} is a list of texts, not one text: [{shown(values)}]")
    if not isinstance(values, Iterable):
        raise InvalidArgument(f"{name} is a list of texts, not {shown(values)}")
    found = tuple(values)
    if not all(isinstance(value, str) for value in found):
        raise InvalidArgument(f"{name} is a list of texts, not {shown(values)}")
    return found
