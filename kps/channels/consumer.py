"""A mixin for consumers that take part in the bus itself, beside the groups of Channels."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from kps.channels.layer import KpsChannelLayer
from kps.errors import InvalidState
from kps.io_asyncio.client import Client
from kps.io_asyncio.subscription import Subscription
from kps.protocol.bus.message import Message
from kps.protocol.patterns import Scope


class KpsConsumer:
    """For asynchronous consumers: subscribes to topics of the bus, and publishes on them.

    ::

        class Prices(KpsConsumer, AsyncJsonWebsocketConsumer):
            async def connect(self):
                await self.accept()
                await self.kps_subscribe("prices/gold")

            async def kps_message(self, message):
                await self.send_json(message.data)

    Any client of KPS, in any language, is at the other end. The subscriptions end with the
    consumer. They share the connection of the channel layer, which must be a
    :class:`KpsChannelLayer`.
    """

    channel_layer: object

    async def kps_message(self, message: Message[Any]) -> Any:
        """Handle a message of a topic. What it returns is the result for one that wants an ack.

        It runs on the event loop of the consumer: for each subscription one message after the
        other, and beside the consumer's other handlers. What it raises is logged, and reported to a
        publisher that wants an ack.
        """
        raise NotImplementedError("kps_message() takes the messages of the topics")

    async def kps_subscribe(self, scope: Scope) -> None:
        """Subscribe to a topic or a :class:`kps.Pattern`. What is published from then on comes.

        Raises :class:`kps.InvalidState` if this consumer has it already, as
        ``KpsChannelLayer.with_client``, and as ``kps.Client.subscribe``.
        """
        if scope in self._kps_subscriptions:
            raise InvalidState(f"this consumer is subscribed to {str(scope)!r} already")
        loop = asyncio.get_running_loop()

        async def hand_over(message: Message[Any]) -> object:
            work = asyncio.run_coroutine_threadsafe(self.kps_message(message), loop)
            return await asyncio.wrap_future(work)

        async def subscribe(client: Client) -> Subscription[Any]:
            subscription = client.subscribe(scope, hand_over)
            await subscription
            return subscription

        held = self._kps_subscriptions
        held[scope] = pending = object()
        try:
            subscription = await self._kps_layer.with_client(subscribe)
        except BaseException:
            if held.get(scope) is pending:
                del held[scope]
            raise
        if held.get(scope) is pending:
            held[scope] = subscription
        else:  # it was ended meanwhile, or the consumer was
            subscription()

    async def kps_unsubscribe(self, scope: Scope) -> None:
        """End a subscription. It need not exist."""
        subscription = self._kps_subscriptions.pop(scope, None)
        if isinstance(subscription, Subscription):
            subscription()  # from any thread

    async def kps_publish(self, topic: str, data: Any) -> None:
        """Publish any JSON value on a topic. Raises as ``kps.Client.publish``."""
        await self._kps_layer.with_client(lambda client: client.publish(topic, data))

    async def kps_request(self, topic: str, data: Any, timeout: float = 5.0) -> Any:
        """Ask the subscribers of a topic; return the first result, as ``kps.Client.request``."""
        return await self._kps_layer.with_client(
            lambda client: client.request(topic, data, timeout)
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the consumer, and end its subscriptions with it."""
        self._kps_subscriptions: dict[Scope, Subscription[Any] | object] = {}
        run: Awaitable[None] = super().__call__(scope, receive, send)  # type: ignore[misc]
        try:
            await run
        finally:
            for each in list(self._kps_subscriptions):
                await self.kps_unsubscribe(each)

    @property
    def _kps_layer(self) -> KpsChannelLayer:
        if not isinstance(self.channel_layer, KpsChannelLayer):
            raise InvalidState("the channel layer of this consumer is not one of KPS")
        return self.channel_layer
