"""The server's state: all its sessions, the bus, the ack requests, its own program.

A driver calls the verbs as things happen, each with the time at which they happen, and
then does what it is told: handles :meth:`Hub.events`, writes what
:meth:`Hub.take_unflushed` names, and arms one timer for :meth:`Hub.next_deadline`.
"""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import orjson

from kps.errors import InvalidArgument
from kps.protocol.access.admission import Admission
from kps.protocol.access.identity import Identity
from kps.protocol.access.ids import IdOwners
from kps.protocol.bus.acks import AckBook, AckRequest
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import (
    AckChanged,
    AckHandle,
    Acknowledgement,
    Message,
    check_timeout,
    check_topic,
)
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.bus.topics import Bus, Subscriber
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.envelope import compose
from kps.protocol.dialect.outcome import AckResponse, bad_result, timed_out
from kps.protocol.server.config import HubConfig
from kps.protocol.server.events import ClientLeft, DirectMessageIgnored, HubEvent, StrangerLeft
from kps.protocol.server.figures import Stats
from kps.protocol.server.monitor import Monitor
from kps.protocol.server.session import ServerSession
from kps.protocol.timers import Deadlines
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.protocol.wire.websocket import ClosedBy


class Hub:
    """Everything that a server knows.

    ``new_id()`` returns a client id that is not in use, for clients that give none.
    """

    def __init__(self, config: HubConfig, *, new_id: Callable[[], str], now: float) -> None:
        self.config = config
        self.limits = config.limits
        self.bus = Bus()
        self.deadlines = Deadlines()
        self.acks = AckBook(self.deadlines, config.limits)
        self.admission = Admission(config.limits, config.proxies)
        self.anybody = Identity("", config.permissions)
        """Who has no identity."""
        self.owners = IdOwners(config.limits.max_ids, config.limits.max_all_ids)
        self.monitor = Monitor(self) if config.is_monitored else None
        self.local = LocalProgram(self)
        self.clients: dict[str, ServerSession] = {}
        """Registered sessions by id."""
        self.sessions: dict[int, ServerSession] = {}
        """Every session by its number, from the TCP connection on."""
        self._numbers = count(1)
        self.stats = Stats()
        self.now = now
        """The time of the latest verb."""
        self.stopping = False
        self.addresses: set[str] = set()
        """The addresses, hosts and domains under which other servers may reach this one."""
        self.new_id = new_id
        self._started = now
        self._events: list[HubEvent] = []
        self._unflushed: dict[int, None] = {}

    # -- what a driver calls --------------------------------------------------------------

    def connect(self, peer: str, now: float) -> ServerSession:
        """Begin a session for a new TCP connection from ``peer``."""
        self.now = now
        session = ServerSession(self, next(self._numbers), peer, now)
        self.sessions[session.number] = session
        self.deadlines.schedule(session)
        self.touch(session)  # it may have been turned away already
        return session

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, or ``None``."""
        return self.deadlines.next_deadline()

    def handle_timeout(self, now: float) -> None:
        """Do everything that is due."""
        self.now = now
        self.deadlines.handle_timeout(now)

    def events(self) -> list[HubEvent]:
        """Take what happened since the last call."""
        events, self._events = self._events, []
        return events

    def take_unflushed(self) -> list[int]:
        """Take the numbers of sessions that have something to write, or a transport to close."""
        unflushed = list(self._unflushed)
        self._unflushed.clear()
        return unflushed

    def shutdown(self, grace: float, now: float) -> None:
        """Close every connection with code 1001, behind what is queued for it.

        What is not written and closed within ``grace`` seconds, or ``close_timeout`` if that is
        longer, is dropped.
        """
        self.now = now
        self.stopping = True
        for session in list(self.sessions.values()):
            session.shut_down(grace)

    def decide(self, number: int, verdict: object, now: float) -> None:
        """Accept or refuse a client, in answer to ``UpgradeRequested``.

        By what a hook returned: an ``HttpResponse``, an ``Identity``, or yes or no. Without
        effect when the session is over.
        """
        self.now = now
        session = self.sessions.get(number)
        if session is not None:
            session.decide(verdict, now)

    def identify(self, number: int, verdict: object, now: float) -> None:
        """Take the ``Identity`` behind a token, or none, in answer to ``TokenPresented``.

        An ``HttpResponse`` means that it could not be found out. Without effect when the
        session is over.
        """
        self.now = now
        session = self.sessions.get(number)
        if session is not None:
            session.identify(verdict, now)

    def relay_finished(self, number: int, to: str, error: str | None, now: float) -> None:
        """Tell a client how its message to another server fared, in answer to a request."""
        self.now = now
        session = self.sessions.get(number)
        if session is not None:
            session.relay_finished(to, error)

    # -- what the server's own program calls ----------------------------------------------

    def publish(self, topic: str, data: Any, now: float) -> int:
        """Publish; return how many subscribers were addressed.

        Raises :class:`kps.InvalidArgument` for an empty topic or a payload that is not JSON.
        """
        self.now = now
        _check_payload(data)
        return self.distribute(Publication(check_topic(topic), self.config.id, data))

    def publish_to_id(self, client_id: str, data: Any, now: float) -> bool:
        """Send a direct message; ``False`` when nobody has that id."""
        self.now = now
        _check_payload(data)
        return self.send_direct(client_id, self.config.id, data)

    def publish_with_ack(self, topic: str, data: Any, timeout: float, now: float) -> AckHandle:
        """Publish, and gather the subscribers' answers.

        Raises as ``publish``, and :class:`kps.QueueFull` for want of room in the limits.
        """
        self.now = now
        _check_payload(data)
        check_timeout(timeout)
        handle = LocalAck(self)
        self.ask_topic(handle, handle.id, check_topic(topic), self.config.id, data, timeout)
        return handle

    def publish_to_id_with_ack(
        self, client_id: str, data: Any, timeout: float, now: float
    ) -> AckHandle:
        """Send a direct message, and wait for the answer."""
        self.now = now
        _check_payload(data)
        check_timeout(timeout)
        handle = LocalAck(self)
        self.ask_id(handle, handle.id, client_id, self.config.id, data, timeout)
        return handle

    def count_subscribers(self, topic: str) -> tuple[int, int, int]:
        """Subscriptions to a topic: of this program, of clients, and both together."""
        internal = self.local.subscriptions.count(topic)
        clients = len(self.bus.subscribers(topic)) - (topic in self.local.topics)
        return internal, clients, internal + clients

    def ack_status(self, handle: AckHandle) -> dict[str, bool]:
        """Who was addressed, and whether the outcome is known."""
        assert isinstance(handle, LocalAck)
        request = self.acks.find(handle, handle.id)
        return request.status() if request else handle.known_status()

    def cancel_ack(self, handle: AckHandle) -> None:
        """Stop gathering answers."""
        assert isinstance(handle, LocalAck)
        self.acks.cancel(handle, handle.id)
        handle.finished = True
        self.emit(AckChanged(handle))

    # -- what sessions call ---------------------------------------------------------------

    def emit(self, event: HubEvent) -> None:
        self._events.append(event)

    def touch(self, session: ServerSession) -> None:
        """Note that a session has something for the driver to do."""
        self._unflushed[session.number] = None

    def distribute(self, publication: Publication) -> int:
        """Deliver a publication; return how many subscribers had room for it."""
        delivered = self.bus.publish(publication)
        messages = len(publication.payloads)
        self.stats.published += messages
        self.stats.delivered += delivered * messages
        return delivered

    def send_direct(self, client_id: str, sender: str, data: Any) -> bool:
        """Deliver a direct message; ``False`` when nobody has that id."""
        if client_id == self.config.id:
            size = len(level1.direct_delivery(sender, data))
            if not self.local.subscriptions.deliver_direct(data, sender, size, "", 0):
                self.emit(DirectMessageIgnored(sender))
            return True
        session = self.clients.get(client_id)
        if session is None:
            return False
        session.send(level1.direct_delivery(sender, data))
        session.delivered += 1
        return True

    def ask_topic(
        self,
        owner: "ServerSession | LocalAck",
        owner_ack_id: str,
        topic: str,
        sender: str,
        data: Any,
        timeout: float | None,
        *,
        wants_updates: bool = False,
    ) -> None:
        """Publish with acks.

        Raises ``DuplicateAckId`` and ``QueueFull``, with nothing done.
        """
        subscribers = self.bus.subscribers(topic)
        request = self._open(owner, owner_ack_id, subscribers, timeout, wants_updates)
        publication = Publication(topic, sender, data, ack_id=request.id)
        self.stats.published += 1
        self.stats.delivered += self.bus.publish(publication)
        self.acks.close_if_complete(request)

    def ask_id(
        self,
        owner: "ServerSession | LocalAck",
        owner_ack_id: str,
        client_id: str,
        sender: str,
        data: Any,
        timeout: float | None,
        *,
        wants_updates: bool = False,
    ) -> None:
        """Send a direct message with ack. Raises as ``ask_topic``."""
        target = self.local if client_id == self.config.id else self.clients.get(client_id)
        targets = [target] if target is not None else []
        topic = f"__direct_{client_id}"
        request = self._open(owner, owner_ack_id, targets, timeout, wants_updates)
        if target is not None:
            number = request.id.rpartition("_")[2]
            target.deliver_direct(
                Publication(f"{topic}_{number}", sender, data, ack_id=request.id, is_direct=True)
            )
        self.acks.close_if_complete(request)

    def _open(
        self,
        owner: "ServerSession | LocalAck",
        owner_ack_id: str,
        subscribers: Iterable[Any],
        timeout: float | None,
        wants_updates: bool,
    ) -> AckRequest:
        seconds = self.limits.ack_timeout if timeout is None else timeout
        return self.acks.open(
            owner,
            owner_ack_id,
            subscribers,
            tells_timeouts=timeout is not None,
            wants_updates=wants_updates,
            deadline=self.now + min(seconds, self.limits.max_ack_timeout),
        )

    def receive_server_data(self, data: Any, sender: str) -> None:
        """Take a message from another server: for a topic of this one, and for its program."""
        if type(data) is dict and type(topic := data.get("topic")) is str and topic:
            self.distribute(Publication(topic, sender, data.get("data")))
        size = len(level1.direct_delivery(sender, data))
        self.local.subscriptions.deliver_server_data(data, sender, size)

    def forget(self, session: ServerSession) -> None:
        """The transport of a session is gone."""
        if self.sessions.pop(session.number, None) is None:
            return
        self.deadlines.cancel(session)
        self._unflushed.pop(session.number, None)
        self.stats.dropped += session.dropped
        closed = session.closed
        if closed is None:
            return
        if not session.id:
            self.emit(StrangerLeft(session.peer, closed))
            return
        if closed.by is ClosedBy.LOST:
            self.stats.lost += 1
        self.emit(ClientLeft(session.id, closed, session.dropped))

    def subscribe(self, subscriber: Subscriber, topic: str) -> None:
        """Add a subscriber to a topic."""
        self.bus.subscribe(subscriber, topic)
        if self.monitor is not None:
            self.monitor.watch(topic)

    def uptime(self) -> float:
        """Seconds since the start."""
        return round(self.now - self._started, 3)

    def dropped(self) -> int:
        """Messages that slow reading and lost connections cost so far."""
        return self.stats.dropped + sum(session.dropped for session in self.sessions.values())

    def respond(self, request: HttpRequest, now: float) -> HttpResponse:
        """Answer a plain HTTP request."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponse.text(404, "not found")
        path = request.path
        if page := self.config.pages.get(path):
            return page.unless_known(request)
        if path == "/healthz":
            health = {
                "status": "stopping" if self.stopping else "ok",
                "version": self.config.version,
                "uptime": round(now - self._started, 3),
                "clients": len(self.clients),
                "topics": len(self.bus),
            }
            return HttpResponse(200, orjson.dumps(health), "application/json")
        return HttpResponse.text(404, "not found")


class LocalProgram:
    """The server's own program as a subscriber among the others."""

    def __init__(self, hub: Hub) -> None:
        self.id = hub.config.id
        self.level = level2.LEVEL
        self.topics: set[str] = set()
        self.subscriptions = Subscriptions(hub.limits, self._answer)
        self._hub = hub

    def subscribe(self, topic: str) -> Mailbox:
        """Subscribe. Raises :class:`kps.InvalidArgument` for an empty topic."""
        self._hub.subscribe(self, check_topic(topic))
        return self.subscriptions.add(topic)

    def unsubscribe(self, mailbox: Mailbox) -> None:
        """End one subscription."""
        if self.subscriptions.remove(mailbox):
            self._hub.bus.unsubscribe(self, mailbox.topic)

    def settle(self, message: Message, error: str | None, now: float, result: Any = None) -> None:
        """Note that a subscription is done with a message."""
        self._hub.now = now
        self.subscriptions.settle(message, error, result)

    def deliver(self, publication: Publication) -> bool:
        payloads = publication.payloads
        size = len(publication.make(self.level)) // len(payloads)
        topic, sender = publication.topic, publication.sender
        if publication.ack_id:
            self.subscriptions.deliver(topic, payloads[0], sender, size, publication.ack_id, 0)
        else:
            self.subscriptions.deliver_all(topic, payloads, sender, size)
        return True

    def deliver_direct(self, publication: Publication) -> None:
        (data,) = publication.payloads
        size = len(publication.make(self.level))
        taken = self.subscriptions.deliver_direct(
            data, publication.sender, size, publication.ack_id, 0
        )
        if not taken:
            self._hub.acks.answer(self, publication.ack_id, "no subscriber for topic")

    def _answer(self, acknowledgement: Acknowledgement) -> None:
        try:
            _check_payload(acknowledgement.result)
        except InvalidArgument as error:
            acknowledgement.error, acknowledgement.result = bad_result(error), None
        self._hub.acks.answer(
            self, acknowledgement.ack_id, acknowledgement.error, acknowledgement.result
        )


class LocalAck(AckHandle):
    """An ack request of the server's own program."""

    __slots__ = ("_hub",)

    def __init__(self, hub: Hub) -> None:
        super().__init__("local")
        self._hub = hub

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        self.responses[response.client_id] = response
        self._hub.emit(AckChanged(self))

    def ack_finished(self, request: AckRequest) -> None:
        for client_id in request.missing():
            self.responses[client_id] = timed_out(client_id, request.id)
        self.finished = True
        self._hub.emit(AckChanged(self))


def _check_payload(data: Any) -> None:
    """Refuse a payload of the program that cannot be written into a delivery."""
    compose({"data": {"data": data}})
