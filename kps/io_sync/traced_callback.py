"""A callback with a span around each call. On the event loop this differs."""

import inspect
from collections.abc import Callable
from typing import Any

from kps.io_common.hooks import Callback
from kps.io_sync.dispatch import refuse_coroutine
from kps.otel import Processing
from kps.protocol.bus.message import Message


def traced(callback: Callback, begin: Callable[[Message[Any]], Processing]) -> Callback:
    """Return what calls a callback within the span that ``begin`` makes for its message."""

    def handle(message: Message[Any]) -> object:
        with begin(message):
            result = callback(message)
            if inspect.iscoroutine(result):
                refuse_coroutine(result)
            return result

    return handle
