"""The types of callbacks, for messages.

On asyncio each may be a coroutine function, which runs on the event loop, or a plain function,
which runs in a thread. On threads each is a plain function. So are the hooks
of clients (``client_hooks``) and of servers (``verdicts``).
"""

from collections.abc import Callable
from typing import Any, TypeVar

from kps.protocol.bus.message import Message

Callback = Callable[[Message[Any]], object]
"""Handles a message. Its return value is the result for a publisher that wants an ack."""

AnyCallback = TypeVar("AnyCallback", bound=Callback)
"""Decorators return it unchanged."""
