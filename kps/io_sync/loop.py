"""Stands in for the event loop: calls functions directly."""

import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from kps.errors import InvalidArgument

P = ParamSpec("P")
T = TypeVar("T")


def call(main: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function."""
    return main(*args, **kwargs)


off_loop = call
"""Call a blocking function; on threads every function may block."""


def finisher() -> Callable[[object], object]:
    """Return a function that refuses a coroutine, since nothing runs it here."""
    return _refuse_coroutine


def serve_beside(returned: object, serve: Callable[[], None]) -> None:
    """Serve, unless a function returned a coroutine. Raises :class:`kps.InvalidArgument`."""
    _refuse_coroutine(returned)
    serve()


def _refuse_coroutine(returned: object) -> object:
    if inspect.iscoroutine(returned):
        returned.close()
        raise InvalidArgument("a function given to kps.sync returned a coroutine: nothing runs it")
    return returned
