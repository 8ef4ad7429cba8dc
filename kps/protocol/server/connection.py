"""A connection of the server: carries bytes between a driver and one session."""

import math
from collections.abc import Callable
from functools import partial

from kps.protocol.calls import entry
from kps.protocol.server.delivery import Delivery
from kps.protocol.server.exchange import Exchange
from kps.protocol.server.gate import STOPPING, Phase
from kps.protocol.server.http_carrier import SocketCarrier
from kps.protocol.server.intake import Intake
from kps.protocol.server.routes import Routes
from kps.protocol.server.session import ServerSession
from kps.protocol.server.state import ServerState
from kps.protocol.server.transport import WebSocketTransport
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.server_end import ServerEnd
from kps.protocol.wire.server_handshake import ServerWebSocket
from kps.protocol.wire.websocket import Closed, Output, State


class WebSocketConnection:
    """Carries bytes between a driver and the session of one client.

    A driver calls ``receive_data``, ``receive_eof`` and ``connection_lost``. Then
    :meth:`Hub.take_unflushed` tells which connections have something to write. ``forget`` is
    called when the transport is gone.
    """

    __slots__ = ("__weakref__", "_delivery", "_exchange", "_forget", "_intake", "_is_admitted",
                 "_is_gone", "_origin", "_routes", "_socket", "_state", "_transport", "calls",
                 "number", "session")  # fmt: skip

    def __init__(
        self,
        state: ServerState,
        delivery: Delivery,
        number: int,
        peer: str,
        *,
        routes: Routes,
        forget: Callable[["WebSocketConnection"], None],
        socket: ServerEnd | None = None,
    ) -> None:
        self.number = number
        """The number by which events and the hub's verbs name it."""
        self.calls = state.calls
        self._state = state
        self._delivery = delivery
        self._forget = forget
        self._routes = routes
        self._origin: str | None = None  # the address for which it counts
        self._socket = _new_socket(state, routes, peer) if socket is None else socket
        # Nobody needs a long message to register.
        self._socket.reader.max_message = min(state.limits.max_message, 4 * state.limits.max_head)
        self._transport = WebSocketTransport(state, number, self._socket, self._changed)
        self.session = ServerSession(state, delivery, number, peer, self._transport)
        self._intake = Intake(
            state,
            self.session,
            self._socket,
            requested=self._requested,
            handled=self._worked,
            failed=self._transport.abort,
        )
        self._exchange: Exchange | None = None
        self._is_gone = False
        self._is_admitted = routes.admission.admit()
        if not self._is_admitted:
            self._turn_away("full")
        elif not routes.admission.is_proxy(peer):
            self._enter()

    # -- called by a driver -----------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""
        state, calls = self._state, self.calls
        is_nested, calls.is_under_way = calls.is_under_way, True
        try:
            state.now = now
            state.stats.bytes_in += len(data)
            self._intake.receive(data)
        finally:
            if not is_nested:
                try:
                    if calls.waiting:
                        calls.end()
                finally:
                    calls.is_under_way = False

    @entry
    def receive_eof(self, now: float, unwritten: int = 0) -> None:
        """Note that the peer will send nothing more. What was unwritten is not counted."""
        self._state.now = now
        self._finish(self._ended, now)

    @entry
    def connection_lost(self, now: float, unwritten: int = 0) -> None:
        """Note that the transport is gone, and end the session. May be called twice.

        A server does not count the messages in ``unwritten`` bytes.
        """
        self._state.now = now
        self._finish(self._lost, now)

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take bytes to write."""
        socket, calls, outbox = self._socket, self.calls, self._socket.outbox
        if not (outbox.framed_bytes or outbox.gathered) and self._intake.is_heard:
            return b""
        is_nested, calls.is_under_way = calls.is_under_way, True
        try:
            data = socket.data_to_send(limit)
            self._state.stats.bytes_out += len(data)
            if self.session.replays:
                self.session.replays.go_on()
            if not self._intake.is_heard and not self._intake.is_blocked:
                self._intake.resume()
            return data
        finally:
            if not is_nested:
                try:
                    if calls.waiting:
                        calls.end()
                finally:
                    calls.is_under_way = False

    @property
    def output(self) -> Output:
        """What to do with the transport once everything is written."""
        return self._socket.output

    @property
    def wants_pause(self) -> bool:
        """Whether the driver should pause reading."""
        socket, intake = self._socket, self._intake
        if socket.state in _HEARD:
            session = self.session
            if intake.has_input or (
                # A registered client without rates is blocked by the replies to it only.
                (session.gate.phase is not _REGISTERED or session.throttle is not None)
                and intake.is_blocked
            ):
                return True
        return socket.wants_pause

    @entry
    def set_reading(self, is_reading: bool, now: float) -> None:
        """Note that the driver paused or resumed reading."""
        self._intake.is_heard = is_reading
        self._socket.set_reading(is_reading, now)
        if not is_reading and not self._intake.is_blocked:
            self._intake.resume()  # the driver may have written what blocked it before it paused
        self._state.deadlines.schedule(self)

    def next_deadline(self) -> float | None:
        due = self._socket.next_deadline()
        gives_up_at = self._intake.gives_up_at
        if gives_up_at is not None and (due is None or gives_up_at < due):
            due = gives_up_at
        if self._socket.state is not _OPEN:
            return due
        session = self.session
        for own in (
            session.gate.next_deadline(),
            session.throttle.next_deadline() if session.throttle is not None else None,
        ):
            if own is not None and (due is None or own < due):
                due = own
        return due

    def handle_timeout(self, now: float) -> None:
        self._state.now = now
        session, socket = self.session, self._socket
        before = socket.state
        try:
            if self._intake.handle_timeout(now):
                socket.handle_timeout(now)  # whose own deadline may have come while input waited
                return
            if before is _OPEN:
                session.gate.handle_timeout()  # which may close the connection
                throttle = session.throttle
                if throttle is not None and throttle.probes(now):
                    socket.probe()
                if throttle is not None and throttle.handle_timeout(now):
                    self._state.unflushed[self.number] = None  # the driver may resume reading
                    self._intake.resume()
            socket.handle_timeout(now)
            self._changed(before)
        except Exception:  # it has no deadline any more, and a silent peer would stay for ever
            self._transport.abort()
            raise

    # -- called by the hub ------------------------------------------------------------------

    def decide(self, verdict: object, now: float) -> None:
        """Accept or refuse the client, as a hook decided."""
        if self._exchange is not None:
            self._exchange.decide(verdict, now)
            return
        self._state.now = now
        request = self._socket.request
        if self._socket.state is _REQUEST and request is not None:
            self.session.gate.decide(verdict, request)
            self._changed(_REQUEST)
            self._state.turns.enter(self._intake)

    def judge(self, verdict: object, now: float) -> None:
        """Take a hook's verdict on what the client wants."""
        if self._exchange is not None:
            self._exchange.judge(verdict, now)
            return
        self._state.now = now
        socket, session = self._socket, self.session
        before = socket.state
        request = socket.request
        if before is _REQUEST and request is not None:
            if request.is_upgrade:
                session.gate.judge_header(verdict, request)
            else:
                self._routes.judged(request, verdict, self._transport.answer)
        elif session.gate.holds:
            session.run.forget_permissions()
            session.gate.judge(verdict)
            self._state.deadlines.schedule(self)
            self._state.unflushed[self.number] = None
        self._changed(before)
        self._state.turns.enter(self._intake)

    def relay_finished(self, to: str, error: str | None) -> None:
        """Tell the client whether its message reached the other server."""
        self.session.relay_finished(to, error)

    def shut_down(self, grace: float) -> None:
        """Close because the server stops, once the input that was read is handled.

        Together they have ``grace`` seconds, or ``close_timeout`` if that is longer; the input has
        half of ``grace`` at most.
        """
        now = self._state.now
        until = now + max(grace, self._state.limits.close_timeout)
        self._finish(partial(self._shut_down, grace, until), now, grace / 2)

    def _shut_down(self, grace: float, until: float, now: float) -> None:
        if self._exchange is not None:
            self._exchange.shut_down(grace)
        elif self._socket.state in (_HANDSHAKE, _REQUEST):
            self._transport.refuse(STOPPING, min(grace, _PATIENCE))
        else:
            code = self.session.dialect.stop_code
            self._transport.close(code, "the server is stopping", until - now)

    @property
    def closed(self) -> Closed | None:
        """How the connection ended, once that is known."""
        return self._socket.closed

    @property
    def dropped(self) -> int:
        """Messages for this client that were dropped: it read too slowly, or was disconnected."""
        return self._socket.outbox.dropped

    # -- within -----------------------------------------------------------------------------

    def _requested(self) -> None:
        """Pass a request for an upgrade to the gate, or refuse it; anything else has its answer.

        It may also be a plain one whose answer must be found first.
        """
        if self._socket.state is _REQUEST:
            request = self._socket.request
            assert request is not None
            self.session.peer = request.peer
            if self._origin is not None or not self._state.admits or self._enter():
                if request.is_upgrade:
                    self.session.gate.requested(request)
                elif self._routes.is_exchange(request):
                    carrier = SocketCarrier(self._state, self.number, self._socket, self._changed)
                    throttle = self.session.throttle
                    exchange = self._exchange = Exchange(
                        self._state, self._delivery, self.number, request, carrier, throttle
                    )
                    self.session = exchange.session
                    exchange.begin()
                else:
                    self._routes.look_into(self.number, request, self._transport.answer)
        self._changed(_HANDSHAKE)

    def _enter(self) -> bool:
        """Count the connection for its address; refuse it if the address has too many."""
        self._origin = self._routes.admission.enter(self.session.peer)
        if self._origin is None:
            self._turn_away("address")
            return False
        throttle, state = self.session.throttle, self._state
        if throttle is not None:
            used = state.used_limiters.take(self._origin, state.now)
            throttle.limiter = used or throttle.limiter
        return True

    def _turn_away(self, reason: str) -> None:
        """Refuse the connection, because there are too many."""
        state, socket = self._state, self._socket
        state.tally.refused[reason] += 1
        was_admitted, self._is_admitted = self._is_admitted, False
        if self._routes.admission.turn_away(was_admitted=was_admitted):
            socket.respond(_TOO_MANY, state.now, _PATIENCE)
        else:
            socket.abort("too many connections", state.now)

    def _worked(self) -> None:
        """Note what handling input may have changed, besides the session."""
        throttle = self.session.throttle
        if throttle is not None and throttle.resume_at is not None:
            self._state.deadlines.schedule(self)
        if not self._intake.is_heard:
            self._state.unflushed[self.number] = None  # the driver may resume reading
        self._changed(_OPEN)

    def _finish(
        self, step: Callable[[float], None], now: float, patience: float = math.inf
    ) -> None:
        """Take a step that ends the connection, once the session has handled what was read."""
        self._intake.finish(step, now, patience)
        self._state.deadlines.schedule(self)

    def _ended(self, now: float) -> None:
        before = self._socket.state
        self._socket.receive_eof(now)
        self._changed(before)

    def _lost(self, now: float) -> None:
        state = self._state
        self._socket.connection_lost(now)
        closed = self._socket.closed
        self.session.leave(closed)
        if self._exchange is not None and closed is not None:
            self._exchange.lost(closed)
        # What is noted as soon as a call returns is noted before a signal handler comes in.
        if not self._is_gone:
            self._routes.admission.release(was_admitted=self._is_admitted)
            self._is_gone = True
        origin = self._origin
        if origin is not None:
            self._routes.admission.leave(origin)
            self._origin = None
            if self.session.throttle is not None:
                state.used_limiters.put(origin, self.session.throttle.limiter, now)
        self._forget(self)

    def _changed(self, before: State) -> None:
        """Leave if the connection has ended; schedule a new deadline; note output."""
        socket, state = self._socket, self._state
        if socket.closed is not None:
            self.session.leave(socket.closed)
            self._intake.resume()  # what blocked it is over: the peer's close frame may wait
        if socket.state is not before:
            state.deadlines.schedule(self)
        elif socket.state is _OPEN and not socket.outbox.pending_bytes:
            return  # the driver has nothing to do
        state.unflushed[self.number] = None


def _new_socket(state: ServerState, routes: Routes, peer: str) -> ServerWebSocket:
    return ServerWebSocket(
        limits=state.limits,
        path=routes.path,
        respond=routes.respond,
        peer=peer,
        now=state.now,
        is_secure=routes.is_secure,
        proxies=routes.admission if routes.admission.has_proxies else None,
        books=state.tally,
        compresses=state.config.compresses,
    )


_HANDSHAKE = State.HANDSHAKE
_REQUEST = State.REQUEST
_OPEN = State.OPEN
_REGISTERED = Phase.REGISTERED
_HEARD = (State.OPEN, State.CLOSING, State.HANDSHAKE)
_PATIENCE = 1.0  # seconds in which a client may read that the server does not take it
_TOO_MANY = HttpResponse.text(503, "too many connections")
