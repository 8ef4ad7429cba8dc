"""The client: what it subscribes to and waits for, across any number of connections."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kps.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    KPSError,
    NotConnected,
    QueueFull,
    ServerError,
)
from kps.protocol import level1
from kps.protocol.backoff import Backoff
from kps.protocol.codes import ID_TAKEN
from kps.protocol.deadlines import Deadlines
from kps.protocol.envelope import Fields, InvalidMessage, read_any, text, unwrap
from kps.protocol.events import (
    AckChanged,
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
)
from kps.protocol.frames import Masker
from kps.protocol.limits import Limits, Overflow
from kps.protocol.messages import (
    AckHandle,
    Acknowledgement,
    AckResponse,
    Message,
    check_timeout,
    check_topic,
)
from kps.protocol.outbox import Droppable, Push
from kps.protocol.relay import DEFAULT_PATH
from kps.protocol.subscriptions import Mailbox, Subscriptions
from kps.protocol.websocket import ClientWebSocket, Closed, ClosedBy, Output, State

# How a confirmation begins, as every server of the family writes it.
_CONFIRMATION = b'{"action":"published",'

# How much longer than its publisher asked for a client waits for the server's last word
# on an ack request, which leaves the server when that time is over.
_ACK_GRACE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """What a client is told once, at its start."""

    id: str
    host: str
    """The ``Host`` of the request: ``host:port``."""
    target: str = DEFAULT_PATH
    """Path and query of the request."""
    headers: tuple[tuple[str, str], ...] = ()
    reconnect: Backoff | None = field(default_factory=Backoff)
    """``None``: the client ends with its first connection."""
    offline_messages: int = 0
    """Publications kept while there is no connection; 0 refuses them instead."""
    offline_bytes: int = 16 * 1024 * 1024
    reports_messages: bool = False
    """Whether every message of the server is emitted as ``MessageReceived``."""
    limits: Limits = field(default_factory=Limits)


class Barrier:
    """A point in what the client sends, and whether the server has got there."""

    __slots__ = ("error", "passed", "refusals")

    def __init__(self) -> None:
        self.passed = False
        self.refusals: list[str] = []
        """Errors that the server sent before it got there."""
        self.error: KPSError | None = None
        """Why it never will."""


class ClientSession:
    """One client. The driver opens a transport when it is told to, and gets a link for it.

    ``entropy(n)`` returns ``n`` unpredictable bytes, ``chance()`` a number in [0, 1).
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        entropy: Callable[[int], bytes],
        chance: Callable[[], float],
        now: float,
    ) -> None:
        self.config = config
        self.id = config.id
        """The id that the server knows; until then the one to be asked for."""
        self.subscriptions = Subscriptions(config.limits, self._answer)
        self.ended: Ended | None = None
        self._dropped = 0
        self._now = now
        self._masker = Masker(entropy)
        self._chance = chance
        self._deadlines = Deadlines()
        self._events: list[ClientEvent] = [ConnectNeeded()]
        self._link: ClientLink | None = None
        self._epoch = 0
        self._attempt = 0
        self._retry_at: float | None = None
        self._was_connected = False
        self._closing = False
        self._ack_count = 0
        self._acks: dict[str, _ClientAck] = {}
        self._unconfirmed: dict[str, int] = {}  # topic -> answers that are still to come
        self._barriers: deque[Barrier] = deque()
        self._offline: deque[Droppable] = deque()
        self._offline_size = 0

    # -- what a driver calls --------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the server knows this client now."""
        return self._link is not None and self._link.registered and not self._closing

    def connected(self, now: float) -> "ClientLink":
        """Take note that a transport is open, in answer to ``ConnectNeeded``."""
        self._now = now
        link = ClientLink(self, now)
        if self.ended is None and not self._closing:
            self._link = link
        else:
            link.abandon(now)
        self._deadlines.schedule(link)
        return link

    def connect_failed(self, reason: str, now: float) -> None:
        """Take note that no transport could be opened, in answer to ``ConnectNeeded``."""
        self._now = now
        self._attempt_failed(ConnectFailed(reason))

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, or ``None``."""
        due = self._deadlines.next_deadline()
        if self._retry_at is None or (due is not None and due < self._retry_at):
            return due
        return self._retry_at

    def handle_timeout(self, now: float) -> None:
        """Do everything that is due."""
        self._now = now
        self._deadlines.handle_timeout(now)
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._events.append(ConnectNeeded())

    def events(self) -> list[ClientEvent]:
        """Take what happened since the last call."""
        events, self._events = self._events, []
        return events

    # -- what the program calls, through the driver ---------------------------------------

    def subscribe(self, topic: str, now: float) -> Mailbox:
        """Subscribe; the server's word is ``SubscriptionConfirmed``.

        Without a connection the subscription is made when there is one.
        """
        self._now = now
        check_topic(topic)
        self._check_alive()
        if not self.subscriptions.count(topic) and self.ready:
            self._ask_about(topic, level1.subscribe(topic, self.id))
        return self.subscriptions.add(topic)

    def unsubscribe(self, mailbox: Mailbox, now: float) -> None:
        """End one subscription. May be called twice."""
        self._now = now
        topic = mailbox.topic
        if self.subscriptions.remove(mailbox) and self.ready:
            self._ask_about(topic, level1.unsubscribe(topic, self.id))

    def is_confirmed(self, topic: str) -> bool:
        """Whether the server has answered all that was asked about a topic."""
        return self.ready and topic not in self._unconfirmed

    def settle(self, message: Message, error: str | None, now: float) -> None:
        """Note that a subscription is done with a message, well or with an error."""
        self._now = now
        self.subscriptions.settle(message, error)

    def publish(self, topic: str, data: Any, now: float) -> None:
        """Publish.

        Raises ``InvalidArgument``, ``NotConnected`` (also ``ClientClosed``), ``QueueFull``.
        """
        self._now = now
        self._send_or_keep(level1.publish(check_topic(topic), self.id, data))

    def publish_to_id(self, client_id: str, data: Any, now: float) -> None:
        """Send a direct message. Raises as ``publish`` does."""
        self._now = now
        self._send_or_keep(level1.direct_message(_check_id(client_id), self.id, data))

    def publish_to_server(self, address: str, data: Any, secure: bool, now: float) -> None:
        """Have the server send a message to another one. Raises as ``publish`` does."""
        self._now = now
        message = level1.publish_to_server(_check_id(address), self.id, data, secure)
        self._send_or_keep(message)

    def publish_with_ack(self, topic: str, data: Any, timeout: float, now: float) -> AckHandle:
        """Publish, and gather the answers. Raises as ``publish`` does, and is never kept."""
        self._now = now
        handle = self._new_ack(timeout)
        self._ask(
            handle,
            level1.publish_with_ack(check_topic(topic), self.id, data, handle.id, timeout),
        )
        return handle

    def publish_to_id_with_ack(
        self, client_id: str, data: Any, timeout: float, now: float
    ) -> AckHandle:
        """Send a direct message, and wait for the answer. Raises as ``publish`` does."""
        self._now = now
        handle = self._new_ack(timeout)
        message = level1.publish_to_id_with_ack(
            _check_id(client_id), self.id, data, handle.id, timeout
        )
        self._ask(handle, message)
        return handle

    def ask_status(self, handle: AckHandle, now: float) -> bool:
        """Ask who has answered: ``AckStatusReceived``. ``False`` when the request has ended."""
        self._now = now
        if handle.finished or handle.id not in self._acks:
            return False
        self._send(level1.get_ack_status(handle.id, self.id))
        return True

    def cancel_ack(self, handle: AckHandle, now: float) -> None:
        """Stop gathering answers. May be called twice."""
        self._now = now
        if self._acks.get(handle.id) is handle:
            self._give_up_ack(handle)

    def send_to_server(self, to: str, proxied: str, origin: str, data: Any, now: float) -> None:
        """As a server, give another server a message. Raises as ``publish`` does."""
        self._now = now
        self._send_or_refuse(level1.server_to_server(to, proxied, origin, data))

    def barrier(self, now: float) -> Barrier:
        """Learn by ``BarrierPassed`` when the server has handled what was sent before.

        Raises ``NotConnected``.
        """
        self._now = now
        if not self.ready:
            self._refuse_without_connection()
        barrier = Barrier()
        self._barriers.append(barrier)
        self._send(level1.ping(self.id))
        return barrier

    def close(self, now: float) -> None:
        """Close for good, behind what is queued. What is pending ends at once."""
        self._now = now
        if self._closing or self.ended is not None:
            return
        self._closing = True
        self._retry_at = None
        self._end_pending(ClientClosed("the client was closed"))
        link = self._link
        if link is None:
            self._end(None)
        elif link.registered:
            link.close(now)
        else:
            link.abandon(now)

    @property
    def dropped(self) -> int:
        """Messages accepted from the program that were never written."""
        return self._dropped + (self._link.dropped if self._link is not None else 0)

    @property
    def backlog(self) -> int:
        """Bytes that wait to be written."""
        return self._link.pending_bytes if self._link is not None else self._offline_size

    # -- what links call ------------------------------------------------------------------

    def _received(self, link: "ClientLink", frames: Iterable[bytes]) -> None:
        reports = self.config.reports_messages
        for frame in frames:
            if not reports and frame.startswith(_CONFIRMATION):
                continue  # half of what a publisher receives, and nobody waits for it
            try:
                messages = read_any(frame)
            except InvalidMessage as error:
                self._events.append(ErrorReceived(f"unreadable message from the server: {error}"))
                continue
            for fields in messages:
                if link is not self._link or self.ended is not None:
                    return  # an earlier one has ended it
                if reports:
                    self._events.append(MessageReceived(fields))
                handler = _HANDLERS.get(text(fields, "action"))
                if handler is not None:  # what a later level brings is passed over
                    handler(self, fields, len(frame) // len(messages))

    def _open(self, link: "ClientLink") -> None:
        """The opening handshake is done: register."""
        link.queue(self._masker.text_frame(level1.ping(self.config.id)))

    def _link_ended(self, link: "ClientLink", closed: Closed) -> None:
        if link is not self._link:
            return
        self._link = None
        self._epoch += 1
        unsent = link.take_unsent()
        if not link.registered:
            if self._closing:
                self._end(None)
            else:
                self._attempt_failed(ConnectFailed(closed.reason, link.refused))
            return
        if self.config.offline_messages and not self._closing:
            unsent = self._keep(unsent)
        dropped = len(unsent) + link.dropped
        self._dropped += dropped
        lost = ConnectionLost(f"the connection ended: {closed.reason or closed.code}", closed.code)
        self._end_pending(lost)
        retries = not self._closing and self._retries(closed)
        retry_in = self._wait() if retries else None
        self._events.append(Disconnected(closed, retry_in, dropped))
        if self._closing:
            self._end(None)
        elif not retries:
            self._end(lost)

    def _link_gone(self, link: "ClientLink") -> None:
        self._deadlines.cancel(link)

    # -- connecting -----------------------------------------------------------------------

    def _retries(self, closed: Closed) -> bool:
        # Who was replaced under its id must not come back and replace the other in turn.
        return self.config.reconnect is not None and closed.code != ID_TAKEN

    def _wait(self) -> float:
        assert self.config.reconnect is not None
        delay = self.config.reconnect.delay(self._attempt, self._chance())
        self._attempt += 1
        self._retry_at = self._now + delay
        return delay

    def _attempt_failed(self, error: ConnectFailed) -> None:
        refused_for_good = (
            error.status is not None and 400 <= error.status < 500 and not self._was_connected
        )
        if self._closing or self.ended is not None:
            self._end(None)
        elif self.config.reconnect is None or refused_for_good:
            self._end(ConnectFailed(f"cannot connect to {self.config.host}: {error}", error.status))
        else:
            self._events.append(ConnectAttemptFailed(str(error), self._wait()))

    def _end_pending(self, error: KPSError) -> None:
        """Nobody waits in vain: requests end with the connection that they were made on."""
        for ack_id in list(self._acks):
            self._finish_ack(ack_id, error)
        while self._barriers:
            barrier = self._barriers.popleft()
            barrier.error = error
            self._events.append(BarrierPassed(barrier))
        self._unconfirmed.clear()

    def _end(self, error: KPSError | None) -> None:
        if self.ended is None:
            self.ended = Ended(error)
            self._end_pending(error or ClientClosed("the client was closed"))
            self._dropped += len(self._offline)
            self._offline.clear()
            self._offline_size = 0
            self._events.append(self.ended)

    def _check_alive(self) -> None:
        if self._closing or self.ended is not None:
            self._refuse_without_connection()

    def _refuse_without_connection(self) -> None:
        if self._closing or (self.ended is not None and self.ended.error is None):
            raise ClientClosed("the client was closed")
        if self.ended is not None:
            raise ClientClosed(f"the client has ended: {self.ended.error}")
        raise NotConnected("not connected to the server at the moment")

    # -- sending --------------------------------------------------------------------------

    def _send(self, message: bytes) -> None:
        """Send something of the protocol's own; without a connection it has no meaning."""
        if self._link is not None:
            self._link.queue(self._masker.text_frame(message))

    def _send_or_refuse(self, message: bytes, *, droppable: bool = True) -> None:
        """Send something of the program's, or raise."""
        if not self.ready:
            self._refuse_without_connection()
        assert self._link is not None
        frame = self._masker.text_frame(message)
        may_drop = droppable and self.config.limits.overflow is not Overflow.CLOSE
        if not may_drop and not self._link.has_room(len(frame)):
            raise QueueFull("the outgoing queue is full: the network is slower than the program")
        self._link.queue(Droppable(frame) if droppable else frame)

    def _send_or_keep(self, message: bytes) -> None:
        ended = self._closing or self.ended is not None
        if self.ready or ended or not self.config.offline_messages:
            self._send_or_refuse(message)
            return
        frame = Droppable(self._masker.text_frame(message))
        if self._keep([frame]):
            raise QueueFull("not connected, and the offline queue is full")

    def _keep(self, frames: list[Droppable]) -> list[Droppable]:
        """Keep publications for the next connection; return what is not kept."""
        refused: list[Droppable] = []
        for frame in frames:
            if (
                len(self._offline) < self.config.offline_messages
                and self._offline_size + len(frame) <= self.config.offline_bytes
            ):
                self._offline.append(frame)
                self._offline_size += len(frame)
            else:
                refused.append(frame)
        return refused

    def _ask_about(self, topic: str, message: bytes) -> None:
        self._unconfirmed[topic] = self._unconfirmed.get(topic, 0) + 1
        assert self._link is not None
        # As many as the program's own subscriptions, which bounds them.
        self._link.queue_anyway(self._masker.text_frame(message))

    def _new_ack(self, timeout: float) -> "_ClientAck":
        check_timeout(timeout)
        self._ack_count += 1
        ack_id = f"client_ack_{self.id}_{self._ack_count}"
        return _ClientAck(ack_id, self._now + timeout + _ACK_GRACE, self._give_up_ack)

    def _ask(self, handle: "_ClientAck", message: bytes) -> None:
        # It is neither dropped nor kept for another connection: who waits would not know.
        self._send_or_refuse(message, droppable=False)
        self._acks[handle.id] = handle
        self._deadlines.schedule(handle)

    def _give_up_ack(self, handle: AckHandle) -> None:
        self._finish_ack(handle.id)
        self._send(level1.cancel_ack(handle.id, self.id))

    def _finish_ack(self, ack_id: str, error: KPSError | None = None) -> None:
        handle = self._acks.pop(ack_id)
        handle.finished = True
        handle.error = error
        self._deadlines.cancel(handle)
        self._events.append(AckChanged(handle))

    def _answer(self, acknowledgement: Acknowledgement) -> None:
        if acknowledgement.epoch == self._epoch:
            self._send(level1.ack(acknowledgement.ack_id, self.id, acknowledgement.error))

    # -- receiving ------------------------------------------------------------------------

    def _pong(self, fields: Fields, size: int) -> None:
        link = self._link
        assert link is not None
        if link.registered:
            if self._barriers:
                barrier = self._barriers.popleft()
                barrier.passed = True
                self._events.append(BarrierPassed(barrier))
            return
        # Level 2 will be chosen here, when both have said that they speak it.
        link.registered = True
        self.id = text(fields, "id") or self.id
        self._events.append(Connected(self.id, self._was_connected))
        self._was_connected = True
        self._attempt = 0
        for topic in self.subscriptions.topics:
            self._ask_about(topic, level1.subscribe(topic, self.id))
        kept, self._offline = self._offline, deque()
        self._offline_size = 0
        for frame in kept:  # within the limits of the offline queue
            link.queue_anyway(frame)

    def _confirmed(self, fields: Fields, size: int) -> None:
        topic = text(fields, "topic")
        outstanding = self._unconfirmed.get(topic)
        if outstanding is None:
            return
        if outstanding > 1:
            self._unconfirmed[topic] = outstanding - 1
        else:
            del self._unconfirmed[topic]
            self._events.append(SubscriptionConfirmed(topic))

    def _published(self, fields: Fields, size: int) -> None:
        data, sender = unwrap(fields)
        self.subscriptions.deliver(text(fields, "topic"), data, sender, size, "", self._epoch)

    def _published_with_ack(self, fields: Fields, size: int) -> None:
        topic, ack_id = text(fields, "topic"), text(fields, "ack_id")
        data, sender = unwrap(fields)
        taken = self.subscriptions.deliver(topic, data, sender, size, ack_id, self._epoch)
        if not taken and topic.startswith(f"__direct_{self.id}"):
            taken = self.subscriptions.deliver_direct(data, sender, size, ack_id, self._epoch)
        if not taken and ack_id:
            self._send(level1.ack(ack_id, self.id, "no subscriber for topic"))

    def _direct_message(self, fields: Fields, size: int) -> None:
        sender = text(fields, "from")
        self.subscriptions.deliver_direct(fields.get("data"), sender, size, "", self._epoch)

    def _error(self, fields: Fields, size: int) -> None:
        reason = text(fields, "error")
        link = self._link
        assert link is not None
        if not link.registered:
            link.refuse(f"the server refused: {reason}", self._now)
            self._end(ServerError(f"the server refused this client: {reason}"))
            return
        if self._barriers:
            self._barriers[0].refusals.append(reason)
        self._events.append(ErrorReceived(reason))

    def _ack_response(self, fields: Fields, size: int) -> None:
        ack_id = text(fields, "ack_id")
        handle = self._acks.get(ack_id)
        if handle is None:
            return
        responses = fields.get("responses")
        if type(responses) is dict:
            for client_id, response in responses.items():
                if type(response) is dict:
                    handle.responses[client_id] = _read_response(client_id, response)
        self._finish_ack(ack_id)

    def _ack_status(self, fields: Fields, size: int) -> None:
        handle = self._acks.get(text(fields, "ack_id"))
        status = fields.get("status")
        if handle is not None:
            known = status if type(status) is dict else {}
            self._events.append(
                AckStatusReceived(handle, {name: value is True for name, value in known.items()})
            )


class ClientLink:
    """One connection of a client session: the bytes of one transport."""

    def __init__(self, session: ClientSession, now: float) -> None:
        config = session.config
        self.registered = False
        self._session = session
        self._greeted = False
        self._reported = False
        self._gone = False
        self._register_by: float | None = None
        self._connection = ClientWebSocket(
            host=config.host,
            target=config.target,
            headers=list(config.headers),
            limits=config.limits,
            now=now,
        )

    # -- what a driver calls --------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""
        self._session._now = now
        frames = self._connection.receive_data(data, now)
        if not self._greeted and self._connection.state is State.OPEN:
            self._greeted = True
            self._register_by = now + self._connection.limits.handshake_timeout
            self._session._open(self)
        self._session._received(self, frames)
        self._after()

    def receive_eof(self, now: float) -> None:
        """Note that the server will send nothing more."""
        self._session._now = now
        self._connection.receive_eof(now)
        self._after()

    def connection_lost(self, now: float) -> None:
        """Note that the transport is gone. May be called twice."""
        self._gone = True
        self.receive_eof(now)
        self._connection.connection_lost(now)
        self._session._link_gone(self)

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take bytes to write."""
        return self._connection.data_to_send(limit)

    @property
    def output(self) -> Output:
        """What to do with the transport once all is written."""
        return self._connection.output

    @property
    def wants_pause(self) -> bool:
        """Whether to stop reading for now."""
        return self._connection.wants_pause

    def next_deadline(self) -> float | None:
        due = self._connection.next_deadline()
        if due is None or self._register_by is None or self.registered:
            return due
        return min(due, self._register_by)

    def handle_timeout(self, now: float) -> None:
        self._session._now = now
        self._connection.handle_timeout(now)
        if not self.registered and self._register_by is not None and now >= self._register_by:
            self._connection.abort("the server did not answer the first ping", now)
        self._after()

    # -- what the session calls -----------------------------------------------------------

    @property
    def refused(self) -> int | None:
        return self._connection.refused

    @property
    def pending_bytes(self) -> int:
        return self._connection.outbox.pending_bytes

    def has_room(self, size: int) -> bool:
        outbox = self._connection.outbox
        return not len(outbox) or outbox.has_room(size)

    @property
    def dropped(self) -> int:
        return self._connection.outbox.dropped

    def queue(self, frame: bytes) -> None:
        if self._connection.queue(frame, self._session._now) is Push.OVERFLOW:
            self._after()

    def queue_anyway(self, frame: bytes) -> None:
        self._connection.queue_anyway(frame)

    def take_unsent(self) -> list[Droppable]:
        """Take the publications that the server will not get any more.

        After the program's own ``close`` they go out before it, while there is a transport.
        """
        closed = self._connection.closed
        dropped = self._gone or self.output is Output.ABORT
        if closed is None or (closed.by is ClosedBy.LOCAL and not dropped):
            return []
        return self._connection.outbox.take_droppable()

    def close(self, now: float) -> None:
        self._connection.close(1000, "", now)
        self._session._deadlines.schedule(self)

    def refuse(self, reason: str, now: float) -> None:
        self._connection.fail(1008, reason, now)

    def abandon(self, now: float) -> None:
        """Drop the connection: it is not wanted any more."""
        self._connection.abort("the client was closed", now)
        self._after()

    def _after(self) -> None:
        """Tell the session once that the connection has ended, and note new deadlines."""
        closed = self._connection.closed
        ended = closed is not None and self._connection.state is not State.CLOSING
        if ended and not self._reported:
            assert closed is not None
            self._reported = True
            self._session._link_ended(self, closed)
        self._session._deadlines.schedule(self)


class _ClientAck(AckHandle):
    """An ack request under way, with the time after which the client gives up on it."""

    __slots__ = ("_deadline", "_expire")

    def __init__(
        self, ack_id: str, deadline: float, expire: Callable[["_ClientAck"], None]
    ) -> None:
        super().__init__(ack_id)
        self._deadline = deadline
        self._expire = expire

    def next_deadline(self) -> float | None:
        return None if self.finished else self._deadline

    def handle_timeout(self, now: float) -> None:
        self._expire(self)


_HANDLERS: dict[str, Callable[[ClientSession, Fields, int], None]] = {
    "pong": ClientSession._pong,
    "subscribed": ClientSession._confirmed,
    "unsubscribed": ClientSession._confirmed,
    "publish": ClientSession._published,
    "publish_ack": ClientSession._published_with_ack,
    "direct_message": ClientSession._direct_message,
    "error": ClientSession._error,
    "ack_response": ClientSession._ack_response,
    "ack_status": ClientSession._ack_status,
}


def _check_id(client_id: str) -> str:
    if not isinstance(client_id, str) or not client_id:
        raise InvalidArgument("an id or address is a string that is not empty")
    return client_id


def _read_response(client_id: str, fields: Fields) -> AckResponse:
    reason, ack_id = fields.get("error"), fields.get("ack_id")
    return AckResponse(
        client_id,
        fields.get("success") is True,
        reason if type(reason) is str else None,
        ack_id if type(ack_id) is str else "",
    )
