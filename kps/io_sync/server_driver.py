"""The threaded driver of a server: serves connections, asks hooks, and ends connections."""

import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from kps.errors import KPSError, ServerStartFailed
from kps.io_common.explaining import explained, listen_for_explanations
from kps.io_common.forks import watch_forks
from kps.io_common.ids import random_id
from kps.io_common.listening import Listeners, listen, name_of
from kps.io_common.logger import write as write_now
from kps.io_common.server_logs import FiguresLog, LifeLog, hook_failed
from kps.io_common.server_options import ServerSettings
from kps.io_common.system_errors import describe
from kps.io_sync.acceptor import Acceptor
from kps.io_sync.connection import Connection
from kps.io_sync.driver import Driver, Face
from kps.io_sync.ending import Ending
from kps.io_sync.log import catch_up, write
from kps.io_sync.runtime import Runtime, stopped
from kps.io_sync.workers import Workers
from kps.protocol.server.config import HubConfig
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.hub import Hub
from kps.protocol.wire.websocket import Output

if TYPE_CHECKING:
    from kps.io_common.history_file import HistoryFile
    from kps.io_common.metrics import Exporter

Subject = TypeVar("Subject")

# What one thread writes for all connections with the lock held, before it leaves the rest to their
# threads: bytes, where each connection counts for some more.
_MOST_WRITTEN = 4 * 1024 * 1024
_CONNECTION = 4 * 1024

Answer = Callable[[int, Any, float], None]
"""A verb of the hub that takes a hook's verdict on a session."""


class ServerDriver(Driver):
    """Runs the hub of a server: one thread accepts, and each connection has its own thread."""

    def __init__(self, face: Face, runtime: Runtime, settings: ServerSettings) -> None:
        super().__init__(face, runtime, settings.config.limits)
        self.connections: dict[int, Connection] = {}
        self._settings = settings
        self._hub: Hub
        self.name = "threads"
        """The name of this driver."""
        self.metrics_address: str | None = None
        """``host:port`` of the port for operators, once it listens."""
        self._figures: FiguresLog
        self._life: LifeLog
        self._exporter: Exporter | None = None
        self._acceptor: Acceptor | None = None
        self._history: HistoryFile | None = None
        self._shaking: set[ssl.SSLSocket] = set()  # TLS handshakes under way
        self._workers = Workers()
        self.ending = Ending(self.put_off, lambda: self.dispatcher.is_this_thread)
        self.is_ending = False
        self._ends_by = inf

    def new_hub(self, config: HubConfig, exporter: "Exporter | None") -> Hub:
        """Make the core."""
        metrics = None if exporter is None else exporter.respond
        return Hub(config, new_id=lambda: random_id("client"), now=self.clock(), metrics=metrics)

    def open(self, hub: Hub, exporter: "Exporter | None") -> None:
        """Run a hub, whose figures an ``exporter`` shows."""
        self._hub = hub
        self.calls = hub.calls
        self._figures, self._life = FiguresLog(hub, write), LifeLog(hub, write)
        self._exporter = exporter
        if exporter is not None:
            exporter.hub = hub

    def listen(self, begin: Callable[[str, int], None]) -> None:
        """Accept connections; call ``begin`` with host and port of the first socket that listens.

        Raises :class:`kps.ServerStartFailed`, and :class:`kps.ServerStopped` if the end has begun
        meanwhile; then nothing listens.
        """
        history = self._history = self._settings.new_history_file(self.clock(), write)
        listeners = Listeners([], [])
        try:
            if history is not None:
                history.open()
            listeners = listen(self._settings.listens_on, self._settings.for_operators)
            host, port = listeners.bus[0].getsockname()[:2]
            with self.lock:
                if self.is_ending:
                    stopped()
                if history is not None:
                    history.attach(self._hub.state.logs, self.clock())
                if listeners.operators:
                    self.metrics_address = name_of(listeners.operators[0])
                if self._exporter is not None:
                    self._exporter.history = history
                acceptor = self._acceptor = Acceptor(self, listeners)
                try:
                    acceptor.start()
                    watch_forks(self)
                    begin(host, port)
                    self._life.started(self.name, listeners)
                except BaseException:
                    acceptor.give_up()  # before its thread gets the lock
                    raise
        except BaseException as error:
            listeners.close()
            if history is not None:
                history.close()
            if isinstance(error, RuntimeError) and not isinstance(error, KPSError):
                # The system has no more threads.
                raise ServerStartFailed(f"the server has no thread: {error}") from error
            raise

    def end_connections(self, grace: float) -> None:
        """Stop accepting, and end all connections within ``grace``.

        Another call may shorten it, and does what one that was interrupted has not done.
        """
        with self.lock:
            self._ends_by = min(self._ends_by, self.clock() + grace)
            self.is_ending = True
            self._life.ends(self.clock())
            for sock in self._shaking:
                with contextlib.suppress(OSError):  # the peer is gone
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            self._hub.shutdown(grace, self.clock())
            self.progress()
            self.wake()
            if not self.news.until(lambda: not self.connections, self._ends_by - self.clock()):
                self.abort_connections()
                self.news.until(lambda: not self.connections, 1.0)

    def abort_connections(self) -> None:
        """Drop all connections now."""
        with self.lock:
            self._life.cuts_off()
            for connection in self.connections.values():
                connection.abort()

    def close(self, grace: float) -> None:
        """End callbacks within ``grace``, and the thread that accepts."""
        with self.lock:
            self.dispatcher.close()
            self._hub.end(self.clock())
            self.progress()
            self._figures.log()
            self._life.ended(self.clock())
        if self._acceptor is not None:
            self._acceptor.join(1.0)
        self.dispatcher.finish(grace)
        if self._history is not None:
            with self.lock:
                self._history.end()
            self._history.wait()
        catch_up()

    def ask(
        self,
        session: int,
        hook: Callable[[Subject], object],
        read: Callable[[object], object],
        subject: Subject,
        answer: Answer,
        peer: str,
    ) -> None:
        """With the lock held: let a hook decide on a client, in a thread of its own.

        ``read`` reads what the hook returned. Whatever it raises is a failure of the hook.
        Meanwhile the connection's thread carries bytes: the client may be registered, and needs
        its heartbeats.
        """

        context = self.dispatcher.new_context()
        noted = context.run(listen_for_explanations)

        def decide() -> None:
            try:
                verdict = read(context.run(hook, subject))
            except BaseException as error:
                verdict = hook_failed(peer, error)
            with self.lock:
                answer(session, explained(verdict, noted), self.clock())
                self.progress()

        try:
            self._workers.start(decide)
        except RuntimeError as error:  # no thread is left
            answer(session, hook_failed(peer, error, write), self.clock())

    def flush_soon(self) -> None:
        """With the lock held: make the connections' threads write the queued data."""
        self.progress()

    def _tell_connections(self, writes: bool) -> None:
        unflushed = self._hub.take_unflushed()
        written = 0
        try:
            for session in unflushed:
                connection = self.connections.get(session)
                if connection is None:
                    continue
                if writes and written < _MOST_WRITTEN:
                    written += connection.flush() + _CONNECTION
                else:
                    connection.wake_from_elsewhere()
        except BaseException:  # out of a signal handler, for instance: the next call does it
            for session in unflushed:
                self._hub.touch(session)
            raise
        due = self._hub.next_deadline()
        if due is not None and self._acceptor is not None:
            self._acceptor.wake_by(due)

    def wake(self) -> None:
        if self._acceptor is not None:
            self._acceptor.wake()

    # -- called by connections --------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return ``None``: the thread that accepts keeps the deadlines of all connections."""
        return None

    def _handle_timeout(self, now: float) -> None:
        self._hub.handle_timeout(now)

    # -- called by the thread that accepts ----------------------------------------------------

    @property
    def accepts(self) -> bool:
        """Whether the server still accepts connections."""
        return not self.is_ending

    def tend(self, now: float) -> float | None:
        """With the lock held: do what is due; return the next deadline, or ``None`` at the end."""
        self._hub.handle_timeout(now)
        self.progress()
        look_at = self._figures.log_now_and_then(now)
        if self._exporter is not None:
            look_at = min(look_at, self._exporter.lag.look(now))
        if self.is_ending and not self.connections:
            return None
        due = self._hub.next_deadline()
        return look_at if due is None else min(due, look_at)

    def admit(self, peer: str, *, is_operator: bool) -> WebSocketConnection | None:
        """Begin a session; return ``None`` if the hub drops it at once."""
        with self.lock:
            session = self._hub.connect(peer, self.clock(), is_operator=is_operator)
            if session.output is not Output.ABORT:
                return session
            session.connection_lost(self.clock())
            self.progress()
            return None

    def give_up(self, session: WebSocketConnection) -> None:
        """End a session that got no thread."""
        with self.lock:
            session.connection_lost(self.clock())
            self.progress()

    def serve(self, sock: socket.socket, session: WebSocketConnection, is_operator: bool) -> None:
        """Serve one connection until it ends, in its own thread."""
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = self._settings.certificates.context
        if context is not None and not is_operator:
            try:
                sock = self._shake_hands(sock, session, context)
            except OSError as error:
                self.give_up(session)
                text, peer = "no TLS with %(address)s: %(reason)s", session.session.peer
                write(logging.DEBUG, "tls_failed", text, address=peer, reason=describe(error))
                return
        try:
            connection = Connection(sock, session, self, self.clock, self.runtime.select)
        except OSError as error:  # no descriptors are left
            self.give_up(session)
            text = "cannot serve a connection: %(reason)s"
            write_now(logging.WARNING, "connection_failed", text, reason=describe(error))
            sock.close()
            return
        with self.lock:
            self.connections[session.number] = connection
            if self.is_ending:
                session.shut_down(0.0)
            self.progress()
        try:
            connection.run()
        finally:
            with self.lock:
                del self.connections[session.number]
                self.progress()
                self.wake()  # when the server stops, the acceptor waits for the last connection

    def _shake_hands(
        self, sock: socket.socket, session: WebSocketConnection, context: ssl.SSLContext
    ) -> ssl.SSLSocket:
        """Do the TLS handshake. Raises :class:`OSError`, and then has closed the socket."""
        sock.settimeout(self._limits.handshake_timeout)  # for the whole handshake
        with contextlib.ExitStack() as unless_done:
            unless_done.callback(sock.close)
            secure = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            unless_done.callback(secure.close)
            with self.lock:
                if self.is_ending or session.output is not Output.KEEP:
                    raise ConnectionAbortedError("turned away")
                self._shaking.add(secure)
            try:
                secure.do_handshake()
            finally:
                with self.lock:
                    self._shaking.remove(secure)
            unless_done.pop_all()
        return secure
