"""Which callbacks may be called inline, where messages come in."""

import inspect
from typing import Any

from kps.errors import InvalidArgument
from kps.protocol.limits import check_switch, shown


def check_inline(inline: bool, callback: Any) -> None:
    """Refuse what cannot be called inline. Raises :class:`kps.InvalidArgument`."""
    if not check_switch("inline", inline):
        return
    if callback is None:
        raise InvalidArgument("inline=True is for a callback, and there is none")
    if is_async(callback):
        raise InvalidArgument(
            "inline=True is for a plain function; a coroutine function runs on the event loop "
            f"anyway, so leave inline out: {shown(callback)}"
        )


def is_async(callback: Any) -> bool:
    """Tell whether a call only makes a coroutine."""
    if inspect.iscoroutinefunction(callback):
        return True
    return inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004
