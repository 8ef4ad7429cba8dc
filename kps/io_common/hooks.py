"""The types of callbacks (for messages) and of a client's hooks (for notices).

On asyncio each may be a coroutine function, which runs on the event loop, or a plain function,
which runs in a thread. On threads each is a plain function. ``verdicts`` has those of a server.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from kps.errors import ServerError
from kps.protocol.bus.message import Message
from kps.protocol.client.events import Connected, Disconnected

Callback = Callable[[Message[Any]], object]
"""Handles a message. Its return value is the result for a publisher that wants an ack."""

OnConnect = Callable[[Connected], object]
OnDisconnect = Callable[[Disconnected], object]
OnError = Callable[[ServerError], object]
OnFrame = Callable[[dict[str, Any], Any], object]
"""Gets each message of the server, and the client."""
OnClose = Callable[[], object]

AnyCallback = TypeVar("AnyCallback", bound=Callback)
"""Decorators return it unchanged."""
