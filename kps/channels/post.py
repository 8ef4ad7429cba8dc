"""All that one process has of a channel layer: its connection, and what lies in it.

A process has one, which begins with its first call. A forked child has one of its own.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from channels.exceptions import ChannelFull

from kps.channels.bus import Bus
from kps.channels.counts import Counts
from kps.channels.everybody import Everybody
from kps.channels.groups import Groups
from kps.channels.names import Names, owner_of
from kps.channels.outbox import Outbox
from kps.channels.store import Store
from kps.channels.workers import Workers
from kps.errors import InvalidArgument, KPSError, MessageTooLarge, RequestTimeout, ServerError
from kps.io_asyncio.client import Client
from kps.io_common.client_options import ClientOptions
from kps.protocol.bus.message import Message
from kps.protocol.client.events import Lost
from kps.protocol.dialect.envelope import compose_payload

T = TypeVar("T")

_SWEEPS = 10.0  # seconds between two looks for what has expired, at most
_ENVELOPE = 1024  # bytes of a message besides its payload, at most


class Settings(NamedTuple):
    """The checked options of a channel layer, of which ``client`` has those of the client."""

    address: str
    prefix: str
    expiry: float
    group_expiry: float
    capacity: Callable[[str], int]
    timeout: float
    confirm: bool
    tell_lost: bool
    client: ClientOptions


class Post:
    """The messages, memberships and connection of this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.names = Names(settings.prefix)
        self.counts = Counts()
        self.store = Store(settings.capacity, settings.expiry, self.counts)
        options: ClientOptions = {**settings.client, "id": self.names.id}
        self.bus = bus = Bus(
            settings.address,
            settings.timeout,
            self._on_direct,
            self._serve,
            self.store.fail,
            self._on_lost,
            options,
        )
        self._outbox = Outbox(
            bus, self.names, self.counts, settings.capacity, settings.expiry, settings.timeout
        )
        self._groups = Groups(
            bus, self.names, self.store, self.counts, self._forward, settings.group_expiry
        )
        self._workers = Workers(bus, self.names, self.store, self.counts)
        self._everybody = Everybody(
            bus, self.names, self._groups, self.counts, settings.timeout, self._clear
        )

    # -- from any event loop --------------------------------------------------------------------

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a packed message to a channel. Raises ``ChannelFull``, and as ``Bus.connected``."""
        owner = owner_of(channel)
        if owner:
            await self.bus.run(self._send_to_process(owner, channel, message))
        else:
            await self.bus.run(self._send_to_workers(channel, message))

    async def receive(self, channel: str) -> dict[str, Any]:
        """Take the next message of a channel, or wait for it. Raises as ``Store.receive``."""
        owner = owner_of(channel)
        if not owner:
            return await self.store.receive(
                channel, lambda: self.bus.run(self._workers.announce(channel))
            )
        if owner != self.names.id:
            raise InvalidArgument(
                f"{channel} belongs to another process; new_channel() makes one of this process"
            )
        return await self.store.receive(channel)

    async def group_add(self, group: str, channel: str, info: object) -> None:
        """Add a channel to a group: a channel of another process by asking that."""
        await self.bus.run(self._change_group("add", group, channel, info))

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group."""
        await self.bus.run(self._change_group("discard", group, channel))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Publish a packed message to a group."""
        await self.bus.run(self._publish(self.names.group(group), message))

    async def group_members(self, group: str) -> dict[str, object]:
        """Ask all processes for their channels in a group, and return what is told of each."""
        return await self.bus.run(self._everybody.members(group))

    async def flush(self) -> None:
        """Let all processes on the bus forget all messages and memberships."""
        await self.bus.run(self._everybody.flush())

    async def with_client(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do something with the connected client, on its loop. Raises as ``Bus.connected``."""

        async def run() -> T:
            return await work(await self.bus.connected())

        return await self.bus.run(run())

    async def drain(self) -> None:
        """Wait until workers have what was sent to them, for up to ``timeout`` seconds."""
        await self.bus.run(self._outbox.drain(self._settings.timeout))

    def close(self) -> None:
        """Close the connection, and end all waits. Blocks until what was accepted is written."""
        self.bus.close()
        self.store.close()
        self.counts.tell()

    def leave(self) -> None:
        """End by itself when workers have what was sent to them, and do not wait for that.

        It blocks nowhere, so it may be called from a finalizer.
        """
        self.bus.leave(self._outbox.drain(self._settings.timeout), self.counts.tell)

    # -- on the loop of the client --------------------------------------------------------------

    async def _send_to_process(self, owner: str, channel: str, message: dict[str, Any]) -> None:
        client = await self.bus.connected()
        answer = await self._ask(
            client, owner, {"do": "put", "channel": channel, "message": message}
        )
        if answer is False:
            raise ChannelFull(channel)

    async def _send_to_workers(self, channel: str, message: dict[str, Any]) -> None:
        client = await self.bus.connected()
        most = client.max_message
        size = len(compose_payload(message)) + _ENVELOPE
        if most is not None and size > most:
            raise MessageTooLarge(f"the message has {size} bytes, and the server takes {most}")
        if not self._outbox.put(channel, message):
            raise ChannelFull(channel)

    async def _change_group(self, do: str, group: str, channel: str, info: object = None) -> None:
        owner = owner_of(channel)
        if owner and owner != self.names.id:
            client = await self.bus.connected()
            request = {"do": do, "channel": channel, "group": group, "info": info}
            await self._ask(client, owner, request)
        elif do == "add":
            await self.bus.connected()
            await self._add(group, channel, info)
        else:
            await self._groups.discard(group, channel)

    async def _add(self, group: str, channel: str, info: object) -> None:
        await self._everybody.listens()
        await self._groups.add(group, channel, info)

    async def _ask(self, client: Client, owner: str, request: dict[str, Any]) -> object:
        """Ask a process, and return its answer; ``None`` if it is gone, or does not answer.

        Its client answers, whatever its program does. So if it does not within the timeout, it has
        stopped, or its connection is dead: then the channel takes nothing. Raises
        :class:`kps.RequestTimeout` if the server does not answer.
        """
        ack = await client.publish_to_id_with_ack(owner, request, self._settings.timeout)
        try:
            response = (await ack.wait()).get(owner)
        except RequestTimeout:
            text = f"no answer of the server to a message for {request['channel']}"
            raise RequestTimeout(text) from None
        except ServerError as error:
            text = f"{error}, {owner!r}"
            if error.code == "forbidden":
                text += ": give this program the permission direct for it"
            raise ServerError(text, error.code, request=error.request, to=owner) from None
        if response is None or response.error == "disconnected":
            self.counts.nobody += 1
            return None
        if not response.success:
            raise ChannelFull(f"{request['channel']}: {response.error}")
        answer: object = response.result
        return answer

    async def _on_direct(self, message: Message[Any]) -> object:
        """Do what another process asks for."""
        match message.data:
            case {"do": "put", "channel": str(channel), "message": dict(content)}:
                return not self.store.put([channel], content)
            case {"do": "add", "channel": str(channel), "group": str(group), **rest}:
                await self._add(group, channel, rest.get("info"))
            case {"do": "discard", "channel": str(channel), "group": str(group)}:
                await self._groups.discard(group, channel)
            case _:
                self.counts.invalid += 1
        return None

    async def _on_lost(self, lost: Lost) -> None:
        group = self.names.group_of(lost.topic)
        if self._settings.tell_lost and group:
            told = {"type": "kps.lost", "group": group, "count": lost.messages}
            self._groups.tell(group, told)

    async def _publish(self, topic: str, message: dict[str, Any]) -> None:
        client, confirm = await self.bus.connected(), self._settings.confirm
        try:
            async with asyncio.timeout(self._settings.timeout):
                if confirm:
                    await client.publish_with_receipt(topic, message)
                else:
                    await client.publish(topic, message)
        except TimeoutError:
            if confirm:
                text = f"no answer of the server to a message on {topic!r}"
                raise RequestTimeout(text) from None
            return  # it is accepted; only the network is slow

    def _forward(self, channel: str, message: dict[str, Any]) -> None:
        self.counts.full += not self._outbox.put(channel, message)

    async def _clear(self) -> None:
        self._outbox.clear()
        await self._groups.clear()
        self.store.clear()

    async def _serve(self) -> None:
        """As long as the client runs: listen to what all are told, and drop what has expired."""
        client = await self.bus.opened()
        await self._everybody.listen(client)
        seconds = min(_SWEEPS, self._settings.expiry / 2)
        while True:
            await asyncio.sleep(seconds)
            self.store.sweep()
            with contextlib.suppress(KPSError):  # a client that has ended has nothing to leave
                await self._groups.sweep()
                await self._workers.sweep()
            self.counts.tell()
