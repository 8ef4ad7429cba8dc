"""The threaded server."""

import contextlib
import selectors
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, assert_never

from kps.compat.unified import BlockingUnifiedServer
from kps.errors import ConnectFailed, NotConnected, ServerStartFailed
from kps.io_common.listening import listen
from kps.io_common.logs import FiguresLog, hook_failed, log_hub_event, logger
from kps.io_common.settings import Callback, ServerSettings, UpgradeHook, random_id
from kps.io_common.system_errors import describe
from kps.io_sync.ack import Ack
from kps.io_sync.connection import Connection, Waker, clock, new_selector
from kps.io_sync.driver import Driver
from kps.io_sync.relay import Relays
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import AckChanged, AckHandle, Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.dialect.address import RelayTarget, host_and_port, origin_of
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
from kps.protocol.wire.websocket import Output

_Ask = Callable[[], Any]
_Answer = Callable[[int, Any, float], None]
"""A verb of the hub that takes a hook's verdict on a session."""


class Server(ServerSettings, Driver, BlockingUnifiedServer):
    """The bus on plain threads, for programs without an event loop.

    ::

        server = Server("localhost:9313")
        server.run()                      # until SIGINT or SIGTERM

    or, within a threaded program, ``with Server(...) as server``.

    The arguments are those of
    :class:`kps.io_common.settings.ServerSettings`. Each connection has one
    thread; one more accepts connections and keeps all deadlines, and one runs the callbacks.
    The ``on_upgrade`` hook runs in the thread of the connection that it decides on.
    """

    _hub: Hub
    _is_stopping = False
    _is_stopped = False
    _listeners: list[socket.socket] = []  # noqa: RUF012
    _shaking: set[ssl.SSLSocket]

    # -- life -----------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, and return. Raises :class:`kps.ServerStartFailed`."""
        with self._lock:
            if self._is_started:
                raise ServerStartFailed("a server is started once; make a new one")
            self._connections: dict[int, Connection] = {}
            self._shaking = set()  # whose TLS handshake is under way
            self._deciding: dict[int, tuple[_Ask, _Answer, str]] = {}
            self._acceptor_waits_until: float | None = None
            self._hub = Hub(self._hub_config(), new_id=lambda: random_id("client"), now=clock())
            self._figures = FiguresLog(self._hub)
            self._relays = Relays(self._id, self._relay_timeout, self._relay_tls, self._relay_token)
            self._start_dispatcher()
            if self._on_id is not None:
                self._attach_direct(self._on_id)
            for callback in self._on_server_data:
                self._attach_server_data(callback)
            self._listeners = listen(self._listens_on)
            host, port = self._listeners[0].getsockname()[:2]
            self._hub.addresses |= self._listening_on(host, port)
            self._waker = Waker()
            self._acceptor = threading.Thread(target=self._accept, name="kps-accept", daemon=True)
            self._acceptor.start()

    def stop(self, grace: float = 10.0) -> None:
        """Stop gracefully. May be called twice, from any thread, and from a callback.

        No new connections; what is queued is written and every connection closed with code
        1001, within ``grace`` seconds; what is left then is dropped.
        """
        with self._lock:
            if not self._is_started or self._is_stopped:
                return
            if self._is_stopping:
                self._wait_for(lambda: self._is_stopped)
                return
            self._is_stopping = True
            if self._listeners:
                for sock in self._shaking:
                    with contextlib.suppress(OSError):  # the peer has gone
                        socket.socket.shutdown(sock, socket.SHUT_RDWR)
                self._hub.shutdown(grace, clock())
                self._progress()
                self._waker.wake()
                if not self._wait_for(lambda: not self._connections, grace):
                    for connection in self._connections.values():
                        connection.abort()
                    # A hook that stops the server is in the thread of a connection itself.
                    self._wait_for(lambda: not self._connections, 1.0)
            self._relays.close()
            self._handle_events()
            self._dispatcher.close()
            self._figures.log()
        if self._listeners:
            self._acceptor.join(1.0)
        self._dispatcher.finish(grace)
        with self._lock:
            self._is_stopped = True
            self._news.notify_all()

    def serve(self) -> None:
        """Listen (unless ``start`` was called) and stay until ``stop``."""
        if not self._is_started:
            self.start()
        with self._lock:
            while not self._is_stopped:
                self._news.wait(0.5)  # in steps, so that signals get through everywhere

    def reload(self) -> None:
        """Read the files again that the server was given, such as ``tls_cert``.

        New connections get what is in them; those that there are go on. When a file cannot
        be used, everything stays as it was, and this raises :class:`kps.ServerStartFailed`.
        An ``ssl`` context is left alone: it is the program's.
        """
        self._reload()

    def run(self, ready: Callable[["Server"], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM, in the main thread.

        SIGHUP means ``reload``, always: it never ends the server. ``ready`` is called with
        the server once it listens. Raises :class:`kps.ServerStartFailed`.
        """
        stops = 0

        def on_signal(*_: object) -> None:
            # In a thread, since the handler may have interrupted one that has the lock. A
            # second signal does not wait any longer.
            nonlocal stops
            stops += 1
            target = self.stop if stops == 1 else self._stop_now
            threading.Thread(target=target, daemon=True).start()

        def on_hangup(*_: object) -> None:
            threading.Thread(target=self._reload_and_log, daemon=True).start()

        handlers = {signal.SIGINT: on_signal, signal.SIGTERM: on_signal}
        if hasattr(signal, "SIGHUP"):  # not on Windows
            handlers[signal.SIGHUP] = on_hangup
        previous: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                previous[number] = signal.signal(number, handler)
        try:
            self.start()
            if ready is not None:
                ready(self)
            self.serve()
        finally:
            self.stop()
            for number, before in previous.items():
                signal.signal(number, before)

    def _stop_now(self) -> None:
        with self._lock:
            for connection in self._connections.values():
                connection.abort()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- hooks ----------------------------------------------------------------------------

    def on_upgrade(self, hook: UpgradeHook) -> UpgradeHook:
        """Set the hook that decides on clients, before the start. Usable as a decorator."""
        if self._is_started:
            raise NotConnected("set this hook before the server starts")
        self._on_upgrade = hook
        return hook

    def on_id(self, callback: Callback) -> Callback:
        """Set the callback for direct messages to the server. Usable as a decorator."""
        with self._lock:
            self._on_id = callback
            if self._is_started:
                self._attach_direct(callback)
        return callback

    def on_server_data(self, callback: Callback) -> Callback:
        """Add a callback for messages of other servers. Usable as a decorator."""
        with self._lock:
            self._on_server_data.append(callback)
            if self._is_started:
                self._attach_server_data(callback)
        return callback

    def _attach_server_data(self, callback: Callback) -> None:
        self._dispatcher.attach(self._subscriptions.open_server_data(), callback)

    # -- the server's own program on the bus ----------------------------------------------

    def publish(self, topic: str, data: Any) -> int:
        """Publish with the server's id as sender; return how many subscribers were addressed.

        A client counts once, and so does this program. Raises
        :class:`kps.InvalidArgument` for an empty topic or a payload that is not JSON.
        """
        with self._lock:
            count = self._started.publish(topic, data, clock())
            self._progress()
            return count

    def publish_to_id(self, client_id: str, data: Any) -> bool:
        """Send a direct message; ``False`` when nobody has that id. Raises as ``publish``."""
        with self._lock:
            found = self._started.publish_to_id(client_id, data, clock())
            self._progress()
            return found

    def publish_to_server(self, addr: str, data: Any, secure: bool = False) -> None:
        """Send a message to another server (spec, section 7), and wait until it has it.

        Raises :class:`kps.ConnectFailed` when that fails, :class:`kps.InvalidArgument` for a
        bad address.
        """
        _ = self._started
        target = RelayTarget.parse(addr)
        errors: list[str | None] = []

        def done(error: str | None) -> None:
            with self._lock:
                errors.append(error)
                self._news.notify_all()

        self._relays.send(target, self._origin(), data, secure=secure, done=done)
        with self._lock:
            self._wait_for(lambda: bool(errors))
        if errors[0] is not None:
            raise ConnectFailed(f"failed to relay to server: {errors[0]}")

    def publish_with_ack(self, topic: str, data: Any, timeout: float = 5.0) -> Ack:
        """Publish, and learn how each subscriber fared. Raises as ``publish``."""
        with self._lock:
            return self._ack_for(self._started.publish_with_ack(topic, data, timeout, clock()))

    def publish_to_id_with_ack(self, client_id: str, data: Any, timeout: float = 5.0) -> Ack:
        """Send a direct message, and learn how its receiver fared. Raises as ``publish``."""
        with self._lock:
            handle = self._started.publish_to_id_with_ack(client_id, data, timeout, clock())
            return self._ack_for(handle)

    def count_clients(self) -> int:
        """Clients that are registered."""
        with self._lock:
            return len(self._started.clients)

    def count_subscribers(self, topic: str) -> tuple[int, int, int]:
        """Subscriptions to a topic: of this program, of clients, and both together."""
        with self._lock:
            return self._started.count_subscribers(topic)

    # -- what the driver asks -------------------------------------------------------------

    @property
    def _started(self) -> Hub:
        """The hub, if there is one already."""
        self._require_started()
        return self._hub

    @property
    def _subscriptions(self) -> Subscriptions:
        return self._hub.local.subscriptions

    def _deadline(self) -> float | None:
        """The thread that accepts keeps the deadlines of all connections."""
        return None

    def _handle_timeout(self, now: float) -> None:
        self._hub.handle_timeout(now)

    def _open_mailbox(self, topic: str) -> Mailbox:
        return self._hub.local.subscribe(topic)

    def _close_mailbox(self, mailbox: Mailbox) -> None:
        self._hub.local.unsubscribe(mailbox)

    def _confirm(self, mailbox: Mailbox) -> None:
        """In one process a subscription is in force at once."""

    def _settle_in_core(self, message: Message, error: str | None, result: Any) -> None:
        self._hub.local.settle(message, error, clock(), result)

    def _end_of_messages(self) -> Exception | None:
        return StopIteration() if self._is_stopped else None

    def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        return self._hub.ack_status(handle)

    def _cancel_ack(self, handle: AckHandle) -> None:
        if not handle.finished:
            self._hub.cancel_ack(handle)
            self._progress()

    def _wake_connections(self) -> None:
        for session in self._hub.take_unflushed():
            connection = self._connections.get(session)
            if connection is not None:
                connection.wake()
        due = self._hub.next_deadline()
        if due is not None:
            waits_until = self._acceptor_waits_until
            if waits_until is None or due < waits_until:
                self._waker.wake()

    def _wake_idle(self) -> None:
        self._waker.wake()

    # -- the thread that accepts --------------------------------------------------------------

    def _accept(self) -> None:
        """Accept connections and keep the deadlines, until the last connection has gone."""
        selector = new_selector()
        selector.register(self._waker, selectors.EVENT_READ)
        for listener in self._listeners:
            selector.register(listener, selectors.EVENT_READ)
        next_figures = clock() + FiguresLog.INTERVAL
        is_listening = True
        while True:
            with self._lock:
                self._waker.reset()
                now = clock()
                self._hub.handle_timeout(now)
                self._progress()
                if now >= next_figures:
                    self._figures.log()
                    next_figures = now + FiguresLog.INTERVAL
                if self._is_stopping and is_listening:
                    is_listening = False
                    for listener in self._listeners:
                        selector.unregister(listener)
                        listener.close()
                if self._is_stopping and not self._connections:
                    break
                due = self._hub.next_deadline()
                wait_until = next_figures if due is None else min(due, next_figures)
                self._acceptor_waits_until = wait_until
            for key, _ in selector.select(max(0.0, wait_until - clock())):
                if isinstance(key.fileobj, socket.socket):
                    self._accept_one(key.fileobj)
                else:
                    self._waker.drain()
        selector.close()
        self._waker.close()

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            sock, peer = listener.accept()
        except OSError as error:  # it went away again, or there are no descriptors left
            logger.warning("cannot accept a connection: %s", describe(error))
            time.sleep(0.05)  # it is still there to be accepted, and would be at once
            return
        thread = threading.Thread(
            target=self._serve_one,
            args=(sock, host_and_port(peer[0], peer[1])),
            name="kps-connection",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            logger.warning("cannot serve a connection: %s", error)
            sock.close()

    def _serve_one(self, sock: socket.socket, peer: str) -> None:
        """In a thread of its own: one connection, to its end."""
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = self._tls
        connection = None
        with self._lock:
            session = self._hub.connect(peer, clock())
            if context is None:
                connection = self._begin(sock, session)
        if context is not None:
            try:
                secure = self._shake_hands(sock, session, context)
            except OSError as error:
                logger.debug("no TLS with %s: %s", peer, describe(error))
                with self._lock:
                    session.connection_lost(clock())
                    self._progress()
            else:
                with self._lock:
                    connection = self._begin(secure, session)
        if connection is None:
            return
        try:
            connection.run()
        finally:
            with self._lock:
                del self._connections[session.number]
                self._deciding.pop(session.number, None)
                self._progress()
                self._waker.wake()  # it waits for the last one when the server stops

    def _begin(self, sock: socket.socket, session: WebSocketConnection) -> Connection | None:
        """With the lock held: let bytes go to a session."""
        asks = self._on_upgrade is not None or self._auth is not None
        decide = partial(self._decide, session.number) if asks else None
        try:
            connection = Connection(sock, session, self, before_step=decide)
        except OSError as error:  # there are no descriptors left
            logger.warning("cannot serve a connection: %s", describe(error))
            sock.close()
            session.connection_lost(clock())
            return None
        self._connections[session.number] = connection
        if self._is_stopping:
            session.shut_down(0.0)
        self._progress()
        return connection

    def _shake_hands(
        self, sock: socket.socket, session: WebSocketConnection, context: ssl.SSLContext
    ) -> ssl.SSLSocket:
        """Begin TLS. Raises :class:`OSError`, and then has closed the socket."""
        sock.settimeout(self._limits.handshake_timeout)  # of the handshake as a whole
        with contextlib.ExitStack() as unless_done:
            unless_done.callback(sock.close)
            secure = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            unless_done.callback(secure.close)
            with self._lock:
                if self._is_stopping or session.output is not Output.KEEP:
                    raise ConnectionAbortedError("turned away")
                self._shaking.add(secure)
            try:
                secure.do_handshake()
            finally:
                with self._lock:
                    self._shaking.remove(secure)
            unless_done.pop_all()
        return secure

    def _decide(self, session: int) -> None:
        """In the connection's thread, without the lock: ask the hooks, if they are to be asked."""
        while True:
            with self._lock:
                asked = self._deciding.pop(session, None)
            if asked is None:
                return
            ask, answer, peer = asked
            try:
                verdict = ask()
            except Exception as error:
                verdict = hook_failed(peer, error)
            with self._lock:
                answer(session, verdict, clock())
                self._progress()  # and perhaps there is more to be asked

    # -- what happens ---------------------------------------------------------------------

    def _handle_events(self) -> None:
        for event in self._hub.events():
            log_hub_event(event)
            self._handle(event)

    def _handle(self, event: HubEvent) -> None:
        match event:
            case AckChanged():
                pass  # whoever waits for it looks at its state
            case UpgradeRequested(session, request):
                assert self._on_upgrade is not None
                ask = partial(self._on_upgrade, request)
                self._deciding[session] = ask, self._hub.decide, request.peer
            case TokenPresented(session, token, peer):
                assert self._auth is not None
                self._deciding[session] = partial(self._auth, token), self._hub.identify, peer
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
        with self._lock:
            self._hub.relay_finished(session, to, error, clock())
            self._progress()

    def _origin(self, client_id: str = "") -> str:
        return origin_of(
            self._address, self._path, secure=self._tls is not None, client_id=client_id
        )
