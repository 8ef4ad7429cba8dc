"""The channel layer: what Channels calls."""

import asyncio
import contextlib
import re
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from channels import exceptions
from channels.layers import BaseChannelLayer

from kps.channels.counts import Counts
from kps.channels.names import Names
from kps.channels.post import Post, Settings
from kps.channels.posts import posts
from kps.errors import InvalidArgument, MessageTooLarge
from kps.io_asyncio.client import Client
from kps.io_common.checks import check_count
from kps.io_common.client_options import ClientOptions, ClientSettings
from kps.io_common.forks import watch_forks
from kps.protocol.dialect.address import DEFAULT_ADDRESS
from kps.protocol.dialect.binary import pack_bytes, unpack_bytes
from kps.protocol.dialect.envelope import compose_payload
from kps.protocol.limits import check_seconds, check_switch, shown

if TYPE_CHECKING:
    import ssl as tls

T = TypeVar("T")


class KpsChannelLayer(BaseChannelLayer):  # type: ignore[misc]
    """A channel layer for Django Channels over a server of KPS.

    A process has one connection, whichever event loops and threads call, and it begins with the
    first call. It ends with ``close``, or when nobody refers to the layer any more. While there is
    none, methods that send wait for it for up to ``timeout`` seconds, without blocking their loop,
    and then raise :class:`kps.NotConnected`; ``receive`` waits on.

    A message is a dictionary of what JSON can say, and ``bytes``; tuples come as lists. It has up
    to 1 MiB as JSON, or what the server's ``max_message`` allows; bytes take a third more.

    Args:
        address: Of the server: ``host:port``, or a ``ws://`` or ``wss://`` URL.
        token: Identifies this program at the server: a text, or a function that returns one, called
            before each attempt to connect.
        prefix: Of all topics, and of the id of each process. Projects with different prefixes share
            a server and do not see each other. ASCII letters, digits, ``-`` and ``_``, up to 30.
        expiry: Seconds for which a message waits for a receiver.
        group_expiry: Seconds for which a channel is in a group, unless it is added again.
        capacity: How many messages wait in one channel. Of a channel without ``!`` it counts those
            of each sending process for itself.
        channel_capacity: Other capacities, by glob or compiled expression of the channel's name;
            the first that matches.
        timeout: Seconds to wait for a connection, and for the answer of another process or, with
            ``confirm``, of the server.
        confirm: Whether ``group_send`` waits until the server has passed the message on. Without,
            it returns when the message is written, and one that is under way while the connection
            breaks is lost without notice.
        tell_lost: Whether the channels of this process that are in a group get a message
            ``{"type": "kps.lost", "group": NAME, "count": NUMBER}`` when messages to that group are
            lost to them after a broken connection; ``count`` is ``None`` if nobody knows it. The
            server must keep history of the group's topic.
        secure: Whether to use TLS; an address with a scheme tells it by that.
        ssl: The TLS context, if it is not the default one.

    Raises :class:`kps.InvalidArgument` for invalid options.
    """

    extensions: ClassVar[list[str]] = ["groups", "flush"]

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | Callable[[], str] | None = None,
        prefix: str = "channels",
        expiry: float = 60,
        group_expiry: float = 86_400,
        capacity: int = 100,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        timeout: float = 5,
        confirm: bool = False,
        tell_lost: bool = False,
        secure: bool = False,
        ssl: "tls.SSLContext | None" = None,
    ) -> None:
        capacities = dict(channel_capacity or {})
        for each in (capacity, *capacities.values()):
            if check_count("capacity", each) < 1:
                raise InvalidArgument("capacity is at least 1")
        super().__init__(expiry=expiry, capacity=capacity)
        self.channel_capacity = self.compile_capacities(capacities)
        self.group_expiry = group_expiry
        client: ClientOptions = {"token": token, "secure": secure, "ssl": ssl}
        ClientSettings.read(address, **client)  # complains at once
        Names(prefix)
        self._settings = Settings(
            address=address,
            prefix=prefix,
            expiry=check_seconds("expiry", expiry),
            group_expiry=check_seconds("group_expiry", group_expiry),
            capacity=_capacity_by(self.channel_capacity, capacity),
            timeout=check_seconds("timeout", timeout),
            confirm=check_switch("confirm", confirm),
            tell_lost=check_switch("tell_lost", tell_lost),
            client=client,
        )
        self._lock = threading.Lock()
        self._post: Post | None = None
        self._finalizer: weakref.finalize[..., KpsChannelLayer] | None = None
        watch_forks(self)

    # -- channels -----------------------------------------------------------------------------

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to a channel.

        The process of a channel with ``!`` confirms that it has room for it; to one that is gone
        the message is dropped and counted. For a channel without ``!`` it waits in this process
        until a worker takes it, in order.

        Raises ``ChannelFull``, also if that process does not answer within ``timeout``;
        ``MessageTooLarge``, both of ``channels.exceptions``; ``TypeError`` for an invalid name;
        :class:`kps.InvalidArgument` for what cannot be sent; :class:`kps.NotConnected`;
        :class:`kps.RequestTimeout` if the server itself does not answer, and
        :class:`kps.ConnectionLost`: in both cases it is unknown whether the message came;
        :class:`kps.ServerError` if this program has no permission to send to that process.
        """
        self.require_valid_channel_name(channel)
        content = _packed(message)
        with _errors_of_channels():
            await self._here().send(channel, content)

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for the next message of a channel, and return it.

        One receiver gets it. One that is cancelled loses none. While there is no connection it
        waits. Raises ``TypeError`` for an invalid name, :class:`kps.InvalidArgument` for the
        channel of another process, :class:`kps.ClientClosed` after ``close``, and why the server
        has refused this program for good.
        """
        self.require_valid_channel_name(channel)
        return await self._here().receive(channel)

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a new channel, from which only this process receives."""
        name = self._here().names.new_channel(prefix)
        self.require_valid_channel_name(name)
        return name

    # -- groups -------------------------------------------------------------------------------

    async def group_add(self, group: str, channel: str, info: object = None) -> None:
        """Add a channel to a group. What is sent to the group from then on comes.

        ``info`` is what ``group_members`` tells of the channel: anything that can be in a message,
        such as the name of a user. To add a channel again sets it anew.

        Raises ``TypeError`` for an invalid name, :class:`kps.InvalidArgument` for an ``info`` that
        cannot be sent, :class:`kps.NotConnected`, :class:`kps.ServerError` if the server refuses
        the group's topic.
        """
        self._check_both(group, channel)
        packed = pack_bytes(info)
        compose_payload(packed)  # complains here, and not in the answer to another process
        await self._here().group_add(group, channel, packed)

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group. It need not be in it. Raises as ``group_add``."""
        self._check_both(group, channel)
        await self._here().group_discard(group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to all channels of a group.

        It is published once. A channel that is full does not get it, which its process counts.
        It returns when the message is written: one that is under way while the connection breaks is
        lost. With the option ``confirm`` it waits until the server has passed the message on, and
        else raises :class:`kps.ConnectionLost`, :class:`kps.RequestTimeout` or
        :class:`kps.ServerError`. Raises as ``send``, but never ``ChannelFull``.
        """
        self.require_valid_group_name(group)
        content = _packed(message)
        with _errors_of_channels():
            await self._here().group_send(group, content)

    async def group_members(self, group: str) -> dict[str, Any]:
        """Return the channels of a group, in all processes, each with its ``info``.

        Each process on the bus is asked. One that does not answer within ``timeout`` seconds, or
        has ended, has no members. Raises ``TypeError`` for an invalid name,
        :class:`kps.NotConnected`, :class:`kps.ConnectionLost`, :class:`kps.RequestTimeout`,
        :class:`kps.ServerError` if the server refuses the layer's topics.
        """
        self.require_valid_group_name(group)
        members: dict[str, Any] = unpack_bytes(await self._here().group_members(group))
        return members

    # -- the rest -----------------------------------------------------------------------------

    async def flush(self) -> None:
        """Forget all messages and groups, in all processes with this prefix on the bus."""
        await self._here().flush()

    async def close(self) -> None:
        """Close the connection of this process; forget its channels and groups.

        Those who wait get :class:`kps.ClientClosed`. The next call begins anew.
        """
        with self._lock:
            post = self._forget_post()
        if post is not None:
            await asyncio.to_thread(post.close)

    @property
    def counts(self) -> Counts:
        """What this process has dropped since its client began, by reason."""
        return self._here().counts

    async def with_client(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do something else with the connection, and return the result.

        ``work`` gets the connected :class:`kps.Client`, and runs in the client's thread, on its
        event loop, as do callbacks that it subscribes: none may block, nor touch what belongs to
        your loop. ``await layer.send(channel, ...)`` from there reaches a consumer. Raises
        :class:`kps.NotConnected`, and what ``work`` raises.
        """
        return await self._here().with_client(work)

    def _check_both(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)

    def _here(self) -> Post:
        """Return what this process has, and start it if it is the first call.

        Start another one if the client of the former one has ended for good: nobody starts the
        processes of a web server anew for that.
        """
        post = self._post
        if post is not None and not post.bus.is_spent:
            return post
        with self._lock:
            if self._post is not None and self._post.bus.is_spent:
                spent = self._post
                self._forget_post()
                spent.leave()
            if self._post is None:
                post = Post(self._settings)
                posts.start(post)
                self._finalizer = weakref.finalize(self, post.leave)
                self._finalizer.atexit = False
                self._post = post
            return self._post

    def _forget_post(self) -> Post | None:
        post, self._post = self._post, None
        if self._finalizer is not None:
            self._finalizer.detach()
        return post

    def forked(self) -> None:
        """In a forked child: begin anew with the next call."""
        self._lock = threading.Lock()
        self._forget_post()


def _capacity_by(
    capacities: list[tuple[re.Pattern[str], int]], otherwise: int
) -> Callable[[str], int]:
    """Return what tells the capacity of a channel, without a reference to the layer."""

    def find(channel: str) -> int:
        for pattern, capacity in capacities:
            if pattern.match(channel):
                return capacity
        return otherwise

    return find


def _packed(message: object) -> dict[str, Any]:
    """Return a message in the form in which it travels. Its parts are copies."""
    if not isinstance(message, dict):
        raise TypeError(f"a message is a dictionary, not {shown(message)}")
    content: dict[str, Any] = pack_bytes(message)
    return content


@contextlib.contextmanager
def _errors_of_channels() -> Iterator[None]:
    """Raise the error that Channels knows in place of ours."""
    try:
        yield
    except MessageTooLarge as error:
        raise exceptions.MessageTooLarge(str(error)) from error
