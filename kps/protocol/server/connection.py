"""A connection of the server: carries bytes between a driver and one session."""

from collections.abc import Callable

from kps.protocol.access.admission import host_of
from kps.protocol.server.delivery import Delivery
from kps.protocol.server.gate import STOPPING
from kps.protocol.server.session import ServerSession
from kps.protocol.server.state import ServerState
from kps.protocol.server.transport import WebSocketTransport
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.protocol.wire.server_handshake import ServerWebSocket
from kps.protocol.wire.websocket import Closed, Output, State


class WebSocketConnection:
    """Carries bytes between a driver and the session of one client.

    A driver calls ``receive_data``, ``receive_eof`` and ``connection_lost``. Then
    :meth:`Hub.take_unflushed` tells which connections have something to write. ``forget`` is
    called when the transport is gone.
    """

    __slots__ = ("__weakref__", "_forget", "_origin", "_socket", "_state", "_transport", "number",
                 "session")  # fmt: skip

    def __init__(
        self,
        state: ServerState,
        delivery: Delivery,
        number: int,
        peer: str,
        *,
        is_one_too_many: bool,
        respond: Callable[[HttpRequest], HttpResponse],
        forget: Callable[["WebSocketConnection"], None],
    ) -> None:
        config, now = state.config, state.now
        self.number = number
        """The number by which events and the hub's verbs name it."""
        self._state = state
        self._forget = forget
        self._origin: str | None = None  # the address for which it counts
        self._socket = ServerWebSocket(
            limits=state.limits,
            path=config.path,
            origins=config.origins,
            respond=respond,
            peer=peer,
            now=now,
            client_of=state.admission.client_of if config.proxies else None,
        )
        self._transport = WebSocketTransport(state, number, self._socket, self._changed)
        self.session = ServerSession(state, delivery, number, peer, self._transport)
        if is_one_too_many:
            self._socket.respond(_TOO_MANY, now)
        elif not config.proxies or not state.admission.is_proxy(host_of(peer)):
            self._enter()

    # -- called by a driver -----------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""
        state, socket = self._state, self._socket
        state.now = now
        state.stats.bytes_in += len(data)
        before = socket.state
        messages = socket.receive_data(data, now)
        if socket.state is State.REQUEST and before is State.HANDSHAKE:
            before = State.REQUEST
            self._requested()
            messages = socket.read(now)  # the request may be accepted, and have messages behind it
        self._receive(messages, len(data))
        self._changed(before)

    def receive_eof(self, now: float) -> None:
        """Note that the peer will send nothing more."""
        self._state.now = now
        before = self._socket.state
        self._socket.receive_eof(now)
        self._changed(before)

    def connection_lost(self, now: float) -> None:
        """Note that the transport is gone, and end the session. May be called twice."""
        state = self._state
        state.now = now
        self._socket.connection_lost(now)
        self.session.leave()
        if self._origin is not None:
            state.admission.leave(self._origin)
            self._origin = None
        self._forget(self)

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take bytes to write."""
        data = self._socket.data_to_send(limit)
        self._state.stats.bytes_out += len(data)
        return data

    @property
    def output(self) -> Output:
        """What to do with the transport once everything is written."""
        return self._socket.output

    @property
    def wants_pause(self) -> bool:
        """Whether the driver should pause reading."""
        session, socket = self.session, self._socket
        waits = session.gate.holds or (
            session.throttle is not None and session.throttle.resume_at is not None
        )
        return (waits and socket.state is State.OPEN) or socket.wants_pause

    def set_reading(self, is_reading: bool, now: float) -> None:
        """Note that the driver paused or resumed reading."""
        self._socket.set_reading(is_reading, now)
        self._state.deadlines.schedule(self)

    def next_deadline(self) -> float | None:
        due = self._socket.next_deadline()
        if self._socket.state is not State.OPEN:
            return due
        session = self.session
        for own in (
            session.gate.next_deadline(),
            session.throttle.resume_at if session.throttle is not None else None,
        ):
            if own is not None and (due is None or own < due):
                due = own
        return due

    def handle_timeout(self, now: float) -> None:
        self._state.now = now
        session, socket = self.session, self._socket
        before = socket.state
        if before is State.OPEN:
            session.gate.handle_timeout()  # which may close the connection
            if session.throttle is not None and session.throttle.handle_timeout(now):
                self._state.unflushed[self.number] = None  # the driver may resume reading
        socket.handle_timeout(now)
        self._changed(before)

    # -- called by the hub ------------------------------------------------------------------

    def decide(self, verdict: object, now: float) -> None:
        """Accept or refuse the client, as a hook decided."""
        self._state.now = now
        request = self._socket.request
        if self._socket.state is State.REQUEST and request is not None:
            self.session.gate.decide(verdict, request)
            self._receive(self._socket.read(now), 0)
            self._changed(State.REQUEST)

    def identify(self, verdict: object, now: float) -> None:
        """Take a hook's verdict on the client's token."""
        self._state.now = now
        socket, session = self._socket, self.session
        before = socket.state
        request = socket.request
        if before is State.REQUEST and request is not None:
            session.gate.judge_header(verdict, request)
            self._receive(socket.read(now), 0)
        elif session.gate.holds:
            received = session.received
            session.run.forget_permissions()
            session.gate.judge(verdict)
            self._slow_down(session.received - received, 0)
            self._state.deadlines.schedule(self)
            self._state.unflushed[self.number] = None
        self._changed(before)

    def relay_finished(self, to: str, error: str | None) -> None:
        """Tell the client whether its message reached the other server."""
        self.session.relay_finished(to, error)

    def shut_down(self, grace: float) -> None:
        """Close because the server stops."""
        if self._socket.state in (State.HANDSHAKE, State.REQUEST):
            self._transport.refuse(STOPPING)
        else:
            self._transport.close(1001, "the server is stopping", grace)

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
        """Pass a complete upgrade request to the gate, or refuse it."""
        request = self._socket.request
        assert request is not None
        self.session.peer = request.peer
        if self._origin is not None or self._state.stopping or self._enter():
            self.session.gate.requested(request)

    def _enter(self) -> bool:
        """Count the connection for its address; refuse it if the address has too many."""
        self._origin = self._state.admission.enter(self.session.peer)
        if self._origin is None:
            self._socket.respond(_TOO_MANY, self._state.now)
        return self._origin is not None

    def _receive(self, messages: list[bytes], size: int) -> None:
        """Let the session handle messages, and those that can be read behind them."""
        session, socket = self.session, self._socket
        received = session.received
        while messages:
            session.receive(messages)
            messages = socket.read(self._state.now) if socket.has_more else []
        if session.throttle is not None:
            self._slow_down(session.received - received, size)

    def _slow_down(self, messages: int, size: int) -> None:
        throttle, state = self.session.throttle, self._state
        if throttle is not None and throttle.spend(messages, size, state.now):
            state.deadlines.schedule(self)

    def _changed(self, before: State) -> None:
        """Leave if the connection has ended; schedule a new deadline; note output."""
        socket, state = self._socket, self._state
        if socket.closed is not None:
            self.session.leave()
        if socket.state is not before:
            state.deadlines.schedule(self)
        elif socket.state is State.OPEN and not socket.outbox.pending_bytes:
            return  # the driver has nothing to do
        state.unflushed[self.number] = None


_TOO_MANY = HttpResponse.text(503, "too many connections")
