"""The asyncio driver of a server: accepts connections, asks hooks, and ends connections."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from kps.errors import ServerStartFailed
from kps.io_asyncio.connection import Connection, OperatorConnection
from kps.io_asyncio.decisions import Answer, Decisions, Subject
from kps.io_asyncio.driver import Driver, Face
from kps.io_asyncio.ending import Ending
from kps.io_asyncio.flushing import Flushing
from kps.io_asyncio.log import write
from kps.io_asyncio.runtime import Runtime, Timer, stopped
from kps.io_asyncio.tls_listener import ListeningSocket, TlsListener
from kps.io_common.ids import random_id
from kps.io_common.listening import BACKLOG, Listeners, listen, name_of
from kps.io_common.server_logs import FiguresLog, LifeLog
from kps.io_common.server_options import ServerSettings
from kps.protocol.server.config import HubConfig
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.hub import Hub
from kps.protocol.wire.endpoint import Endpoint
from kps.protocol.wire.websocket import Output

if TYPE_CHECKING:
    from kps.io_common.history_file import HistoryFile
    from kps.io_common.metrics import Exporter

Done = TypeVar("Done")

_AT_ONCE = 16  # reads with a step at once, between two turns in which we count the reads
_TURNS_TO_ACCEPT = 5
"""Turns of the loop in which a connection that it has accepted surely comes here."""


class Carrier(Protocol):
    """What carries a connection of the core, over a transport of the loop or otherwise."""

    def flush(self) -> int:
        """Write pending data as far as possible; return the bytes that it wrote."""

    def abort(self) -> None:
        """Drop the connection now."""


class ServerFace(Face, Protocol):
    """The server that a driver runs."""

    async def stop(self, grace: float = 10.0) -> None:
        """Stop gracefully."""


class ServerDriver(Driver):
    """Runs the hub of a server on the event loop."""

    def __init__(self, face: Face, runtime: Runtime, settings: ServerSettings) -> None:
        super().__init__(face, runtime, settings.config.limits)
        self.connections: dict[Carrier, WebSocketConnection] = {}
        self._settings = settings
        self._hub: Hub
        self.name = "asyncio"
        """The name of this driver."""
        self.metrics_address: str | None = None
        """``host:port`` of the port for operators, once it listens."""
        self._figures: FiguresLog
        self._life: LifeLog
        self._exporter: Exporter | None = None
        self._by_session: dict[int, Carrier] = {}
        self._flushing = Flushing(
            self._by_session,
            lambda connection: self.connections[connection].session.transport.queued_bytes,
        )
        self._reads = 0  # in this turn, if we count them
        self._at_once = 0  # reads that a step may follow at once
        self._shaking: dict[Connection, WebSocketConnection] = {}  # TLS handshakes under way
        self._decisions = Decisions(self)
        self._listeners: list[asyncio.Server | TlsListener] = []
        self._history: HistoryFile | None = None
        self._reporter: Timer | None = None
        self.ending = Ending()
        self.failure: ServerStartFailed | None = None
        """Why it has ended, if no call of the program is the reason."""
        self.is_ending = False
        """Whether the end has begun, perhaps while the server was still starting."""

    def new_hub(self, config: HubConfig, exporter: "Exporter | None") -> Hub:
        """Make the core."""
        metrics = None if exporter is None else exporter.respond
        return Hub(config, new_id=lambda: random_id("client"), now=self.clock(), metrics=metrics)

    def open(self, hub: Hub, exporter: "Exporter | None") -> None:
        """Run a hub, whose figures an ``exporter`` shows."""
        self._hub = self._core = hub
        self._subscriptions = hub.local.subscriptions
        self._figures, self._life = FiguresLog(hub), LifeLog(hub)
        self._exporter = exporter
        if exporter is not None:
            exporter.hub = hub

    async def listen(self, begin: Callable[[str, int], None]) -> None:
        """Accept connections; call ``begin`` with host and port of the first socket that listens.

        Raises :class:`kps.ServerStartFailed`, and :class:`kps.ServerStopped` if the end has begun
        meanwhile. Whatever it raises, also when it is cancelled: then nothing listens.
        """
        sockets = Listeners([], [])
        try:
            await self.prepare()
            settings = self._settings
            listens_on = None if settings.is_mounted else settings.listens_on
            work = partial(listen, listens_on, settings.for_operators)
            sockets = await _in_thread(self.runtime.loop, work, Listeners.close)
            if self.is_ending:
                stopped()
            host, port = sockets.bus[0].getsockname()[:2] if sockets.bus else ("", 0)
            await self._accept_at(sockets)
            if self.is_ending:
                stopped()
            if sockets.operators:
                self.metrics_address = name_of(sockets.operators[0])
            self._report()
            begin(host, port)
            self._life.started(self.name, sockets)
        except BaseException:
            self._stop_reports()
            for listener in self._listeners:
                listener.close()
            self._listeners.clear()
            sockets.close()
            if self._history is not None:
                self._history.close()  # which has little to write
            raise

    async def prepare(self) -> None:
        """Do what must be done before there are clients: go on with the file for history.

        Raises :class:`kps.ServerStartFailed`.
        """
        history = self._settings.new_history_file(self.clock(), write)
        if history is not None:
            await _in_thread(self.runtime.loop, history.open, lambda _: history.close())
            self._history = history
            history.attach(self._hub.state.logs, self.clock())
        if self._exporter is not None:
            self._exporter.history = history

    async def _accept_at(self, sockets: Listeners) -> None:
        loop, is_secure = self.runtime.loop, self._settings.certificates.context is not None
        kinds: dict[socket.socket, type[Connection]] = {}
        kinds |= dict.fromkeys(sockets.operators, OperatorConnection)
        kinds |= {} if is_secure else dict.fromkeys(sockets.bus, Connection)
        for sock, new_connection in kinds.items():
            # asyncio accepts as many connections per turn as its backlog. Without free
            # descriptors it would fail, and log, as many times; so give it a backlog of 1.
            listener = await loop.create_server(
                partial(new_connection, loop, self, self.clock),
                sock=sock,
                backlog=1,
                start_serving=False,
            )
            self._listeners.append(listener)  # first: to start may be cancelled
            await listener.start_serving()
            sock.listen(BACKLOG)
        for sock in sockets.bus if is_secure else ():
            self._listeners.append(
                TlsListener(
                    ListeningSocket(sock),
                    self._admit,
                    self._give_up,
                    self._latest_context,
                    self._limits,
                )
            )

    async def end_connections(self, grace: float) -> None:
        """Stop accepting, and end all connections within ``grace``.

        Another call may shorten it, and does what one that was interrupted has not done.
        """
        self.is_ending = True
        self._life.ends(self.clock())
        self._hub.shutdown(grace, self.clock())
        self.step_now()
        await self._stop_listening()
        if not await self.news.until(lambda: not self.connections, grace):
            self.abort_connections()
            await self.news.until(lambda: not self.connections)
        for listener in self._listeners:
            if isinstance(listener, TlsListener):
                await listener.wait_closed()

    async def _stop_listening(self) -> None:
        """Accept no more, and let connections that the loop has accepted come here first.

        asyncio loses their sockets when it closes the listener before.
        """
        for listener in self._listeners:
            if isinstance(listener, asyncio.Server):
                for sock in listener.sockets:
                    with contextlib.suppress(NotImplementedError):  # on Windows
                        self.runtime.loop.remove_reader(sock)
        for _ in range(_TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        for listener in self._listeners:
            listener.close()

    def abort_connections(self) -> None:
        """Drop all connections now."""
        self._life.cuts_off()
        for connection in list(self.connections):
            connection.abort()

    async def close(self, grace: float) -> None:
        """Cancel hooks, callbacks and the timer; but not the tasks that wait for the end.

        Callbacks that do not end are given up after ``grace``.
        """
        waiting = self.ending.waiting
        self._hub.end(self.clock())
        self._face._handle_events()
        try:
            await self._decisions.close(grace, waiting)
            await self.dispatcher.close(grace, waiting)
        finally:
            self.alarm.stop()
            self._stop_reports()
            if self._history is not None:
                await _close(self._history, self.runtime.loop)
        self._figures.log()
        self._life.ended(self.clock())

    async def abandon(self) -> None:
        """Close the file for history of a server whose event loop has gone without its end."""
        if self._history is not None:
            await asyncio.to_thread(self._history.close)

    def ask(
        self,
        session: int,
        hook: Callable[[Subject], object],
        read: Callable[[object], object],
        subject: Subject,
        answer: Answer,
        peer: str,
    ) -> None:
        """Let a hook decide on a client, and give the core its verdict.

        ``read`` reads what the hook returned. Whatever it raises is a failure of the hook.
        """
        self._decisions.ask(session, hook, read, subject, answer, peer)

    def flush_soon(self) -> None:
        self.progress()

    def has_read(self) -> None:
        """Take a step after a read: at once, or at the end of the turn if it has several reads.

        What is written for several leaves together: they may have the same receiver.
        """
        if self.due_on:
            self._reads += 1
        elif self._at_once:
            self._at_once -= 1
            self.step_now(is_read=True)
        else:
            self._reads = 1
            self.progress()

    def _earliest(self) -> float:
        state = self._hub.state
        return state.now if state.turns.are_due else state.deadlines.earliest

    def _flush(self) -> None:
        if self._reads:
            is_alone = self._reads == 1 and not self._hub.state.turns.are_due
            self._at_once = _AT_ONCE if is_alone else 0
            self._reads = 0
        flushing = self._flushing
        flushing.waiting += self._hub.take_unflushed()
        try:
            flushing.flush()
        finally:
            if flushing.waiting:
                self.progress()

    def _latest_context(self) -> ssl.SSLContext:
        context = self._settings.certificates.context
        assert context is not None
        return context

    def _report(self) -> None:
        now = self.clock()
        due = self._figures.log_now_and_then(now)
        if self._exporter is not None:
            due = min(due, self._exporter.lag.look(now))
        self._reporter = self.runtime.call_at(due, self._report)

    def _stop_reports(self) -> None:
        if self._reporter is not None:
            self._reporter.cancel()

    # -- called by connections and listeners ----------------------------------------------

    def _attach(self, connection: Connection, peer: str) -> Endpoint:
        is_operator = isinstance(connection, OperatorConnection)
        session = self._shaking.pop(connection, None) or self._hub.connect(
            peer, self.clock(), is_operator=is_operator
        )
        self.take_in(connection, session)
        return session

    def take_in(self, carrier: Carrier, session: WebSocketConnection) -> None:
        """Flush and end a connection of the core together with the others, until ``_detach``."""
        self.connections[carrier] = session
        self._by_session[session.number] = carrier
        if self.is_ending:  # it was accepted before the end began
            session.shut_down(0.0)
        self._hub.touch(session.number)  # the session may already have data to write

    def _touch(self, connection: Connection) -> None:
        session = self.connections.get(connection)
        if session is not None:  # else it was dropped
            self._hub.touch(session.number)

    def _detach(self, connection: Carrier) -> None:
        session = self.connections.pop(connection)
        del self._by_session[session.number]
        if not self.is_ending:  # a hook itself may stop the server
            self._decisions.drop(session.number)
        if not self.connections:
            self.news.announce()

    def _admit(self, peer: str) -> Connection | None:
        """Begin a session before the TLS handshake; return ``None`` if the hub refuses it."""
        session = self._hub.connect(peer, self.clock())
        self.progress()
        if session.output is not Output.KEEP:
            session.connection_lost(self.clock())
            return None
        connection = Connection(self.runtime.loop, self, self.clock)
        self._shaking[connection] = session
        return connection

    def _give_up(self, connection: Connection) -> None:
        session = self._shaking.pop(connection, None)
        if session is not None:
            session.connection_lost(self.clock())
            self.progress()


async def _close(history: "HistoryFile", loop: asyncio.AbstractEventLoop) -> None:
    """Let the file be closed, and wait for that in a thread."""
    history.end()
    try:
        closing = loop.run_in_executor(None, history.wait)
    except RuntimeError:  # the system has no more threads
        history.wait()
    else:
        await closing


async def _in_thread(
    loop: asyncio.AbstractEventLoop, work: Callable[[], Done], undo: Callable[[Done], None]
) -> Done:
    """Do what may block, on a disk or a name server.

    If this is cancelled, the thread goes on; then its work is undone. Raises
    :class:`kps.ServerStartFailed`.
    """
    try:
        doing = loop.run_in_executor(None, work)
    except RuntimeError as error:  # the system has no more threads
        raise ServerStartFailed(f"the server has no thread: {error}") from error
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        doing.add_done_callback(partial(_undo, undo))
        raise


def _undo(undo: Callable[[Done], None], doing: "asyncio.Future[Done]") -> None:
    """Undo what a thread has done for a start that was cancelled."""
    if not doing.cancelled() and doing.exception() is None:
        undo(doing.result())
