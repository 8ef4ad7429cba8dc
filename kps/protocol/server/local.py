"""The server's own program as a subscriber."""

from collections.abc import Mapping
from typing import Any

from kps.errors import InvalidArgument, InvalidState, KPSError, QueueFull
from kps.protocol.access.identity import ALL, Permissions
from kps.protocol.bus.ack_handle import AckChanged, AckHandle
from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.bus.given import check_key, check_topic
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.members import Presence, read_presence
from kps.protocol.bus.message import (
    Acknowledgement,
    Message,
    add_headers,
    make_messages,
    place_messages,
    read_headers,
)
from kps.protocol.bus.past import Past, check_limit, check_since
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import UNSUBSCRIBED, Stage
from kps.protocol.bus.subscriptions import Errand, Subscriptions
from kps.protocol.calls import patient, verb
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.codes import LIMIT_REACHED
from kps.protocol.dialect.envelope import InvalidMessage, compose, load, write
from kps.protocol.dialect.outcome import (
    NO_SUBSCRIBER,
    AckResponse,
    as_json,
    bad_result,
    timed_out,
)
from kps.protocol.dialect.places import Position
from kps.protocol.dialect.requests import Ask
from kps.protocol.limits import shown
from kps.protocol.patterns import InGroup, Key, scope_of
from kps.protocol.server.desk import NO_ANSWERS
from kps.protocol.server.replay import find
from kps.protocol.server.state import ServerState

# Units of work (see ``turns``): of a payload for each further subscription of the program.
_MESSAGE = 1
_COPIED = 16  # bytes of its JSON that count as one unit


class _Sizes:
    """Encodes nothing: the program takes Python objects, and its mailboxes count their bytes."""

    def encode(self, publication: Publication) -> int:
        topic, sender, headers = publication.topic, publication.sender, publication.headers
        names = len(write(topic)) + len(write(sender))
        size = _AROUND + names + len(level2.with_headers(headers))
        return (size + sum(map(len, publication.texts))) // publication.count


_AROUND = len(level2.delivery("", "", [b""], 1)) - len('""""')

_SIZES = _Sizes()


class LocalProgram:
    """The server's own program as a subscriber."""

    answers = True
    owner_name = ""
    peer = ""

    def __init__(self, state: ServerState) -> None:
        self.id = state.config.id
        self.permissions = Permissions.open(disconnect=ALL)
        """What it may ask the server: everything."""
        self.encoding = _SIZES
        self.topics: dict[Key, Stage] = {}
        self.departure = UNSUBSCRIBED
        self.subscriptions = Subscriptions(state.limits, self._answer)
        self.calls = state.calls
        self._state = state
        self._around_own = _AROUND + len(write(self.id))  # bytes, apart from topic and payload

    @verb
    def subscribe(self, key: Key, info: bytes | None = None, concurrency: int = 1) -> Mailbox:
        """Subscribe to a topic or pattern; ``info`` is what this program says about itself there.

        As a member of a group it takes ``concurrency`` messages with ack at a time.

        Raises :class:`kps.InvalidArgument` for an empty topic, and :class:`kps.QueueFull` if too
        many patterns begin and end like this one, or the info is too large.
        """
        bus = self._state.bus
        check_key(key, self._state.limits)
        if isinstance(key, InGroup) and self.subscriptions.mailboxes(key):
            raise InvalidState(f"this program is a member of the group {str(key)!r} already")
        if bus.is_crowded(scope_of(key)):
            raise QueueFull("too many patterns begin and end like this one")
        if info is not None and isinstance(key, str):
            self._say(key, info)
        mailbox = self.subscriptions.add(key)  # first: a group has messages for it at once
        bus.subscribe(self, key, min(concurrency, self._state.limits.max_concurrency))
        return mailbox

    def _say(self, topic: str, info: bytes) -> None:
        presence = self._state.presence
        try:
            presence.check_info(self, topic, info)
        except InvalidMessage as error:
            raise QueueFull(str(error)) from None
        presence.set_info(self, topic, info)

    def presence(self, topic: object) -> Presence:
        """Tell who is subscribed to a topic. Raises :class:`kps.InvalidArgument`."""
        topic = check_topic(topic, self._state.limits)
        fields = load(write(self._state.presence.look(topic)))
        return read_presence(topic, fields)

    def history(self, topic: object, since: object, limit: object) -> Past:
        """Return messages of a topic with history. Raises :class:`kps.InvalidArgument`."""
        topic, place = check_topic(topic, self._state.limits), check_since(since)
        most = check_limit(limit)
        logs = self._state.logs
        log = None if logs is None else logs.log(topic)
        if log is None:
            raise InvalidArgument(f"the topic {shown(topic)} has no history")
        before, recovered, lost = log.latest(most) - 1, True, None
        if place is not None:
            before, recovered, lost = find(log, place)
        messages: list[Message] = []
        for entry in log.read(before + 1, most):
            payloads = load(b"[%b]" % entry.text)
            made = make_messages(topic, payloads, entry.sender, len(entry.text) // len(payloads))
            place_messages(made, Position(log.epoch, entry.first))
            add_headers(made, entry.headers)
            messages += made
        position = messages[-1].position if messages else None
        return Past(messages, position or Position(log.epoch, before), recovered, lost)

    @patient
    def unsubscribe(self, mailbox: Mailbox) -> None:
        """End one subscription."""
        key, leave = mailbox.key, self._state.bus.unsubscribe
        if isinstance(key, InGroup) and not mailbox.is_over:
            leave(self, key)  # first, so that it gets nothing back that it returns
            self.subscriptions.remove(mailbox)
        elif self.subscriptions.remove(mailbox):
            leave(self, key)

    @patient
    def settle(self, message: Message, error: str | None, now: float, result: Any = None) -> None:
        """Note that a subscription has handled a message."""
        self._state.now = now
        self.subscriptions.settle(message, error, result)

    def ask_desk(self, handle: "LocalAck", ask: Ask) -> None:
        """Ask the server about itself, as a client with all permissions.

        Raises :class:`kps.InvalidArgument` for a question that makes no sense,
        :class:`kps.QueueFull` when a limit is reached, and :class:`kps.InvalidState` if the server
        answers no questions.
        """
        desk = self._state.desk
        if desk is None:
            raise InvalidState(NO_ANSWERS)
        try:
            question = desk.read(self, ask)
        except InvalidMessage as error:
            refusal = QueueFull if error.code == LIMIT_REACHED else InvalidArgument
            raise refusal(str(error)) from None
        desk.answer(question, handle, self.id, ask, None)

    def deliver(self, publication: Publication) -> bool:
        size = publication.encoded(_SIZES)
        if publication.group is not None:
            return self._deliver_to_member(publication, publication.group, size)
        topic, sender, count = publication.topic, publication.sender, publication.count
        copies = (self.subscriptions.count(topic) - 1) * count
        self._state.turns.left -= copies * (_MESSAGE + (size // _COPIED))
        payloads = load(b"[%b]" % b",".join(publication.texts))
        deliver, ack_id = self.subscriptions.deliver, publication.ack_id
        headers, position = _headers(publication), None
        if publication.offset:
            assert self._state.logs is not None
            position = Position(publication.epoch or self._state.logs.epoch, publication.offset)
        if ack_id:
            return bool(deliver(topic, payloads[0], sender, size, ack_id, 0, position, headers))
        taken = self.subscriptions.deliver_all(
            topic, payloads, sender, size, None, position, headers
        )
        if taken == count:
            return True
        publication.partial += taken
        return False

    def _deliver_to_member(self, publication: Publication, key: InGroup, size: int) -> bool:
        payloads = load(b"[%b]" % b",".join(publication.texts))
        taken = self.subscriptions.deliver_to_member(
            key,
            publication.topic,
            payloads,
            publication.sender,
            size,
            Errand(publication.ack_id, 0, publication.attempt, _headers(publication)),
        )
        if taken is None:
            self._state.acks.answer(self, publication.ack_id, NO_SUBSCRIBER, has_begun=False)
            return False
        had_room = taken == publication.count
        publication.partial += taken - had_room * publication.count
        return had_room

    def take_own(self, topic: str, payload: bytes) -> int:
        """Take a publication of this program itself, on a topic to which nobody else subscribes.

        Return whether there was room, as a number of subscribers.
        """
        size = self._around_own + len(write(topic)) + len(payload)
        had_room = self.subscriptions.deliver(topic, load(payload), self.id, size, "", 0) is True
        stats = self._state.stats
        stats.published += 1
        stats.delivered += had_room
        return had_room

    def deliver_direct(self, publication: Publication) -> None:
        """Take a direct message that wants an ack."""
        data = load(publication.texts[0])
        size, ack_id = publication.encoded(_SIZES), publication.ack_id
        headers = _headers(publication)
        sender, deliver = publication.sender, self.subscriptions.deliver_direct
        if not deliver(data, sender, size, ack_id, 0, headers):
            self._state.acks.answer(self, ack_id, NO_SUBSCRIBER)

    def take_direct(self, sender: str, data: bytes, headers: bytes) -> bool:
        """Take a direct message; return ``False`` if the program accepts none."""
        size = len(level2.direct_delivery(sender, data, headers))
        read = _read_headers(headers)
        return self.subscriptions.deliver_direct(load(data), sender, size, "", 0, read)

    def take_server_data(self, sender: str, data: Any) -> None:
        """Take a message of another server."""
        size = len(level1.direct_delivery(sender, write(data)))
        self.subscriptions.deliver_server_data(data, sender, size)

    def _answer(self, acknowledgement: Acknowledgement) -> None:
        error, result = acknowledgement.error, acknowledgement.result
        kept, size = None, 0
        if result is not None and error is None:
            try:
                written = compose(result)
                kept, size = as_json(written), len(written)
            except InvalidArgument as reason:
                error = bad_result(reason)
        ack_id, has_begun = acknowledgement.ack_id, acknowledgement.has_begun
        self._state.acks.answer(self, ack_id, error, kept, size, has_begun=has_begun)


def _headers(publication: Publication) -> Mapping[str, str] | None:
    return _read_headers(publication.headers)


def _read_headers(headers: bytes) -> Mapping[str, str] | None:
    return read_headers({"headers": load(headers)}) if headers else None


class LocalAck(AckHandle):
    """An ack request of the server's own program."""

    __slots__ = ("_state",)

    def __init__(self, state: ServerState) -> None:
        super().__init__("local")
        self._state = state

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        self.outcomes[response.key] = response
        self._state.emit(AckChanged(self))

    def ack_finished(self, request: AckRequest) -> None:
        self.presence, self.is_degraded = request.presence or None, request.is_degraded
        for client_id in request.missing():
            self.outcomes[client_id] = timed_out(client_id, request.id)
        self._finish()

    def status(self) -> dict[str, bool]:
        """Return the addressed client ids, and whether each outcome is known."""
        request = self._state.acks.find(self, self.id)
        return request.status() if request else self.known_status()

    def cancel(self) -> None:
        """Stop gathering answers."""
        self._state.acks.cancel(self, self.id)
        self._finish()

    def end(self, error: KPSError) -> None:
        """End the request with an error, and keep the outcomes so far."""
        self._state.acks.cancel(self, self.id)
        self.error = error
        self._finish()

    def _finish(self) -> None:
        self.finished = True
        self._state.emit(AckChanged(self))
