"""One client as the server sees it, whatever carries its messages."""

from collections.abc import Sequence
from typing import Any

from kps.protocol.access.identity import Permissions
from kps.protocol.bus.acks import AckRequest
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.topics import Key, Stage
from kps.protocol.dialect import level1
from kps.protocol.dialect.codes import ID_TAKEN
from kps.protocol.dialect.envelope import (
    Fields,
    InvalidMessage,
    TooDeep,
    check,
    check_depth,
    is_deeper,
    load,
)
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.dialect.server import LEVEL_1, ServerLevel1
from kps.protocol.server.actions import ACTIONS, NO_ACTION, relay_failed
from kps.protocol.server.delivery import Delivery
from kps.protocol.server.encodings import FRAMES
from kps.protocol.server.gate import Gate, Phase
from kps.protocol.server.ports import Transport
from kps.protocol.server.run import Run
from kps.protocol.server.state import ServerState
from kps.protocol.server.throttle import throttle
from kps.protocol.wire.outbox import Entry, Kind

_REGISTERED = Phase.REGISTERED
_OVER = Phase.OVER


class ServerSession:
    """Takes the messages of one client, and gives it what is for it.

    The transport calls ``receive`` with messages, and ``leave`` when it is over.
    """

    __slots__ = (
        "_transport",
        "delivered",
        "delivery",
        "dialect",
        "encoding",
        "gate",
        "id",
        "is_deep",
        "number",
        "peer",
        "received",
        "run",
        "since",
        "state",
        "throttle",
        "topics",
    )

    def __init__(
        self, state: ServerState, delivery: Delivery, number: int, peer: str, transport: Transport
    ) -> None:
        self.number = number
        """What events and the hub's verbs call this session by."""
        self.id = ""
        """The registered id; empty before the first ping."""
        self.peer = peer
        """Address of the client; behind a known proxy, from the end of the request's head on."""
        self.dialect: ServerLevel1 = LEVEL_1
        """Settled by the first ping."""
        self.encoding = FRAMES[self.dialect]
        self.topics: dict[Key, Stage] = {}
        self.since = state.now
        """When it connected."""
        self.received = 0
        """Messages that came from it."""
        self.delivered = 0
        """Publications and direct messages for it."""
        self.is_deep = False
        """Whether what is handled now may be nested too deeply."""
        self.state = state
        self.delivery = delivery
        self.gate = Gate(state, transport, self)
        self.run = Run(self, delivery.publish, state.limits)
        self.throttle = throttle(state.limits, state.now)
        self._transport = transport

    @property
    def permissions(self) -> Permissions:
        """What the client may do."""
        return self.gate.known.permissions

    @property
    def owner_name(self) -> str:
        """The name of the identity that its id belongs to; empty if it has none."""
        return self.gate.known.name

    @property
    def host(self) -> str:
        """The host under which the client reached the server."""
        return self._transport.host

    # -- what comes from the client -----------------------------------------------------------

    def receive(self, messages: Sequence[bytes]) -> None:
        """Handle messages that came together, in their order."""
        gate, limits = self.gate, self.state.limits
        deep_from = 2 * limits.max_depth  # bytes; what has fewer is never too deep
        refuses = self.throttle is not None and self.throttle.refuses
        for message in messages:
            if gate.phase is _OVER:
                break  # an earlier one has ended it, for want of room too
            excess = self._charge(0, len(message)) if refuses else None
            try:
                loaded = load(message)
            except InvalidMessage as error:
                if refuses and excess is None:
                    excess = self._charge(1, 0)
                self._refuse_all(excess or error, ())
                continue
            if excess is not None:
                self._refuse_all(excess, loaded if type(loaded) is list else (loaded,))
                continue
            self.is_deep = len(message) > deep_from and is_deeper(loaded, limits.max_depth)
            if type(loaded) is dict:
                self._take(loaded)
            else:
                self._handle(loaded)
        self.run.finish()

    def handle_held(self, held: Sequence[Any]) -> None:
        """Handle messages that were held while a token was judged."""
        self.is_deep = True  # it may be
        for loaded in held:
            self._handle(loaded)
        self.run.finish()

    def _handle(self, loaded: Any) -> None:
        """Handle one message, or each of an array; or hold it."""
        if type(loaded) is not list or self.dialect.join is None or self.gate.holds:
            self._take(loaded)
        elif len(loaded) > self.state.limits.max_batch:
            throttle = self.throttle
            excess = self._charge(1, 0) if throttle is not None and throttle.refuses else None
            too_many = InvalidMessage("the array has too many messages", "limit_reached")
            self._refuse_all(excess or too_many, loaded)
        else:
            for message in loaded:
                self._take(message)

    def _take(self, message: Any) -> None:
        """Do what one message asks for, or refuse it; or hold it."""
        gate = self.gate
        if gate.phase is not _REGISTERED:
            if gate.holds:
                gate.hold(message)
                return
            if gate.is_over:
                return
        self.received += 1
        fields: Fields = {}
        try:
            if self.throttle is not None:
                fields = message if type(message) is dict else {}
                self.throttle.charge(self.dialect.count(fields), self.state.now)
            fields = check(message)
            if self.is_deep:
                self._check_depth(fields)
            action = ACTIONS.get(fields.get("action"), NO_ACTION)
            if action.unregistered is not None and not self.id:
                raise InvalidMessage(action.unregistered, "not_registered")
            if self.run.gathered is not None and not action.joins_run:
                self.run.finish()
                if gate.is_over:
                    return
            action.handle(self, fields)
        except InvalidMessage as error:
            self.refuse(error, fields)

    def _check_depth(self, fields: Fields) -> None:
        """Refuse payloads that are too deep; of a batch the others are kept."""
        deepest = self.state.limits.max_depth
        check_depth(fields.get("data"), deepest)
        batch = self.dialect.payloads_of(fields)
        if batch:
            kept = [payload for payload in batch if not is_deeper(payload, deepest)]
            fields["batch"] = kept
            for _ in range(len(batch) - len(kept)):
                self.refuse(TooDeep(), fields)

    def _charge(self, messages: int, size: int) -> InvalidMessage | None:
        """Count what came against the rates; return the refusal if it is too much."""
        assert self.throttle is not None
        try:
            self.throttle.check(messages, size, self.state.now)
        except InvalidMessage as excess:
            return excess
        return None

    def _refuse_all(self, error: InvalidMessage, requests: Sequence[Any]) -> None:
        """Refuse a frame as a whole, which counts as one message, with what could be read in it."""
        self.received += 1
        if len(requests) == 1:
            request = requests[0]
            self.refuse(error, request if type(request) is dict else {})
        else:
            self._answer(error, self.dialect.error_about_all(str(error), error.code, requests))

    # -- what goes to the client ----------------------------------------------------------------

    def speak(self, dialect: ServerLevel1) -> None:
        """Speak a dialect from now on."""
        self.dialect = dialect
        self.encoding = FRAMES[dialect]
        self._transport.speak(dialect)

    def reply(self, message: bytes) -> bool:
        """Answer what the client sent; tell whether there was room."""
        return self._transport.send(message, Kind.REPLY)

    def reply_all(self, entry: Entry) -> bool:
        """Answer the client with several frames, if there is room for all of them."""
        return self._transport.queue_whole(entry)

    def refuse(self, error: InvalidMessage, request: Fields) -> None:
        """Answer the client with an error. ``request`` is what is refused, if it is known."""
        self._answer(error, self.dialect.error(str(error), error.code, request))

    def _answer(self, error: InvalidMessage, message: bytes) -> None:
        self.run.finish()
        self.state.stats.refused += 1
        if self.gate.phase is _OVER:
            return
        throttle = self.throttle
        if throttle is not None and throttle.closes and error.code == "rate_limited":
            self._transport.fail(1008, str(error))
            return
        self.reply(message)

    def deliver(self, publication: Publication) -> bool:
        count = len(publication.payloads)
        self.delivered += count
        encoded = publication.encoded(self.encoding)
        transport = self._transport
        if type(encoded) is bytes:
            return transport.send(encoded, Kind.FORWARDED)
        assert type(encoded) is Entry
        if transport.queue_whole(encoded):
            return True
        if encoded.frames == 1 and encoded.size <= self.state.limits.queue_bytes:
            # The policy acts on the message as it is (spec, 12.4). To take it apart, for those of
            # its publications that may have room, would cost all others more than it is worth.
            return transport.queue(encoded)
        queued: list[bool] = []
        for entry in publication.encoded(self.encoding.singly):
            queued.append(transport.queue(entry))
            if self.gate.phase is _OVER:  # for want of room
                self.delivered -= count - len(queued)
                break
        publication.partial += sum(queued) - count * queued[-1]
        return queued[-1]

    def deliver_direct(self, publication: Publication) -> None:
        """Take a message to its id that wants an answer."""
        self.deliver(publication)

    def send_direct(self, sender: str, data: Any) -> None:
        """Take a direct message."""
        self._transport.send(level1.direct_delivery(sender, data), Kind.FORWARDED)
        self.delivered += 1

    def relay_finished(self, to: str, error: str | None) -> None:
        """Tell the client how its message to another server fared."""
        if self.gate.phase is _OVER:
            return
        if error is None:
            self.reply(level1.server_message_sent(to))
        else:
            self.refuse(relay_failed(error), {"action": "publish_to_server", "to": to})

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        if request.wants_updates and request.awaited:  # the last one comes with the end
            update = self.dialect.ack_update(request.owner_ack_id, request.untold())
            self._transport.send(update, Kind.FORWARDED)

    def ack_finished(self, request: AckRequest) -> None:
        self.reply(self.dialect.ack_response(request))

    # -- its life ---------------------------------------------------------------------------

    def replaced(self) -> None:
        """Close: another connection has taken its id."""
        self._transport.close(ID_TAKEN, "another connection took this id")

    def leave(self) -> None:
        """Take no more part in the bus. May be called twice."""
        if not self.gate.end():
            return
        state = self.state
        state.bus.remove(self)
        if self.id:
            client: object = state.clients.get(self.id)
            if client is self:
                del state.clients[self.id]
            state.acks.drop_owner(self)
            state.acks.drop_subscriber(self)

    def figures(self, now: float) -> dict[str, Any]:
        """What the server's figures tell of it."""
        transport = self._transport
        return {
            "id": self.id,
            "address": self.peer,
            "level": self.dialect.level,
            "age": round(now - self.since, 3),
            "topics": len(self.topics),
            "queue_messages": transport.queued_messages,
            "queue_bytes": transport.queued_bytes,
            "dropped": transport.dropped,
            "received": self.received,
            "delivered": self.delivered,
        }
