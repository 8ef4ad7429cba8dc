"""Runs an event loop for programs without one, and blocking work beside a loop."""

import asyncio
import importlib
import os
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from kps.errors import InvalidState

P = ParamSpec("P")
T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop if it is installed."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def call(main: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a coroutine function from a program without an event loop.

    Raises :class:`kps.InvalidState` inside a running loop.
    """
    if asyncio._get_running_loop() is not None:
        raise InvalidState("an event loop runs in this thread; await the coroutines instead")
    return run(main(*args, **kwargs))


async def off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function in a thread."""
    return await asyncio.to_thread(work, *args, **kwargs)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not _has_streams():
        return None
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _has_streams() -> bool:
    """Tell whether the standard streams are open.

    Otherwise a socket gets the number of one, for which libuv ends the process.
    """
    try:
        for number in range(3):
            os.fstat(number)
    except OSError:
        return False
    return True
