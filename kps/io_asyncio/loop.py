"""Runs an event loop for programs without one, and blocking work beside a loop."""

import asyncio
import importlib
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from kps.errors import InvalidState
from kps.io_asyncio.workers import ends_task

P = ParamSpec("P")
T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop if it is installed."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(main)
    finally:
        main.close()  # which has not begun if there can be no loop: of too many open files


def call(main: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a coroutine function from a program without an event loop.

    Raises :class:`kps.InvalidState` inside a running loop.
    """
    if asyncio._get_running_loop() is not None:
        raise InvalidState("an event loop runs in this thread; await the coroutines instead")
    return run(main(*args, **kwargs))


async def off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function in a thread. Raises :class:`kps.InvalidState` without a loop."""
    _running_loop()
    return await asyncio.to_thread(work, *args, **kwargs)


def finisher() -> Callable[[object], object]:
    """Return a function for other threads: it awaits, on this loop, what a function returned."""
    loop = _running_loop()

    async def outcome(awaitable: Awaitable[object]) -> tuple[object, BaseException | None]:
        try:
            return await awaitable, None
        except BaseException as failure:  # a task must not end with ``SystemExit``
            if ends_task(failure):
                raise
            return None, failure

    def finish(returned: object) -> object:
        if not inspect.isawaitable(returned):
            return returned
        result, failure = asyncio.run_coroutine_threadsafe(outcome(returned), loop).result()
        if failure is not None:
            raise failure
        return result

    return finish


async def serve_beside(returned: object, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Serve; meanwhile await what a function returned, if it can be awaited.

    If that raises, so does this. It is cancelled when the server has stopped.
    """
    if not inspect.isawaitable(returned):
        await serve()
        return
    work, serving = asyncio.ensure_future(returned), asyncio.ensure_future(serve())
    try:
        await asyncio.wait((work, serving), return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            work.result()  # raises its failure
            await serving
    finally:
        for task in (work, serving):
            task.cancel()
        await asyncio.gather(work, serving, return_exceptions=True)


def _running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio._get_running_loop()
    if loop is None:
        raise InvalidState("no event loop of asyncio runs here: await this within one")
    return loop


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
