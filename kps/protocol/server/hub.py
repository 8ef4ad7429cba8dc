"""The server's core: all its connections, and the verbs of its driver and its program.

A driver calls a verb when something happens, with the time. Then it handles
:meth:`Hub.events`, writes to the connections of :meth:`Hub.take_unflushed`, and sets one timer
for :meth:`Hub.next_deadline`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, ParamSpec, Protocol, TypeVar

from kps.errors import ServerStopped
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.census import audience
from kps.protocol.bus.given import check_id, check_topic
from kps.protocol.bus.publication import Publication
from kps.protocol.calls import entry, patient, verb
from kps.protocol.dialect.envelope import check_finite, compose_payload, encode
from kps.protocol.dialect.requests import NO_DEMANDS, Ask, Demands
from kps.protocol.limits import check_seconds
from kps.protocol.server.clients import Clients, describe
from kps.protocol.server.config import HubConfig
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.delivery import Delivery, Direct
from kps.protocol.server.desk import QUESTIONS, Desk
from kps.protocol.server.events import ClientLeft, HubEvent, SessionFailed, StrangerLeft
from kps.protocol.server.figures import add_one
from kps.protocol.server.insight import Insight
from kps.protocol.server.local import LocalAck, LocalProgram
from kps.protocol.server.monitor import Monitor
from kps.protocol.server.recorder import Recorder
from kps.protocol.server.routes import OperatorRoutes, Routes
from kps.protocol.server.session import ServerSession
from kps.protocol.server.state import PARTS, Parts, ServerState
from kps.protocol.wire.http import LateResponder
from kps.protocol.wire.websocket import Closed, ClosedBy


class Connection(Protocol):
    """A connection as the hub sees it, whatever carries it. Its deadlines are the hub's.

    It makes a :class:`ServerSession` with its transport, lets the session receive messages once
    its gate has accepted the client, pauses while the gate holds messages, and calls ``leave`` of
    the session as soon as the connection is closed. When nothing is left of it, it calls
    :meth:`Hub.forget`.
    """

    @property
    def number(self) -> int:
        """What events and the hub's verbs call it by."""

    @property
    def session(self) -> ServerSession:
        """The session of its client."""

    @property
    def closed(self) -> Closed | None:
        """How the connection ended, once that is known."""

    @property
    def dropped(self) -> int:
        """Messages for this client that were dropped: it read too slowly, or was disconnected."""

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, or ``None``."""

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""

    def decide(self, verdict: object, now: float) -> None:
        """Accept or refuse the client, as a hook decided."""

    def judge(self, verdict: object, now: float) -> None:
        """Take a hook's verdict on what the client wants."""

    def relay_finished(self, to: str, error: str | None) -> None:
        """Tell the client whether its message reached the other server."""

    def shut_down(self, grace: float) -> None:
        """Close because the server stops."""


NewMonitor = Callable[
    [ServerState, Callable[[Publication], int], Callable[[], int]],
    Monitor,
]
"""Makes a monitor, as its class does."""
NewDesk = Callable[[ServerState, LocalProgram, Delivery, Insight], Desk]
"""Makes a desk, as its class does."""

C = TypeVar("C", bound=Connection)
P = ParamSpec("P")


class Hub:
    """The core of one server.

    ``new_id()`` returns an unused client id, for clients that name none. ``metrics`` answers a
    request for the figures, perhaps later. A test may give a bus of its own among the ``parts``.
    """

    def __init__(
        self,
        config: HubConfig,
        *,
        new_id: Callable[[], str],
        now: float,
        parts: Parts = PARTS,
        new_delivery: Callable[[ServerState, LocalProgram], Delivery] = Delivery,
        new_monitor: NewMonitor = Monitor,
        new_desk: NewDesk = Desk,
        metrics: LateResponder | None = None,
    ) -> None:
        self.config = config
        self.state = state = ServerState(config, new_id=new_id, now=now, parts=parts)
        self.calls = state.calls
        self.limits = config.limits
        self.local = LocalProgram(state)
        self.delivery = new_delivery(state, self.local)
        self.stats = state.stats
        self.clients = state.clients
        """Registered clients by id."""
        self.directory = Clients(state)
        """The same, for the program of the server."""
        self.addresses = state.addresses
        """The addresses, hosts and domains by which other servers may reach this one."""
        self.connections: dict[int, Connection] = {}
        """Every connection by its number, from the first byte on."""
        self._numbers = count(1)
        self.routes = Routes(state, metrics if config.shows_metrics else None)
        """What it answers to plain requests."""
        self._operator_routes = None if metrics is None else OperatorRoutes(state, metrics)
        self._recorder: Recorder | None = None
        if config.is_monitored:
            assert state.journal is not None
            new_monitor(state, self.delivery.publish, self.dropped)
            recorder = self._recorder = Recorder(state, lambda: not self.connections)
            insight = Insight(state, self.directory, recorder, state.journal)
            state.desk = new_desk(state, self.local, self.delivery, insight)

    # -- called by a driver -----------------------------------------------------------------

    def connect(self, peer: str, now: float, *, is_operator: bool = False) -> WebSocketConnection:
        """Begin a session for a new TCP connection from ``peer``.

        With ``is_operator`` it came to the port for operators.
        """
        routes = self.routes
        if is_operator:
            assert self._operator_routes is not None
            routes = self._operator_routes

        def make(number: int) -> WebSocketConnection:
            return WebSocketConnection(
                self.state,
                self.delivery,
                number,
                peer,
                routes=routes,
                forget=self.forget,
            )

        return self.adopt(make, now)

    @entry
    def adopt(self, make: Callable[[int], C], now: float) -> C:
        """Take in a connection of any kind, which ``make`` makes for its number."""
        state = self.state
        state.now = now
        state.tally.accepted += 1
        connection = make(next(self._numbers))
        self.connections[connection.number] = connection
        state.deadlines.schedule(connection)
        state.unflushed[connection.number] = None  # it may already have been refused
        if self._recorder is not None:
            self._recorder.wake()
        return connection

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, or ``None``. It is due at once while clients wait."""
        state = self.state
        return state.now if state.turns.are_due else state.deadlines.next_deadline()

    @entry
    def handle_timeout(self, now: float) -> None:
        """Do everything that is due, and go on with clients that wait for their turn."""
        state = self.state
        state.now = now
        try:
            state.deadlines.handle_timeout(now)
        except Exception as error:  # of one item, which has no deadline any more
            state.emit(SessionFailed("a deadline", error))
        try:
            state.turns.go_on()
        except Exception as error:  # of one connection, which is dropped
            state.emit(SessionFailed("a turn", error))

    def events(self) -> list[HubEvent]:
        """Return the events since the last call."""
        events, self.state.events = self.state.events, []
        return events

    def take_unflushed(self) -> list[int]:
        """Return the numbers of connections that have something to write or must be closed.

        This ends a turn: clients that have used up their share of it may go on.
        """
        self.state.turns.end()
        unflushed = list(self.state.unflushed)
        self.state.unflushed = {}  # not ``clear``: no signal handler comes in from here
        return unflushed

    def touch(self, number: int) -> None:
        """Add a connection to the next ``take_unflushed``, because its transport is ready now."""
        self.state.unflushed[number] = None

    @entry
    def decide(self, number: int, verdict: object, now: float) -> None:
        """Accept or refuse a client, in answer to ``UpgradeRequested``.

        ``verdict`` is what the hook returned: an ``HttpResponse``, an ``Identity``, or ``True``;
        anything else refuses. Without effect when the session is over.
        """
        connection = self.connections.get(number)
        if connection is not None:
            _isolated(connection, self.state, connection.decide, verdict, now)

    @entry
    def judge(self, number: int, verdict: object, now: float) -> None:
        """Take a hook's verdict on what a client wants. Without effect when its session is over.

        In answer to ``TokenPresented`` it is the ``Identity`` behind the token, or none; to
        ``ConnectRequested`` and ``SubscriptionRequested`` it is ``True``, or :class:`kps.Refused`.
        An ``HttpResponse`` means that the hook could not decide.
        """
        connection = self.connections.get(number)
        if connection is not None:
            _isolated(connection, self.state, connection.judge, verdict, now)

    @entry
    def relay_finished(self, number: int, to: str, error: str | None, now: float) -> None:
        """Tell a client whether its message reached the other server."""
        self.state.now = now
        connection = self.connections.get(number)
        if connection is not None:
            _isolated(connection, self.state, connection.relay_finished, to, error)

    @patient
    def shutdown(
        self,
        grace: float,
        now: float,
        numbers: Sequence[int] | None = None,
        *,
        for_good: bool = True,
    ) -> None:
        """Close every connection, or those of some numbers, behind their queued data (spec, 8.8).

        Nobody is admitted any more or, if not ``for_good``, while the server is ``suspended``.
        A connection that is not drained and closed within ``grace`` seconds, or
        ``close_timeout`` if that is longer, is dropped. Another call can only shorten this.
        """
        self.state.now = now
        if for_good:
            self.state.stopping = True
            # Without other nodes nobody can take over. What publishers wait for ends with their
            # connections, whichever of these is closed first, and not with failures of receivers.
            self.state.acks.tasks.is_stopping = not self.state.others
        else:
            self.state.suspended = True
        for number in list(self.connections) if numbers is None else numbers:
            connection = self.connections.get(number)
            if connection is not None:
                _isolated(connection, self.state, connection.shut_down, grace)

    def end(self, now: float) -> None:
        """End the ack requests of the server's own program, since no answer comes any more."""
        self.state.now = now
        for owner in self.state.acks.owners():
            if isinstance(owner, LocalAck):
                owner.end(ServerStopped("the server has stopped"))

    # -- called by the server's own program -------------------------------------------------

    def publish(self, topic: object, data: Any, now: float, headers: bytes = b"") -> int:
        """Publish; return how many subscribers had room for it.

        Raises :class:`kps.InvalidArgument` for an empty topic or a payload that is not JSON.
        """
        topic = check_topic(topic, self.limits)
        try:  # as ``compose_payload`` does, whose calls would cost too much
            payload = encode([[data]])[2:-2]
        except TypeError:
            payload = compose_payload(data)  # raises
        if payload.rpartition(b"null")[1]:
            check_finite(data)
        calls = self.calls
        if calls.is_under_way:
            calls.waiting.append(partial(self._publish, topic, payload, headers))
            bus = self.state.bus
            return len(audience(bus, topic)[0]) + len(bus.receivers(topic)[1])
        state = self.state
        state.now = now
        if topic not in state.bus and state.logs is None:
            state.stats.published += 1
            return 0
        calls.is_under_way = True
        try:
            return self._publish(topic, payload, headers)
        finally:
            try:
                if calls.waiting:
                    calls.end()
            finally:
                calls.is_under_way = False

    def publish_to_id(self, client_id: object, data: Any, now: float, headers: bytes = b"") -> bool:
        """Send a direct message; return ``False`` if nobody has that id."""
        payload = compose_payload(data)
        client_id = check_id(client_id, self.limits)
        if self.calls.is_under_way:
            self.calls.waiting.append(partial(self._send_direct, client_id, payload, headers))
            return client_id in self.clients or client_id == self.config.id
        self.state.now = now
        return self._send_direct(client_id, payload, headers)

    # Payloads of this program are kept and delivered as JSON, which it cannot change meanwhile.
    # Its own subscriptions get what a receiver on another machine would get.

    def _publish(self, topic: str, payload: bytes, headers: bytes) -> int:
        local = self.local
        state = self.state
        if (
            local.topics
            and not headers
            and state.logs is None
            and state.bus.count_for(local, topic)
        ):
            return local.take_own(topic, payload)
        publication = Publication(topic, self.config.id, payload)
        publication.headers = headers
        return self.delivery.publish(publication)

    @entry
    def _send_direct(self, client_id: str, payload: bytes, headers: bytes) -> bool:
        return self.delivery.send_direct(client_id, Direct(self.config.id, payload, headers))

    @verb
    def publish_with_ack(
        self,
        topic: object,
        data: Any,
        timeout: object,
        now: float,
        demands: Demands = NO_DEMANDS,
        headers: bytes = b"",
    ) -> AckHandle:
        """Publish, and gather the answers of the subscribers and groups; or ask the server.

        Raises the same as ``publish``, and :class:`kps.QueueFull` when a limit is reached; for a
        question :class:`kps.InvalidArgument` if it makes no sense, and :class:`kps.InvalidState`
        if the server answers none.
        """
        topic = check_topic(topic, self.limits)
        handle, ask = self._new_ack(topic, data, timeout, now)
        ask = ask._replace(demands=demands, headers=headers)
        if topic in QUESTIONS:
            self.local.ask_desk(handle, ask)
        else:
            self.delivery.ask_topic(handle, self.config.id, ask)
        return handle

    @verb
    def publish_to_id_with_ack(
        self, client_id: object, data: Any, timeout: object, now: float, headers: bytes = b""
    ) -> AckHandle:
        """Send a direct message, and wait for the answer."""
        client_id = check_id(client_id, self.limits)
        handle, ask = self._new_ack(client_id, data, timeout, now)
        self.delivery.ask_id(handle, self.config.id, ask._replace(headers=headers))
        return handle

    def _new_ack(self, target: str, data: Any, timeout: object, now: float) -> tuple[LocalAck, Ask]:
        self.state.now = now
        payload = compose_payload(data)
        seconds = check_seconds("timeout", timeout)
        handle = LocalAck(self.state)
        return handle, Ask(target, handle.id, payload, seconds, False)

    def ack_status(self, handle: AckHandle) -> dict[str, bool]:
        """Return the addressed client ids, and whether each outcome is known."""
        assert isinstance(handle, LocalAck)
        return handle.status()

    @verb
    def cancel_ack(self, handle: AckHandle) -> None:
        """Stop gathering answers."""
        assert isinstance(handle, LocalAck)
        handle.cancel()

    def count_subscribers(self, topic: object) -> tuple[int, int, int]:
        """Count the subscriptions to a topic: of this program, of clients, and together.

        Members of groups have one for each group. Raises :class:`kps.InvalidArgument`.
        """
        topic = check_topic(topic, self.limits)
        subscribers, members = audience(self.state.bus, topic)
        own, as_member = self.local.subscriptions.count(topic), members.count(self.local)
        clients = len(subscribers) - bool(own) + len(members) - as_member
        return own + as_member, clients, own + as_member + clients

    # -- figures ----------------------------------------------------------------------------

    def dropped(self) -> int:
        """Count the messages dropped so far, by full queues, mailboxes and ended connections."""
        connections = self.connections.values()
        of_clients = self.stats.dropped + sum(connection.dropped for connection in connections)
        return of_clients + self.local.subscriptions.dropped

    def forget(self, connection: Connection) -> None:
        """Remove a connection whose transport is gone."""
        state, session = self.state, connection.session
        if connection.number not in self.connections:
            return
        state.deadlines.cancel(connection)
        state.unflushed.pop(connection.number, None)
        dropped = connection.dropped
        del self.connections[connection.number]
        state.stats.dropped += dropped
        state.tally.received += session.received
        closed = connection.closed
        if closed is None:
            return
        if session.id or closed.code != 1006:  # else perhaps there was no WebSocket
            add_one(state.tally.closed, closed.code)
        if not session.id:
            state.emit(StrangerLeft(session.peer, closed))
            return
        if closed.by is ClosedBy.LOST and session.answers:  # a stream has no other end
            state.stats.lost += 1
        state.emit(ClientLeft(describe(session, state.now), closed, connection.dropped))


def _isolated(
    connection: Connection,
    state: ServerState,
    step: Callable[P, None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """Take a step of one connection. Its failure must not keep the others from theirs."""
    try:
        step(*args, **kwargs)
    except Exception as error:
        state.emit(SessionFailed(f"the connection of {connection.session.peer}", error))
