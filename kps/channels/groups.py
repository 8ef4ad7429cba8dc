"""Groups: which channels are in them, and the subscriptions that bring their messages.

All on the loop of the client. A process is subscribed to a group's topic while channels of its own
are in the group, so a message to a group comes once to each process. A normal channel belongs to no
process: it is a group of KPS on that topic, of all processes that have added it, and the one that
gets a message sends it on.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from kps.channels.bus import Bus
from kps.channels.counts import Counts
from kps.channels.names import Names, owner_of
from kps.channels.store import Store
from kps.io_asyncio.subscription import Subscription
from kps.protocol.bus.message import Message

Forward = Callable[[str, dict[str, Any]], None]
"""Sends a message on to a normal channel."""


class _Membership(NamedTuple):
    since: float
    info: object  # JSON, as it is sent


class _Group(NamedTuple):
    """A group as this process knows it."""

    subscription: Subscription[Any]
    channels: dict[str, _Membership]


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
        self._groups: dict[str, dict[str, _Group]] = {}
        """By name; then by the normal channel for which it is, which is empty for those of here."""

    async def add(self, group: str, channel: str, info: object = None) -> None:
        """Add a channel of this process, or a normal one. What is sent from then on comes.

        ``info`` is what ``members`` tells of it. Raises :class:`kps.ServerError` if the server
        refuses the group's topic, and as ``Bus.opened``.
        """
        client = await self._bus.opened()
        normal = _normal(channel)
        known = self._groups.get(group, {}).get(normal)
        if known is None:
            topic = self._names.group(group)
            subscription: Subscription[Any]
            if normal:
                take = partial(self._take_for_normal, normal)
                subscription = client.subscribe(topic, take, inline=True, group=normal)
            else:
                subscription = client.subscribe(topic, partial(self._take, group), inline=True)
            known = _Group(subscription, {})
            self._groups.setdefault(group, {})[normal] = known
        known.channels[channel] = _Membership(self._clock(), info)
        try:
            await known.subscription  # also if another one has begun it
        except BaseException:  # refused, or cancelled
            await self.discard(group, channel)
            raise

    async def discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group. It need not be in it."""
        normal = _normal(channel)
        known = self._groups.get(group, {}).get(normal)
        if known is not None:
            known.channels.pop(channel, None)
            await self._leave(group, normal, known)

    def members(self, group: str) -> dict[str, object]:
        """Return what is told of the channels that this process has in a group, by their names."""
        return {
            channel: membership.info
            for known in self._groups.get(group, {}).values()
            for channel, membership in known.channels.items()
        }

    def tell(self, group: str, message: dict[str, Any]) -> None:
        """Put a message of the layer itself into the channels of this process in a group."""
        known = self._groups.get(group, {}).get("")
        if known is not None:
            self._counts.full += self._store.put(known.channels, message)

    async def sweep(self) -> None:
        """End memberships that have lasted too long."""
        oldest = self._clock() - self._expiry
        for group, normal, known in self._all():
            for channel, membership in list(known.channels.items()):
                if membership.since <= oldest:
                    del known.channels[channel]
            await self._leave(group, normal, known)

    async def clear(self) -> None:
        """End all memberships."""
        for group, normal, known in self._all():
            known.channels.clear()
            await self._leave(group, normal, known)

    def _all(self) -> list[tuple[str, str, _Group]]:
        return [
            (group, normal, known)
            for group, of_name in self._groups.items()
            for normal, known in of_name.items()
        ]

    async def _leave(self, group: str, normal: str, known: _Group) -> None:
        """End the subscription to a group of which nobody here is a member."""
        of_name = self._groups.get(group, {})
        if not known.channels and of_name.get(normal) is known:
            del of_name[normal]
            if not of_name:
                del self._groups[group]
            await known.subscription.unsubscribe()

    def _take(self, group: str, message: Message[Any]) -> None:
        if isinstance(message.data, dict):
            self.tell(group, message.data)
        else:
            self._counts.invalid += 1

    def _take_for_normal(self, channel: str, message: Message[Any]) -> None:
        if isinstance(message.data, dict):
            self._forward(channel, message.data)
        else:
            self._counts.invalid += 1


def _normal(channel: str) -> str:
    """Return the name of a normal channel; empty for one that belongs to a process."""
    return "" if owner_of(channel) else channel
