"""A callback with a span around each call. On threads this differs."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from kps.io_common.hooks import Callback
from kps.io_common.inline import is_async
from kps.otel import Processing
from kps.protocol.bus.message import Message


def traced(callback: Callback, begin: Callable[[Message[Any]], Processing]) -> Callback:
    """Return what calls a callback within the span that ``begin`` makes for its message."""
    if is_async(callback):
        awaited: Callable[[Message[Any]], Awaitable[object]] = callback  # type: ignore[assignment]

        async def handle_on_loop(message: Message[Any]) -> object:
            with begin(message):
                return await awaited(message)

        return handle_on_loop

    def handle(message: Message[Any]) -> object:
        processing = begin(message)
        with processing:
            result = callback(message)
            if result is not None and inspect.isawaitable(result):
                return _await(result, processing.keep())
        return result

    return handle


async def _await(result: Awaitable[object], processing: Processing) -> object:
    """Wait for what a plain function has returned: the span goes on until then."""
    with processing:
        return await result
