"""The client: what it subscribes to and waits for, across any number of connections."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kps.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    KPSError,
    MessageTooLarge,
    NotConnected,
    QueueFull,
    ServerError,
)
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import (
    AckChanged,
    AckHandle,
    Acknowledgement,
    Message,
    check_timeout,
    check_topic,
)
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.client.batch import BatchFrame
from kps.protocol.client.config import ClientConfig, check_token
from kps.protocol.client.events import (
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
    SubscriptionRefused,
)
from kps.protocol.client.flow import Flow
from kps.protocol.client.link import ClientLink
from kps.protocol.client.pending import Barrier
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.codes import ID_TAKEN
from kps.protocol.dialect.envelope import (
    Fields,
    InvalidMessage,
    check,
    check_depth,
    compose,
    load,
    text,
    unwrap,
)
from kps.protocol.dialect.outcome import AckResponse, bad_result, timed_out
from kps.protocol.limits import Overflow
from kps.protocol.timers import Deadlines
from kps.protocol.wire.frames import LONGEST_HEADER, Masker
from kps.protocol.wire.outbox import Droppable
from kps.protocol.wire.websocket import Closed

# How a confirmation begins, as every server of the family writes it.
_CONFIRMATION = b'{"action":"published",'

# What a server answers to who may not connect, or not with that token (spec, 8.7).
_DENIED = (401, 403)

# Levels of what a server may send: those of a payload, and some around it. What is deeper
# would harm a program that sent it on (see the limit on depth).
_DEEPEST = 140

# How much longer than its publisher asked for a client waits for the server's last word
# on an ack request, which leaves the server when that time is over.
_ACK_GRACE = 1.0


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
        self._deadlines = Deadlines()
        self.on_resume: Callable[[], None] = _nothing
        """Called when reading, which was paused, may go on."""
        self.flow = Flow(self._deadlines, lambda: self._now, lambda: self.on_resume())
        self.subscriptions = Subscriptions(config.limits, self._answer, self.flow.crowded)
        self.ended: Ended | None = None
        self._dropped = 0
        self._now = now
        self._masker = Masker(entropy)
        self._chance = chance
        self._events: list[ClientEvent] = [ConnectNeeded()]
        self._link: ClientLink | None = None
        self._token = None if callable(config.token) else config.token
        self._epoch = 0
        self._attempt = 0
        self._retry_at: float | None = None
        self._was_connected = False
        self._closing = False
        self._ack_count = 0
        self._acks: dict[str, _ClientAck] = {}
        self._unconfirmed: dict[str, int] = {}  # topic -> answers that are still to come
        self._barriers: deque[Barrier] = deque()
        self._receipts: dict[str, Barrier] = {}
        self._receipt_count = 0
        self._offline: deque[Droppable] = deque()
        self._offline_size = 0

    # -- what a driver calls --------------------------------------------------------------

    @property
    def level(self) -> int:
        """The level of the protocol that is spoken with the server now."""
        return self._link.level if self._link is not None else 1

    @property
    def ready(self) -> bool:
        """Whether the server knows this client now."""
        return self._link is not None and self._link.registered and not self._closing

    def renew_token(self) -> None:
        """Have the program give the token of the next connection, if it gives one for each.

        To be called in answer to ``ConnectNeeded``, before a transport is opened; without the
        driver's lock, since it takes as long as the program does. Raises ``ConnectFailed``.
        """
        give = self.config.token
        if not callable(give):
            return
        try:
            token = give()
        except Exception as error:
            what = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise ConnectFailed(f"the function for the token failed: {what}") from error
        try:
            self._token = check_token(token)
        except InvalidArgument as error:
            raise ConnectFailed(f"the function for the token failed: {error}") from None

    def connected(self, now: float) -> "ClientLink":
        """Take note that a transport is open, in answer to ``ConnectNeeded``."""
        self._now = now
        link = ClientLink(self, self._masker, self._token, now)
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
        """Subscribe; the server's word is ``SubscriptionConfirmed`` or ``SubscriptionRefused``.

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

    def settle(self, message: Message, error: str | None, now: float, result: Any = None) -> None:
        """Note that a subscription is done with a message, well or with an error.

        ``result`` is what the publisher is to be told on level 2, or ``None``.
        """
        self._now = now
        self.subscriptions.settle(message, error, result)

    def publish(self, topic: str, data: Any, now: float) -> int:
        """Publish; return the bytes that wait to be written then.

        Raises ``InvalidArgument`` (also ``MessageTooLarge``), ``NotConnected`` (also
        ``ClientClosed``), ``QueueFull``.
        """
        self._now = now
        link = self._link
        if link is None or link.level == 1 or self._closing:
            self._send_or_keep(level1.publish(check_topic(topic), self.id, data))
            return self.backlog
        return link.publish(topic, compose(data))

    def publish_with_receipt(self, topic: str, data: Any, now: float) -> Barrier:
        """Publish, and learn by ``BarrierPassed`` how many subscribers it was passed on to.

        A server on level 1 does not tell how many. Raises as ``publish``, and is never kept.
        """
        self._now = now
        if self.level == 1:
            message = level1.publish(check_topic(topic), self.id, data)
            self._send_or_refuse(message, droppable=False)
            return self.barrier(now)
        self._receipt_count += 1
        receipt = str(self._receipt_count)
        self._send_or_refuse(
            level2.publish_with_receipt(check_topic(topic), data, receipt), droppable=False
        )
        barrier = self._receipts[receipt] = Barrier()
        return barrier

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
        check_topic(topic)
        if self.level == 1:
            message = level1.publish_with_ack(topic, self.id, data, handle.id, timeout)
        else:
            message = level2.publish_with_ack(topic, data, handle.id, timeout)
        self._ask(handle, message)
        return handle

    def publish_to_id_with_ack(
        self, client_id: str, data: Any, timeout: float, now: float
    ) -> AckHandle:
        """Send a direct message, and wait for the answer. Raises as ``publish`` does."""
        self._now = now
        handle = self._new_ack(timeout)
        _check_id(client_id)
        if self.level == 1:
            message = level1.publish_to_id_with_ack(client_id, self.id, data, handle.id, timeout)
        else:
            message = level2.publish_to_id_with_ack(client_id, data, handle.id, timeout)
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
            if not reports and frame.startswith(_CONFIRMATION) and link.level == 1:
                continue  # half of what a publisher receives, and nobody waits for it
            try:
                loaded = load(frame)
                if len(frame) > 2 * _DEEPEST:
                    check_depth(loaded, _DEEPEST)
            except InvalidMessage as error:
                self._unreadable(error)
                continue
            if type(loaded) is not list:
                loaded = [loaded]
            for message in loaded:
                if link is not self._link or self.ended is not None:
                    return  # an earlier one has ended it
                try:
                    fields = check(message)
                except InvalidMessage as error:
                    self._unreadable(error)
                    continue
                if reports:
                    self._events.append(MessageReceived(fields))
                handler = _HANDLERS[link.level].get(text(fields, "action"))
                if handler is not None:  # what a later level brings is passed over
                    handler(self, fields, len(frame) // len(loaded))

    def _unreadable(self, error: InvalidMessage) -> None:
        reason = f"unreadable message from the server: {error}"
        self._events.append(ErrorReceived(reason, error.code))

    def _open(self, link: "ClientLink") -> None:
        """The opening handshake is done: register."""
        ping = level1.ping if self.config.level == 1 else level2.ping
        link.send(ping(self.config.id))

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
        dropped = sum(frame.messages for frame in unsent) + link.dropped
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
        # What was still to go out behind the program's own close, and did not.
        self._dropped += sum(frame.messages for frame in link.take_unsent())

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

    def _is_refused_for_good(self, status: int | None) -> bool:
        if status in _DENIED:
            return not callable(self.config.token)  # else there will be another token
        # A proxy in front of a server that restarts may say anything for a while.
        return status is not None and 400 <= status < 500 and not self._was_connected

    def _attempt_failed(self, error: ConnectFailed) -> None:
        if self._closing or self.ended is not None:
            self._end(None)
        elif self.config.reconnect is None or self._is_refused_for_good(error.status):
            self._end(ConnectFailed(f"cannot connect to {self.config.host}: {error}", error.status))
        else:
            self._events.append(ConnectAttemptFailed(str(error), self._wait()))

    def _end_pending(self, error: KPSError) -> None:
        """Nobody waits in vain: requests end with the connection that they were made on."""
        for ack_id in list(self._acks):
            self._finish_ack(ack_id, error)
        barriers = [*self._barriers, *self._receipts.values()]
        self._barriers.clear()
        self._receipts.clear()
        for barrier in barriers:
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
            self._link.send(message)

    def _send_or_refuse(self, message: bytes, *, droppable: bool = True) -> None:
        """Send something of the program's, or raise."""
        if not self.ready:
            self._refuse_without_connection()
        link = self._link
        assert link is not None
        link.check_size(message)
        may_drop = droppable and self.config.limits.overflow is not Overflow.CLOSE
        if not may_drop and not link.has_room(len(message) + LONGEST_HEADER):
            raise QueueFull("the outgoing queue is full: the network is slower than the program")
        if droppable:
            link.send_droppable(message)
        else:
            link.send(message)

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
        for frame in self._singly(frames):
            if (
                len(self._offline) < self.config.offline_messages
                and self._offline_size + len(frame) <= self.config.offline_bytes
            ):
                self._offline.append(frame)
                self._offline_size += len(frame)
            else:
                refused.append(frame)
        return refused

    def _singly(self, frames: list[Droppable]) -> Iterator[Droppable]:
        """Take batches apart: the next connection may be on another level."""
        for frame in frames:
            if isinstance(frame, BatchFrame):
                for data in frame.batch.payloads():
                    message = level1.publish(frame.batch.topic, self.id, data)
                    yield Droppable(self._masker.text_frame(message))
            else:
                yield frame

    def _ask_about(self, topic: str, message: bytes) -> None:
        self._unconfirmed[topic] = self._unconfirmed.get(topic, 0) + 1
        assert self._link is not None
        # As many as the program's own subscriptions, which bounds them.
        self._link.send_anyway(message)

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
            self._send_ack(acknowledgement.ack_id, acknowledgement.error, acknowledgement.result)

    def _send_ack(self, ack_id: str, error: str | None, result: Any = None) -> None:
        if error is not None:
            error = error[: self.config.limits.max_error]
        link = self._link
        if link is None:
            return
        if link.level == 1:
            link.send(level1.ack(ack_id, self.id, error))
            return
        try:
            message = level2.ack(ack_id, error, result)
            link.check_size(message)
        except (InvalidArgument, MessageTooLarge) as reason:
            message = level2.ack(ack_id, bad_result(reason), None)
        link.send(message)

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
        link.registered = True
        if self.config.level > 1 and fields.get("proto") == level2.LEVEL:
            limits = fields.get("limits")
            limit = limits.get("max_message") if type(limits) is dict else None
            link.speak(level2.LEVEL, limit if type(limit) is int and limit > 0 else None)
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
        self._answered(text(fields, "topic"))

    def _answered(self, topic: str) -> bool:
        """Note an answer about a topic; tell whether it was the last one to come."""
        outstanding = self._unconfirmed.get(topic, 0)
        if outstanding > 1:
            self._unconfirmed[topic] = outstanding - 1
        elif outstanding:
            del self._unconfirmed[topic]
            self._events.append(SubscriptionConfirmed(topic))
        return outstanding == 1

    def _published2(self, fields: Fields, size: int) -> None:
        batch = fields.get("batch")
        payloads = batch if type(batch) is list else [fields.get("data")]
        if payloads:
            topic, sender = text(fields, "topic"), text(fields, "from")
            each = size // len(payloads)
            self.subscriptions.deliver_all(topic, payloads, sender, each)

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
            self._send_ack(ack_id, "no subscriber for topic")

    def _published_with_ack2(self, fields: Fields, size: int) -> None:
        topic, ack_id = text(fields, "topic"), text(fields, "ack_id")
        data, sender = fields.get("data"), text(fields, "from")
        subscriptions = self.subscriptions
        if topic:
            taken = subscriptions.deliver(topic, data, sender, size, ack_id, self._epoch)
        else:
            taken = subscriptions.deliver_direct(data, sender, size, ack_id, self._epoch)
        if not taken and ack_id:
            self._send_ack(ack_id, "no subscriber for topic")

    def _receipt(self, fields: Fields, size: int) -> None:
        barrier = self._receipts.pop(text(fields, "receipt"), None)
        if barrier is not None:
            delivered = fields.get("delivered")
            barrier.delivered = delivered if type(delivered) is int else None
            barrier.passed = True
            self._events.append(BarrierPassed(barrier))

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
        about = {name: text(fields, name) for name in ("code", "request", "topic", "to")}
        error = ServerError(reason, **about)
        if not self._refused(fields, error):
            self._events.append(ErrorReceived.of(error))

    def _refused(self, fields: Fields, error: ServerError) -> bool:
        """Tell who waits for the answer to what was refused, as far as the server names it.

        ``False`` if somebody else has to be told.
        """
        if error.request in ("subscribe", "unsubscribe"):
            return self._refused_topic(error)
        ack_id = text(fields, "ack_id")
        if ack_id in self._acks and error.request.endswith("_with_ack"):
            self._finish_ack(ack_id, error)
            return True
        if error.request == "ping" and self._barriers:
            barrier = self._barriers.popleft()
        elif text(fields, "receipt") in self._receipts:
            barrier = self._receipts.pop(text(fields, "receipt"))
        else:
            return False
        barrier.error = error
        self._events.append(BarrierPassed(barrier))
        return True

    def _refused_topic(self, error: ServerError) -> bool:
        # Of several questions about a topic the last one says whether it is wanted now.
        if not self._answered(error.topic) or error.request == "unsubscribe":
            return False
        mailboxes = self.subscriptions.refuse(error.topic, error)
        self._events.append(SubscriptionRefused(mailboxes))
        return bool(mailboxes) and all(mailbox.waiters for mailbox in mailboxes)

    def _ack_response(self, fields: Fields, size: int) -> None:
        handle = self._told(fields)
        if handle is not None:
            self._finish_ack(handle.id)

    def _ack_update(self, fields: Fields, size: int) -> None:
        handle = self._told(fields)
        if handle is not None:
            self._events.append(AckChanged(handle))

    def _told(self, fields: Fields) -> AckHandle | None:
        """Note the outcomes in a message about an ack request, if that is under way."""
        handle = self._acks.get(text(fields, "ack_id"))
        if handle is None:
            return None
        responses, missing = fields.get("responses"), fields.get("missing")
        if type(responses) is dict:
            for client_id, response in responses.items():
                if type(response) is dict:
                    handle.responses[client_id] = _read_response(client_id, response, handle.id)
        if type(missing) is list:
            for client_id in missing:
                if type(client_id) is str:
                    handle.responses[client_id] = timed_out(client_id, handle.id)
        return handle

    def _ack_status(self, fields: Fields, size: int) -> None:
        handle = self._acks.get(text(fields, "ack_id"))
        status = fields.get("status")
        if handle is not None:
            known = status if type(status) is dict else {}
            self._events.append(
                AckStatusReceived(handle, {name: value is True for name, value in known.items()})
            )


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


_Handlers = dict[str, Callable[[ClientSession, Fields, int], None]]

_LEVEL_1: _Handlers = {
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
_LEVEL_2: _Handlers = _LEVEL_1 | {
    "publish": ClientSession._published2,
    "published": ClientSession._receipt,
    "publish_ack": ClientSession._published_with_ack2,
    "ack_update": ClientSession._ack_update,
}
_HANDLERS = {1: _LEVEL_1, level2.LEVEL: _LEVEL_2}


def _check_id(client_id: str) -> str:
    if not isinstance(client_id, str) or not client_id:
        raise InvalidArgument("an id or address is a string that is not empty")
    return client_id


def _read_response(client_id: str, fields: Fields, request: str) -> AckResponse:
    reason, ack_id = fields.get("error"), fields.get("ack_id")
    return AckResponse(
        client_id,
        fields.get("success") is True,
        reason if type(reason) is str else None,
        ack_id if type(ack_id) is str else request,
        fields.get("result"),
    )


def _nothing() -> None:
    """What follows a pause for who looks at ``wants_pause`` anyway."""
