"""The server's side of one connection: what each action of a client does (spec, section 4)."""

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import TYPE_CHECKING, Any

from kps.errors import InvalidArgument
from kps.protocol import level1
from kps.protocol.acks import AckRequest, DuplicateAckId
from kps.protocol.bus import Publication
from kps.protocol.codes import ID_TAKEN
from kps.protocol.envelope import Fields, InvalidMessage, read, text
from kps.protocol.events import ClientRegistered, RelayRequested, UpgradeRequested
from kps.protocol.frames import text_frame
from kps.protocol.http import HttpResponse, ServerConnection
from kps.protocol.messages import AckResponse
from kps.protocol.outbox import Frames, Push
from kps.protocol.relay import RelayTarget
from kps.protocol.websocket import Closed, Output, State

if TYPE_CHECKING:
    from kps.protocol.hub import Hub


# Bytes of the deliveries that are passed on together: enough to make what is done once for
# all of them cheap, and far below what a queue holds.
_LONGEST_RUN = 64 * 1024


class ServerSession:
    """One client, from its TCP connection on.

    A driver calls ``receive_data``, ``receive_eof`` and ``connection_lost``; what this
    and other sessions then have to write is for :meth:`Hub.take_unflushed` to tell.
    """

    def __init__(self, hub: "Hub", peer: str, now: float) -> None:
        self.id = ""
        """The registered id; empty before the first ping."""
        self.peer = peer
        self.topics: set[str] = set()
        self._hub = hub
        self._left = False
        self._run: Publication | None = None
        self._connection = ServerConnection(
            limits=hub.limits,
            path=hub.config.path,
            origins=hub.config.origins,
            respond=hub.respond,
            peer=peer,
            now=now,
        )
        self._connection.interlude = self._finish_run

    # -- what a driver calls --------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""
        hub = self._hub
        hub.now = now
        connection = self._connection
        before = connection.state
        messages = connection.receive_data(data, now)
        if connection.state is State.REQUEST and before is State.HANDSHAKE:
            self._decide_upgrade()
        self._handle(messages)
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
        hub.forget(self)

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
        return self._connection.next_deadline()

    def handle_timeout(self, now: float) -> None:
        before = self._connection.state
        self._connection.handle_timeout(now)
        self._after(before)

    def decide(self, verdict: object, now: float) -> None:
        """Accept or refuse, by what a hook returned: an ``HttpResponse``, or yes or no."""
        if isinstance(verdict, HttpResponse):
            self.refuse(verdict, now)
        elif verdict:
            self.accept(now)
        else:
            self.refuse(HttpResponse.text(403, "forbidden"), now)

    def accept(self, now: float) -> None:
        """Let the client in, in answer to ``UpgradeRequested``."""
        self._hub.now = now
        before = self._connection.state
        self._handle(self._connection.accept(now))
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
        return self._connection.outbox.pending_bytes

    @property
    def dropped(self) -> int:
        """Messages for this client that slow reading or a lost connection cost."""
        return self._connection.outbox.dropped

    @property
    def closed(self) -> Closed | None:
        """How the connection ended, from the moment that it is known."""
        return self._connection.closed

    def deliver(self, publication: Publication) -> None:
        self._queue_all(publication.frame(), publication.frames)

    def deliver_direct(self, publication: Publication) -> None:
        self._queue(publication.frame())

    def send(self, message: bytes) -> None:
        """Queue one message."""
        self._queue(text_frame(message))

    def relay_finished(self, to: str, error: str | None) -> None:
        if self._left:
            return
        if error is None:
            self.send(level1.server_message_sent(to))
        else:
            self._refuse(f"failed to relay to server: {error}")

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        """On level 1 a publisher hears of all outcomes together."""

    def ack_finished(self, request: AckRequest) -> None:
        responses = {
            client_id: response.fields() for client_id, response in request.responses.items()
        }
        self.send(level1.ack_response(request.owner_ack_id, responses))

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
        if hub.stopping:
            self._connection.respond(_STOPPING, hub.now)
        elif hub.config.asks_upgrade:
            hub.emit(UpgradeRequested(self, request))
        else:
            self._handle(self._connection.accept(hub.now))

    def _after(self, before: State) -> None:
        """What follows any verb: leave if it is over, note new deadlines and output."""
        connection = self._connection
        if connection.closed is not None:
            self._leave()
        if connection.state is not before:
            self._hub.deadlines.schedule(self)
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

    def _queue(self, frame: bytes) -> None:
        pushed = self._connection.queue(frame, self._hub.now)
        if pushed is Push.OVERFLOW:
            self._after(State.OPEN)
        else:
            self._hub.touch(self)

    def _queue_all(self, joined: bytes, each: Callable[[], Iterable[bytes]]) -> None:
        """Queue several frames as one or, if there is no room for all, one by one."""
        if isinstance(joined, Frames) and self._connection.queue_all(joined):
            self._hub.touch(self)
        else:
            for frame in each():
                self._queue(frame)

    def _refuse(self, reason: str) -> None:
        self._finish_run()
        self._hub.stats.refused += 1
        self.send(level1.error(reason))

    def _handle(self, messages: Iterable[bytes]) -> None:
        for frame in messages:  # there are no more once it is closed, for want of room too
            try:
                fields = read(frame)
                action = text(fields, "action")
                handler = _HANDLERS.get(action)
                if not action:
                    raise InvalidMessage("missing or invalid action")
                if handler is None:
                    raise InvalidMessage(f"unknown action: {action}")
                if not self.id and action != "ping":
                    raise InvalidMessage(_UNREGISTERED.get(action, "client not registered"))
                if action != "publish":
                    self._finish_run()
                handler(self, fields)
            except InvalidMessage as error:
                self._refuse(str(error))
        self._finish_run()

    def _ping(self, fields: Fields) -> None:
        # Level 2 is negotiated here: a client that speaks it says so with "proto".
        hub = self._hub
        client_id = text(fields, "from") or hub.new_id()
        if client_id == hub.config.id:
            raise InvalidMessage("this id is the server's own")
        previous = self.id
        if client_id != previous:
            other = hub.clients.get(client_id)
            if other is not None:
                other._close(ID_TAKEN, "another connection took this id")
                if self._left:
                    return  # what its end brought this connection had no room
            if previous:
                del hub.clients[previous]
            self.id = client_id
            hub.clients[client_id] = self
            hub.stats.connections += not previous
            hub.emit(ClientRegistered(self, client_id, previous))
        self.send(level1.pong(client_id))

    def _subscribe(self, fields: Fields) -> None:
        topic = _required(fields, "topic", "missing or invalid topic")
        self._hub.bus.subscribe(self, topic)
        self.send(level1.subscribed(topic))

    def _unsubscribe(self, fields: Fields) -> None:
        topic = _required(fields, "topic", "missing or invalid topic")
        self._hub.bus.unsubscribe(self, topic)
        self.send(level1.unsubscribed(topic))

    def _publish(self, fields: Fields) -> None:
        topic = _required(fields, "topic", "missing or invalid topic")
        run = self._run
        if run is None or run.topic != topic or run.size > _LONGEST_RUN:
            self._finish_run()
            run = self._run = Publication(topic, self.id)
        run.add(fields.get("data"), is_wanted=topic in self._hub.bus)

    def _finish_run(self) -> None:
        """Deliver and confirm the publications that have been gathered.

        Publications on one topic that arrive together are passed on together: what costs
        something for each subscriber is then done once for all of them.
        """
        run, self._run = self._run, None
        if run is not None and run.payloads:
            self._hub.distribute(run)
            confirmation = text_frame(level1.published(run.topic))
            count = len(run.payloads)
            self._queue_all(Frames.of([confirmation] * count), lambda: repeat(confirmation, count))

    def _direct_message(self, fields: Fields) -> None:
        to = _required(fields, "to", "missing target ID")
        if not self._hub.send_direct(to, self.id, fields.get("data")):
            raise InvalidMessage(f"no client has the id {to}")

    def _publish_to_server(self, fields: Fields) -> None:
        to = _required(fields, "to", "missing target server address")
        try:
            target = RelayTarget.parse(to)
        except InvalidArgument as error:
            raise InvalidMessage(f"failed to relay to server: {error}") from None
        status = fields.get("status")
        secure = type(status) is dict and status.get("is_secure") is True
        self._hub.emit(RelayRequested(self, to, target, fields.get("data"), self.id, secure))

    def _server_to_server(self, fields: Fields) -> None:
        hub = self._hub
        to, proxied = text(fields, "to"), text(fields, "id")
        request = self._connection.request
        reached = request.header("host") if request is not None else ""
        by_this_name = to and not proxied and to == reached
        if not (to in hub.addresses or proxied in hub.addresses or by_this_name):
            raise InvalidMessage("the message is addressed to another server")
        payload, sender = fields.get("data"), self.id
        if type(payload) is dict and "data" in payload:
            origin = payload.get("from")
            sender = origin if type(origin) is str else sender
            payload = payload["data"]
        hub.receive_server_data(payload, sender)

    def _publish_with_ack(self, fields: Fields) -> None:
        topic = _required(fields, "topic", "missing or invalid topic")
        ack_id = _required(fields, "ack_id", "missing ack_id")
        timeout = _timeout(fields)
        try:
            self._hub.ask_topic(self, ack_id, topic, self.id, fields.get("data"), timeout)
        except DuplicateAckId:
            raise InvalidMessage("ack_id is in use") from None

    def _publish_to_id_with_ack(self, fields: Fields) -> None:
        to = _required(fields, "to", "missing target ID")
        ack_id = _required(fields, "ack_id", "missing ack_id")
        timeout = _timeout(fields)
        try:
            self._hub.ask_id(self, ack_id, to, self.id, fields.get("data"), timeout)
        except DuplicateAckId:
            raise InvalidMessage("ack_id is in use") from None

    def _ack(self, fields: Fields) -> None:
        outcome: Any = fields.get("data")
        ack_id = text(fields, "ack_id")
        if type(outcome) is not dict:
            if not ack_id:
                raise InvalidMessage("missing ack data")
            outcome = {}
        inner = outcome.get("ack_id")
        if not ack_id and type(inner) is str:
            ack_id = inner
        if not ack_id:
            raise InvalidMessage("missing ack_id")
        reason = outcome.get("error")
        if outcome.get("success") is True:
            error = None
        else:
            error = reason[: self._hub.limits.max_error] if type(reason) is str else ""
        self._hub.acks.answer(self, ack_id, error)

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

_UNREGISTERED = {"subscribe": "client not registered, send ping first"}


def _required(fields: Fields, name: str, refusal: str) -> str:
    value = text(fields, name)
    if not value:
        raise InvalidMessage(refusal)
    return value


def _timeout(fields: Fields) -> float | None:
    value = fields.get("timeout")
    if value is None:
        return None
    if type(value) not in (int, float) or not value > 0:
        raise InvalidMessage("timeout must be a number of seconds above 0")
    return float(value)
