"""The normal channels from which this process receives.

All on the loop of the client. See ``outbox`` for the other side.
"""

import contextlib
from functools import partial
from typing import Any

from kps.channels.bus import Bus
from kps.channels.counts import Counts
from kps.channels.names import WORKERS, Names
from kps.channels.store import Store
from kps.errors import NotConnected
from kps.io_asyncio.subscription import Subscription
from kps.protocol.bus.message import Message


class Workers:
    """This process as a worker."""

    def __init__(self, bus: Bus, names: Names, store: Store, counts: Counts) -> None:
        self._bus = bus
        self._names = names
        self._store = store
        self._counts = counts
        self._subscriptions: dict[str, Subscription[Any]] = {}

    async def announce(self, channel: str) -> None:
        """Tell those who send to a channel that somebody here waits for a message.

        Without a connection it waits for the first one, however long that takes; those who send
        find out themselves after a later one. Raises as ``Bus.opened``, and
        :class:`kps.ServerError` if the server refuses the channel's topics.
        """
        client = await self._bus.opened()
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            topic = self._names.channel(channel)
            take = partial(self._take, channel)
            subscription = client.subscribe(topic, take, inline=True, group=WORKERS)
            self._subscriptions[channel] = subscription
        try:
            await subscription
        except BaseException:
            self._subscriptions.pop(channel, None)
            raise
        with contextlib.suppress(NotConnected):
            await client.publish(self._names.free(channel), None)

    async def sweep(self) -> None:
        """Leave the channels for which nobody waits here, to those who do."""
        for channel, subscription in list(self._subscriptions.items()):
            if self._store.leave_unawaited(channel):
                del self._subscriptions[channel]
                await subscription.unsubscribe()

    def _take(self, channel: str, message: Message[Any]) -> bool:
        """Take a message if somebody waits for it; tell whether."""
        if not isinstance(message.data, dict):
            self._counts.invalid += 1
            return True
        if message.attempt > 1:  # another worker may have taken it, and is gone
            self._counts.lost += 1
            return True
        return self._store.hand(channel, message.data)
