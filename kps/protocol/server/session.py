"""The session of one client, independent of its transport."""

from collections.abc import Callable, Sequence
from typing import Any

from kps.protocol.access.admission import origin_of
from kps.protocol.access.identity import Permissions
from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.slices import AT_ONCE
from kps.protocol.bus.subscriber import REPLACED, UNSUBSCRIBED, Stage
from kps.protocol.dialect import level1
from kps.protocol.dialect.codes import ID_TAKEN, RATE_LIMITED
from kps.protocol.dialect.envelope import (
    Fields,
    InvalidMessage,
    TooDeep,
    check,
    is_deeper,
)
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.dialect.server import LEVEL_1, ServerLevel1, agreed
from kps.protocol.patterns import Key
from kps.protocol.server.actions import ACTIONS, NO_ACTION, relay_failed
from kps.protocol.server.clients import departure
from kps.protocol.server.delivery import Delivery
from kps.protocol.server.encodings import FRAMES
from kps.protocol.server.gate import Applicant, Gate
from kps.protocol.server.inbox import Inbox
from kps.protocol.server.ports import Transport
from kps.protocol.server.replay import Replays
from kps.protocol.server.run import Run
from kps.protocol.server.state import ServerState
from kps.protocol.server.templates import Template
from kps.protocol.server.throttle import throttle
from kps.protocol.wire.outbox import Entry, Kind
from kps.protocol.wire.websocket import Closed

_REPLY = Kind.REPLY
_FORWARDED = Kind.FORWARDED

_NO_FIELDS: Fields = {}  # of a message that could not be read
_NO_LOGIN = frozenset(("bad_message", RATE_LIMITED))  # codes of pings that are refused as messages

# Units of work (see ``turns``).
_REFUSAL = 5
_UPDATE = 4

_CROWDED = 4  # a queue that is full to this part takes no messages about presence

_MOST_NAMED = 1000  # messages of a refused frame: more than a client of ours puts into one


class ServerSession:
    """Handles the messages of one client, and delivers messages to it.

    The connection gives messages to its ``inbox``, and calls ``leave`` when it ends.
    """

    __slots__ = (
        "_has_left",
        "_transport",
        "answers",
        "deep",
        "delivered",
        "delivery",
        "departure",
        "dialect",
        "encoding",
        "gate",
        "id",
        "inbox",
        "number",
        "peer",
        "received",
        "replays",
        "run",
        "since",
        "state",
        "text",
        "throttle",
        "topics",
    )

    def __init__(
        self,
        state: ServerState,
        delivery: Delivery,
        number: int,
        peer: str,
        transport: Transport,
        new_gate: Callable[[ServerState, Transport, Applicant], Gate] = Gate,
    ) -> None:
        self.number = number
        """Its number, by which events and the hub's verbs name it."""
        self.id = ""
        """The registered id; empty before the first ping."""
        self.peer = peer
        """Address of the client; until its request is complete, that of the TCP peer."""
        self.dialect: ServerLevel1 = LEVEL_1
        """The dialect, which the first ping settles."""
        self.encoding = FRAMES[self.dialect]
        self.topics: dict[Key, Stage] = {}
        self.answers = True
        """Whether it can answer an ack request."""
        self.departure = UNSUBSCRIBED
        """Why a subscription of it ends now, if one does."""
        self.since = state.now
        """When it connected."""
        self.received = 0
        """Number of messages that it sent."""
        self.delivered = 0
        """Number of publications and direct messages for it."""
        self.deep: object = None
        """A part of the message that is being handled, if that is nested too deeply."""
        self.text: bytes | None = None
        """The message that is being handled, unless all in it is written as we would write it."""
        self.replays: Replays | None = None
        """What it gets of the past, if it has asked for something."""
        self.state = state
        self.delivery = delivery
        self.gate = new_gate(state, transport, self)
        self.inbox = Inbox(state, self)
        self.run = Run(self, delivery, state.limits)
        self.throttle = throttle(state.limits, state.now)
        self._transport = transport
        self._has_left = False

    @property
    def permissions(self) -> Permissions:
        """The client's permissions."""
        return self.gate.known.permissions

    @property
    def owner_name(self) -> str:
        """The name of its identity, which owns its id; empty for an anonymous client."""
        return self.gate.known.name

    @property
    def owner(self) -> tuple[str, str]:
        """Whose client it is: the name of its identity, or the address of an anonymous one."""
        name = self.owner_name
        return name, "" if name else origin_of(self.peer)

    @property
    def host(self) -> str:
        """The host by which the client reached the server."""
        return self._transport.host

    @property
    def transport(self) -> Transport:
        """What carries its messages."""
        return self._transport

    # -- from the client ----------------------------------------------------------------------

    def handle(self, message: Any) -> None:
        """Act on one message, or refuse it."""
        gate = self.gate
        self.received += 1
        fields = _NO_FIELDS
        try:
            if self.throttle is not None:
                fields = message if type(message) is dict else {}
                messages = max(1, len(self.dialect.payloads_of(fields)))
                self.throttle.charge(messages, 0, self.state.now)
            fields = check(message)
            action = ACTIONS.get(fields.get("action"), NO_ACTION)
            if action.unregistered is not None and not self.id:
                raise InvalidMessage(action.unregistered, "not_registered")
            if self.run.gathered is not None and not action.joins_run:
                self.run.finish()
                if gate.is_over:
                    return
            if (
                self.deep is not None
                and not action.joins_run
                and self.is_too_deep(fields.get("data"))
            ):
                raise TooDeep  # an action that joins a run looks at each payload itself
            action.handle(self, fields)
        except InvalidMessage as error:
            self.refuse(error, fields)

    def act(self, template: Template, request: Any) -> None:
        """Act on one message that is written like earlier ones, or refuse it."""
        self.received += 1
        try:
            if self.run.gathered is not None and not template.joins_run:
                self.run.finish()
                if self.gate.is_over:
                    return
            template.act(self, request)
        except InvalidMessage as error:
            self.refuse(error, template.fields(request))

    def is_too_deep(self, payload: object) -> bool:
        """Tell whether a payload in the message is nested too deeply."""
        if self.deep is None:
            return False
        return payload is self.deep or is_deeper(payload, self.state.limits.max_depth)

    def refuse_all(self, error: InvalidMessage, requests: Sequence[Any]) -> None:
        """Refuse a whole frame; ``requests`` are its messages. It counts as one message.

        The answer names the first 1,000 messages.
        """
        self.received += 1
        requests = requests[:_MOST_NAMED]
        self.state.turns.left -= len(requests)
        if len(requests) == 1:
            request = requests[0]
            self.refuse(error, request if type(request) is dict else {})
        else:
            message = self.dialect.error_about_all(str(error), error.code, requests)
            self._answer(error, message, _NO_FIELDS)

    # -- to the client --------------------------------------------------------------------------

    def speak(self, dialect: ServerLevel1) -> None:
        """Switch to a dialect."""
        self.dialect = dialect
        self.encoding = self._transport.speak(dialect)
        self.inbox.forget()

    def reply(self, message: bytes) -> bool:
        """Answer the client; tell whether the answer had room."""
        return self._transport.send(message, _REPLY)

    def reply_all(self, entry: Entry) -> bool:
        """Answer the client with several frames if all have room; tell whether they had."""
        return self._transport.queue_whole(entry)

    def refuse(self, error: InvalidMessage, request: Fields) -> None:
        """Answer the client with an error that refuses ``request``."""
        dialect = self.dialect
        if dialect is LEVEL_1 and not self.id and request.get("action") == "ping":
            # Nothing is agreed yet, but who offers a level understands its errors (spec, 9.2).
            dialect = agreed(request.get("proto"), self.state.config.level)
        self._answer(error, dialect.error(str(error), error.code, request), request)

    def _answer(self, error: InvalidMessage, message: bytes, request: Fields) -> None:
        self.run.finish()
        state = self.state
        state.stats.refused += 1
        state.tally.refusals[error.code] += 1
        state.turns.left -= _REFUSAL
        is_login = request.get("action") == "ping" and error.code not in _NO_LOGIN
        if state.journal is not None and self.id and not is_login:  # the gate tells of that
            state.journal.refused(self.id, self.peer, error, request)
        if self.gate.is_over:
            return
        throttle = self.throttle
        if throttle is not None and throttle.closes and error.code == RATE_LIMITED:
            self._transport.fail(1008, str(error))
            return
        self.reply(message)

    def deliver(self, publication: Publication) -> bool:
        count = publication.count
        self.delivered += count
        encoded = publication.encoded(self.encoding)
        transport = self._transport
        if type(encoded) is bytes:
            return transport.send(encoded, _FORWARDED)
        assert type(encoded) is Entry
        if transport.queue_whole(encoded):
            return True
        if encoded.messages == 1 or (
            encoded.frames == 1 and encoded.size <= self.state.limits.queue_bytes
        ):
            # The policy applies to the message as a whole (spec, 12.4). Splitting it for those
            # of its publications that have room would cost all others too much.
            return transport.queue(encoded)
        had_room, queued, done = False, 0, 0
        for entry in publication.encoded(self.encoding.in_parts):
            had_room = transport.queue(entry)
            queued += had_room * entry.messages
            done += entry.messages
            self.state.turns.left -= 1
            if self.gate.is_over:  # the queue overflowed
                self.delivered -= count - done
                break
        publication.partial += queued - count * had_room
        return had_room

    def deliver_past(self, entry: Entry) -> bool:
        """Take messages of the past; tell whether they had room."""
        self.delivered += entry.messages
        return self._transport.queue(entry) and not self.gate.is_over

    def tell(self, message: bytes) -> bool:
        """Take a message about presence, or return ``False`` if too much waits for the client."""
        transport, most = self._transport, self.state.limits.queue_bytes // _CROWDED
        waiting = transport.queued_bytes
        if waiting and waiting + len(message) > most:
            return False
        return transport.send(message, _FORWARDED)

    def deliver_direct(self, publication: Publication) -> None:
        """Take a direct message that wants an ack."""
        self.deliver(publication)

    def send_direct(self, sender: str, data: bytes, headers: bytes) -> None:
        """Take a direct message, whose payload is JSON."""
        self._transport.send(self.dialect.direct_delivery(sender, data, headers), _FORWARDED)
        self.delivered += 1

    def relay_finished(self, to: str, error: str | None) -> None:
        """Tell the client whether its message reached the other server."""
        if self.gate.is_over:
            return
        if error is None:
            self.reply(level1.server_message_sent(to))
        else:
            self.refuse(relay_failed(error), {"action": "publish_to_server", "to": to})

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        if request.wants_updates and not request.is_over:  # ``ack_finished`` sends the last one
            request.told = len(request.responses)
            self.state.turns.left -= _UPDATE
            update = self.dialect.ack_update(request.owner_ack_id, (response,))
            self._transport.send(update, _FORWARDED)

    def ack_finished(self, request: AckRequest) -> None:
        self.reply(self.dialect.ack_response(request))

    # -- the end ----------------------------------------------------------------------------

    def replaced(self) -> None:
        """Close, because another connection took over its id."""
        self.departure = REPLACED
        self._transport.close(ID_TAKEN, "another connection took this id")

    def leave(self, closed: Closed | None = None) -> None:
        """Leave the bus, because the connection has ended: how, if that is known.

        May be called twice, and goes on if it was interrupted.
        """
        if self._has_left:
            return
        if self.departure is UNSUBSCRIBED:
            self.departure = departure(closed)
        self.gate.end()
        self.inbox.clear()
        state = self.state
        state.turns.left -= min(len(self.topics), AT_ONCE)
        client: object = state.clients.get(self.id)
        if client is self:
            del state.clients[self.id]
            if state.names is not None and self.departure is not REPLACED:
                state.names.left(self.id)
        if self.replays is not None:
            self.replays.end()
        acks = state.acks
        state.message_ids.tidy(
            self.id, lambda request: acks.find(request.owner, request.owner_ack_id) is request
        )
        state.acks.drop_owner(self)  # first, so that nobody gets what it has asked of itself
        state.bus.remove(self)
        state.acks.drop_subscriber(self)
        self._has_left = True
