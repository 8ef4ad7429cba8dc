"""KPS as a backend of Litestar's channels (the extra ``kps[litestar]``).

::

    from litestar.channels import ChannelsPlugin
    from kps.litestar import KpsChannelsBackend

    channels = ChannelsPlugin(KpsChannelsBackend("localhost:9313"), channels=["news"])
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Unpack

from litestar.channels.backends.base import ChannelsBackend

from kps.errors import InvalidArgument, InvalidState, KPSError, ServerError
from kps.io_asyncio.feed import Feed, FeedOptions
from kps.io_asyncio.log import write
from kps.protocol.dialect.address import DEFAULT_ADDRESS
from kps.protocol.dialect.binary import pack_bytes, unpack_bytes
from kps.protocol.dialect.envelope import InvalidMessage, compose, load
from kps.protocol.dialect.places import LARGEST
from kps.protocol.limits import check_switch

__all__ = ["KpsChannelsBackend"]


class KpsChannelsBackend(ChannelsBackend):
    """Channels are topics of a KPS server, so what one process publishes comes to all.

    The connection restores itself with its channels, and gets what it has missed of those with
    history. While there is none, ``offline_queue`` publications are kept, 1000 by default.

    What cannot be sent is dropped, counted in ``dropped`` and logged, and raises nothing: the one
    task by which Litestar publishes would end with it. So it is when the queue is full, the server
    takes no message of this length, or a channel has a name that no topic can have.

    Args:
        address: ``host:port``, or a ``ws://`` or ``wss://`` URL.
        timeout: Seconds in which the server must be reached at the start of the application; by
            default 10.
        prefix: What the topic of a channel begins with. With ``arbitrary_channels_allowed`` it
            keeps the users of the application from all other topics.
        as_json: Whether payloads are JSON values, which other clients of the bus get as such. By
            default they are texts (or bytes), and what is published comes as it was.
        options: As of a :class:`kps.Client`: ``token``, ``offline_queue``, ``limits`` …, but not
            ``on_close``. With an ``id``, each process needs another one.

    Raises :class:`kps.InvalidArgument` for invalid options.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        as_json: bool = False,
        **options: Unpack[FeedOptions],
    ) -> None:
        options.setdefault("offline_queue", 1000)
        self._feed = Feed(address, **options)
        self._as_json = check_switch("as_json", as_json)
        self.dropped = 0
        """Publications that were dropped, one for each channel."""

    async def on_startup(self) -> None:
        """Connect. Raises :class:`kps.NotConnected` when the server is not reached in time.

        It raises :class:`kps.ConnectFailed` or :class:`kps.ServerError` when the server refuses.
        """
        await self._feed.start()

    async def on_shutdown(self) -> None:
        """Write what was published, and close."""
        await self._feed.stop()

    async def publish(self, data: bytes, channels: Iterable[str]) -> None:
        """Publish to each of the channels; wait while the network is slower.

        Raises :class:`kps.InvalidState` before the start and after the end, and nothing else.
        """
        for channel in channels:
            try:
                await self._feed.publish(channel, self._payload(data))
            except InvalidState:
                raise
            except KPSError as error:
                self.dropped += 1
                write(
                    logging.ERROR,
                    "publication_dropped",
                    "a publication to the channel %(channel)s was dropped: %(reason)s",
                    channel=channel,
                    reason=str(error),
                )

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Subscribe to channels. Raises :class:`kps.ServerError` when the server refuses one."""
        subscribing = map(self._feed.subscribe, channels)
        for outcome in await asyncio.gather(*subscribing, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def unsubscribe(self, channels: Iterable[str]) -> None:
        """End the subscriptions to channels."""
        for channel in channels:
            await self._feed.unsubscribe(channel)

    async def stream_events(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """Iterate over what comes, as pairs of channel and data.

        Raises why the client has ended, when it has for good.
        """
        while True:
            channel, payload = await self._feed.next()
            yield channel, self._data(payload)

    async def get_history(self, channel: str, limit: int | None = None) -> list[bytes]:
        """Return what the server keeps of a channel: the latest ``limit``, or all, oldest first.

        Nothing, if it keeps no history of that topic. Raises as ``history`` of a
        :class:`kps.Client`.
        """
        try:
            topic = self._feed.topic_of(channel)
            past = await self._feed.client.history(topic, limit=limit or LARGEST)
        except ServerError as error:
            if error.code != "no_history":
                raise
            return []
        return [self._data(message.data) for message in past.messages]

    def _payload(self, data: bytes) -> Any:
        if self._as_json:
            try:
                return load(data)
            except InvalidMessage:
                raise InvalidArgument("it is not JSON, as this backend expects") from None
        try:
            return data.decode()
        except UnicodeDecodeError:
            return pack_bytes(data)

    def _data(self, payload: Any) -> bytes:
        """Return a payload as Litestar passes it on; that of another program is JSON."""
        if self._as_json:
            return compose(payload)
        if isinstance(payload, str):
            return payload.encode()
        try:
            plain = unpack_bytes(payload)
        except InvalidArgument:
            return compose(payload)
        return plain if isinstance(plain, bytes) else compose(payload)
