"""The client."""

import signal
from copy import copy
from types import TracebackType
from typing import Any, Self, Unpack, assert_never

from kps.compat.unified_client import UnifiedClient
from kps.errors import ClientClosed
from kps.io_asyncio.client_driver import ClientDriver
from kps.io_asyncio.dispatch import check_callback
from kps.io_asyncio.log import write
from kps.io_asyncio.publisher import Publisher
from kps.io_asyncio.signals import on_signals
from kps.io_common.checks import check_main_thread
from kps.io_common.class_only import class_only
from kps.io_common.client_hooks import OnClose
from kps.io_common.client_logs import ClientLog
from kps.io_common.client_options import HOOKS, ClientOptions, ClientSettings
from kps.io_common.questions import StatusQuestion
from kps.protocol.bus.ack_handle import AckChanged, AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.bus.subscriptions import Subscriptions, Wanted
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
    Lost,
    MessageReceived,
    PresenceChanged,
    Recovered,
    SubscriptionConfirmed,
    SubscriptionRefused,
)
from kps.protocol.dialect.address import DEFAULT_ADDRESS
from kps.protocol.limits import check_seconds
from kps.protocol.patterns import Key


class Client(Publisher, UnifiedClient):
    """A connection to the bus that restores itself.

    ::

        async with Client("localhost:9313", id="alice") as client:
            await client.subscribe("news", on_news)
            await client.publish("news", {"title": "hello"})

    or ``client = await Client.connect("localhost:9313")``, and ``close`` at the end.

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
        wait: Whether the start waits for the first connection (the default), for as long as that
            takes. With ``False`` the client starts at once, also while the server is down, and
            connects meanwhile, as after a connection was lost: until then publishing raises
            :class:`kps.NotConnected` or, with ``offline_queue``, keeps the publications, and
            subscriptions begin with the connection. ``on_connect`` tells of it. What the server
            refuses for good then shows in ``on_close`` and in later calls.
        offline_queue: How many publications to keep while there is no connection. The client
            sends them, in order, when the connection is back. With 0 (the default) publishing
            raises :class:`kps.NotConnected` instead. At most 16 MiB.
        connect_timeout: Seconds for one attempt: TCP to any of the server's addresses, of which
            the next one is tried after a quarter of a second, and TLS. Default 10.
        request_timeout: Seconds for the server to answer a request. Default 10.
        level: The highest level of the protocol to offer: 2, or 1 like the original clients.
        compress: Whether to take compressed publications, if the server compresses.
        limits: Bounds and timeouts, see :class:`kps.ClientLimits`.
        on_id: Called with a :class:`kps.Message` for each direct message.
        on_connect: Called with :class:`kps.Connected` after each (re)connect.
        on_disconnect: Called with :class:`kps.Disconnected` when a connection ends.
        on_error: Called with :class:`kps.ServerError` when the server refuses a request.
        on_recovered: Called with :class:`kps.Recovered` when the client has come back and gets all
            that was published meanwhile on a topic with history.
        on_lost: Called with :class:`kps.Lost` when it does not get some of it.
        on_frame: Called with every message of the server, as a dictionary, and this client.
        on_close: Called without arguments once the client has closed for good.
        tracing: Makes spans of what this client sends, and of what its callbacks handle: a
            :class:`kps.otel.Tracing`.

    Raises :class:`kps.InvalidArgument` for invalid options.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, **options: Unpack[ClientOptions]) -> None:
        super().__init__()
        for name in HOOKS:
            check_callback(name, options.get(name))
        self._settings = ClientSettings.read(address, **options)
        self._log = ClientLog(self._settings.address, self._settings.name, write)
        self._driver: ClientDriver = ClientDriver(self, self._new_runtime(), self._settings)
        self._session = self._driver.session
        self._questions: dict[AckHandle, list[StatusQuestion]] = {}
        self.on_close: OnClose | None = self._settings.on_close
        """Called without arguments once the client has closed for good."""
        if self._settings.tracing is not None:
            from kps.io_asyncio.traced_publisher import TracedPublisher  # others need none of it
            from kps.otel import Spans

            server = self._settings.address
            spans = Spans(self._settings.tracing, lambda: self.id, server.host, server.port)
            TracedPublisher.trace(self, spans)

    # -- life -----------------------------------------------------------------------------

    @class_only
    async def connect(
        cls, address: str = DEFAULT_ADDRESS, **options: Unpack[ClientOptions]
    ) -> Self:
        """Make a client (same arguments) and wait until it is connected, unless ``wait`` is off.

        On a client that exists it raises :class:`kps.InvalidState`: enter that one.
        Raises :class:`kps.ConnectFailed` when the server refuses, or cannot be reached and
        ``reconnect`` is off; :class:`kps.InvalidArgument` for invalid options.
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

    async def close(self, timeout: float | None = None) -> int:
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
        return await self._driver.close(timeout) if self._driver.may_end else 0

    async def run(self) -> None:
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
            await self._driver.news.until(lambda: self._session.ended is not None)
        await self.close()
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

    async def _open(self) -> None:
        self._driver.open()
        self._driver.allow_calls()
        if not self._settings.waits:
            return
        try:
            await self._driver.news.until(
                lambda: self._session.ready or self._session.ended is not None
            )
            self._raise_if_ended()
        except BaseException:
            await self.close()
            raise

    # -- called by subscriptions and acks -----------------------------------------------------

    @property
    def _subscriptions(self) -> Subscriptions:
        return self._session.subscriptions

    def _open_mailbox(self, key: Key, now: float, wanted: Wanted) -> Mailbox:
        return self._session.subscribe(key, now, *wanted)

    def _close_mailbox(self, mailbox: Mailbox) -> None:
        self._session.unsubscribe(mailbox, self._driver.clock())
        self._tell(mailbox.key)

    async def _confirmed(self, mailbox: Mailbox) -> None:
        session = self._session
        mailbox.waiters += 1
        try:
            await self._in_time(
                mailbox.key,
                lambda: not session.ready or mailbox.is_over or session.is_confirmed(mailbox.key),
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
            return StopAsyncIteration() if self._driver.is_closing else None
        return copy(ended.error) or StopAsyncIteration()

    async def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        now = self._driver.enter()
        if not self._session.asking.ask_status(handle, now):
            return handle.known_status()
        question = StatusQuestion()
        self._questions.setdefault(handle, []).append(question)
        self._driver.progress()
        try:
            await self._in_time(
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
        # What ends a client before its first connection is raised where the start waits for that.
        if type(event) is not Ended or self._connects or not settings.waits:
            self._log.note(event)
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
                    self._tell(mailbox.key)
            case Recovered():
                driver.dispatcher.notify(settings.on_recovered, event)
            case Lost():
                driver.dispatcher.notify(settings.on_lost, event)
            case PresenceChanged(presence):
                for mailbox in self._subscriptions.mailboxes(presence.topic):
                    driver.dispatcher.notify(mailbox.observer, presence, size=presence.size)
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
