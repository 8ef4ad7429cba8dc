"""The asyncio server."""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, assert_never

from kps.compat.unified import UnifiedServer
from kps.errors import ConnectFailed, NotConnected, ServerStartFailed
from kps.io_asyncio.ack import Ack
from kps.io_asyncio.arrival import Arrival
from kps.io_asyncio.connection import Connection
from kps.io_asyncio.driver import Driver
from kps.io_asyncio.loop import run
from kps.io_asyncio.relay import Relays
from kps.io_asyncio.tls_listener import TlsListener
from kps.io_common.listening import BACKLOG, listen
from kps.io_common.logs import FiguresLog, hook_failed, log_hub_event
from kps.io_common.settings import Callback, ServerSettings, UpgradeHook, random_id
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import AckChanged, AckHandle, Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.dialect.address import RelayTarget, origin_of
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.events import (
    ClientLeft,
    ClientRegistered,
    DirectMessageIgnored,
    HubEvent,
    RelayRequested,
    StrangerLeft,
    TokenPresented,
    UpgradeRequested,
)
from kps.protocol.server.hub import Hub
from kps.protocol.wire.endpoint import Endpoint
from kps.protocol.wire.websocket import Output

_Hook = Callable[..., Any]
_Answer = Callable[[int, Any, float], None]
"""A verb of the hub that takes a hook's verdict on a session."""


class Server(ServerSettings, Driver, UnifiedServer):
    """The bus: clients connect to it, and the program that runs it takes part as well.

    ::

        server = Server("localhost:9313")
        server.run()                      # until SIGINT or SIGTERM

    or, within a program that has an event loop, ``async with Server(...) as server``.

    The arguments are those of
    :class:`kps.io_common.settings.ServerSettings`. A hook may be a coroutine
    function (runs on the loop) or a plain function (in a thread).
    """

    _hub: Hub
    _reporter: asyncio.TimerHandle | None = None
    _is_stopping = False
    _is_stopped = False

    # -- life -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, and return. Raises :class:`kps.ServerStartFailed`."""
        if self._running_loop is not None:
            raise ServerStartFailed("a server is started once; make a new one")
        self._bind()
        self._connections: dict[Connection, WebSocketConnection] = {}
        self._by_session: dict[int, Connection] = {}
        self._shaking: dict[Connection, WebSocketConnection] = {}  # whose TLS is not yet there
        self._decisions: dict[int, asyncio.Task[None]] = {}
        self._listeners: list[asyncio.Server | TlsListener] = []
        self._news = Arrival()  # about connections that go, and the end
        self._hub = Hub(self._hub_config(), new_id=lambda: random_id("client"), now=self._now)
        self._figures = FiguresLog(self._hub)
        self._relays = Relays(self._id, self._relay_timeout, self._relay_tls, self._relay_token)
        if self._on_id is not None:
            self._attach_direct(self._on_id)
        for callback in self._on_server_data:
            self._attach_server_data(callback)
        host, port = await self._listen()
        self._hub.addresses |= self._listening_on(host, port)
        self._reporter = self._loop.call_later(FiguresLog.INTERVAL, self._report)
        self._progress()

    async def stop(self, grace: float = 10.0) -> None:
        """Stop gracefully. May be called twice, and from a hook.

        No new connections; what is queued is written and every connection closed with code
        1001, within ``grace`` seconds; what is left then is dropped.
        """
        if self._running_loop is None or self._is_stopped:
            return
        if self._is_stopping:
            await self._until(lambda: self._is_stopped)
            return
        self._is_stopping = True
        for listener in self._listeners:
            listener.close()
        self._hub.shutdown(grace, self._now)
        self._step()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._until(lambda: not self._connections)
        for connection in list(self._connections):
            connection.abort()
        await self._until(lambda: not self._connections)
        for listener in self._listeners:
            if isinstance(listener, TlsListener):
                await listener.wait_closed()
        await self._relays.close()
        current = asyncio.current_task()
        for decision in list(self._decisions.values()):
            if decision is not current:
                decision.cancel()
        self._handle_events()
        await self._dispatcher.close()
        self._stop_timer()
        if self._reporter is not None:
            self._reporter.cancel()
        self._figures.log()
        self._is_stopped = True
        self._wake_iterators()
        self._news.announce()

    async def serve(self) -> None:
        """Listen (unless ``start`` was called) and stay until ``stop``."""
        if self._running_loop is None:
            await self.start()
        await self._until(lambda: self._is_stopped)

    async def reload(self) -> None:
        """Read the files again that the server was given, such as ``tls_cert``.

        New connections get what is in them; those that there are go on. When a file cannot
        be used, everything stays as it was, and this raises :class:`kps.ServerStartFailed`.
        An ``ssl`` context is left alone: it is the program's.
        """
        await asyncio.to_thread(self._reload)

    def run(self, ready: Callable[["Server"], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM, with uvloop where it is installed.

        For programs that have no event loop of their own. SIGHUP means ``reload``, always:
        it never ends the server. ``ready`` is called with the server once it listens. Raises
        :class:`kps.ServerStartFailed`.
        """
        run(self._run(ready))

    async def _run(self, ready: Callable[["Server"], None] | None) -> None:
        stops: list[asyncio.Task[None]] = []

        def stop() -> None:
            # A second signal does not wait any longer.
            stops.append(self._loop.create_task(self.stop() if not stops else self._stop_now()))

        def reload() -> None:
            self._loop.run_in_executor(None, self._reload_and_log)

        await self.start()
        handlers = {signal.SIGINT: stop, signal.SIGTERM: stop}
        if hasattr(signal, "SIGHUP"):  # not on Windows
            handlers[signal.SIGHUP] = reload
        for number, handler in handlers.items():
            with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows, threads
                self._loop.add_signal_handler(number, handler)
        if ready is not None:
            ready(self)
        try:
            await self.serve()
        finally:
            await self.stop()

    async def _stop_now(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    # -- hooks ----------------------------------------------------------------------------

    def on_upgrade(self, hook: UpgradeHook) -> UpgradeHook:
        """Set the hook that decides on clients, before the start. Usable as a decorator."""
        self._require_not_started()
        self._on_upgrade = hook
        return hook

    def on_id(self, callback: Callback) -> Callback:
        """Set the callback for direct messages to the server. Usable as a decorator."""
        self._on_id = callback
        if self._running_loop is not None:
            self._attach_direct(callback)
        return callback

    def on_server_data(self, callback: Callback) -> Callback:
        """Add a callback for messages of other servers. Usable as a decorator."""
        self._on_server_data.append(callback)
        if self._running_loop is not None:
            self._attach_server_data(callback)
        return callback

    def _attach_server_data(self, callback: Callback) -> None:
        self._dispatcher.attach(self._subscriptions.open_server_data(), callback)

    # -- the server's own program on the bus ----------------------------------------------

    async def publish(self, topic: str, data: Any) -> int:
        """Publish with the server's id as sender; return how many subscribers were addressed.

        A client counts once, and so does this program. Raises
        :class:`kps.InvalidArgument` for an empty topic or a payload that is not JSON.
        """
        count = self._started.publish(topic, data, self._now)
        self._progress()
        return count

    async def publish_to_id(self, client_id: str, data: Any) -> bool:
        """Send a direct message; ``False`` when nobody has that id. Raises as ``publish``."""
        found = self._started.publish_to_id(client_id, data, self._now)
        self._progress()
        return found

    async def publish_to_server(self, addr: str, data: Any, secure: bool = False) -> None:
        """Send a message to another server (spec, section 7), and wait until it has it.

        Raises :class:`kps.ConnectFailed` when that fails, :class:`kps.InvalidArgument` for a
        bad address.
        """
        _ = self._started
        target = RelayTarget.parse(addr)
        answer: asyncio.Future[str | None] = self._loop.create_future()

        def done(error: str | None) -> None:
            if not answer.done():
                answer.set_result(error)

        self._relays.send(target, self._origin(), data, secure=secure, done=done)
        error = await answer
        if error is not None:
            raise ConnectFailed(f"failed to relay to server: {error}")

    async def publish_with_ack(self, topic: str, data: Any, timeout: float = 5.0) -> Ack:
        """Publish, and learn how each subscriber fared. Raises as ``publish``."""
        handle = self._started.publish_with_ack(topic, data, timeout, self._now)
        return self._ack_for(handle)

    async def publish_to_id_with_ack(self, client_id: str, data: Any, timeout: float = 5.0) -> Ack:
        """Send a direct message, and learn how its receiver fared. Raises as ``publish``."""
        handle = self._started.publish_to_id_with_ack(client_id, data, timeout, self._now)
        return self._ack_for(handle)

    def count_clients(self) -> int:
        """Clients that are registered."""
        return len(self._started.clients)

    def count_subscribers(self, topic: str) -> tuple[int, int, int]:
        """Subscriptions to a topic: of this program, of clients, and both together."""
        return self._started.count_subscribers(topic)

    # -- what the driver asks -------------------------------------------------------------

    @property
    def _started(self) -> Hub:
        """The hub, if there is one already."""
        _ = self._loop
        return self._hub

    @property
    def _subscriptions(self) -> Subscriptions:
        return self._hub.local.subscriptions

    def _next_deadline(self) -> float | None:
        return self._hub.next_deadline()

    def _handle_timeout(self, now: float) -> None:
        self._hub.handle_timeout(now)

    def _open_mailbox(self, topic: str) -> Mailbox:
        return self._started.local.subscribe(topic)

    def _close_mailbox(self, mailbox: Mailbox) -> None:
        self._hub.local.unsubscribe(mailbox)

    async def _confirmed(self, mailbox: Mailbox) -> None:
        """In one process a subscription is in force at once."""

    def _settle(self, message: Message, error: str | None, result: Any = None) -> None:
        self._hub.local.settle(message, error, self._now, result)
        self._progress()

    def _end_of_messages(self) -> Exception | None:
        return StopAsyncIteration() if self._is_stopped else None

    async def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        return self._hub.ack_status(handle)

    def _cancel_ack(self, handle: AckHandle) -> None:
        if not handle.finished:
            self._hub.cancel_ack(handle)
            self._progress()

    def _attach(self, connection: Connection, peer: str) -> Endpoint:
        session = self._shaking.pop(connection, None) or self._hub.connect(peer, self._now)
        self._connections[connection] = session
        self._by_session[session.number] = connection
        if self._is_stopping:  # it was being accepted when that began
            session.shut_down(0.0)
        self._hub.touch(session.number)  # there may be something to be written already
        return session

    def _admit(self, peer: str) -> Connection | None:
        """Begin a session for who wants TLS, unless there are too many."""
        session = self._hub.connect(peer, self._now)
        self._progress()
        if session.output is not Output.KEEP:
            session.connection_lost(self._now)
            return None
        connection = Connection(self._loop, self)
        self._shaking[connection] = session
        return connection

    def _give_up(self, connection: Connection) -> None:
        session = self._shaking.pop(connection, None)
        if session is not None:
            session.connection_lost(self._now)
            self._progress()

    def _detach(self, connection: Connection) -> None:
        session = self._connections.pop(connection)
        del self._by_session[session.number]
        if (decision := self._decisions.get(session.number)) is not None:
            decision.cancel()  # nobody waits for it, and others do for the threads
        if not self._connections:
            self._news.announce()

    def _flush(self) -> None:
        for session in self._hub.take_unflushed():
            connection = self._by_session.get(session)
            if connection is not None:
                connection.flush()

    # -- what happens ---------------------------------------------------------------------

    def _handle_events(self) -> None:
        for event in self._hub.events():
            self._handle(event)

    def _handle(self, event: HubEvent) -> None:
        log_hub_event(event)
        match event:
            case AckChanged(handle):
                self._ack_changed(handle)
            case UpgradeRequested(session, request):
                self._ask(session, self._on_upgrade, request, self._hub.decide, request.peer)
            case TokenPresented(session, token, peer):
                self._ask(session, self._auth, token, self._hub.identify, peer)
            case ClientRegistered() | ClientLeft() | StrangerLeft() | DirectMessageIgnored():
                pass  # logged
            case RelayRequested(session, to, target, data, sender, secure):
                self._relays.send(
                    target,
                    self._origin(sender),
                    data,
                    secure=secure,
                    done=partial(self._relayed, session, to),
                )
            case _:
                assert_never(event)

    def _relayed(self, session: int, to: str, error: str | None) -> None:
        self._hub.relay_finished(session, to, error, self._now)
        self._progress()

    def _origin(self, client_id: str = "") -> str:
        return origin_of(
            self._address, self._path, secure=self._tls is not None, client_id=client_id
        )

    def _ask(
        self,
        session: int,
        hook: _Hook | None,
        subject: Any,
        answer: _Answer,
        peer: str,
    ) -> None:
        """Let a hook decide about a client, and tell the core what it decided."""
        assert hook is not None
        decision = self._loop.create_task(
            self._decide(hook, subject, partial(answer, session), peer)
        )
        self._decisions[session] = decision
        decision.add_done_callback(partial(self._decided, session))

    def _decided(self, session: int, decision: asyncio.Task[None]) -> None:
        if self._decisions.get(session) is decision:
            del self._decisions[session]

    async def _decide(
        self, hook: _Hook, subject: Any, answer: Callable[[Any, float], None], peer: str
    ) -> None:
        try:
            verdict = await self._dispatcher.call(hook, subject)
        except Exception as error:
            verdict = hook_failed(peer, error)
        answer(verdict, self._now)
        self._progress()

    def _report(self) -> None:
        self._figures.log()
        self._reporter = self._loop.call_later(FiguresLog.INTERVAL, self._report)

    def _latest_tls(self) -> ssl.SSLContext:
        assert self._tls is not None
        return self._tls

    async def _listen(self) -> tuple[str, int]:
        """Listen, and return the first of the addresses."""
        sockets = await self._loop.run_in_executor(None, listen, self._listens_on)
        host, port = sockets[0].getsockname()[:2]

        listener: asyncio.Server | TlsListener
        for sock in sockets:
            if self._tls is None:
                # asyncio also takes the backlog for how often to accept in one turn, and tries
                # as often, loudly, when there are no descriptors left.
                listener = await self._loop.create_server(
                    lambda: Connection(self._loop, self), sock=sock, backlog=1
                )
                sock.listen(BACKLOG)
            else:
                timeout = self._limits.handshake_timeout
                listener = TlsListener(sock, self._admit, self._give_up, self._latest_tls, timeout)
            self._listeners.append(listener)
        return host, port

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._news.wait()

    def _require_not_started(self) -> None:
        if self._running_loop is not None:
            raise NotConnected("set this hook before the server starts")
