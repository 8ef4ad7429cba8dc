# Made from kps/io_asyncio/client.py by tools/unasync.py: edit that one.

"""The client."""

import signal
from collections.abc import Callable
from copy import copy
from threading import get_ident
from types import TracebackType
from typing import Any, Self, Unpack, assert_never

from kps.compat.blocking_client import UnifiedClient
from kps.errors import ClientClosed, ConnectionLost, RequestTimeout
from kps.io_common.checks import check_main_thread
from kps.io_common.class_only import class_only
from kps.io_common.client_hooks import OnClose
from kps.io_common.client_logs import log_client_event
from kps.io_common.client_options import HIGH_WATER, HOOKS, ClientOptions, ClientSettings
from kps.io_common.questions import StatusQuestion
from kps.io_sync.ack import Ack
from kps.io_sync.client_driver import ClientDriver
from kps.io_sync.dispatch import check_callback
from kps.io_sync.log import write
from kps.io_sync.news import News
from kps.io_sync.participant import Participant
from kps.io_sync.signals import on_signals
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import AckChanged, AckHandle, Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.client.events import (
    AckStatusReceived,
    AckStatusRefused,
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
from kps.protocol.dialect.address import DEFAULT_ADDRESS
from kps.protocol.limits import check_seconds


class Client(Participant, UnifiedClient):
    """A connection to the bus that restores itself.

    ::

        with Client("localhost:9313", id="alice") as client:
            client.subscribe("news", on_news)
            client.publish("news", {"title": "hello"})

    or ``client = Client.connect("localhost:9313")``, and ``close`` at the end.

    On asyncio each callback may be a coroutine function (runs on the loop) or a plain function
    (runs in a thread, or inline). Call all methods on the event loop on which the client was
    started: elsewhere they raise :class:`kps.WrongThread`. On threads call them from any thread;
    the client has one thread for its socket and, once it needs it, one for the callbacks. A
    program that forgets ``close`` still exits.

    Args:
        address: ``host:port``, or a ``ws://`` or ``wss://`` URL with path and query.
        id: The id by which others reach this client; a random one if not given. A second
            client with the same id takes it over, and the first one then closes for good.
        path: Path (and query) of the server's WebSocket, unless the address has one.
        secure: Whether to use TLS (``wss``); an address with a scheme tells it by that.
        ssl: The TLS context, for connections with TLS only; the default one verifies the
            server's certificate.
        headers: More headers for the opening request, besides those of the handshake itself.
        token: The token that identifies this client: a string, or a function that returns one,
            called before each attempt to connect. The function must not block for long; whatever
            it raises, the attempt fails. Sent as ``Authorization: Bearer``.
        reconnect: ``True`` (default) for exponential backoff with jitter, a number for a
            fixed interval in seconds, a :class:`kps.Backoff`, or ``False``. Unless it is
            ``False``, the client waits for a server that is down, also at the start.
        offline_queue: How many publications to keep while there is no connection. The client
            sends them, in order, when the connection is back. With 0 (the default) publishing
            raises :class:`kps.NotConnected` instead. At most 16 MiB.
        connect_timeout: Seconds for one attempt: TCP to any of the server's addresses, of which
            the next one is tried after a quarter of a second, and TLS. Default 10.
        request_timeout: Seconds for the server to answer a request. Default 10.
        level: The highest level of the protocol to offer: 2, or 1 like the original clients.
        limits: Bounds and timeouts, see :class:`kps.ClientLimits`.
        on_id: Called with a :class:`kps.Message` for each direct message.
        on_connect: Called with :class:`kps.Connected` after each (re)connect.
        on_disconnect: Called with :class:`kps.Disconnected` when a connection ends.
        on_error: Called with :class:`kps.ServerError` when the server refuses a request.
        on_frame: Called with every message of the server, as a dictionary, and this client.
        on_close: Called without arguments once the client has closed for good.

    Raises :class:`kps.InvalidArgument` for invalid options.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, **options: Unpack[ClientOptions]) -> None:
        super().__init__()
        for name in HOOKS:
            check_callback(name, options.get(name))
        self._settings = ClientSettings.read(address, **options)
        self._driver: ClientDriver = ClientDriver(self, self._new_runtime(), self._settings)
        self._session = self._driver.session
        self._connects = 0
        self._waiting: dict[object, list[News]] = {}
        self._questions: dict[AckHandle, list[StatusQuestion]] = {}
        self.on_close: OnClose | None = self._settings.on_close
        """Called without arguments once the client has closed for good."""

    # -- life -----------------------------------------------------------------------------

    @class_only
    def connect(cls, address: str = DEFAULT_ADDRESS, **options: Unpack[ClientOptions]) -> Self:
        """Make a client (same arguments) and wait until it is connected.

        On a client that exists it raises :class:`kps.InvalidState`: enter that one.
        Raises :class:`kps.ConnectFailed` when the server refuses, or cannot be reached and
        ``reconnect`` is off; :class:`kps.InvalidArgument` for invalid options.
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

    def close(self, timeout: float | None = None) -> int:
        """Close for good. May be called twice, also from a callback, on threads from any thread.

        Writes what was accepted before, for up to ``timeout`` seconds (by default
        ``close_timeout`` of the limits), and returns the number of messages that it could not
        write; ``dropped`` counts them too. Without a connection nothing can be written.

        Callers that wait for an answer get :class:`kps.ClientClosed`. After this no callback
        begins. On asyncio, callbacks that run as tasks are cancelled, and cancelling a caller of
        ``close`` does not stop it: another call waits for its end. On threads, in a handler that
        interrupts another call of this client, it returns 0 at once, and closes after that call.

        Raises :class:`kps.InvalidArgument` for a timeout that is not above 0.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        return self._driver.close(timeout) if self._driver.may_end else 0

    def run(self) -> None:
        """Wait until the client is closed; SIGINT and SIGTERM close it.

        Returns after its own ``close`` or such a signal. Raises the reason if the client has
        ended otherwise: :class:`kps.ConnectionLost` (without ``reconnect``, or another client has
        taken over its id), :class:`kps.ConnectFailed` or :class:`kps.ServerError` (the server
        refuses it for good). Raises :class:`kps.InvalidState` outside the main thread, which
        alone gets signals.
        """
        self._driver.enter()
        check_main_thread()
        with on_signals({signal.SIGINT: self.close, signal.SIGTERM: self.close}):
            self._driver.news.until(lambda: self._session.ended is not None)
        self.close()
        ended = self._session.ended
        if ended is not None and ended.error is not None:
            raise ended.error

    @property
    def id(self) -> str:
        """The id by which others reach this client."""
        return self._session.id

    @property
    def is_connected(self) -> bool:
        """Whether the client is connected and registered now."""
        return self._session.ready and self._driver.runtime.lives

    @property
    def dropped(self) -> int:
        """Messages that ``publish`` accepted and the client never wrote."""
        return self._session.dropped

    @property
    def max_message(self) -> int | None:
        """Bytes of the largest message that the server accepts; ``None`` if it has not said so."""
        return self._session.max_message

    def _open(self) -> None:
        self._driver.open()
        self._driver.allow_calls()
        try:
            self._driver.news.until(lambda: self._session.ready or self._session.ended is not None)
            self._raise_if_ended()
        except BaseException:
            self.close()
            raise

    # -- publishing -----------------------------------------------------------------------

    def publish(self, topic: str, data: Any) -> None:
        """Publish to all subscribers of the topic.

        Queues the message, and returns at once unless the network is slower than the program:
        then it waits until the queue has drained below its high-water mark. Delivery is at most
        once: a message may be lost with the connection.

        Raises :class:`kps.NotConnected` without a connection (unless there is an offline
        queue), :class:`kps.QueueFull` when that is full, :class:`kps.InvalidArgument` for an
        empty topic or a payload that is not JSON, :class:`kps.MessageTooLarge`. While it waits,
        it raises :class:`kps.ClientClosed` when the client is closed, and
        :class:`kps.ConnectionLost` when the connection ends (unless the offline queue keeps the
        message); it is then unknown whether the message was sent.
        """
        with self._driver.lock:
            driver = self._driver
            if driver.due_on == get_ident():
                waiting = self._session.publish(topic, data, driver.now)
            else:
                waiting = self._session.publish(topic, data, driver.enter())
                driver.flush_soon()
            if waiting > HIGH_WATER:
                self._until_there_is_room()

    def publish_to_id(self, client_id: str, data: Any) -> None:
        """Send a direct message to the client, or server, of that id. Raises as ``publish``.

        If nobody has the id, ``on_error`` gets the server's error. To learn the outcome, use
        ``publish_to_id_with_ack``.
        """
        with self._driver.lock:
            now = self._driver.enter()
            self._session.publish_to_id(client_id, data, now)
            self._sent()

    def publish_to_server(self, addr: str, data: Any, secure: bool = False) -> None:
        """Ask the server to send a message to another server (spec, section 7).

        ``addr`` is ``host:port[/path][::proxied-address]``. If the payload is an object with a
        ``topic``, the other server publishes its ``data`` there. ``on_error`` gets a failure.
        Raises as ``publish``.
        """
        with self._driver.lock:
            now = self._driver.enter()
            self._session.publish_to_server(addr, data, secure, now)
            self._sent()

    def publish_with_ack(self, topic: str, data: Any, timeout: float = 5.0) -> Ack[Any]:
        """Publish, and gather the acks of the subscribers: see :class:`kps.sync.Ack`.

        The subscribers have ``timeout`` seconds to answer. Raises as ``publish``; the offline
        queue does not apply.
        """
        with self._driver.lock:
            now = self._driver.enter()
            return self._ack_for(self._session.asking.publish_with_ack(topic, data, timeout, now))

    def publish_to_id_with_ack(self, client_id: str, data: Any, timeout: float = 5.0) -> Ack[Any]:
        """Like ``publish_with_ack``, to one client id. No response: nobody has the id."""
        with self._driver.lock:
            now = self._driver.enter()
            return self._ack_for(
                self._session.asking.publish_to_id_with_ack(client_id, data, timeout, now)
            )

    def flush(self) -> None:
        """Wait until the server has handled all messages sent before.

        Raises :class:`kps.NotConnected`, :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout`, or :class:`kps.ServerError` when the server refuses the
        question itself.
        """
        with self._driver.lock:
            if self._session.backlog > HIGH_WATER:
                self._until_there_is_room()
            now = self._driver.enter()
            self._wait_for(self._session.asking.barrier(now))

    def publish_with_receipt(self, topic: str, data: Any) -> int | None:
        """Publish, wait until the server has delivered the message, and return to how many.

        That is the number of subscribers whose queues had room; only ``publish_with_ack`` tells
        whether they handled it. ``None`` from a server on level 1, which does not tell; there
        ``on_error`` gets a refusal of the message.

        Raises as ``publish`` (the offline queue does not apply), :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout`, :class:`kps.ServerError` when the server refuses it.
        """
        with self._driver.lock:
            now = self._driver.enter()
            barrier = self._session.asking.publish_with_receipt(topic, data, now)
            self._wait_for(barrier)
            return barrier.delivered

    def _send_to_server(self, to: str, proxied: str, origin: str, data: Any) -> list[str]:
        """Send a message as a server to another server; return the errors of that server."""
        with self._driver.lock:
            now = self._driver.enter()
            self._session.send_to_server(to, proxied, origin, data, now)
            barrier = self._session.asking.barrier(now)
            self._wait_for(barrier)
            return barrier.refusals

    def _wait_for(self, barrier: Barrier) -> None:
        self._send_question(len(self._waiting))
        try:
            self._in_time(
                barrier,
                lambda: barrier.passed or barrier.error is not None,
                "the server did not answer in time",
            )
        finally:
            self._session.asking.forget(barrier)
        if barrier.error is not None:
            raise copy(barrier.error) from None

    def _sent(self) -> None:
        self._driver.flush_soon()
        session = self._session
        if session.backlog > HIGH_WATER and not session.calls.is_under_way:
            self._until_there_is_room()

    def _until_there_is_room(self) -> None:
        """Wait until the queue has drained below the high-water mark."""
        session, driver, connects = self._session, self._driver, self._connects
        if not session.ready or driver.dispatcher.is_inline_here:
            return  # the message is in the offline queue, or the caller must not wait
        driver.wanting_room += 1
        try:
            driver.news.until(
                lambda: (
                    session.backlog <= HIGH_WATER or not session.ready or self._connects != connects
                )
            )
        finally:
            driver.wanting_room -= 1
        if session.ready and self._connects == connects:
            return
        self._raise_if_ended()
        if driver.is_closing:
            raise ClientClosed("the client was closed while the message waited")
        if not self._settings.config.offline_messages:
            raise ConnectionLost("the connection ended while the message waited to be written")

    def _in_time(self, subject: object, condition: Callable[[], bool], late: str) -> None:
        """Wait for an answer of the server on a subject. Raises :class:`kps.RequestTimeout`."""
        news = self._driver.new_news()
        waiting = self._waiting.setdefault(subject, [])
        waiting.append(news)
        try:
            if not news.until(condition, self._settings.request_timeout):
                raise RequestTimeout(late)
        finally:
            waiting.remove(news)
            if not waiting:
                self._waiting.pop(subject, None)

    def _tell(self, subject: object) -> None:
        """Wake the callers that wait for an answer on a subject."""
        for news in self._waiting.get(subject, ()):
            news.announce()

    def _tell_all(self) -> None:
        """Wake all callers that wait."""
        self._driver.news.announce()
        for subject in self._waiting:
            self._tell(subject)

    # -- called by subscriptions and acks -----------------------------------------------------

    @property
    def _subscriptions(self) -> Subscriptions:
        return self._session.subscriptions

    def _open_mailbox(self, topic: str, now: float) -> Mailbox:
        return self._session.subscribe(topic, now)

    def _close_mailbox(self, mailbox: Mailbox) -> None:
        self._session.unsubscribe(mailbox, self._driver.clock())
        self._tell(mailbox.topic)

    def _confirmed(self, mailbox: Mailbox) -> None:
        session = self._session
        mailbox.waiters += 1
        try:
            self._in_time(
                mailbox.topic,
                lambda: not session.ready or mailbox.is_over or session.is_confirmed(mailbox.topic),
                f"no answer to the subscription to {mailbox.topic!r}",
            )
        finally:
            mailbox.waiters -= 1
        if mailbox.error is not None:
            raise copy(mailbox.error) from None
        self._raise_if_ended()
        if self._driver.is_closing:
            raise ClientClosed("the client was closed")

    def _settle_in_core(self, message: Message[Any], error: str | None, result: Any) -> None:
        self._session.settle(message, error, self._driver.clock(), result)

    def _end_of_messages(self) -> Exception | None:
        ended = self._session.ended
        if ended is None:
            return StopIteration() if self._driver.is_closing else None
        return copy(ended.error) or StopIteration()

    def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        now = self._driver.enter()
        if not self._session.asking.ask_status(handle, now):
            return handle.known_status()
        question = StatusQuestion()
        self._questions.setdefault(handle, []).append(question)
        self._driver.progress()
        try:
            self._in_time(
                handle,
                lambda: question.is_over or handle.finished,
                "the server did not tell the status in time",
            )
        finally:
            self._questions[handle].remove(question)
            if not self._questions[handle]:
                del self._questions[handle]
        if question.answer is not None:
            return question.answer
        error = question.error or handle.error
        if error is not None:
            raise copy(error) from None
        return handle.known_status()

    def _cancel_ack(self, handle: AckHandle) -> None:
        self._session.asking.cancel_ack(handle, self._driver.enter())
        self._driver.progress()

    # -- events ---------------------------------------------------------------------------

    def _handle_events(self) -> None:
        if self._session.state.events or self._events.waiting:
            self._events.hand_on(self._handle, self._session.events)

    def _handle(self, event: ClientEvent) -> None:
        driver, settings = self._driver, self._settings
        log_client_event(event, settings.address, write)
        match event:
            case AckChanged(handle):
                self._ack_changed(handle)
                self._tell(handle)
            case AckStatusReceived(handle, status):
                for question in self._questions.get(handle, ()):
                    question.answer = status
                self._tell(handle)
            case AckStatusRefused(handle, error):
                for question in self._questions.get(handle, ()):
                    question.error = error
                self._tell(handle)
            case SubscriptionConfirmed(subject) | BarrierPassed(subject):
                self._tell(subject)
            case SubscriptionRefused(mailboxes):
                for mailbox in mailboxes:
                    driver.finish(mailbox)
                    self._tell(mailbox.topic)
            case MessageReceived(fields, size):
                driver.dispatcher.notify(settings.on_frame, fields, self, size=size)
            case ConnectNeeded():
                driver.connect()
            case ConnectAttemptFailed():
                pass  # it is logged, and another attempt follows
            case Connected():
                self._connects += 1
                driver.dispatcher.notify(settings.on_connect, event)
                driver.news.announce()
            case Disconnected():
                driver.dispatcher.notify(settings.on_disconnect, event)
                self._tell_all()
            case ErrorReceived(text):
                driver.dispatcher.notify(settings.on_error, event.error(), size=len(text))
            case Ended():
                driver.dispatcher.notify(self.on_close)
                self._tell_all()
                driver.wake_iterators()
            case _:
                assert_never(event)

    def _raise_if_ended(self) -> None:
        ended = self._session.ended
        if ended is not None:
            # A copy, because a traceback holds on to everything that its frames refer to.
            raise copy(ended.error) or ClientClosed("the client was closed") from None
