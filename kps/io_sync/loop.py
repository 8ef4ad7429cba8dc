"""Stands in for the event loop: calls functions directly."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def call(main: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function."""
    return main(*args, **kwargs)


off_loop = call
"""Call a blocking function; on threads every function may block."""
