"""The arguments and results of the unified spelling: plain dictionaries in the family's names."""

import inspect
from collections.abc import Callable
from typing import Any

from kps.protocol.bus.message import Message
from kps.protocol.dialect.outcome import AckResponse

UnifiedCallback = Callable[[Any, Callable[[], Any]], object]
"""Called with ``{"data": payload, "from": sender}`` and a function that unsubscribes."""

ResponseDict = dict[str, Any]
"""An outcome: ``ack_id``, ``client_id``, ``success``; ``error`` and ``result`` if it has them."""


class ClientSubscriber:
    """A handle on a subscription: ``Subscribe`` returns it, and unified callbacks get it.

    Call it to unsubscribe, from any thread. On asyncio the result may be awaited.
    """

    def __init__(self, client_id: str, topic: str) -> None:
        self.Id = client_id
        """The id of the client, or server, that subscribed."""
        self.Topic = topic
        self._subscription: Any = None
        self._is_over = False

    def attach(self, subscription: Any) -> None:
        """Set the subscription; end it if the callback has already unsubscribed."""
        self._subscription = subscription
        if self._is_over:
            subscription()

    def __call__(self) -> Any:
        self._is_over = True
        return None if self._subscription is None else self._subscription()

    def Unsubscribe(self) -> Any:
        """Unsubscribe, from any thread."""
        return self()


def adapt(
    callback: UnifiedCallback, unsubscribe: Callable[[], Any]
) -> Callable[[Message[Any]], Any]:
    """Wrap a unified callback into one that takes a :class:`kps.Message`."""
    if inspect.iscoroutinefunction(callback):

        async def handle_async(message: Message[Any]) -> Any:
            return await callback({"data": message.data, "from": message.sender}, unsubscribe)

        return handle_async

    def handle(message: Message[Any]) -> Any:
        return callback({"data": message.data, "from": message.sender}, unsubscribe)

    return handle


def response_dict(response: AckResponse) -> ResponseDict:
    """Return an outcome in the family's names."""
    has_result = response.result is not None
    return response.fields() | ({"result": response.result} if has_result else {})


def no_topic() -> None:
    """Do nothing: callbacks without a topic cannot unsubscribe."""
