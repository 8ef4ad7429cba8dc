"""The dialects of a client: how it reads and writes messages at each level of the protocol.

A dialect has no state: one object serves all connections of its level. Level 2 inherits from
level 1 and overrides the differences. Nothing outside this package asks for a level's number.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.envelope import ARRAY, Fields, is_deeper, text, unwrap, write
from kps.protocol.dialect.outcome import (
    AckResponse,
    GroupResponse,
    as_json,
    kept_result,
    size_of,
    size_of_failure,
)
from kps.protocol.dialect.places import LARGEST_OFFSET, LONGEST_EPOCH, Start
from kps.protocol.dialect.requests import Window
from kps.protocol.patterns import InGroup, Key, Pattern, Scope, group_of, scope_of

# How a confirmation begins, as every server of the family writes it.
_CONFIRMATION = b'{"action":"published",'


Publications = tuple[str, str, Sequence[Any]]
"""Messages on one topic: the topic, the sender, the payloads. A plain tuple, because nearly every
message makes one."""


class Question(NamedTuple):
    """A message whose publisher wants an ack."""

    topic: str
    """The topic; empty for a direct message."""
    sender: str
    data: Any
    ack_id: str
    may_be_direct: bool
    """Whether it is a direct message if no subscription has the topic."""


class DeliveryTemplate:
    """What stands around the payload in publications of one sender on one topic.

    It is written as our servers write it. A message that begins and ends so, and has one JSON value
    in between, is such a publication, and nothing else. So only that value must be parsed.
    """

    __slots__ = ("head", "names", "tail")

    def __init__(self, topic: str, sender: str) -> None:
        self.names = topic, sender
        self.head, self.tail = level1.around_delivered(topic, sender)

    def read(self, messages: Sequence[bytes], place: int, deepest: int) -> list[Any]:
        """Return the payloads of the messages in a row, from ``place`` on, that are of this kind.

        One that is no valid message ends the row, and so does one that is nested more than
        ``deepest`` levels.
        """
        head, tail = self.head, self.tail
        begin, end = len(head), -len(tail)
        may_be_too_deep = 2 * deepest
        payloads = []
        for number in range(place, len(messages)):
            message = messages[number]
            if not (message.startswith(head) and message.endswith(tail)):
                break
            try:
                payload = orjson.loads(message[begin:end])
            except orjson.JSONDecodeError:
                break
            if len(message) > may_be_too_deep and is_deeper(payload, deepest - _AROUND):
                break
            payloads.append(payload)
        return payloads


_AROUND = 2  # levels around a payload
_LONG_NAMES = 1000  # characters: a template with longer ones takes too much memory


class ClientLevel1:
    """Level 1: the dialect of the original (spec, section 4)."""

    level = 1

    join: tuple[bytes, bytes, bytes] | None = None
    """What joins several messages into one, if servers of this level accept that."""

    has_batches = False
    """Whether publications on one topic may share a message."""

    has_receipts = False
    """Whether the server tells to how many subscribers it passed a publication on."""

    noise: bytes | None = _CONFIRMATION
    """The beginning of messages that the client skips without parsing. At this level half of
    what a publisher receives are confirmations, and nobody waits for them."""

    names_refusals = False
    """Whether an error says what it refuses."""

    silent_end: float | None = 4.5
    """Seconds after which a final answer without outcomes means that nobody answered in time. An
    original server always ends a request after 5 s, and leaves out who did not answer. When it
    asked nobody, it says the same at once."""

    # -- writing ----------------------------------------------------------------------------

    def subscribe(self, key: Key, client_id: str, start: Start | None, more: Fields) -> bytes:
        """Write a subscription; ``more`` are fields of other features."""
        return level1.subscribe(str(key), client_id)

    def unsubscribe(self, key: Key, client_id: str) -> bytes:
        return level1.unsubscribe(str(key), client_id)

    def publish_with_ack(
        self,
        topic: str,
        sender: str,
        data: Any,
        ack_id: str,
        timeout: float,
        more: Fields,
    ) -> bytes:
        """Write an ack request; ``more`` are fields of later levels."""
        return level1.publish_with_ack(topic, sender, data, ack_id, timeout)

    def publish_to_id_with_ack(
        self, to: str, sender: str, data: Any, ack_id: str, timeout: float, more: Fields
    ) -> bytes:
        return level1.publish_to_id_with_ack(to, sender, data, ack_id, timeout)

    def ack(
        self, ack_id: str, client_id: str, error: str | None, result: Any, *, has_begun: bool = True
    ) -> bytes:
        """Write an ack. Raises :class:`kps.InvalidArgument` for a result that is not JSON."""
        return level1.ack(ack_id, client_id, error)

    def barrier(self, name: str, sender: str) -> bytes:
        """Write a request whose answer repeats ``name``.

        The answer shows that the server has handled everything before it. Servers of this
        level repeat only the id of an ack request, even of one that they do not know.
        """
        return level1.get_ack_status(name, sender)

    # -- reading ----------------------------------------------------------------------------

    def place(self, fields: Fields) -> tuple[str, int]:
        """Return the epoch, if it tells one, and the offset of a delivery; 0: it has none."""
        return "", 0

    def features(self, pong: Fields) -> frozenset[str]:
        """Return what the server has, as its pong tells."""
        return frozenset()

    def bare(self, fields: Fields) -> str:
        """Return the action that a message without one has.

        Early servers of the original leave it out of errors (spec, 10.2).
        """
        return "error" if text(fields, "error") else ""

    def read_publications(self, fields: Fields) -> Publications:
        data, sender = unwrap(fields)
        return text(fields, "topic"), sender, (data,)

    def template(self, topic: str, sender: str) -> DeliveryTemplate | None:
        """Return a template for publications, if each has a message of its own."""
        return DeliveryTemplate(topic, sender) if len(topic) + len(sender) < _LONG_NAMES else None

    def read_question(self, fields: Fields, client_id: str) -> Question:
        topic = text(fields, "topic")
        data, sender = unwrap(fields)
        is_direct = topic.startswith(f"__direct_{client_id}")
        return Question(topic, sender, data, text(fields, "ack_id"), is_direct)


class ClientLevel2(ClientLevel1):
    """Level 2: batches, arrays, receipts, results, updates, error codes (spec, section 12)."""

    level = 2
    join: tuple[bytes, bytes, bytes] | None = ARRAY
    has_batches = True
    has_receipts = True
    noise: bytes | None = None
    names_refusals = True
    silent_end: float | None = None

    def subscribe(self, key: Key, client_id: str, start: Start | None, more: Fields) -> bytes:
        return level2.subscribe(key, more if start is None else start.fields() | more)

    def unsubscribe(self, key: Key, client_id: str) -> bytes:
        return level2.unsubscribe(key)

    def publish_with_ack(
        self,
        topic: str,
        sender: str,
        data: Any,
        ack_id: str,
        timeout: float,
        more: Fields,
    ) -> bytes:
        return level2.publish_with_ack(topic, data, ack_id, timeout, more)

    def publish_to_id_with_ack(
        self, to: str, sender: str, data: Any, ack_id: str, timeout: float, more: Fields
    ) -> bytes:
        return level2.publish_to_id_with_ack(to, data, ack_id, timeout, more)

    def ack(
        self, ack_id: str, client_id: str, error: str | None, result: Any, *, has_begun: bool = True
    ) -> bytes:
        return level2.ack(ack_id, error, result, has_begun=has_begun)

    def barrier(self, name: str, sender: str) -> bytes:
        return level2.ping(sender, name)

    def place(self, fields: Fields) -> tuple[str, int]:
        offset = fields.get("offset")
        if type(offset) is not int or not 1 <= offset <= LARGEST_OFFSET:
            return "", 0
        return text(fields, "epoch")[:LONGEST_EPOCH], offset

    def features(self, pong: Fields) -> frozenset[str]:
        features = pong.get("features")
        if type(features) is not list:
            return frozenset()
        return frozenset(feature for feature in features if type(feature) is str)

    def bare(self, fields: Fields) -> str:
        return ""

    def read_publications(self, fields: Fields) -> Publications:
        batch = fields.get("batch")
        payloads = batch if type(batch) is list else [fields.get("data")]
        return text(fields, "topic"), text(fields, "from"), payloads

    def template(self, topic: str, sender: str) -> DeliveryTemplate | None:
        return None

    def read_question(self, fields: Fields, client_id: str) -> Question:
        # Each of these is a string or missing, as ``check`` has seen.
        get = fields.get
        topic = get("topic") or ""
        return Question(topic, get("from") or "", get("data"), get("ack_id") or "", not topic)


LEVEL_1 = ClientLevel1()
LEVEL_2 = ClientLevel2()


def greeting(client_id: str, highest: int) -> bytes:
    """Write the first ping of a connection, which offers a level."""
    ping = level2.ping if highest >= LEVEL_2.level else level1.ping
    return ping(client_id)


def agreed(fields: Fields, highest: int) -> ClientLevel1:
    """Return the dialect that the first pong of a connection settles."""
    is_offered = highest >= LEVEL_2.level
    return LEVEL_2 if is_offered and fields.get("proto") == LEVEL_2.level else LEVEL_1


def limit_in(fields: Fields) -> int | None:
    """Return the largest message that the server accepts, in bytes, if its pong tells."""
    limits = fields.get("limits")
    limit = limits.get("max_message") if type(limits) is dict else None
    return limit if type(limit) is int and limit > 0 else None


def window_in(fields: Fields) -> Window | None:
    """Return for how long the server knows which messages it has handled, if its pong tells."""
    told: Any = fields.get("message_ids")
    if type(told) is not dict:
        return None
    name, most = told.get("window", ""), told.get("most", 0)
    times = told.get("seconds", 0.0), told.get("time", 0.0)
    are_times = all(type(one) in (int, float) for one in times)
    if type(name) is not str or not name or type(most) is not int or not are_times:
        return None
    return Window(name, times[0], most, times[1])


def unconfirmed_in(fields: Fields) -> Sequence[str]:
    """Return the nodes of a cluster that may not know of a subscription."""
    nodes = fields.get("unconfirmed")
    return [node for node in nodes if type(node) is str] if type(nodes) is list else ()


def key_in(fields: Fields) -> Key:
    """Return the topic or pattern that an answer of the server names, or ``""``."""
    group = text(fields, "group")
    scope: Scope = text(fields, "topic")
    if "pattern" in fields and type(fields["pattern"]) is str and fields["pattern"]:
        scope = Pattern(fields["pattern"])
    return InGroup(scope, group) if group else scope


def read_group_response(fields: Fields, request: str) -> tuple[GroupResponse, int]:
    """Read the outcome of one group; return what it takes, too."""
    response, size = read_response(text(fields, "member"), fields, request)
    told = fields.get("failures")
    failures = tuple(
        (text(one, "member"), text(one, "error"))
        for one in (told if type(told) is list else ())
        if type(one) is dict
    )
    key, attempts = key_in(fields), fields.get("attempts")
    group = GroupResponse(
        response.client_id,
        response.success,
        response.error,
        response.ack_id,
        kept_result(response),
        scope=scope_of(key),
        group=group_of(key),
        attempts=attempts if type(attempts) is int else 0,
        failures=failures,
    )
    return group, size + sum(size_of_failure(*one) for one in failures)


def read_response(client_id: str, fields: Fields, request: str) -> tuple[AckResponse, int]:
    """Read one outcome of the ack request with the id ``request``; return what it takes, too."""
    if len(fields) == 1 and fields.get("success") is True:  # the usual one, on level 2
        response = AckResponse(client_id, True, None, request)
        return response, size_of(response)
    reason, ack_id, result = fields.get("error"), fields.get("ack_id"), fields.get("result")
    written = b"" if result is None else write(result)
    response = AckResponse(
        client_id,
        fields.get("success") is True,
        reason if type(reason) is str else None,
        ack_id if type(ack_id) is str else request,
        as_json(written) if written else None,
    )
    return response, size_of(response, len(written))
