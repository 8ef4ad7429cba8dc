"""KPS as a backend of ``broadcaster`` (the extra ``kps[broadcaster]``).

::

    from broadcaster import Broadcast
    from kps.broadcaster import KpsBackend

    broadcast = Broadcast(backend=KpsBackend("localhost:9313"))
"""

from typing import Any, Unpack

from broadcaster import BroadcastBackend, Event

from kps.io_asyncio.feed import Feed, FeedOptions
from kps.protocol.dialect.address import DEFAULT_ADDRESS

__all__ = ["KpsBackend"]


class KpsBackend(BroadcastBackend):
    """Channels are topics of a KPS server, so what one process publishes comes to all.

    What is published is the payload, a ``str`` or other JSON, and ``event.message`` is that of
    any client. The connection restores itself with its channels. Publications without one raise
    :class:`kps.NotConnected`, unless there is an ``offline_queue``.

    Args:
        address: ``host:port``, or a ``ws://`` or ``wss://`` URL.
        timeout: Seconds in which the server must be reached at the start; by default 10.
        prefix: What the topic of a channel begins with.
        options: As of a :class:`kps.Client`: ``token``, ``offline_queue``, ``limits`` …, but not
            ``on_close``. With an ``id``, each process needs another one.

    Raises :class:`kps.InvalidArgument` for invalid options.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, **options: Unpack[FeedOptions]) -> None:
        self._feed = Feed(address, **options)

    async def connect(self) -> None:
        """Connect. Raises :class:`kps.NotConnected` when the server is not reached in time.

        It raises :class:`kps.ConnectFailed` or :class:`kps.ServerError` when the server refuses.
        """
        await self._feed.start()

    async def disconnect(self) -> None:
        """Write what was published, and close."""
        await self._feed.stop()

    async def subscribe(self, group: str) -> None:
        """Subscribe to a channel. Raises :class:`kps.ServerError` when the server refuses it."""
        await self._feed.subscribe(group)

    async def unsubscribe(self, group: str) -> None:
        """End the subscription to a channel."""
        await self._feed.unsubscribe(group)

    async def publish(self, channel: str, message: Any) -> None:
        """Publish JSON to a channel. Raises as ``publish`` of a :class:`kps.Client`."""
        await self._feed.publish(channel, message)

    async def next_published(self) -> Event:
        """Return the next message. Raises why the client has ended, when it has for good."""
        return Event(*await self._feed.next())
