"""The asyncio client."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, assert_never

from kps.compat.unified import UnifiedClient
from kps.errors import ClientClosed, RequestTimeout
from kps.io_asyncio.ack import Ack
from kps.io_asyncio.arrival import Arrival
from kps.io_asyncio.connection import Connection
from kps.io_asyncio.driver import Driver
from kps.io_common.logs import log_client_event
from kps.io_common.settings import HIGH_WATER, ClientSettings
from kps.io_common.system_errors import describe
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import AckChanged, AckHandle, Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.client.events import (
    AckStatusReceived,
    BarrierPassed,
    ClientEvent,
    ConnectAttemptFailed,
    Connected,
    ConnectNeeded,
    Disconnected,
    Ended,
    ErrorReceived,
    MessageReceived,
    SubscriptionConfirmed,
    SubscriptionRefused,
)
from kps.protocol.client.pending import Barrier
from kps.protocol.client.session import ClientSession
from kps.protocol.dialect.address import DEFAULT_ADDRESS
from kps.protocol.wire.endpoint import Endpoint


class Client(ClientSettings, Driver, UnifiedClient):
    """A connection to the bus that restores itself.

    ::

        async with Client("localhost:9313", id="alice") as client:
            await client.subscribe("news", on_news)
            await client.publish("news", {"title": "hello"})

    or ``client = await Client.connect("localhost:9313")`` and later ``await client.close()``.

    The arguments are those of
    :class:`kps.io_common.settings.ClientSettings`. Each callback may be a
    coroutine function (runs on the loop) or a plain function (runs in a thread). All methods
    belong to the event loop on which the client was started.
    """

    _session: ClientSession

    # -- life -----------------------------------------------------------------------------

    @classmethod
    async def connect(cls, address: str = DEFAULT_ADDRESS, **options: Any) -> Self:
        """Make a client (same arguments) and wait until it is connected.

        Raises :class:`kps.ConnectFailed` when the server refuses, or cannot be reached and
        ``reconnect`` is off; :class:`kps.InvalidArgument` for an address that cannot be read.
        """
        client = cls(address, **options)
        await client._open()
        return client

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close for good. May be called twice, also from a callback.

        What was published before is still written. Callbacks that are under way as tasks are
        cancelled; whatever waits ends with :class:`kps.ClientClosed`.
        """
        if self._running_loop is None:
            return
        self._session.close(self._now)
        self._step()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        while self._session.ended is None or self._connections:
            await self._news.wait()
        await self._dispatcher.finish_notices(self._limits.close_timeout)
        await self._dispatcher.close()
        self._stop_timer()

    async def run(self) -> None:
        """Stay until the client is closed; SIGINT and SIGTERM close it."""
        loop = self._loop
        closing: list[asyncio.Task[None]] = []
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows, threads
                loop.add_signal_handler(
                    number, lambda: closing.append(loop.create_task(self.close()))
                )
        try:
            while self._session.ended is None:
                await self._news.wait()
        finally:
            for number in signals:
                with contextlib.suppress(NotImplementedError, RuntimeError):
                    loop.remove_signal_handler(number)
        await self.close()

    @property
    def id(self) -> str:
        """The id under which others reach this client."""
        return self._session.id if self._running_loop is not None else self._config.id

    @property
    def is_connected(self) -> bool:
        """Whether the server knows this client at the moment."""
        return self._running_loop is not None and self._session.ready

    @property
    def dropped(self) -> int:
        """Messages accepted by ``publish`` that a lost connection kept from being written."""
        return self._session.dropped if self._running_loop is not None else 0

    async def _open(self) -> None:
        if self._running_loop is not None:
            raise ClientClosed("a client is started once; make a new one")
        self._bind()
        self._connections: set[Connection] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._news = Arrival()  # about the connection, subscriptions, barriers and room
        self._room_is_wanted = False
        self._statuses: dict[AckHandle, list[asyncio.Future[dict[str, bool]]]] = {}
        self._session = ClientSession(
            self._config, entropy=os.urandom, chance=random.random, now=self._now
        )
        self._session.on_resume = self._progress
        if self._on_id is not None:
            self._attach_direct(self._on_id)
        self._step()
        try:
            while not self._session.ready:
                self._raise_if_ended()
                await self._news.wait()
        except BaseException:
            await self.close()
            raise

    # -- publishing -----------------------------------------------------------------------

    async def publish(self, topic: str, data: Any) -> None:
        """Publish to everyone who subscribes to the topic.

        Returns when the message is queued, and waits first while the network is slower than
        the program. At most once: a message may be lost with the connection.

        Raises :class:`kps.NotConnected` without a connection (unless there is an offline
        queue), :class:`kps.QueueFull` when that is full, :class:`kps.InvalidArgument` for an
        empty topic or a payload that is not JSON, :class:`kps.MessageTooLarge`.
        """
        now = self._clock()
        waiting = self._session.publish(topic, data, now)
        if not self._step_is_due:
            self._progress()
        if waiting > HIGH_WATER:
            await self._until_there_is_room()

    async def publish_to_id(self, client_id: str, data: Any) -> None:
        """Send a direct message to the client, or server, of that id. Raises as ``publish``.

        When nobody has the id, the server's error comes to ``on_error``; use
        ``publish_to_id_with_ack`` to know.
        """
        self._started.publish_to_id(client_id, data, self._now)
        self._progress()
        if self._session.backlog > HIGH_WATER:
            await self._until_there_is_room()

    async def publish_to_server(self, addr: str, data: Any, secure: bool = False) -> None:
        """Have the server send a message to another server (spec, section 7).

        ``addr`` is ``host:port[/path][::proxied-address]``. When the payload is an object
        with a ``topic``, its ``data`` is published there. A failure comes to ``on_error``.
        Raises as ``publish``.
        """
        self._started.publish_to_server(addr, data, secure, self._now)
        self._progress()
        if self._session.backlog > HIGH_WATER:
            await self._until_there_is_room()

    async def publish_with_ack(self, topic: str, data: Any, timeout: float = 5.0) -> Ack:
        """Publish, and learn how each subscriber fared: see :class:`kps.Ack`.

        ``timeout`` is how long the subscribers may take, in seconds. Raises as ``publish``;
        the offline queue does not apply.
        """
        handle = self._started.asking.publish_with_ack(topic, data, timeout, self._now)
        return self._ack_for(handle)

    async def publish_to_id_with_ack(self, client_id: str, data: Any, timeout: float = 5.0) -> Ack:
        """Send a direct message, and learn how its receiver fared. No response: nobody there."""
        handle = self._started.asking.publish_to_id_with_ack(client_id, data, timeout, self._now)
        return self._ack_for(handle)

    async def flush(self) -> None:
        """Wait until the server has handled everything that was sent before.

        Raises :class:`kps.NotConnected`, :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout`.
        """
        await self._pass(self._started.asking.barrier(self._now))

    async def publish_with_receipt(self, topic: str, data: Any) -> int | None:
        """Publish, wait until the server has passed it on, and return to how many.

        That is the number of subscribers in whose queues it is; whether they handled it, only
        ``publish_with_ack`` tells. ``None`` from a server on level 1, which does not say.

        Raises as ``publish`` (the offline queue does not apply), :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout`, :class:`kps.ServerError` when the server refuses it.
        """
        barrier = self._started.asking.publish_with_receipt(topic, data, self._now)
        await self._pass(barrier)
        return barrier.delivered

    async def _pass(self, barrier: Barrier) -> None:
        self._progress()
        async with self._answer_in_time("the server did not answer in time"):
            while not barrier.passed and barrier.error is None:
                await self._news.wait()
        if barrier.error is not None:
            raise barrier.error

    async def _send_to_server(self, to: str, proxied: str, origin: str, data: Any) -> list[str]:
        """As a server, give another server a message; return what it refused."""
        self._started.send_to_server(to, proxied, origin, data, self._now)
        barrier = self._session.asking.barrier(self._now)
        await self._pass(barrier)
        return barrier.refusals

    @property
    def _started(self) -> ClientSession:
        """The session, if there is one already."""
        _ = self._loop
        return self._session

    async def _until_there_is_room(self) -> None:
        while self._session.backlog > HIGH_WATER and self._session.ready:
            self._room_is_wanted = True
            await self._news.wait()

    # -- what the driver asks -------------------------------------------------------------

    @property
    def _subscriptions(self) -> Subscriptions:
        return self._session.subscriptions

    def _next_deadline(self) -> float | None:
        return self._session.next_deadline()

    def _handle_timeout(self, now: float) -> None:
        self._session.handle_timeout(now)

    def _open_mailbox(self, topic: str) -> Mailbox:
        return self._started.subscribe(topic, self._now)

    def _close_mailbox(self, mailbox: Mailbox) -> None:
        self._session.unsubscribe(mailbox, self._now)

    async def _confirmed(self, mailbox: Mailbox) -> None:
        session = self._session
        mailbox.waiters += 1
        try:
            async with self._answer_in_time(f"no answer to the subscription to {mailbox.topic!r}"):
                while (
                    session.ready
                    and not mailbox.is_over
                    and not session.is_confirmed(mailbox.topic)
                ):
                    await self._news.wait()
        finally:
            mailbox.waiters -= 1
        if mailbox.error is not None:
            raise mailbox.error
        self._raise_if_ended()

    def _settle(self, message: Message, error: str | None, result: Any = None) -> None:
        self._session.settle(message, error, self._now, result)
        self._progress()

    def _end_of_messages(self) -> Exception | None:
        ended = self._session.ended
        if ended is None:
            return None
        return ended.error or StopAsyncIteration()

    async def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        if not self._started.asking.ask_status(handle, self._now):
            return handle.known_status()
        answer: asyncio.Future[dict[str, bool]] = self._loop.create_future()
        self._statuses.setdefault(handle, []).append(answer)
        self._progress()
        try:
            async with self._answer_in_time("the server did not tell the status in time"):
                return await answer
        finally:
            waiting = self._statuses.get(handle, [])
            if answer in waiting:
                waiting.remove(answer)
            if not waiting:
                self._statuses.pop(handle, None)

    def _cancel_ack(self, handle: AckHandle) -> None:
        self._session.asking.cancel_ack(handle, self._now)
        self._progress()

    def _attach(self, connection: Connection, peer: str) -> Endpoint:
        self._connections.add(connection)
        return self._session.connected(self._now)

    def _detach(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._news.announce()

    def _flush(self) -> None:
        for connection in list(self._connections):
            connection.flush()
        if self._room_is_wanted and self._session.backlog <= HIGH_WATER:
            self._room_is_wanted = False
            self._news.announce()

    # -- what happens ---------------------------------------------------------------------

    def _handle_events(self) -> None:
        for event in self._session.events():
            self._handle(event)

    def _handle(self, event: ClientEvent) -> None:
        log_client_event(event, self._address)
        match event:
            case AckChanged(handle):
                if handle.finished:
                    self._answer_statuses(handle, handle.known_status())
                self._ack_changed(handle)
            case SubscriptionConfirmed() | BarrierPassed():
                self._news.announce()
            case SubscriptionRefused(mailboxes):
                for mailbox in mailboxes:
                    self._finish_mailbox(mailbox)
                self._news.announce()
            case AckStatusReceived(handle, status):
                self._answer_statuses(handle, status)
            case MessageReceived(fields):
                self._dispatcher.notify(self._on_frame, fields, self)
            case ConnectNeeded():
                self._connecting = self._loop.create_task(self._connect())
            case Connected():
                self._dispatcher.notify(self._on_connect, event)
                self._news.announce()
            case Disconnected():
                self._dispatcher.notify(self._on_disconnect, event)
                self._news.announce()
            case ConnectAttemptFailed():
                pass  # logged, and there will be another
            case ErrorReceived():
                self._dispatcher.notify(self._on_error, event.error())
            case Ended():
                self._dispatcher.notify(self.on_close)
                self._news.announce()
                self._wake_iterators()
            case _:
                assert_never(event)

    async def _connect(self) -> None:
        address = self._address
        try:
            self._session.renew_token()
            async with asyncio.timeout(self._connect_timeout):
                await self._loop.create_connection(
                    lambda: Connection(self._loop, self), address.host, address.port, ssl=self._tls
                )
        except TimeoutError:
            self._connect_failed("no answer in time")
        except (OSError, UnicodeError) as error:  # as are SSLError, ConnectFailed
            self._connect_failed(describe(error))

    def _connect_failed(self, reason: str) -> None:
        self._session.connect_failed(reason, self._now)
        self._progress()
        self._news.announce()

    def _answer_statuses(self, handle: AckHandle, status: dict[str, bool]) -> None:
        for answer in self._statuses.pop(handle, []):
            if answer.done():
                continue
            if handle.error is not None:
                answer.set_exception(handle.error)
            else:
                answer.set_result(status)

    def _raise_if_ended(self) -> None:
        ended = self._session.ended
        if ended is not None:
            raise ended.error or ClientClosed("the client was closed")

    @contextlib.asynccontextmanager
    async def _answer_in_time(self, complaint: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._request_timeout):
                yield
        except TimeoutError:
            raise RequestTimeout(complaint) from None
