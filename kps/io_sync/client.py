"""The blocking client."""

import atexit
import contextlib
import os
import random
import signal
import socket
import threading
import weakref
from types import TracebackType
from typing import Any, Self, assert_never

from kps.compat.unified import BlockingUnifiedClient
from kps.errors import ClientClosed, RequestTimeout
from kps.io_common.logs import log_client_event, logger
from kps.io_common.settings import HIGH_WATER, ClientSettings
from kps.io_common.system_errors import describe
from kps.io_sync.ack import Ack
from kps.io_sync.connection import Connection, clock
from kps.io_sync.driver import Driver
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


class Client(ClientSettings, Driver, BlockingUnifiedClient):
    """A connection to the bus that restores itself, for programs without an event loop.

    ::

        with Client("localhost:9313", id="script") as client:
            client.publish("news", {"title": "hello"})
            for message in client.subscribe("events"):
                print(message.data)

    or ``client = Client.connect("localhost:9313")`` and later ``client.close()``.

    The arguments are those of
    :class:`kps.io_common.settings.ClientSettings`. All methods may be called
    from any thread. The client has one thread for its socket and, once it is needed, one on
    which all callbacks run. A program that forgets ``close`` still exits.
    """

    _session: ClientSession

    # -- life -----------------------------------------------------------------------------

    @classmethod
    def connect(cls, address: str = DEFAULT_ADDRESS, **options: Any) -> Self:
        """Make a client (same arguments) and wait until it is connected.

        Raises :class:`kps.ConnectFailed` when the server refuses, or cannot be reached and
        ``reconnect`` is off; :class:`kps.InvalidArgument` for an address that cannot be read.
        """
        client = cls(address, **options)
        client._open()
        return client

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close for good. May be called twice, from any thread, and from a callback.

        What was published before is still written. Whatever waits in another thread ends at
        once with :class:`kps.ClientClosed`.
        """
        with self._lock:
            if not self._is_started:
                return
            self._is_closing = True
            self._session.close(clock())
            self._progress()
            if threading.current_thread() is not self._thread:
                self._wait_for(lambda: self._session.ended is not None and not self._connection)
            self._dispatcher.close()
        self._dispatcher.finish(self._limits.close_timeout)
        atexit.unregister(self._at_exit)

    def run(self) -> None:
        """Stay until the client is closed; in the main thread, SIGINT and SIGTERM close it."""
        previous: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, lambda *_: self._close_soon())
        try:
            with self._lock:
                # In steps, because an endless wait would keep signals away on Windows.
                while self._started.ended is None:
                    self._news.wait(0.5)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.close()

    @property
    def id(self) -> str:
        """The id under which others reach this client."""
        return self._session.id if self._is_started else self._config.id

    @property
    def is_connected(self) -> bool:
        """Whether the server knows this client at the moment."""
        return self._is_started and self._session.ready

    @property
    def dropped(self) -> int:
        """Messages accepted by ``publish`` that a lost connection kept from being written."""
        return self._session.dropped if self._is_started else 0

    def _open(self) -> None:
        with self._lock:
            if self._is_started:
                raise ClientClosed("a client is started once; make a new one")
            self._connection: Connection | None = None
            self._connect_is_due = False
            self._is_closing = False
            self._statuses: dict[AckHandle, dict[str, bool]] = {}
            self._session = ClientSession(
                self._config, entropy=os.urandom, chance=random.random, now=clock()
            )
            self._session.on_resume = self._wake_idle
            self._start_dispatcher()
            if self._on_id is not None:
                self._attach_direct(self._on_id)
            self._progress()
            self._thread = threading.Thread(target=self._run, name="kps-client", daemon=True)
            self._thread.start()
            # Daemon threads die with the program; what is queued should not.
            reference = weakref.ref(self)
            self._at_exit = lambda: _close_at_exit(reference)
            atexit.register(self._at_exit)
        try:
            with self._lock:
                self._wait_for(lambda: self._session.ready or self._session.ended is not None)
                self._raise_if_ended()
        except BaseException:
            self.close()
            raise

    # -- publishing -----------------------------------------------------------------------

    def publish(self, topic: str, data: Any) -> None:
        """Publish to everyone who subscribes to the topic.

        Returns when the message is queued, and waits first while the network is slower than
        the program. At most once: a message may be lost with the connection.

        Raises :class:`kps.NotConnected` without a connection (unless there is an offline
        queue), :class:`kps.QueueFull` when that is full, :class:`kps.InvalidArgument` for an
        empty topic or a payload that is not JSON, :class:`kps.MessageTooLarge`.
        """
        with self._lock:
            self._sent(self._started.publish(topic, data, clock()))

    def publish_to_id(self, client_id: str, data: Any) -> None:
        """Send a direct message to the client, or server, of that id. Raises as ``publish``.

        When nobody has the id, the server's error comes to ``on_error``; use
        ``publish_to_id_with_ack`` to know.
        """
        with self._lock:
            self._started.publish_to_id(client_id, data, clock())
            self._sent(self._session.backlog)

    def publish_to_server(self, addr: str, data: Any, secure: bool = False) -> None:
        """Have the server send a message to another server (spec, section 7).

        ``addr`` is ``host:port[/path][::proxied-address]``. When the payload is an object
        with a ``topic``, its ``data`` is published there. A failure comes to ``on_error``.
        Raises as ``publish``.
        """
        with self._lock:
            self._started.publish_to_server(addr, data, secure, clock())
            self._sent(self._session.backlog)

    def publish_with_ack(self, topic: str, data: Any, timeout: float = 5.0) -> Ack:
        """Publish, and learn how each subscriber fared: see :class:`kps.sync.Ack`.

        ``timeout`` is how long the subscribers may take, in seconds. Raises as ``publish``;
        the offline queue does not apply.
        """
        with self._lock:
            handle = self._started.asking.publish_with_ack(topic, data, timeout, clock())
            return self._ack_for(handle)

    def publish_to_id_with_ack(self, client_id: str, data: Any, timeout: float = 5.0) -> Ack:
        """Send a direct message, and learn how its receiver fared. No response: nobody there."""
        with self._lock:
            handle = self._started.asking.publish_to_id_with_ack(client_id, data, timeout, clock())
            return self._ack_for(handle)

    def flush(self) -> None:
        """Wait until the server has handled everything that was sent before.

        Raises :class:`kps.NotConnected`, :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout`.
        """
        with self._lock:
            self._pass(self._started.asking.barrier(clock()))

    def publish_with_receipt(self, topic: str, data: Any) -> int | None:
        """Publish, wait until the server has passed it on, and return to how many.

        That is the number of subscribers in whose queues it is; whether they handled it, only
        ``publish_with_ack`` tells. ``None`` from a server on level 1, which does not say.

        Raises as ``publish`` (the offline queue does not apply), :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout`, :class:`kps.ServerError` when the server refuses it.
        """
        with self._lock:
            barrier = self._started.asking.publish_with_receipt(topic, data, clock())
            self._pass(barrier)
            return barrier.delivered

    def _pass(self, barrier: Barrier) -> None:
        self._progress()
        self._wait_for_answer(
            lambda: barrier.passed or barrier.error is not None,
            "the server did not answer in time",
        )
        if barrier.error is not None:
            raise barrier.error

    def _send_to_server(self, to: str, proxied: str, origin: str, data: Any) -> list[str]:
        """As a server, give another server a message; return what it refused."""
        with self._lock:
            self._started.send_to_server(to, proxied, origin, data, clock())
            barrier = self._session.asking.barrier(clock())
            self._pass(barrier)
            return barrier.refusals

    @property
    def _started(self) -> ClientSession:
        """The session, if there is one already."""
        self._require_started()
        return self._session

    def _sent(self, waiting: int) -> None:
        """With the lock held: have written what waits, and wait while it is too much."""
        if self._connection is not None:
            self._connection.wake()  # its thread sees to whatever follows
        session = self._session
        if waiting > HIGH_WATER and session.ready:
            self._wait_for(
                lambda: session.backlog <= HIGH_WATER or not session.ready or self._is_closing
            )
            if self._is_closing:
                raise ClientClosed("the client was closed while the message waited")

    def _wait_for_answer(self, condition: Any, complaint: str) -> None:
        if not self._wait_for(condition, self._request_timeout):
            raise RequestTimeout(complaint)

    # -- what the driver asks -------------------------------------------------------------

    @property
    def _subscriptions(self) -> Subscriptions:
        return self._session.subscriptions

    def _deadline(self) -> float | None:
        return self._session.next_deadline()

    def _handle_timeout(self, now: float) -> None:
        self._session.handle_timeout(now)

    def _open_mailbox(self, topic: str) -> Mailbox:
        return self._session.subscribe(topic, clock())

    def _close_mailbox(self, mailbox: Mailbox) -> None:
        self._session.unsubscribe(mailbox, clock())

    def _confirm(self, mailbox: Mailbox) -> None:
        session = self._session
        mailbox.waiters += 1
        try:
            self._wait_for_answer(
                lambda: not session.ready or mailbox.is_over or session.is_confirmed(mailbox.topic),
                f"no answer to the subscription to {mailbox.topic!r}",
            )
        finally:
            mailbox.waiters -= 1
        if mailbox.error is not None:
            raise mailbox.error
        self._raise_if_ended()

    def _settle_in_core(self, message: Message, error: str | None, result: Any) -> None:
        self._session.settle(message, error, clock(), result)

    def _end_of_messages(self) -> Exception | None:
        ended = self._session.ended
        if ended is None:
            return StopIteration() if self._is_closing else None
        return ended.error or StopIteration()

    def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        self._statuses.pop(handle, None)
        if not self._session.asking.ask_status(handle, clock()):
            return handle.known_status()
        self._progress()
        self._wait_for_answer(
            lambda: handle in self._statuses or handle.finished,
            "the server did not tell the status in time",
        )
        if handle.error is not None:
            raise handle.error
        return self._statuses.pop(handle, None) or handle.known_status()

    def _cancel_ack(self, handle: AckHandle) -> None:
        self._session.asking.cancel_ack(handle, clock())
        self._progress()

    def _wake_connections(self) -> None:
        if self._connection is not None and (self._session.backlog or self._is_closing):
            self._connection.wake()

    def _wake_idle(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.wake()

    # -- the thread of the socket ------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._lock:
                self._wait_for_connect()
                if not self._connect_is_due:
                    return
                self._connect_is_due = False
            self._connect_and_run()

    def _wait_for_connect(self) -> None:
        """With the lock held: wait until a connection is due, or the client has ended."""
        while not self._connect_is_due and self._session.ended is None:
            deadline = self._session.next_deadline()
            if deadline is not None and clock() >= deadline:
                self._session.handle_timeout(clock())
                self._progress()
            else:
                self._news.wait(None if deadline is None else deadline - clock())

    def _connect_and_run(self) -> None:
        address = self._address
        try:
            self._session.renew_token()
            sock = socket.create_connection(
                (address.host, address.port), timeout=self._connect_timeout
            )
        except (OSError, UnicodeError) as error:  # ConnectFailed is an OSError
            self._connect_failed(error)
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            try:
                sock = self._tls.wrap_socket(sock, server_hostname=address.host)
            except (OSError, ValueError) as error:
                sock.close()
                self._connect_failed(error)
                return
        with self._lock:
            link = self._session.connected(clock())
            try:
                connection = Connection(sock, link, self)
            except OSError as error:  # there are no descriptors left
                logger.warning("cannot use a connection: %s", describe(error))
                sock.close()
                link.connection_lost(clock())
                self._progress()
                return
            self._connection = connection
            self._progress()
        try:
            connection.run()
        finally:
            with self._lock:
                self._connection = None
                self._progress()

    def _connect_failed(self, error: Exception) -> None:
        reason = "no answer in time" if isinstance(error, TimeoutError) else describe(error)
        with self._lock:
            self._session.connect_failed(reason, clock())
            self._progress()

    # -- what happens ---------------------------------------------------------------------

    def _handle_events(self) -> None:
        for event in self._session.events():
            log_client_event(event, self._address)
            self._handle(event)

    def _handle(self, event: ClientEvent) -> None:
        match event:
            case AckChanged(handle):
                if handle.finished:
                    self._statuses.pop(handle, None)
            case SubscriptionConfirmed() | BarrierPassed():
                pass  # whoever waits for it looks at its state
            case SubscriptionRefused(mailboxes):
                for mailbox in mailboxes:
                    self._dispatcher.finish_mailbox(mailbox)
            case AckStatusReceived(handle, status):
                self._statuses[handle] = status
            case MessageReceived(fields):
                self._dispatcher.notify(self._on_frame, fields, self)
            case ConnectNeeded():
                self._connect_is_due = True
            case Connected():
                self._dispatcher.notify(self._on_connect, event)
            case Disconnected():
                self._dispatcher.notify(self._on_disconnect, event)
            case ConnectAttemptFailed():
                pass  # logged, and there will be another
            case ErrorReceived():
                self._dispatcher.notify(self._on_error, event.error())
            case Ended():
                self._dispatcher.notify(self.on_close)
            case _:
                assert_never(event)

    def _raise_if_ended(self) -> None:
        ended = self._session.ended
        if ended is not None:
            raise ended.error or ClientClosed("the client was closed")

    def _close_soon(self) -> None:
        """Close, from a signal handler: it may have interrupted a thread that has the lock."""
        threading.Thread(target=self.close, daemon=True).start()


def _close_at_exit(reference: "weakref.ref[Client]") -> None:
    client = reference()
    if client is not None:
        with contextlib.suppress(Exception):
            client.close()
