"""The messages of many channels, one by one, over one client: what other libraries ask for.

A channel is what such a library calls a topic.
"""

import asyncio
from typing import Any, Unpack

from kps.errors import ClientClosed, InvalidArgument, InvalidState, KPSError, NotConnected
from kps.io_asyncio.client import Client
from kps.io_asyncio.subscription import Subscription
from kps.io_common.client_options import ClientOptions
from kps.protocol.bus.message import Message
from kps.protocol.limits import check_seconds, shown

_READY = 100
"""Messages that wait for the reader of a feed. All others wait in the mailboxes of its topics."""


class FeedOptions(ClientOptions, total=False):
    """The keyword arguments of a :class:`Feed`: its own, and those of a client."""

    timeout: float
    prefix: str


class Feed:
    """A client whose messages of all channels come one after the other. It can start again.

    A mailbox for each topic holds what the reader has not taken. While they are full enough, the
    client does not read; what they then do with more is ``mailbox_overflow`` of the limits.

    Args:
        address: As of a :class:`kps.Client`.
        timeout: Seconds for the first connection.
        prefix: What the topic of a channel begins with; the name of the channel follows.
        options: As of a :class:`kps.Client`, but for ``on_close``.

    Raises :class:`kps.InvalidArgument`.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 10.0,
        prefix: str = "",
        **options: Unpack[ClientOptions],
    ) -> None:
        if options.get("on_close") is not None:
            raise InvalidArgument("this client has no on_close: who reads its messages is told")
        self._address = address
        self._timeout = check_seconds("timeout", timeout)
        if not isinstance(prefix, str):
            raise InvalidArgument(f"prefix is a text, not {shown(prefix)}")
        self._prefix = prefix
        self._options = options
        Client(address, **options)  # which checks them
        self._client: Client | None = None
        self._subscriptions: dict[str, Subscription[Any]] = {}
        self._came: asyncio.Queue[Message[Any] | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_READY)

    @property
    def client(self) -> Client:
        """The client. Raises :class:`kps.InvalidState` before the start and after the end."""
        if self._client is None:
            raise InvalidState(f"there is no connection to {self._address}: it is not started")
        return self._client

    async def start(self) -> None:
        """Connect. Raises :class:`kps.NotConnected` if that takes longer than ``timeout``.

        It also raises :class:`kps.ConnectFailed` and :class:`kps.ServerError` when the server
        refuses, and :class:`kps.InvalidState` when it runs.
        """
        if self._client is not None and self._client._end_of_messages() is not None:
            await self.stop()  # it has ended by itself
        if self._client is not None:
            raise InvalidState(f"the connection to {self._address} is started already")
        self._subscriptions = {}
        came = self._came = asyncio.Queue()
        self._room = asyncio.Semaphore(_READY)

        async def ended() -> None:
            came.put_nowait(None)

        options: ClientOptions = {**self._options, "on_close": ended}
        client = self._client = Client(self._address, **options)
        try:
            async with asyncio.timeout(self._timeout):
                await client.__aenter__()
        except BaseException as error:
            self._client = None
            if isinstance(error, TimeoutError):
                text = f"the bus at {self._address} was not reached within {self._timeout:g} s"
                raise NotConnected(text) from None
            raise

    async def stop(self) -> None:
        """Write what was published, and close. May be called twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def topic_of(self, channel: str) -> str:
        """Return the topic of a channel."""
        return self._prefix + channel

    async def publish(self, channel: str, payload: Any) -> None:
        """Publish to a channel. Raises as ``client``, and as ``publish`` of a client."""
        await self.client.publish(self.topic_of(channel), payload)

    async def subscribe(self, channel: str) -> None:
        """Take a channel in. Without a connection the next one will have it.

        Raises as awaiting a subscription of a :class:`kps.Client`; then it is not taken in.
        """
        client, topic = self.client, self.topic_of(channel)
        subscription = self._subscriptions.get(topic)
        if subscription is None:
            subscription = self._subscriptions[topic] = client.subscribe(topic, self._take)
        try:
            await subscription  # also if another caller has begun it
        except BaseException:
            if self._subscriptions.get(topic) is subscription:
                del self._subscriptions[topic]
            raise

    async def unsubscribe(self, channel: str) -> None:
        """Leave a channel out, if it was taken in: none of its messages comes any more."""
        subscription = self._subscriptions.pop(self.topic_of(channel), None)
        if subscription is not None and self._client is not None:
            await subscription.unsubscribe()

    async def next(self) -> tuple[str, Any]:
        """Return the next message, as its channel and payload. Cancelling the wait loses none.

        When the client has ended it raises why, :class:`kps.ClientClosed` if the program closed it.
        """
        client, came = self.client, self._came
        while True:
            message = await came.get()
            if message is None:
                came.put_nowait(None)  # for who asks again
                reason = client._end_of_messages()
                if isinstance(reason, KPSError):
                    raise reason
                raise ClientClosed("the client was closed")
            self._room.release()
            if message.topic in self._subscriptions:
                return message.topic.removeprefix(self._prefix), message.data

    async def _take(self, message: Message[Any]) -> None:
        await self._room.acquire()
        self._came.put_nowait(message)
