"""A bus in memory for tests of programs that use :class:`kps.Client`, in either colour."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Self, TypeVar

from kps.errors import InvalidArgument, InvalidState
from kps.io_asyncio.client import Client
from kps.io_asyncio.runtime import Runtime
from kps.io_common.checks import check_hook
from kps.io_common.hooks import Callback
from kps.io_common.server_options import HOOKS, ServerSettings
from kps.io_common.verdicts import (
    ConnectHook,
    DisconnectHook,
    SubscribeHook,
    TokenHook,
    UnsubscribeHook,
    UpgradeHook,
)
from kps.io_sync.client import Client as BlockingClient
from kps.io_sync.runtime import Runtime as BlockingRuntime
from kps.protocol.access.identity import OPEN, Permissions
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.given import check_demands, check_headers
from kps.protocol.bus.history import History
from kps.protocol.bus.message import Message
from kps.protocol.bus.subscriptions import Wanted, check_concurrency, check_group
from kps.protocol.dialect.address import DEFAULT_PATH, Address
from kps.protocol.dialect.level2 import LEVEL
from kps.protocol.patterns import Scope
from kps.protocol.server_limits import ServerLimits
from kps.testing.installed import install, uninstall
from kps.testing.on_loop import LoopRuntime
from kps.testing.on_threads import Pump, ThreadsRuntime
from kps.testing.recorded_hub import Record
from kps.testing.world import HookedNetwork, Span, World

T = TypeVar("T")

# In how many turns of the event loop nothing may happen on the bus before all is quiet. The tasks
# of a program may hand something on to each other in between.
_TURNS = 50

# Seconds of the system's clock between two looks at threads, and how many of them in a row must
# find that nothing happens.
_LOOK = 0.001
_LOOKS = 5


class MemoryBus:
    """A server, a network and a clock in memory, for clients that a program makes itself.

    ::

        async def test_chat() -> None:
            with MemoryBus() as bus:
                chat = await Chat.start("localhost:9313")      # makes a kps.Client
                bus.publish("room", {"text": "hello"})
                await bus.settle()
                assert chat.lines == ["hello"]
                bus.cut()
                await bus.advance(30)                          # it connects again
                assert bus.clients == ["chat"]

    While it is active (``with``), every :class:`kps.Client` and :class:`kps.sync.Client` that is
    made connects to it, whatever the address, without a network. Their time is the bus's,
    which stands still until ``advance`` moves it. That is the time of their timeouts, heartbeats
    and reconnecting; ``asyncio.sleep`` and ``time.sleep`` are not touched.

    All methods are plain calls but those that let things happen, which have two forms: ``await
    bus.advance(30)`` on an event loop, ``bus.sync.advance(30)`` in a program of threads.

    Faults: set ``reachable`` to ``False`` to have new connections refused; ``latency`` to the
    seconds that what is sent is under way, and ``lifetime`` to those after which a connection
    made from then on breaks. Each is a number, or a pair of numbers between which one is drawn,
    from generators that ``seed`` sets.

    Args:
        address: The only address that it answers to, ``host:port``; clients of others connect
            as they do otherwise. Without it, all addresses.
        seed: Sets all that is random: faults, and the clients' backoff.
        path: As for :class:`kps.Server`, and so are the others.
        id: The server's own id, the sender of what this publishes. Default ``server``.
        level: The highest level of the protocol to speak.
        limits: Bounds and timeouts of the server.
        on_upgrade: Decides on each client. Hooks are plain functions here, and wait for nothing.
        auth: Says who the clients are, by their tokens.
        on_connect: Decides on each id for which a client asks.
        on_disconnect: Is told of each client that is gone.
        on_subscribe: Decides on each subscription of a client.
        on_unsubscribe: Is told of each subscription of a client that has ended.
        history: For which topics the server keeps messages.
        permissions: Permissions of clients whose identity is not known.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        seed: int = 0,
        path: str = DEFAULT_PATH,
        id: str = "server",
        level: int = LEVEL,
        limits: ServerLimits | None = None,
        on_upgrade: UpgradeHook | None = None,
        auth: TokenHook | None = None,
        on_connect: ConnectHook | None = None,
        on_disconnect: DisconnectHook | None = None,
        on_subscribe: SubscribeHook | None = None,
        on_unsubscribe: UnsubscribeHook | None = None,
        history: Sequence[History] = (),
        permissions: Permissions = OPEN,
    ) -> None:
        settings = ServerSettings.read(
            "memory:1",
            path=path,
            id=id,
            level=level,
            limits=limits,
            console=False,
            on_upgrade=on_upgrade,
            auth=auth,
            on_connect=on_connect,
            on_disconnect=on_disconnect,
            on_subscribe=on_subscribe,
            on_unsubscribe=on_unsubscribe,
            history=history,
            permissions=permissions,
        )
        for name in HOOKS:
            hook = getattr(settings, name)
            check_hook(name, hook)
            _check_plain(name, hook)
        self.reachable = True
        """Whether new connections are accepted, by the network."""
        self.latency: Span = 0.0
        """Seconds that what is sent is under way."""
        self.lifetime: Span | None = None
        """Seconds after which connections that are made now break; ``None``: they do not."""
        self._address = None if address is None else Address.parse(address).netloc
        self._record = Record()
        network = HookedNetwork(settings, seed=seed, record=self._record)
        self._network = network
        self._world = World(network, self, seed)
        self._pump = Pump(self._world)
        self._is_active = False
        self._was_active = False
        self.sync = BlockingTime(self._world)
        """``advance`` and ``settle`` for programs of threads: they block."""

    # -- life -----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._was_active:
            raise InvalidState("a bus in memory is active once; make a new one")
        self._is_active = self._was_active = True
        self._pump.test_thread = threading.get_ident()
        install(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the blocking clients that are still open, and cut all others off."""
        uninstall(self)
        self._is_active = False
        world = self._world
        self.resume()
        self.latency = 0.0
        for guest in list(world.guests):
            if isinstance(guest, ThreadsRuntime):
                with suppress(Exception):
                    guest.client.close()
        with world.lock:
            world.is_closed = True
        self.cut()
        self._pump.stop()

    # -- time -----------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The time, in seconds. Only differences mean anything."""
        return self._world.clock.now

    async def settle(self) -> None:
        """Wait until all has happened that can happen without time passing."""
        world = self._world
        quiet = 0
        while True:
            before = world.activity
            world.tick()
            await asyncio.sleep(0)
            if before != world.activity:
                quiet = 0
            elif self._has_threads():
                await asyncio.sleep(_LOOK)
                quiet = 0 if before != world.activity or world.is_busy() else quiet + 1
                if quiet >= _LOOKS:
                    return
            else:
                quiet += 1
                if quiet >= _TURNS:
                    return

    async def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every deadline on the way until all has settled."""
        ends = _end_of(self.now, seconds)
        await self.settle()
        while (stop := self._world.next_stop()) is not None and stop <= ends:
            self._world.move_to(stop)
            await self.settle()
        self._world.move_to(ends)
        await self.settle()

    async def finish(self, awaitable: Awaitable[T]) -> T:
        """Let time pass, from deadline to deadline, until something is done; return its result.

        For calls that only time can end: ``await bus.finish(ack.wait())``.
        """
        task = asyncio.ensure_future(awaitable)
        try:
            await self.settle()
            while not task.done() and (stop := self._world.next_stop()) is not None:
                self._world.move_to(stop)
                await self.settle()
            return await task
        finally:
            task.cancel()

    # -- taking part, as the server's program ---------------------------------------------------

    def publish(self, topic: str, data: Any, *, headers: Mapping[str, str] | None = None) -> int:
        """Publish with the server's id as sender; return how many subscribers there are.

        They get it when things happen: see ``settle``. Raises as :meth:`kps.Server.publish`.
        """
        with self._world.lock:
            count = self._network.hub.publish(topic, data, self.now, check_headers(headers))
            self._world.run()
            return count

    def publish_to_id(
        self, client_id: str, data: Any, *, headers: Mapping[str, str] | None = None
    ) -> bool:
        """Send a direct message; ``False`` when nobody has that id."""
        with self._world.lock:
            written = check_headers(headers)
            found = self._network.hub.publish_to_id(client_id, data, self.now, written)
            self._world.run()
            return found

    def publish_with_ack(
        self,
        topic: str,
        data: Any,
        timeout: float = 5.0,
        *,
        expect: Sequence[str] = (),
        expect_groups: Sequence[str] = (),
        key: str = "",
        retry: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> AckHandle:
        """Publish, and learn how each subscriber and group fared.

        The outcomes come into ``responses`` of what this returns, by client id (of a group it is
        the last one's ``name``); ``finished`` tells that there will be no more. The options are
        those of :meth:`kps.Server.publish_with_ack`.
        """
        with self._world.lock:
            hub, written = self._network.hub, check_headers(headers)
            demands = check_demands(expect, expect_groups, key, retry, hub.limits)
            handle = hub.publish_with_ack(topic, data, timeout, self.now, demands, written)
            self._world.run()
            return handle

    def subscribe(
        self, topic: Scope, callback: Callback, *, group: str = "", concurrency: int = 1
    ) -> None:
        """Subscribe to a topic or a :class:`kps.Pattern`, as the server, until the bus ends.

        With ``group`` it is a member of a group of the topic, as in :meth:`kps.Server.subscribe`.
        ``callback`` is a plain function that takes a :class:`kps.Message` and waits for nothing.
        What it returns is the result for a publisher who wants an ack, and what it raises is the
        failure.
        """
        check_hook("a callback", callback)
        _check_plain("callback", callback)
        at_once = check_concurrency(concurrency)
        key = check_group(topic, group, Wanted(concurrency=at_once))
        with self._world.lock:
            self._world.subscribe(key, callback, at_once)

    # -- what there is and was ------------------------------------------------------------------

    @property
    def clients(self) -> list[str]:
        """The ids of the clients that are registered, sorted."""
        with self._world.lock:
            return sorted(self._network.hub.clients)

    def subscribers(self, topic: str) -> list[str]:
        """The ids of those that subscribe to a topic, or to a pattern that has it, sorted.

        Members of groups are among them.
        """
        with self._world.lock:
            subscribers, groups = self._network.hub.state.bus.receivers(topic)
            members = [each.subscriber for group in groups for each in group.present()]
            return sorted({each.id for each in (*subscribers, *members)})

    def published(self, topic: str | None = None) -> list[Message[Any]]:
        """What anybody has published so far, in order: on a topic, or on all.

        Two messages are equal when topic, data and sender are.
        """
        with self._world.lock:
            messages = self._record.publications
            return [message for message in messages if topic in (None, message.topic)]

    def sent_to(self, client_id: str) -> list[Message[Any]]:
        """The direct messages to an id so far, in order, whether anybody has it or not."""
        with self._world.lock:
            return [message for to, message in self._record.direct if to == client_id]

    # -- faults -----------------------------------------------------------------------------

    def cut(self, *ids: str) -> None:
        """Break the connections of these clients, or of all. Both ends notice."""
        self._each_link(ids, lambda link: link.cut())

    def stall(self, *ids: str) -> None:
        """Let nothing pass on the connections that these clients, or all, have now.

        Nobody notices, but that heartbeats are not answered. ``resume`` ends it.
        """
        self._each_link(ids, lambda link: setattr(link, "stalled", True))

    def resume(self, *ids: str) -> None:
        """Let pass what was stalled."""
        self._each_link(ids, lambda link: setattr(link, "stalled", False))

    def restart(self) -> None:
        """Replace the server by one that knows nothing of before. All connections break.

        What was published stays known here.
        """
        with self._world.lock:
            self._world.restart()
            self._world.run()

    def _each_link(self, ids: tuple[str, ...], change: Callable[[Any], None]) -> None:
        with self._world.lock:
            self._world.activity += 1
            for link in self._world.links(ids):
                change(link)
            self._world.run()

    # -- what new clients ask -------------------------------------------------------------------

    def takes(self, address: Address) -> bool:
        """Whether clients of that address belong to this bus."""
        return self._address is None or self._address == address.netloc

    def new_runtime(self, client: Client) -> Runtime:
        """Make the runtime of an asyncio client."""
        return LoopRuntime(self._world, client)

    def new_blocking_runtime(self, client: BlockingClient) -> BlockingRuntime:
        """Make the runtime of a blocking client."""
        return ThreadsRuntime(self._world, self._pump, client)

    def _has_threads(self) -> bool:
        """Whether what happens is not all on this event loop."""
        loop = asyncio.get_running_loop()
        guests = list(self._world.guests)
        return self._world.is_busy() or any(getattr(g, "loop", None) is not loop for g in guests)


class BlockingTime:
    """The time of a bus in memory, for programs of threads."""

    def __init__(self, world: World) -> None:
        self._world = world

    def settle(self) -> None:
        """Wait until all has happened that can happen without time passing."""
        self._check_thread()
        world = self._world
        quiet = 0
        while quiet < _LOOKS:
            before = world.activity
            if not quiet:
                world.tick()  # which wakes threads
            time.sleep(_LOOK)
            quiet = 0 if before != world.activity or world.is_busy() else quiet + 1

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every deadline on the way until all has settled."""
        ends = _end_of(self._world.clock.now, seconds)
        self.settle()
        while (stop := self._world.next_stop()) is not None and stop <= ends:
            self._world.move_to(stop)
            self.settle()
        self._world.move_to(ends)
        self.settle()

    def _check_thread(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise InvalidState("this would block the event loop: await the bus's own method")


def _end_of(now: float, seconds: float) -> float:
    if not seconds >= 0:
        raise ValueError("time does not run backwards")
    return now + seconds


def _check_plain(name: str, hook: object) -> None:
    called = getattr(hook, "__call__", None)  # noqa: B004
    if iscoroutinefunction(hook) or iscoroutinefunction(called):
        raise InvalidArgument(f"{name} is a plain function here, and no coroutine function")
