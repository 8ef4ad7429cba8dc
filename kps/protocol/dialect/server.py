"""The dialects of a server: how it reads and writes messages at each level of the protocol.

A dialect has no state: one object serves all connections of its level. Level 2 inherits from
level 1 and overrides the differences. Nothing outside this package asks for a level's number.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from kps.protocol.cost import compact
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.codes import GOING_AWAY, SERVICE_RESTART
from kps.protocol.dialect.envelope import ARRAY, Fields, InvalidMessage, embedded, text, write
from kps.protocol.dialect.outcome import AckResponse, GroupResponse, timed_out
from kps.protocol.dialect.places import Places, Position, Standing, Start, read_start
from kps.protocol.dialect.requests import (
    NO_DEMANDS,
    Answer,
    Ask,
    Demands,
    FromServer,
    MessageId,
    Outcomes,
    Publish,
    Relay,
    Window,
)
from kps.protocol.patterns import InGroup, Key, Pattern

_NOWHERE = Standing()

_Extras = tuple[bool, Demands, bytes, MessageId | None]
"""Of an ack request: whether the publisher wants updates, its demands on the receivers, the
headers, and the id of the message."""


class ServerLevel1:
    """Level 1: the dialect of the original (spec, section 4)."""

    level = 1

    join: tuple[bytes, bytes, bytes] | None = None
    """What joins several messages into one, if clients of this level accept that."""

    has_batches = False
    """Whether several publications may share a message."""

    confirms_publications = True
    """Whether the server confirms each publication."""

    stop_code = SERVICE_RESTART
    """The close code of a server that stops. After 1001 Python clients of the family never return:
    their WebSocket library takes it for an end that they asked for."""

    has_extras = False
    """Whether messages may have headers and ids."""

    keeps_id_in_ping = False
    """Whether the client keeps its id when a later ping names none."""

    # -- reading ----------------------------------------------------------------------------

    def read_publish(self, fields: Fields) -> Publish:
        topic = fields.get("topic")
        if type(topic) is not str or not topic:
            raise InvalidMessage(_NO_TOPIC, "bad_request")
        return topic, None, None

    def read_key(self, fields: Fields) -> Key:
        """Read what a client wants to subscribe to."""
        return required(fields, "topic", _NO_TOPIC)

    def read_concurrency(self, fields: Fields) -> int:
        """Read how many messages with ack a member of a group takes at a time."""
        return 1

    def read_start(self, fields: Fields, most: int, *, is_pattern: bool) -> Start | None:
        """Read with what of the past a subscription begins; ``None`` if the client asks for none.

        ``most`` is how many topics the place of a pattern may name.
        """
        return None

    def read_wish(self, fields: Fields) -> tuple[Fields | None, bool | None]:
        """Read what a subscription to a topic has to do with presence: its info, if it observes."""
        return None, None

    def read_history(self, fields: Fields, most: int) -> tuple[Position | None, int, str]:
        """Read a request for history: the place, how many messages, and its name."""
        raise InvalidMessage("unknown action: history", "unknown_action")

    def read_look(self, fields: Fields) -> tuple[str, str]:
        """Read a request for who is there: the topic, and its name."""
        raise InvalidMessage("unknown action: presence", "unknown_action")

    def read_ask(self, fields: Fields, payload: bytes, target: str, refusal: str) -> Ask:
        """Read an ack request; the field ``target`` names the topic or the receiver."""
        return Ask(
            required(fields, target, refusal),
            required(fields, "ack_id", "missing ack_id"),
            payload,
            _timeout(fields),
            *self._read_extras(fields, is_to_topic=target == "topic"),
        )

    def _read_extras(self, fields: Fields, *, is_to_topic: bool) -> _Extras:
        """Read what else an ack request may have."""
        return False, NO_DEMANDS, b"", None

    def read_answer(self, fields: Fields) -> Answer:
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
        return Answer(ack_id, _error_in(outcome), None)

    def read_relay(self, fields: Fields, payload: bytes) -> Relay:
        to = required(fields, "to", "missing target server address")
        status = fields.get("status")
        secure = type(status) is dict and status.get("is_secure") is True
        return Relay(to, embedded(payload), secure)

    def read_from_server(self, fields: Fields) -> FromServer:
        payload, origin = fields.get("data"), ""
        if type(payload) is dict and "data" in payload:
            origin = text(payload, "from")
            payload = payload["data"]
        return FromServer(text(fields, "to"), text(fields, "id"), origin, payload)

    def read_nonce(self, fields: Fields) -> str:
        """Return the nonce of a ping, which the answer repeats, or ``""``."""
        return ""

    def payloads_of(self, fields: Fields) -> list[Any]:
        """Return the payloads of a batch; an empty list if the message is no batch."""
        return []

    # -- answering --------------------------------------------------------------------------

    def pong(
        self, client_id: str, max_message: int, heartbeat: float, window: Window, nonce: str
    ) -> bytes:
        return level1.pong(client_id)

    def subscribed(
        self,
        key: Key,
        standing: Standing = _NOWHERE,
        presence: Fields | None = None,
        unconfirmed: Sequence[str] = (),
    ) -> bytes:
        """The confirmation of a subscription.

        ``presence`` tells who is there, ``unconfirmed`` which nodes of the cluster may not know.
        """
        return level1.subscribed(str(key))

    def unsubscribed(self, key: Key) -> bytes:
        """The confirmation of its end."""
        return level1.unsubscribed(str(key))

    def published(self, topic: str) -> bytes:
        """The confirmation of one publication."""
        return level1.published(topic)

    def ack_update(self, ack_id: str, responses: Sequence[AckResponse]) -> bytes:
        """Outcomes of a pending ack request, for a publisher that wants updates."""
        return level2.ack_update(ack_id, responses)

    def ack_response(self, outcomes: Outcomes) -> bytes:
        """The final answer to an ack request."""
        responses = dict(outcomes.responses)
        if outcomes.tells_timeouts:
            for name in outcomes.missing():
                responses[name] = timed_out(name, outcomes.id)
        by_client = {
            response.client_id or response.name: response.fields()
            for response in sorted(responses.values(), key=_is_of_a_group, reverse=True)
            if outcomes.tells_timeouts or not _is_late(response)
        }
        return level1.ack_response(outcomes.owner_ack_id, by_client)

    def error(self, reason: str, code: str, request: Fields) -> bytes:
        """A refusal of ``request``, which has the fields that could be read."""
        return level1.error(reason)

    def error_about_all(self, reason: str, code: str, requests: Iterable[Any]) -> bytes:
        """A refusal of a whole frame; ``requests`` are the messages that could be read in it."""
        return level1.error(reason)

    # -- delivering -------------------------------------------------------------------------

    def deliveries(
        self,
        topic: str,
        sender: str,
        texts: Sequence[bytes],
        count: int,
        offset: int = 0,
        epoch: str = "",
        more: bytes = b"",
    ) -> list[bytes]:
        """Publications, whose payloads are JSON: every subscriber of this level gets these bytes.

        There are ``count`` of them. A text is one payload, or, if the dialect has batches, several
        with commas in between. ``offset`` is that of the first, or 0. ``more`` are further fields,
        for levels that have them.
        """
        return level1.deliveries(topic, sender, texts)

    def direct_delivery(self, sender: str, payload: bytes, headers: bytes) -> bytes:
        """A direct message, whose payload is JSON."""
        return level1.direct_delivery(sender, payload)

    def delivery_with_ack(
        self,
        topic: str,
        sender: str,
        payload: bytes,
        ack_id: str,
        *,
        is_direct: bool,
        offset: int = 0,
        epoch: str = "",
        more: bytes = b"",
    ) -> bytes:
        """A publication that each subscriber answers."""
        return level1.delivery_with_ack(topic, sender, payload, ack_id)


class ServerLevel2(ServerLevel1):
    """Level 2: batches, arrays, receipts, results, updates, error codes (spec, section 12)."""

    level = 2
    join: tuple[bytes, bytes, bytes] | None = ARRAY
    has_batches = True
    confirms_publications = False
    stop_code = GOING_AWAY
    has_extras = True
    keeps_id_in_ping = True

    def read_publish(self, fields: Fields) -> Publish:
        topic = fields.get("topic")
        if type(topic) is not str or not topic:
            raise InvalidMessage(_NO_TOPIC, "bad_request")
        payloads = fields.get("batch")
        if payloads is not None and type(payloads) is not list:
            raise InvalidMessage("field batch must be an array")
        receipt = fields.get("receipt")
        if receipt is not None and type(receipt) is not str:
            raise InvalidMessage("field receipt must be a string")
        return topic, payloads, receipt

    def read_key(self, fields: Fields) -> Key:
        text, group, key = fields.get("pattern"), fields.get("group"), fields.get("topic")
        if text is not None:
            if type(text) is not str or not text or key is not None:
                raise InvalidMessage(
                    "a subscription names either a topic or a pattern", "bad_request"
                )
            key = Pattern(text)
        else:
            key = required(fields, "topic", _NO_TOPIC)
        if group is None:
            return key
        if type(group) is not str or not group:
            raise InvalidMessage("field group must be a string that is not empty")
        return InGroup(key, group)

    def read_concurrency(self, fields: Fields) -> int:
        concurrency = fields.get("concurrency")
        if concurrency is None:
            return 1
        if type(concurrency) is not int or concurrency < 1:
            raise InvalidMessage("concurrency must be a number of messages from 1", "bad_request")
        return concurrency

    def read_start(self, fields: Fields, most: int, *, is_pattern: bool) -> Start | None:
        if "since" not in fields and "last" not in fields:
            return None
        return read_start(fields, most, is_pattern=is_pattern)

    def read_wish(self, fields: Fields) -> tuple[Fields | None, bool | None]:
        if "info" not in fields and "presence" not in fields:
            return None, None
        info, observes = fields.get("info"), fields.get("presence")
        if info is not None and type(info) is not dict:
            raise InvalidMessage("field info must be an object")
        if observes is not None and type(observes) is not bool:
            raise InvalidMessage("field presence must be true or false")
        if fields.get("topic") is None and (info is not None or observes):
            raise InvalidMessage("presence is that of a topic, not of a pattern", "bad_request")
        return info, observes

    def read_history(self, fields: Fields, most: int) -> tuple[Position | None, int, str]:
        start = read_start(fields, most, is_pattern=False)
        nonce = required(fields, "nonce", "missing nonce")
        count = most if start is None or start.last == 0 else start.last
        since = None if start is None else start.since
        assert not isinstance(since, Places)
        return since, count, nonce

    def read_look(self, fields: Fields) -> tuple[str, str]:
        topic = required(fields, "topic", _NO_TOPIC)
        return topic, required(fields, "nonce", "missing nonce")

    def _read_extras(self, fields: Fields, *, is_to_topic: bool) -> _Extras:
        wants_updates, expected = fields.get("updates") is True, fields.get("expect")
        key, retries = fields.get("key"), fields.get("retry")
        headers = headers_in(fields) if "headers" in fields else b""
        message_id = message_id_in(fields) if "message_id" in fields else None
        if not is_to_topic or (expected is None and key is None and retries is None):
            return wants_updates, NO_DEMANDS, headers, message_id
        listed: Any = [] if expected is None else expected
        if type(listed) is not list or not all(
            type(one) is str or _is_group(one) for one in listed
        ):
            raise InvalidMessage("field expect must be an array of ids and groups")
        ids = tuple(one for one in listed if type(one) is str)
        groups = tuple(one["group"] for one in listed if type(one) is not str)
        if key is not None and type(key) is not str:
            raise InvalidMessage("field key must be a string")
        if retries is not None and (type(retries) is not int or retries < 0):
            raise InvalidMessage("retry must be a number of times", "bad_request")
        return wants_updates, Demands(ids, groups, key or "", retries or 0), headers, message_id

    def read_answer(self, fields: Fields) -> Answer:
        ack_id = required(fields, "ack_id", "missing ack_id")
        error = _error_in(fields)
        result = fields.get("result") if error is None else None
        return Answer(ack_id, error, result, fields.get("begun") is not False)

    def read_nonce(self, fields: Fields) -> str:
        nonce = fields.get("nonce")
        if nonce is not None and type(nonce) is not str:
            raise InvalidMessage("field nonce must be a string")
        return nonce or ""

    def payloads_of(self, fields: Fields) -> list[Any]:
        batch = fields.get("batch")
        return batch if type(batch) is list else []

    def pong(
        self, client_id: str, max_message: int, heartbeat: float, window: Window, nonce: str
    ) -> bytes:
        return level2.pong(client_id, max_message, heartbeat, window, nonce)

    def subscribed(
        self,
        key: Key,
        standing: Standing = _NOWHERE,
        presence: Fields | None = None,
        unconfirmed: Sequence[str] = (),
    ) -> bytes:
        more = standing.fields(is_pattern=isinstance(key, Pattern))
        if presence:
            more |= {"presence": presence}
        if unconfirmed:
            more |= {"unconfirmed": unconfirmed}
        return level2.subscribed(key, more)

    def unsubscribed(self, key: Key) -> bytes:
        return level2.unsubscribed(key)

    def ack_response(self, outcomes: Outcomes) -> bytes:
        return level2.ack_response(outcomes)

    def error(self, reason: str, code: str, request: Fields) -> bytes:
        return level2.error(reason, code, request)

    def error_about_all(self, reason: str, code: str, requests: Iterable[Any]) -> bytes:
        return level2.error_about_all(reason, code, requests)

    def deliveries(
        self,
        topic: str,
        sender: str,
        texts: Sequence[bytes],
        count: int,
        offset: int = 0,
        epoch: str = "",
        more: bytes = b"",
    ) -> list[bytes]:
        return [level2.delivery(topic, sender, texts, count, offset, epoch, more)]

    def direct_delivery(self, sender: str, payload: bytes, headers: bytes) -> bytes:
        return level2.direct_delivery(sender, payload, headers)

    def delivery_with_ack(
        self,
        topic: str,
        sender: str,
        payload: bytes,
        ack_id: str,
        *,
        is_direct: bool,
        offset: int = 0,
        epoch: str = "",
        more: bytes = b"",
    ) -> bytes:
        named = "" if is_direct else topic
        return level2.delivery_with_ack(named, sender, payload, ack_id, offset, epoch, more)


_NO_TOPIC = "missing or invalid topic"

LEVEL_1 = ServerLevel1()
LEVEL_2 = ServerLevel2()


def agreed(offered: Any, highest: int) -> ServerLevel1:
    """Return the dialect for a client whose first ping offers the level ``offered``."""
    if type(offered) is int and min(offered, highest) >= LEVEL_2.level:
        return LEVEL_2
    return LEVEL_1


def required(fields: Fields, name: str, refusal: str) -> str:
    """Return a required string field. Raises :class:`InvalidMessage` with ``refusal``."""
    value = fields.get(name)
    if type(value) is not str or not value:
        raise InvalidMessage(refusal, "bad_request")
    return value


def headers_in(fields: Fields) -> bytes:
    """Read the headers of a message, as JSON; empty for none."""
    headers: Any = fields.get("headers")
    if headers is None or headers == {}:
        return b""
    if type(headers) is not dict or set(map(type, headers.values())) != {str}:
        raise InvalidMessage("field headers must be an object of strings")
    return compact(write(headers))


def message_id_in(fields: Fields) -> MessageId | None:
    """Read the id of a message that is to be handled once, if it has one."""
    text, until = fields.get("message_id"), fields.get("repeat_until")
    if text is None:
        return None
    if type(text) is not str or not text:
        raise InvalidMessage("field message_id must be a string that is not empty")
    if until is not None and type(until) not in (int, float):
        raise InvalidMessage("field repeat_until must be a number")
    return MessageId(text, until)


def _is_of_a_group(response: AckResponse) -> bool:
    """Tell whether an outcome is that of a group: an outcome of the client itself goes first."""
    return isinstance(response, GroupResponse)


def _is_late(response: AckResponse) -> bool:
    """Tell whether an outcome is that of a group whose time was over."""
    return _is_of_a_group(response) and response.error == "timeout"


def _is_group(expected: Any) -> bool:
    """Tell whether an expected receiver is a group."""
    group = expected.get("group") if type(expected) is dict else None
    return type(group) is str and group != ""


def _timeout(fields: Fields) -> float | None:
    value = fields.get("timeout")
    if value is None:
        return None
    if type(value) not in (int, float) or not value > 0:
        raise InvalidMessage("timeout must be a number of seconds above 0", "bad_request")
    return float(value)


def _error_in(outcome: Fields) -> str | None:
    """Return the error that a subscriber reports; ``None`` if it reports success."""
    if outcome.get("success") is True:
        return None
    reason = outcome.get("error")
    return reason if type(reason) is str else ""
