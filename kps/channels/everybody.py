"""What all processes are told and asked: to forget everything, and who is in a group.

All on the loop of the client.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from kps.channels.bus import Bus
from kps.channels.counts import Counts
from kps.channels.groups import Groups
from kps.channels.names import Names
from kps.errors import KPSError
from kps.io_asyncio.client import Client
from kps.protocol.bus.message import Message


class Everybody:
    """All processes, as one of them asks them and is asked.

    ``timeout`` is how many seconds they have to answer. ``forget`` forgets what this one has.
    """

    def __init__(
        self,
        bus: Bus,
        names: Names,
        groups: Groups,
        counts: Counts,
        timeout: float,
        forget: Callable[[], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._names = names
        self._groups = groups
        self._counts = counts
        self._timeout = timeout
        self._forget = forget
        self._listens = asyncio.Event()

    async def listen(self, client: Client) -> None:
        """Listen to what all are told and asked."""
        with contextlib.suppress(KPSError):  # the log has it; only these two do not work then
            members = client.subscribe(self._names.members, self._tell_members, inline=True)
            await client.subscribe(self._names.flush, self._flushed)
            await members
        self._listens.set()

    async def listens(self) -> None:
        """Wait until this process listens: before, its members would be missed."""
        await self._listens.wait()

    async def flush(self) -> None:
        """Let all forget all messages and memberships. Raises as ``Bus.connected``."""
        client = await self._bus.connected()
        ack = await client.publish_with_ack(self._names.flush, None, self._timeout)
        await ack.wait()

    async def members(self, group: str) -> dict[str, object]:
        """Return what is told of the channels in a group, by name. Raises as ``Bus.connected``."""
        client = await self._bus.connected()
        ack = await client.publish_with_ack(self._names.members, {"group": group}, self._timeout)
        found: dict[str, object] = {}
        for response in (await ack.wait()).values():
            if response.success and isinstance(response.result, dict):
                found |= response.result
        return found

    async def _flushed(self, _: Message[Any]) -> None:
        await self._forget()

    def _tell_members(self, message: Message[Any]) -> dict[str, object]:
        match message.data:
            case {"group": str(group)}:
                return self._groups.members(group)
        self._counts.invalid += 1
        return {}
