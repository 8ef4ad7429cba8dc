"""Groups: which channels are in them, and the subscriptions that bring their messages.

All on the loop of the client. A process is subscribed to a group's topic while channels of its own
are in the group, so a message to a group comes once to each process. A normal channel belongs to no
process: it is a group of KPS on that topic, of all processes that have added it, and the one that
gets a message sends it on.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from kps.channels.bus import Bus
from kps.channels.counts import Counts
from kps.channels.names import Names, owner_of
from kps.channels.store import Store
from kps.io_asyncio.subscription import Subscription
from kps.protocol.bus.message import Message

Forward = Callable[[str, dict[str, Any]], None]
"""Sends a message on to a normal channel."""


class _Group:
    """A group as this process knows it: its channels, when they came, and what is told of them."""

    __slots__ = ("channels", "infos", "subscription")

    def __init__(self, subscription: Subscription[Any]) -> None:
        self.subscription = subscription
        self.channels: dict[str, float] = {}
        self.infos: dict[str, object] = {}  # JSON, as it is sent

    def drop(self, channel: str) -> None:
        self.channels.pop(channel, None)
        self.infos.pop(channel, None)


class Groups:
    """The memberships that this process keeps. ``expiry`` is how many seconds one lasts."""

    def __init__(
        self,
        bus: Bus,
        names: Names,
        store: Store,
        counts: Counts,
        forward: Forward,
        expiry: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._names = names
        self._store = store
        self._counts = counts
        self._forward = forward
        self._expiry = expiry
        self._clock = clock
        self._groups: dict[tuple[str, str], _Group] = {}

    async def add(self, group: str, channel: str, info: object = None) -> None:
        """Add a channel of this process, or a normal one. What is sent from then on comes.

        ``info`` is what ``members`` tells of it. Raises :class:`kps.ServerError` if the server
        refuses the group's topic, and as ``Bus.opened``.
        """
        client = await self._bus.opened()
        key = _key(group, channel)
        known = self._groups.get(key)
        if known is None:
            topic = self._names.group(group)
            subscription: Subscription[Any]
            if normal := key[1]:
                take = partial(self._take_for_normal, normal)
                subscription = client.subscribe(topic, take, inline=True, group=normal)
            else:
                subscription = client.subscribe(topic, partial(self._take, key), inline=True)
            known = self._groups[key] = _Group(subscription)
        known.channels[channel] = self._clock()
        known.infos[channel] = info
        try:
            await known.subscription  # also if another one has begun it
        except BaseException:  # refused, or cancelled
            await self.discard(group, channel)
            raise

    async def discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group. It need not be in it."""
        key = _key(group, channel)
        known = self._groups.get(key)
        if known is not None:
            known.drop(channel)
            await self._leave(key, known)

    def members(self, group: str) -> dict[str, object]:
        """Return what is told of the channels that this process has in a group, by their names."""
        found: dict[str, object] = {}
        for (name, _), known in self._groups.items():
            if name == group:
                found |= known.infos
        return found

    def tell(self, group: str, message: dict[str, Any]) -> None:
        """Put a message of the layer itself into the channels of this process in a group."""
        known = self._groups.get((group, ""))
        if known is not None:
            self._counts.full += self._store.put(known.channels, message)

    async def sweep(self) -> None:
        """End memberships that have lasted too long."""
        oldest = self._clock() - self._expiry
        for key, known in list(self._groups.items()):
            for channel, since in list(known.channels.items()):
                if since <= oldest:
                    known.drop(channel)
            await self._leave(key, known)

    async def clear(self) -> None:
        """End all memberships."""
        for key, known in list(self._groups.items()):
            known.channels.clear()
            known.infos.clear()
            await self._leave(key, known)

    async def _leave(self, key: tuple[str, str], known: _Group) -> None:
        """End the subscription to a group of which nobody here is a member."""
        if not known.channels and self._groups.get(key) is known:
            del self._groups[key]
            await known.subscription.unsubscribe()

    def _take(self, key: tuple[str, str], message: Message[Any]) -> None:
        known = self._groups.get(key)
        if not isinstance(message.data, dict):
            self._counts.invalid += 1
        elif known is not None:
            self._counts.full += self._store.put(known.channels, message.data)

    def _take_for_normal(self, channel: str, message: Message[Any]) -> None:
        if isinstance(message.data, dict):
            self._forward(channel, message.data)
        else:
            self._counts.invalid += 1


def _key(group: str, channel: str) -> tuple[str, str]:
    """Return a group, and the normal channel for which it is, if any."""
    return group, "" if owner_of(channel) else channel
