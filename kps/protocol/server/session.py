"""The server's side of one connection: what each action of a client does (spec, section 4)."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kps.errors import InvalidArgument, QueueFull
from kps.protocol.access import rules
from kps.protocol.access.admission import host_of
from kps.protocol.access.identity import Identity
from kps.protocol.access.rate import limiter
from kps.protocol.bus.acks import AckRequest, DuplicateAckId
from kps.protocol.bus.publication import Publication
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.dialect.codes import EXPIRED, ID_TAKEN
from kps.protocol.dialect.envelope import (
    Fields,
    InvalidMessage,
    TooDeep,
    check,
    check_depth,
    is_deeper,
    load,
    text,
    write,
)
from kps.protocol.dialect.outcome import AckResponse, bad_result, timed_out
from kps.protocol.limits import RatePolicy
from kps.protocol.server.events import (
    ClientRegistered,
    RelayRequested,
    TokenPresented,
    UpgradeRequested,
)
from kps.protocol.wire.frames import text_frame
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.outbox import Frames, Push
from kps.protocol.wire.server_handshake import ServerConnection
from kps.protocol.wire.websocket import Closed, Output, State

if TYPE_CHECKING:
    from kps.protocol.server.hub import Hub


# Bytes of publications that are passed on together: enough to make what is done once for
# all of them cheap, and far below what a queue holds.
_LONGEST_RUN = 32 * 1024


class ServerSession:
    """One client, from its TCP connection on.

    A driver calls ``receive_data``, ``receive_eof`` and ``connection_lost``; what this
    and other sessions then have to write is for :meth:`Hub.take_unflushed` to tell.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_deep_from",
        "_ends_at",
        "_held",
        "_hub",
        "_is_deep",
        "_left",
        "_may_publish",
        "_origin",
        "_pings_at",
        "_rate",
        "_refuses_excess",
        "_register_by",
        "_resume_at",
        "_run",
        "delivered",
        "id",
        "identity",
        "level",
        "number",
        "peer",
        "received",
        "since",
        "topics",
    )

    def __init__(self, hub: "Hub", number: int, peer: str, now: float) -> None:
        self.number = number
        """What events and the hub's verbs call this session by."""
        self.id = ""
        """The registered id; empty before the first ping."""
        self.level = 1
        """Of the protocol; settled by the first ping."""
        self.identity: Identity | None = None
        """Who it is; ``None`` until that is settled, which may take its first ping."""
        self.peer = peer
        """Address of the client; behind a known proxy, from the end of the request's head on."""
        self.topics: set[str] = set()
        self.since = now
        """When it connected."""
        self.received = 0
        """Messages that came from it."""
        self.delivered = 0
        """Publications and direct messages for it."""
        self._hub = hub
        self._left = False
        self._run: Publication | None = None
        self._origin: str | None = None  # the address whose place it has taken
        self._held: list[Any] | None = None  # what waits until its token has been judged: the
        # ping with it, and whatever came behind that, as it was loaded
        self._register_by: float | None = None
        self._ends_at: float | None = None  # the time of its identity
        self._rate = limiter(hub.limits, now)
        self._resume_at: float | None = None  # when it may be read from again
        self._pings_at = 0.0  # until then
        self._may_publish = ""  # the topic for which that was found last
        self._refuses_excess = self._rate is not None and self._rate.policy is not RatePolicy.DELAY
        self._deep_from = 2 * hub.limits.max_depth  # bytes; what has fewer is never too deep
        self._is_deep = False  # whether what is read now may be too deep
        self._connection = ServerConnection(
            limits=hub.limits,
            path=hub.config.path,
            origins=hub.config.origins,
            respond=hub.respond,
            peer=peer,
            now=now,
            client_of=hub.admission.client_of if hub.config.proxies else None,
        )
        self._connection.interlude = self._finish_run
        if len(hub.sessions) >= hub.limits.max_connections:
            self._connection.respond(_TOO_MANY, now)
        elif not hub.config.proxies or not hub.admission.is_proxy(host_of(peer)):
            self._enter()

    # -- what a driver calls --------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""
        hub = self._hub
        hub.now = now
        hub.stats.bytes_in += len(data)
        connection = self._connection
        before = connection.state
        messages = connection.receive_data(data, now)
        if connection.state is State.REQUEST and before is State.HANDSHAKE:
            self._decide_upgrade()
            if connection.request is None:  # accepted, and what follows from that is done
                before = State.OPEN
        received = self.received
        self._handle(messages)
        if self._rate is not None:
            self._slow_down(self.received - received, len(data))
        self._after(before)

    def receive_eof(self, now: float) -> None:
        """Note that the peer will send nothing more."""
        self._hub.now = now
        before = self._connection.state
        self._connection.receive_eof(now)
        self._after(before)

    def connection_lost(self, now: float) -> None:
        """Note that the transport is gone. The session is over. May be called twice."""
        hub = self._hub
        hub.now = now
        self._connection.connection_lost(now)
        self._leave()
        if self._origin is not None:
            hub.admission.leave(self._origin)
            self._origin = None
        hub.forget(self)

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take bytes to write."""
        data = self._connection.data_to_send(limit)
        self._hub.stats.bytes_out += len(data)
        return data

    @property
    def output(self) -> Output:
        """What to do with the transport once all is written."""
        return self._connection.output

    @property
    def wants_pause(self) -> bool:
        """Whether to stop reading for now."""
        connection = self._connection
        waits = self._held is not None or self._resume_at is not None
        return (waits and connection.state is State.OPEN) or connection.wants_pause

    def next_deadline(self) -> float | None:
        connection = self._connection
        due = connection.next_deadline()
        if connection.state is not State.OPEN:
            return due
        if self._resume_at is not None:
            # Who is not read from cannot show that it lives, but writing to it shows that it has
            # gone; and it learns that the server lives.
            due = min(self._resume_at, self._pings_at)
        for own in (self._register_by, self._ends_at):
            if own is not None and (due is None or own < due):
                due = own
        return due

    def handle_timeout(self, now: float) -> None:
        connection = self._connection
        before = connection.state
        if before is not State.OPEN:
            connection.handle_timeout(now)
        elif self._register_by is not None and now >= self._register_by:
            connection.fail(1008, "there was no ping in time", now)
        elif self._ends_at is not None and now >= self._ends_at:
            connection.close(EXPIRED, "the time of the token is over", now)
        elif self._resume_at is None:
            connection.handle_timeout(now)
        elif now >= self._resume_at:
            self._resume_at = None
            connection.was_alive(now)
            self._hub.touch(self)
        elif now >= self._pings_at:
            self._pings_at = now + self._hub.limits.heartbeat_interval
            connection.ping(now)
        self._after(before)

    def decide(self, verdict: object, now: float) -> None:
        """Accept or refuse, in answer to ``UpgradeRequested``.

        By what a hook returned: an ``HttpResponse``, an ``Identity``, or yes or no.
        """
        request = self._connection.request
        if isinstance(verdict, HttpResponse):
            self.refuse(verdict, now)
        elif not verdict:
            self.refuse(HttpResponse.text(403, "forbidden"), now)
        elif isinstance(verdict, Identity):
            self._is(verdict, now)
            self.accept(now)
        elif self._hub.config.asks_token and request is not None and request.token:
            self._hub.emit(TokenPresented(self.number, request.token, self.peer))
        else:
            self.accept(now)

    def identify(self, verdict: object, now: float) -> None:
        """Take the ``Identity`` behind a token, or none, in answer to ``TokenPresented``.

        An ``HttpResponse`` means that it could not be found out.
        """
        self._hub.now = now
        if self._connection.state is State.REQUEST:
            is_settled = isinstance(verdict, (HttpResponse, Identity))
            self.decide(verdict if is_settled else _UNAUTHORIZED, now)
            return
        held, self._held = self._held, None
        if held is None or self._left:
            return
        before = self._connection.state
        received = self.received
        ping = held.pop(0)
        refusal = self._refusal_of(verdict)
        if isinstance(verdict, Identity) and not refusal:
            self._is(verdict, now)
            try:
                self._register(ping)
            except InvalidMessage as error:
                self._refuse(error, ping)
        elif isinstance(verdict, HttpResponse) and not self.id:
            self._connection.close(1011, refusal, now)  # and not for good
        else:
            self._turn_away(refusal, ping)
        self._is_deep = True  # it may be
        for loaded in held:
            self._take(loaded)
        self._finish_run()
        if self._rate is not None:
            self._slow_down(self.received - received, 0)
        self._after(before)
        self._hub.touch(self)

    def accept(self, now: float) -> None:
        """Let the client in, in answer to ``UpgradeRequested``."""
        hub = self._hub
        hub.now = now
        before = self._connection.state
        if before is State.REQUEST:
            if self.identity is None and not hub.config.asks_token:
                self.identity = hub.anybody
            self._register_by = now + hub.limits.register_timeout
        received = self.received
        self._handle(self._connection.accept(now))
        if self._rate is not None:
            self._slow_down(self.received - received, 0)
        self._after(before)

    def refuse(self, response: HttpResponse, now: float) -> None:
        """Turn the client away, in answer to ``UpgradeRequested``."""
        self._hub.now = now
        before = self._connection.state
        self._connection.respond(response, now)
        self._after(before)

    # -- what the hub and the bus call ----------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be written."""
        return self._connection.pending_bytes

    @property
    def queued_messages(self) -> int:
        """Messages that wait to be written."""
        return self._connection.pending_messages

    @property
    def dropped(self) -> int:
        """Messages for this client that slow reading or a lost connection cost."""
        return self._connection.outbox.dropped

    @property
    def closed(self) -> Closed | None:
        """How the connection ended, from the moment that it is known."""
        return self._connection.closed

    def deliver(self, publication: Publication) -> bool:
        self.delivered += len(publication.payloads)
        if publication.ack_id and self.level > 1:  # it joins what else waits
            return self.send(publication.message(self.level))
        frame = publication.frame(self.level)
        if self._queue_all(frame):
            return True
        if self.level > 1 and len(frame) <= self._hub.limits.queue_bytes:
            # The policy acts on the message as it is (spec, 12.4). To take it apart, for those of
            # its publications that may have room, would cost all others more than it is worth.
            return self._queue(frame)
        queued: list[bool] = []
        for frame in publication.frames(self.level):
            queued.append(self._queue(frame))
            if self._left:  # for want of room
                self.delivered -= len(publication.payloads) - len(queued)
                break
        # By the last one it will be counted as delivered to this subscriber, or not at all.
        self._hub.stats.delivered += sum(queued) - len(queued) * queued[-1]
        return queued[-1]

    def deliver_direct(self, publication: Publication) -> None:
        self.deliver(publication)

    def send(self, message: bytes) -> bool:
        """Queue a message that is not dropped; tell whether there was room."""
        return self._pushed(self._connection.send(message, self._hub.now))

    def relay_finished(self, to: str, error: str | None) -> None:
        if self._left:
            return
        if error is None:
            self.send(level1.server_message_sent(to))
        else:
            self._refuse(_relay_failed(error), {"action": "publish_to_server", "to": to})

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        if request.wants_updates and request.awaited:  # the last one comes with the end
            self.send(level2.ack_update(request.owner_ack_id, request.untold()))

    def ack_finished(self, request: AckRequest) -> None:
        missing = request.missing()
        if self.level == 1:
            responses = request.responses.copy()
            if request.tells_timeouts:
                responses.update({name: timed_out(name, request.id) for name in missing})
            by_client = {name: response.fields() for name, response in responses.items()}
            self.send(level1.ack_response(request.owner_ack_id, by_client))
        else:
            self.send(level2.ack_response(request.owner_ack_id, request.untold(), missing))

    def shut_down(self, grace: float) -> None:
        """Close because the server stops."""
        before = self._connection.state
        if before is State.HANDSHAKE or before is State.REQUEST:
            self._connection.respond(_STOPPING, self._hub.now)
        else:
            self._connection.close(1001, "the server is stopping", self._hub.now, grace)
        self._after(before)

    # -- within ---------------------------------------------------------------------------

    def _decide_upgrade(self) -> None:
        hub = self._hub
        request = self._connection.request
        assert request is not None
        self.peer = request.peer
        if hub.stopping:
            self._connection.respond(_STOPPING, hub.now)
        elif self._origin is None and not self._enter():
            return
        elif hub.config.asks_upgrade:
            hub.emit(UpgradeRequested(self.number, request))
        else:
            self.decide(True, hub.now)

    def _enter(self) -> bool:
        """Take one of the places of its address, or turn it away."""
        hub = self._hub
        self._origin = hub.admission.enter(self.peer)
        if self._origin is None:
            self._connection.respond(_TOO_MANY, hub.now)
        return self._origin is not None

    def _is(self, identity: Identity, now: float) -> None:
        self.identity = identity
        self._may_publish = ""
        self._ends_at = None if identity.lifetime is None else now + identity.lifetime
        self._hub.deadlines.schedule(self)

    def _refusal_of(self, verdict: object) -> str:
        """Why a token is of no use, or nothing."""
        if isinstance(verdict, HttpResponse):
            return "the token could not be judged"
        if not isinstance(verdict, Identity):
            return "the token is not valid"
        if self.id and self.identity is not None and verdict.name != self.identity.name:
            return "the token is that of another identity"
        return ""

    def _turn_away(self, reason: str, request: Fields) -> None:
        """Refuse a token: for good, unless the client is known already."""
        self._refuse(InvalidMessage(reason, "unauthorized"), request)
        if not self.id:
            self._close(1008, reason)

    def _slow_down(self, messages: int, size: int) -> None:
        """See to the limits on rates, where what has come counts as a whole."""
        assert self._rate is not None
        if self._rate.policy is RatePolicy.DELAY:
            now = self._hub.now
            wait = self._rate.spend(messages, size, now)
            if wait and self._resume_at is None:
                self._resume_at = now + wait
                self._pings_at = now + self._hub.limits.heartbeat_interval
                self._hub.deadlines.schedule(self)

    def _check_rate(self, messages: int = 0, size: int = 0) -> None:
        """See to the limits on rates, where what is too much is refused."""
        rate, now = self._rate, self._hub.now
        assert rate is not None
        if rate.take_messages(messages, now) and rate.take_bytes(size, now):
            return
        if rate.policy is RatePolicy.CLOSE:
            self._connection.fail(1008, _TOO_FAST, now)
            self._leave()
        raise InvalidMessage(_TOO_FAST, "rate_limited")

    def _is_in_time(self, message: Any) -> bool:
        """Refuse a message that comes too fast. Each payload of a batch counts."""
        request: Fields = message if type(message) is dict else {}
        batch = request.get("batch") if self.level > 1 else None
        try:
            self._check_rate(messages=max(1, len(batch)) if type(batch) is list else 1)
        except InvalidMessage as error:
            self._refuse(error, request)
            return False
        return True

    def _check_depth(self, fields: Fields) -> None:
        """Refuse payloads that are too deep; of a batch the others are kept."""
        deepest = self._hub.limits.max_depth
        check_depth(fields.get("data"), deepest)
        batch = fields.get("batch") if self.level > 1 else None
        if type(batch) is list:
            kept = [payload for payload in batch if not is_deeper(payload, deepest)]
            self._refuse(TooDeep(), fields, len(batch) - len(kept))
            fields["batch"] = kept

    def _after(self, before: State) -> None:
        """What follows any verb: leave if it is over, note new deadlines and output."""
        connection = self._connection
        if connection.closed is not None:
            self._leave()
        if connection.state is not before:
            self._hub.deadlines.schedule(self)
        elif connection.state is State.OPEN and not connection.pending_bytes:
            return  # nothing to do for the driver
        self._hub.touch(self)

    def _leave(self) -> None:
        """Take no more part in the bus."""
        if self._left:
            return
        self._left = True
        hub = self._hub
        hub.bus.remove(self)
        if self.id:
            if hub.clients.get(self.id) is self:
                del hub.clients[self.id]
            hub.acks.drop_owner(self)
            hub.acks.drop_subscriber(self)

    def _close(self, code: int, reason: str) -> None:
        before = self._connection.state
        self._connection.close(code, reason, self._hub.now)
        self._after(before)

    def _queue(self, frame: bytes) -> bool:
        return self._pushed(self._connection.queue(frame, self._hub.now))

    def _pushed(self, pushed: Push) -> bool:
        if pushed is Push.OVERFLOW:
            self._after(State.OPEN)
        else:
            self._hub.touch(self)
        return pushed is Push.QUEUED

    def _queue_all(self, joined: bytes) -> bool:
        """Queue several frames as one, if there is room for all of them."""
        is_queued = isinstance(joined, Frames) and self._connection.queue_all(joined)
        if is_queued:
            self._hub.touch(self)
        return is_queued

    def _refuse(self, error: InvalidMessage, request: Fields, times: int = 1) -> None:
        self._finish_run()
        self._hub.stats.refused += times
        if self.level == 1:
            message = level1.error(str(error))
        else:
            message = level2.error(str(error), error.code, request)
        for _ in range(times):
            if self._left:
                return
            self.send(message)

    def _handle(self, frames: Iterable[bytes]) -> None:
        gathered = 0
        deep_from = self._deep_from
        for frame in frames:  # there are no more once it is closed, for want of room too
            try:
                if self._refuses_excess:
                    self._check_rate(size=len(frame))
                loaded = load(frame)
            except InvalidMessage as error:
                self._refuse_unread(error)
                continue
            self._is_deep = len(frame) > deep_from and is_deeper(loaded, self._hub.limits.max_depth)
            if type(loaded) is dict and self._held is None:
                self._act(loaded)
            else:
                self._take(loaded)
            gathered += len(frame)
            if gathered > _LONGEST_RUN:
                self._finish_run()
                gathered = 0
        self._finish_run()

    def _take(self, loaded: Any) -> None:
        """Do what a message asks for or, on level 2, an array of them; or keep it for later."""
        if self._left:
            return
        if self._held is not None:
            self._held.append(loaded)
        elif type(loaded) is not list or self.level == 1:
            self._act(loaded)
        elif len(loaded) > self._hub.limits.max_batch:
            reason = "the array has too many messages"
            self._refuse_unread(InvalidMessage(reason, "limit_reached"))
        else:
            for item in loaded:
                if self._held is not None:
                    self._held.append(item)
                elif not self._left:
                    self._act(item)

    def _refuse_unread(self, error: InvalidMessage) -> None:
        """Refuse what counts as one message, whatever is in it."""
        self.received += 1
        is_counted = error.code == "rate_limited"
        if is_counted or not self._refuses_excess or self._is_in_time({}):
            self._refuse(error, {})

    def _act(self, message: Any) -> None:
        """Do what one message asks for, or refuse it."""
        self.received += 1
        if self._refuses_excess and not self._is_in_time(message):
            return
        fields: Fields = {}
        try:
            fields = check(message)
            if self._is_deep:
                self._check_depth(fields)
            action = text(fields, "action")
            handler = _HANDLERS.get(action)
            if not action:
                raise InvalidMessage("missing or invalid action")
            if handler is None:
                raise InvalidMessage(f"unknown action: {action}", "unknown_action")
            if not self.id and action != "ping":
                refusal = _UNREGISTERED.get(action, "client not registered")
                raise InvalidMessage(refusal, "not_registered")
            if action != "publish":
                self._finish_run()
                if self._left:
                    return
            handler(self, fields)
        except InvalidMessage as error:
            self._refuse(error, fields)

    def _ping(self, fields: Fields) -> None:
        if self._hub.config.asks_token:
            token = fields.get("token")
            if token is not None and type(token) is not str:
                raise InvalidMessage("field token must be a string")
            if token:
                self._held = [fields]
                self._hub.emit(TokenPresented(self.number, token, self.peer))
                return
            if self.identity is None:
                self._turn_away("a token is needed", fields)
                return
        self._register(fields)

    def _register(self, fields: Fields) -> None:
        hub = self._hub
        client_id = text(fields, "from") or hub.new_id()
        previous = self.id
        if client_id != previous:
            self._take_id(client_id)
            if self._left:
                return  # what the end of the former owner brought had no room
            if previous:
                del hub.clients[previous]
            else:
                self.level = min(_offered_level(fields), hub.config.level)
                self._connection.gathers = self.level > 1
                self._register_by = None
            self.id = client_id
            hub.clients[client_id] = self
            hub.stats.connections += not previous
            hub.emit(ClientRegistered(self.number, client_id, previous, self.peer))
        if self.level == 1:
            self.send(level1.pong(client_id))
        else:
            limits = hub.limits
            self.send(level2.pong(client_id, limits.max_message, limits.heartbeat_interval))

    def _take_id(self, client_id: str) -> None:
        """Make sure that an id may be used by this client, and by nobody else."""
        hub, identity = self._hub, self._identity
        if client_id == hub.config.id:
            raise InvalidMessage("this id is the server's own", "id_unavailable")
        rules.check_id(client_id, identity.permissions, hub.limits)
        other = hub.clients.get(client_id)
        is_taken = other is not None and other._identity.name != identity.name
        if is_taken or not hub.owners.may_use(client_id, identity.name):
            raise InvalidMessage("this id belongs to another client", "id_unavailable")
        hub.owners.take(client_id, identity.name)
        if other is not None:
            other._close(ID_TAKEN, "another connection took this id")

    @property
    def _identity(self) -> Identity:
        """Who it is, once that is settled, as it is before anything is done for it."""
        assert self.identity is not None
        return self.identity

    def _check_publish(self, topic: str) -> None:
        if topic != self._may_publish:
            rules.check_publish(topic, self._identity.permissions, self._hub.limits)
            self._may_publish = topic

    def _subscribe(self, fields: Fields) -> None:
        topic = _required(fields, "topic", "missing or invalid topic")
        hub = self._hub
        if topic not in self.topics:
            rules.check_subscribe(topic, self._identity.permissions, hub.limits)
            if len(self.topics) >= hub.limits.max_subscriptions:
                raise InvalidMessage("this client has too many subscriptions", "limit_reached")
            if len(hub.bus) >= hub.limits.max_topics and topic not in hub.bus:
                raise InvalidMessage("the server has too many topics", "limit_reached")
            hub.subscribe(self, topic)
        self.send(level1.subscribed(topic))

    def _unsubscribe(self, fields: Fields) -> None:
        topic = _required(fields, "topic", "missing or invalid topic")
        self._hub.bus.unsubscribe(self, topic)
        self.send(level1.unsubscribed(topic))

    def _publish(self, fields: Fields) -> None:
        topic = _required(fields, "topic", "missing or invalid topic")
        payloads = self._payloads(fields)
        self.received += (len(payloads) or 1) - 1
        receipt = fields.get("receipt") if self.level > 1 else None
        if receipt is not None:
            self._publish_with_receipt(topic, payloads, receipt)
            return
        run = self._run
        if run is None or run.topic != topic:
            self._finish_run()
            self._check_publish(topic)
            run = self._run = Publication(topic, self.id)
        run.payloads += payloads
        if self.level == 1 and topic in self.topics:
            self._finish_run()  # its own copies and their answers take turns (spec, 5.4)

    def _payloads(self, fields: Fields) -> list[Any]:
        batch = fields.get("batch") if self.level > 1 else None
        if batch is None:
            return [fields.get("data")]
        if type(batch) is not list:
            raise InvalidMessage("field batch must be an array")
        if len(batch) > self._hub.limits.max_batch:
            raise InvalidMessage("the batch has too many payloads", "limit_reached")
        return batch

    def _publish_with_receipt(self, topic: str, payloads: list[Any], receipt: Any) -> None:
        if type(receipt) is not str:
            raise InvalidMessage("field receipt must be a string")
        self._finish_run()
        self._check_publish(topic)
        delivered = self._pass_on(Publication(topic, self.id, *payloads))
        self.send(level2.published(topic, receipt, delivered))

    def _finish_run(self) -> None:
        """Deliver and, on level 1, confirm the publications that have been gathered.

        Publications on one topic that arrive together are passed on together: what costs
        something for each subscriber is then done once for all of them.
        """
        run, self._run = self._run, None
        if run is not None:
            self._pass_on(run)

    def _pass_on(self, run: Publication) -> int:
        """Deliver publications; return how many subscribers had room for the last one."""
        if not run.payloads:
            return 0
        delivered = self._hub.distribute(run)
        if self.level == 1:
            confirmation = text_frame(level1.published(run.topic))
            confirmations = [confirmation] * len(run.payloads)
            if not self._queue_all(Frames.of(confirmations)):
                for frame in confirmations:
                    self._queue(frame)
        return delivered

    def _direct_message(self, fields: Fields) -> None:
        to = _required(fields, "to", "missing target ID")
        rules.check_direct(to, self._identity.permissions)
        if not self._hub.send_direct(to, self.id, fields.get("data")):
            raise InvalidMessage(f"no client has the id {to}", "no_such_client")

    def _publish_to_server(self, fields: Fields) -> None:
        to = _required(fields, "to", "missing target server address")
        try:
            target = RelayTarget.parse(to)
        except InvalidArgument as error:
            raise _relay_failed(error) from None
        rules.check_relay(target.address, self._identity.permissions)
        status = fields.get("status")
        secure = type(status) is dict and status.get("is_secure") is True
        self._hub.emit(RelayRequested(self.number, to, target, fields.get("data"), self.id, secure))

    def _server_to_server(self, fields: Fields) -> None:
        hub = self._hub
        rules.check_peer(self._identity.permissions)
        to, proxied = text(fields, "to"), text(fields, "id")
        by_this_name = to and not proxied and to == self._connection.host
        if not (to in hub.addresses or proxied in hub.addresses or by_this_name):
            raise InvalidMessage("the message is addressed to another server", "wrong_server")
        payload, sender = fields.get("data"), self.id
        if type(payload) is dict and "data" in payload:
            origin = payload.get("from")
            if type(origin) is str and rules.is_foreign(origin):  # not that of a client of ours
                sender = origin
            payload = payload["data"]
        if type(payload) is dict and type(topic := payload.get("topic")) is str and topic:
            self._check_publish(topic)
        hub.receive_server_data(payload, sender)

    def _publish_with_ack(self, fields: Fields) -> None:
        topic = _required(fields, "topic", "missing or invalid topic")
        ack_id = _required(fields, "ack_id", "missing ack_id")
        self._check_publish(topic)
        self._ask(self._hub.ask_topic, ack_id, topic, fields)

    def _publish_to_id_with_ack(self, fields: Fields) -> None:
        to = _required(fields, "to", "missing target ID")
        ack_id = _required(fields, "ack_id", "missing ack_id")
        rules.check_direct(to, self._identity.permissions)
        self._ask(self._hub.ask_id, ack_id, to, fields)

    def _ask(self, ask: Callable[..., None], ack_id: str, target: str, fields: Fields) -> None:
        rules.check_length(ack_id, "ack_id", self._hub.limits.max_ack_id)
        timeout = _timeout(fields)
        wants_updates = self.level > 1 and fields.get("updates") is True
        data = fields.get("data")
        try:
            ask(self, ack_id, target, self.id, data, timeout, wants_updates=wants_updates)
        except DuplicateAckId:
            raise InvalidMessage("ack_id is in use", "ack_id_in_use") from None
        except QueueFull as error:
            raise InvalidMessage(str(error), "limit_reached") from None

    def _ack(self, fields: Fields) -> None:
        ack_id, outcome = _outcome(fields) if self.level == 1 else _outcome2(fields)
        reason = outcome.get("error")
        error: str | None = reason[: self._hub.limits.max_error] if type(reason) is str else ""
        result, size = None, 0
        if outcome.get("success") is True:
            error = None
            if self.level > 1 and (result := outcome.get("result")) is not None:
                try:
                    if self._is_deep:
                        check_depth(result, self._hub.limits.max_depth)
                    size = len(write({"responses": {"id": {"result": result}}}))
                except TooDeep:
                    error, result = bad_result("it is nested too deeply"), None
        self._hub.acks.answer(self, ack_id, error, result, size)

    def _get_ack_status(self, fields: Fields) -> None:
        ack_id = _required(fields, "ack_id", "missing ack_id")
        request = self._hub.acks.find(self, ack_id)
        self.send(level1.ack_status(ack_id, request.status() if request else {}))

    def _cancel_ack(self, fields: Fields) -> None:
        ack_id = _required(fields, "ack_id", "missing ack_id")
        self._hub.acks.cancel(self, ack_id)
        self.send(level1.ack_cancelled(ack_id))


_HANDLERS: dict[str, Callable[[ServerSession, Fields], None]] = {
    "ping": ServerSession._ping,
    "subscribe": ServerSession._subscribe,
    "unsubscribe": ServerSession._unsubscribe,
    "publish": ServerSession._publish,
    "direct_message": ServerSession._direct_message,
    "publish_to_server": ServerSession._publish_to_server,
    "server-to-server": ServerSession._server_to_server,
    "publish_with_ack": ServerSession._publish_with_ack,
    "publish_to_id_with_ack": ServerSession._publish_to_id_with_ack,
    "ack": ServerSession._ack,
    "get_ack_status": ServerSession._get_ack_status,
    "cancel_ack": ServerSession._cancel_ack,
}

_STOPPING = HttpResponse.text(503, "the server is stopping")
_TOO_MANY = HttpResponse.text(503, "too many connections")
_UNAUTHORIZED = HttpResponse(
    401, b"the token is not valid\n", headers=(("www-authenticate", "Bearer"),)
)
_TOO_FAST = "too many messages in too short a time"

_UNREGISTERED = {"subscribe": "client not registered, send ping first"}


def _required(fields: Fields, name: str, refusal: str) -> str:
    value = text(fields, name)
    if not value:
        raise InvalidMessage(refusal, "bad_request")
    return value


def _timeout(fields: Fields) -> float | None:
    value = fields.get("timeout")
    if value is None:
        return None
    if type(value) not in (int, float) or not value > 0:
        raise InvalidMessage("timeout must be a number of seconds above 0", "bad_request")
    return float(value)


def _offered_level(fields: Fields) -> int:
    """The level that a client's first ping asks for."""
    offered = fields.get("proto")
    return min(offered, level2.LEVEL) if type(offered) is int and offered > 1 else 1


def _relay_failed(reason: object) -> InvalidMessage:
    return InvalidMessage(f"failed to relay to server: {reason}", "relay_failed")


def _outcome(fields: Fields) -> tuple[str, Fields]:
    """The id and the outcome in an ``ack`` of level 1."""
    outcome: Any = fields.get("data")
    ack_id = text(fields, "ack_id")
    if type(outcome) is not dict:
        if not ack_id:
            raise InvalidMessage("missing ack data", "bad_request")
        outcome = {}
    inner = outcome.get("ack_id")
    if not ack_id and type(inner) is str:
        ack_id = inner
    if not ack_id:
        raise InvalidMessage("missing ack_id", "bad_request")
    return ack_id, outcome


def _outcome2(fields: Fields) -> tuple[str, Fields]:
    """The id and the outcome in an ``ack`` of level 2: its own fields."""
    return _required(fields, "ack_id", "missing ack_id"), fields
