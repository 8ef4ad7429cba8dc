"""Handles the messages that a client gets from the server (spec, 4 and 12)."""

from collections.abc import Callable, Sequence
from typing import Any

from kps.errors import InvalidArgument, MessageTooLarge, ServerError, Unsupported
from kps.protocol.bus.message import Acknowledgement, read_headers
from kps.protocol.bus.subscriptions import Errand, Subscriptions
from kps.protocol.client.asking import Asking
from kps.protocol.client.events import (
    ErrorReceived,
    Lost,
    MessageReceived,
    SubscriptionConfirmed,
    SubscriptionRefused,
)
from kps.protocol.client.link import ClientLink
from kps.protocol.client.past import PastRequests
from kps.protocol.client.presence import MembersOfTopics
from kps.protocol.client.sender import Sender
from kps.protocol.client.state import ClientState
from kps.protocol.client.topic_states import Verdict
from kps.protocol.client.topics import Topics, needs
from kps.protocol.dialect.client import DeliveryTemplate, key_in, unconfirmed_in, window_in
from kps.protocol.dialect.codes import PRESENCE
from kps.protocol.dialect.envelope import (
    Fields,
    InvalidMessage,
    check,
    check_depth,
    load,
    text,
)
from kps.protocol.dialect.outcome import NO_SUBSCRIBER, bad_result
from kps.protocol.dialect.places import Position, read_standing
from kps.protocol.patterns import InGroup

# Levels of nesting that a server may send: those of a payload, and some around it. A program
# could not safely forward a deeper payload (see ``ServerLimits.max_depth``).
_DEEPEST = 140

_MOST_TEMPLATES = 32

# Characters of an error text that the program gets.
_LONGEST_ERROR = 1000

_ABOUT = ("code", "request", "topic", "pattern", "to", "group")


class Receiver:
    """Handles the messages of the server.

    ``registered`` is called with the first pong of a connection, ``refused`` with an error that
    comes in its place.
    """

    def __init__(
        self,
        state: ClientState,
        sender: Sender,
        asking: Asking,
        past: PastRequests,
        members: MembersOfTopics,
        topics: Topics,
        subscriptions: Subscriptions,
        registered: Callable[[ClientLink, Fields], None],
        refused: Callable[[ClientLink, ServerError], None],
    ) -> None:
        self._state = state
        self._sender = sender
        self._asking = asking
        self.past = past
        self.members = members
        self._topics = topics
        self._subscriptions = subscriptions
        self._registered = registered
        self._refused = refused
        self._may_be_row = False  # whether there are several messages, which nobody else sees
        self._names = ("", "")  # the topic and the sender of the latest publication
        self._template: DeliveryTemplate | None = None  # of publications that have the same two
        self._templates: dict[tuple[str, str], DeliveryTemplate] = {}  # some of the latest

    def receive(self, link: ClientLink, messages: list[bytes]) -> None:
        """Handle messages that came on a connection, in order."""
        noise = link.outgoing.dialect.noise
        if noise is None or self._state.config.reports_messages:
            for message in messages:
                self._receive_one(link, message)
        else:
            self._receive_rows(link, messages, noise)

    def _receive_rows(self, link: ClientLink, messages: list[bytes], noise: bytes) -> None:
        """Handle messages of a level where publications come one by one, and confirmations."""
        positions = self._topics.positions
        count, place = len(messages), 0
        self._may_be_row = count > 1
        if count > 1 and messages[0].startswith(noise):
            place = self._skip_alike(messages)
        while place < count:
            message = messages[place]
            place += 1
            if message.startswith(noise):
                if positions is not None:
                    positions.confirmed += 1
                continue
            template = self._template if self._may_be_row else None
            if (
                template is not None
                and message.startswith(template.head)
                and message.endswith(template.tail)
                and self._is_current(link)
            ):
                row = self._deliver_row(template, messages, place - 1)
                if row:
                    place += row - 1
                    continue
            self._receive_one(link, message)

    def _is_current(self, link: ClientLink) -> bool:
        """Tell whether no earlier message has ended the connection."""
        state = self._state
        return link is state.link and state.ended is None

    def _receive_one(self, link: ClientLink, message: bytes) -> None:
        """Handle one message, or an array of them."""
        state = self._state
        try:
            loaded = load(message)
            if len(message) > 2 * _DEEPEST:
                check_depth(loaded, _DEEPEST)
        except InvalidMessage as error:
            self._unreadable(error)
            return
        several = loaded if type(loaded) is list else (loaded,)
        size = len(message) // (len(several) or 1)
        for one in several:
            if link is not state.link or state.ended is not None:
                return  # an earlier message ended the connection
            try:
                fields = check(one)
            except InvalidMessage as error:
                self._unreadable(error)
                continue
            if state.config.reports_messages:
                state.events.append(MessageReceived(fields, size))
            action = fields.get("action") or link.outgoing.dialect.bare(fields)
            handler = _HANDLERS.get(action)
            if handler is not None:  # ignore actions of later levels
                handler(self, link, fields, size)

    def _skip_alike(self, messages: list[bytes]) -> int:
        """Skip all messages if they are one confirmation again and again; return how many."""
        count = len(messages)
        if messages.count(messages[0]) < count:
            return 0
        if self._topics.positions is not None:
            self._topics.positions.confirmed += count
        return count

    def _learn(self, template: DeliveryTemplate | None) -> None:
        if template is not None:
            if len(self._templates) >= _MOST_TEMPLATES:
                self._templates.clear()
            self._template = self._templates[template.names] = template

    def _deliver_row(self, template: DeliveryTemplate, messages: list[bytes], place: int) -> int:
        """Deliver the publications in a row that a template describes; return how many."""
        payloads = template.read(messages, place, _DEEPEST)
        if payloads:
            topic, sender = template.names
            size, sizes = len(messages[place]), None
            if len(payloads) > 1:
                sizes = list(map(len, messages[place : place + len(payloads)]))
            self._subscriptions.deliver_all(topic, payloads, sender, size, sizes)
        return len(payloads)

    def answer(self, acknowledgement: Acknowledgement) -> None:
        """Send the ack of a message, unless its connection has ended."""
        if acknowledgement.epoch == self._state.epoch:
            ack_id, error = acknowledgement.ack_id, acknowledgement.error
            self._answer(ack_id, error, acknowledgement.result, acknowledgement.has_begun)

    def _answer(
        self, ack_id: str, error: str | None, result: Any = None, has_begun: bool = True
    ) -> None:
        state = self._state
        link = state.link
        if link is None:
            return
        if error is not None:
            error = error[: state.config.limits.max_error]
        outgoing = link.outgoing
        try:
            message = outgoing.dialect.ack(ack_id, state.id, error, result, has_begun=has_begun)
            outgoing.check_size(message)
        except (InvalidArgument, MessageTooLarge) as reason:
            message = outgoing.dialect.ack(ack_id, state.id, bad_result(reason), None)
        outgoing.send(message)

    def _unreadable(self, error: InvalidMessage) -> None:
        reason = f"unreadable message from the server: {error}"
        self._state.events.append(ErrorReceived(reason, error.code))

    # -- one method for each kind of message --------------------------------------------------

    def _pong(self, link: ClientLink, fields: Fields, size: int) -> None:
        if link.registered:
            self._state.note_window(window_in(fields))
            self._asking.passed(text(fields, "nonce"))
        else:
            self._template = None
            self._templates.clear()
            self._registered(link, fields)
            for key in self._topics.take_unsupported():
                lacking = [one for one in needs(key) if not self._state.has_feature(one)]
                error = Unsupported(lacking[0])
                ended = self._subscriptions.refuse(key, error)
                self._state.events += (
                    SubscriptionRefused(ended),
                    ErrorReceived.about(key, error),
                )
            for topic in self.members.untold(self._subscriptions.keys):
                self._state.events.append(ErrorReceived.about(topic, Unsupported(PRESENCE)))

    def _confirmed(self, link: ClientLink, fields: Fields, size: int) -> None:
        key, joins = key_in(fields), fields["action"] == "subscribed"
        if joins and (told := self._topics.stand(key, read_standing(fields))) is not None:
            self._state.events.append(told)
        members = fields.get("presence")
        is_unwanted = False
        if joins and isinstance(key, str) and type(members) is dict:
            is_unwanted = not self.members.confirmed(key, members)
        if self._topics.confirmed(key, joins=joins) in (Verdict.SETTLED, Verdict.EXTRA):
            unconfirmed = unconfirmed_in(fields)
            for mailbox in self._subscriptions.mailboxes(key):
                mailbox.unconfirmed = unconfirmed
            self._state.events.append(SubscriptionConfirmed(key))
        if is_unwanted and self._subscriptions.mailboxes(key):
            self._topics.ignore_members(key)  # whoever asked for it has ended meanwhile

    def _publications(self, link: ClientLink, fields: Fields, size: int) -> None:
        topic, sender, payloads = link.outgoing.dialect.read_publications(fields)
        if fields.get("group") is not None:
            self._for_member(topic, sender, payloads, fields, size)
            return
        if payloads:
            position, size = None, size // len(payloads)
            if "offset" in fields:
                position, repeated = self._place(link, topic, fields, len(payloads))
                if position is None and self._topics.awaits_past(topic):
                    return
                if repeated:
                    payloads = payloads[repeated:]
            if payloads:
                headers = read_headers(fields) if "headers" in fields else None
                self._subscriptions.deliver_all(
                    topic, payloads, sender, size, None, position, headers
                )
        if self._may_be_row:
            names = topic, sender
            if names != self._names:
                self._names = names
                self._template = self._templates.get(names)
            elif self._template is None:
                self._learn(link.outgoing.dialect.template(topic, sender))

    def _place(
        self, link: ClientLink, topic: str, fields: Fields, count: int
    ) -> tuple[Position | None, int]:
        """Note the place of messages in the history of their topic.

        Return it, and how many of them have come before.
        """
        epoch, offset = link.outgoing.dialect.place(fields)
        topics = self._topics
        if not offset or topics.awaits_past(topic) or not self._subscriptions.count(topic):
            return None, 0
        position, missing, repeated = topics.standings.passed(topic, epoch, offset, count)
        if missing != 0:
            self._state.events.append(Lost(topic, missing))
        return Position(position.epoch, position.offset + repeated), repeated

    def _question(self, link: ClientLink, fields: Fields, size: int) -> None:
        topic, sender, data, ack_id, may_be_direct = link.outgoing.dialect.read_question(
            fields, self._state.id
        )
        if fields.get("group") is not None and not may_be_direct:
            self._for_member(topic, sender, (data,), fields, size)
            return
        subscriptions, epoch = self._subscriptions, self._state.epoch
        position = self._place(link, topic, fields, 1)[0] if "offset" in fields else None
        headers = read_headers(fields) if "headers" in fields else None
        had_room = subscriptions.deliver(
            topic, data, sender, size, ack_id, epoch, position, headers
        )
        taken = had_room is not None
        if not taken and may_be_direct:
            taken = subscriptions.deliver_direct(data, sender, size, ack_id, epoch, headers)
        if not taken and ack_id:
            self._answer(ack_id, NO_SUBSCRIBER)

    def _for_member(
        self, topic: str, sender: str, payloads: Sequence[Any], fields: Fields, size: int
    ) -> None:
        """Take messages for a member of a group."""
        scope, attempt = key_in(fields), fields.get("attempt")
        ack_id = text(fields, "ack_id")
        asked = attempt if type(attempt) is int else 1
        errand = Errand(ack_id, self._state.epoch, asked, read_headers(fields))
        taken = None
        if payloads and isinstance(scope, InGroup):
            taken = self._subscriptions.deliver_to_member(
                scope, topic, payloads, sender, size // len(payloads), errand
            )
        if taken is None and ack_id:
            self._answer(ack_id, NO_SUBSCRIBER, has_begun=False)

    def _direct_message(self, link: ClientLink, fields: Fields, size: int) -> None:
        sender, data = text(fields, "from"), fields.get("data")
        headers = read_headers(fields) if "headers" in fields else None
        self._subscriptions.deliver_direct(data, sender, size, "", self._state.epoch, headers)

    def _receipt(self, link: ClientLink, fields: Fields, size: int) -> None:
        if self._topics.positions is not None:
            self._topics.positions.confirmed += 1
        self._asking.passed(text(fields, "receipt"), fields)

    def _ack_update(self, link: ClientLink, fields: Fields, size: int) -> None:
        self._asking.updated(fields)

    def _ack_response(self, link: ClientLink, fields: Fields, size: int) -> None:
        self._asking.answered(fields)

    def _ack_status(self, link: ClientLink, fields: Fields, size: int) -> None:
        for error in self._topics.probe_answered(text(fields, "ack_id")):
            self._topic_refused(error)
        self._asking.status_received(fields)

    def _error(self, link: ClientLink, fields: Fields, size: int) -> None:
        refused = fields.get("refused")
        if type(refused) is list and refused and link.registered:
            # The server refused a whole frame, and names each message in it.
            shared = {name: fields.get(name) for name in ("error", "code")}
            for one in refused:
                if type(one) is dict:
                    self._one_error(link, one | shared)
        else:
            self._one_error(link, fields)

    def _one_error(self, link: ClientLink, fields: Fields) -> None:
        reason = text(fields, "error")[:_LONGEST_ERROR]
        error = ServerError(reason, **{name: text(fields, name) for name in _ABOUT})
        if not link.registered:
            self._refused(link, error)
        elif error.request in ("subscribe", "unsubscribe"):
            self._topic_refused(error)
        elif not error.request and (named := self._topics.refused_by_position(reason)):
            self._topic_refused(named)
        elif not self._asking.refused(fields, error):
            self._state.events.append(ErrorReceived.of(error))

    def _topic_refused(self, error: ServerError) -> None:
        events = self._state.events
        key = key_in({name: getattr(error, name) for name in ("topic", "pattern", "group")})
        refusal = self._topics.refused(key, error)
        extra = refusal.extra
        if extra is not None:
            events.append(SubscriptionConfirmed(key))
        if refusal.verdict is Verdict.FINAL or (extra is not None and extra.asker is not None):
            only = None if extra is None else extra.asker
            mailboxes = self._subscriptions.refuse(key, error, only)
            events.append(SubscriptionRefused(mailboxes))
            was_told = self.members.forget_unobserved(key)
            if extra is not None and not self._subscriptions.mailboxes(key):
                self._topics.leave(key)
            elif extra is not None and was_told:
                self._topics.ignore_members(key)
            if mailboxes and all(mailbox.waiters for mailbox in mailboxes):
                return  # the callers of ``subscribe`` are waiting, and get the error
        elif refusal.verdict is Verdict.SETTLED:
            events.append(SubscriptionConfirmed(key))
        if not refusal.was_reported:
            events.append(ErrorReceived.of(error))


_Handler = Callable[[Receiver, ClientLink, Fields, int], None]

_HANDLERS: dict[str, _Handler] = {
    "pong": Receiver._pong,
    "subscribed": Receiver._confirmed,
    "unsubscribed": Receiver._confirmed,
    "publish": Receiver._publications,
    "published": Receiver._receipt,
    "publish_ack": Receiver._question,
    "direct_message": Receiver._direct_message,
    "error": Receiver._error,
    "presence": lambda receiver, _, fields, size: receiver.members.received(fields),
    "history": lambda receiver, _, fields, size: receiver.past.received(fields, size),
    "ack_response": Receiver._ack_response,
    "ack_update": Receiver._ack_update,
    "ack_status": Receiver._ack_status,
}
