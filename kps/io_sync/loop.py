"""What stands for the event loop where there is none: calls are made where one is."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def call(main: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function."""
    return main(*args, **kwargs)


off_loop = call
"""Call a function that may block, which here every function may."""
