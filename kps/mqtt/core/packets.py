"""MQTT's packets, as far as a bridge needs them: MQTT 3.1.1 and 5, QoS 0 and 1.

No library for Python gives a bridge all that it needs, so the packets are written here. paho-mqtt
cannot send a PUBACK with a reason, blocks while it connects, reads each packet in three system
calls or more, and keeps messages of its own beyond our count. aiomqtt, above it, drops messages
when its queue is full. gmqtt has no types, and keeps what it sends in a store of its own. zmqtt is
an alpha version, whose acknowledgements have no reason either. This has no dependency, and is
tested without sockets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kps.mqtt.core.fields import (
    KEEP_ALIVE,
    LONGEST_TEXT,
    MAXIMUM_PACKET,
    MAXIMUM_QOS,
    MOST_REMAINING,
    NO_PROPERTIES,
    REASON,
    RECEIVE_MAXIMUM,
    RETAIN_AVAILABLE,
    SESSION_EXPIRY,
    Fields,
    Malformed,
    Pairs,
    binary,
    properties,
    text,
    variable,
)

V3 = 4
"""MQTT 3.1.1, by the number that it has in packets."""
V5 = 5
"""MQTT 5."""

_HEAD = LONGEST_TEXT + 4  # bytes of a packet that is too large, in which its topic and number are

_PAIR = 200  # bytes of a tuple and two texts, without their characters

PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"


@dataclass(frozen=True, slots=True)
class Publish:
    """A message."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    """Whether the sender may have sent it before."""
    pid: int = 0
    """With QoS 1: by what the receiver acknowledges it."""
    user: Pairs = ()
    left_out: int = 0
    """Bytes of a message that was too large, behind its topic and number: they were not kept."""

    @property
    def weight(self) -> int:
        """About how many bytes it takes in memory. Each pair costs, however short its texts are."""
        pairs = sum(_PAIR + len(name) + len(value) for name, value in self.user)
        return len(self.payload) + len(self.topic) + pairs


class Connack(NamedTuple):
    """The broker's answer to CONNECT. Code 0: it accepts."""

    code: int
    session_present: bool = False
    """Whether the broker still has the session of before."""
    reason: str = ""
    receive_maximum: int = 65_535
    """Messages with QoS 1 that it takes at a time."""
    max_packet: int = MOST_REMAINING
    """Bytes of the largest packet that it takes."""
    max_qos: int = 2
    has_retain: bool = True
    keep_alive: int | None = None
    """Seconds, in place of what we have asked for."""


class Puback(NamedTuple):
    """The broker's answer to a message with QoS 1. From code 128 on it has refused it."""

    pid: int
    code: int
    reason: str = ""


class Suback(NamedTuple):
    """The broker's answer to subscriptions, in their order. From code 128 on: refused."""

    pid: int
    codes: tuple[int, ...]


class Pingresp(NamedTuple):
    """The broker's answer to a ping."""


class Disconnect(NamedTuple):
    """The broker ends the connection."""

    code: int
    reason: str = ""


Packet = Publish | Connack | Puback | Suback | Pingresp | Disconnect


class Filter(NamedTuple):
    """A subscription."""

    text: str
    qos: int
    retained: int
    """When the broker sends retained messages: 0 for each SUBSCRIBE, 1 for a new subscription, 2
    never. A broker of MQTT 3.1.1 does not know this, and does as with 0."""


# -- writing ---------------------------------------------------------------------------------


def connect(
    version: int,
    client_id: str,
    *,
    user: str | None,
    password: str | None,
    keep_alive: int,
    session_expiry: int,
    receive_maximum: int,
) -> bytes:
    """Write CONNECT. ``session_expiry`` in seconds; 0: the session ends with the connection."""
    flags = 0x00 if session_expiry else 0x02
    flags |= (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    body = text("MQTT") + bytes((version, flags)) + keep_alive.to_bytes(2)
    if version == V5:
        body += properties(((SESSION_EXPIRY, session_expiry), (RECEIVE_MAXIMUM, receive_maximum)))
    body += text(client_id)
    body += b"" if user is None else text(user)
    body += b"" if password is None else binary(password.encode())
    return _packet(0x10, body)


def publish(version: int, message: Publish) -> bytes:
    """Write a message."""
    head = 0x30 | message.qos << 1 | message.retain | message.dup << 3
    body = text(message.topic)
    if message.qos:
        body += message.pid.to_bytes(2)
    if version == V5:
        body += properties(user=message.user) if message.user else b"\x00"
    return _packet(head, body + message.payload)


def puback(version: int, pid: int, code: int) -> bytes:
    """Write the answer to a message. MQTT 3.1.1 has no codes."""
    if version == V5 and code:
        return b"\x40\x03" + pid.to_bytes(2) + bytes((code,))
    return b"\x40\x02" + pid.to_bytes(2)


def subscribe(version: int, pid: int, filters: Sequence[Filter]) -> bytes:
    """Write subscriptions. On MQTT 5 what this client has published does not come back (No Local).

    The flag *retain* of what comes then says that it is an old message, as in MQTT 3.1.1: with
    Retain As Published it would not tell that.
    """
    body = pid.to_bytes(2) + (b"\x00" if version == V5 else b"")
    for one in filters:
        options = one.qos | (0x04 | one.retained << 4 if version == V5 else 0)
        body += text(one.text) + bytes((options,))
    return _packet(0x82, body)


def _packet(head: int, body: bytes) -> bytes:
    if len(body) > MOST_REMAINING:
        raise Malformed(f"a packet of MQTT has at most {MOST_REMAINING} bytes")
    return bytes((head,)) + variable(len(body)) + body


# -- reading ---------------------------------------------------------------------------------


class Reader:
    """Makes packets of the bytes of one connection.

    Of a packet of more than ``max_packet`` bytes it keeps the head only: a :class:`Publish` comes
    without properties and payload, so that its sender can be told. Raises :class:`Malformed`.
    """

    def __init__(self, version: int, max_packet: int) -> None:
        self._version = version
        self._max_packet = max_packet
        self._pending = bytearray()
        self._to_skip = 0

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Take bytes, and yield the packets that are complete."""
        pending = self._pending
        pending += data
        place = 0
        try:
            while True:
                if self._to_skip:
                    skipped = min(self._to_skip, len(pending) - place)
                    self._to_skip -= skipped
                    place += skipped
                begin, size = _length(pending, place)
                if begin == 0:
                    return
                held = size if size <= self._max_packet else min(size, _HEAD)
                if len(pending) - begin < held:
                    return
                head = pending[place]
                body = bytes(memoryview(pending)[begin : begin + held])
                place = begin + held
                self._to_skip = size - held
                yield self._read(head, body, size - held if size > self._max_packet else -1)
        finally:
            del pending[:place]

    def _read(self, head: int, body: bytes, left_out: int) -> Packet:
        kind = head >> 4
        if kind == 3:
            return self._publish(head, body, left_out)
        if left_out >= 0:
            raise Malformed("a packet is too large")
        fields = Fields(body)
        match kind:
            case 2:
                return self._connack(fields)
            case 4:
                pid = fields.number(2)
                code = 0 if fields.is_at_end else fields.number(1)
                return Puback(pid, code, self._reason(fields))
            case 9:
                pid = fields.number(2)
                if self._version == V5:
                    fields.properties()
                return Suback(pid, tuple(fields.rest()))
            case 13:
                return Pingresp()
            case 14:
                code = 0 if fields.is_at_end else fields.number(1)
                return Disconnect(code, self._reason(fields))
        raise Malformed(f"a broker sends no packet of the kind {kind}")

    def _publish(self, head: int, body: bytes, left_out: int) -> Publish:
        fields = Fields(body)
        qos = head >> 1 & 3
        topic = fields.text()
        pid = fields.number(2) if qos else 0
        if qos > 1 or (qos and not pid) or not topic:
            raise Malformed("a message has QoS 2, no number, or no topic")
        retain, dup = bool(head & 1), bool(head & 8)
        if left_out >= 0:  # of all that is behind, only a part may be here
            left_out += len(fields.rest())
            return Publish(topic, b"", qos, retain, dup, pid, left_out=left_out)
        found = fields.properties() if self._version == V5 else NO_PROPERTIES
        return Publish(topic, fields.rest(), qos, retain, dup, pid, found.user)

    def _connack(self, fields: Fields) -> Connack:
        is_present, code = bool(fields.number(1) & 1), fields.number(1)
        # A broker of MQTT 3.1.1 answers so, also to MQTT 5, which it does not know.
        if self._version != V5 or fields.is_at_end:
            return Connack(code, is_present)
        found = fields.properties()
        numbers = found.numbers
        if 0 in (numbers.get(RECEIVE_MAXIMUM), numbers.get(MAXIMUM_PACKET)):
            raise Malformed("the broker says that it takes no message at all")
        return Connack(
            code,
            is_present,
            found.texts.get(REASON, ""),
            numbers.get(RECEIVE_MAXIMUM, 65_535),
            numbers.get(MAXIMUM_PACKET, MOST_REMAINING),
            numbers.get(MAXIMUM_QOS, 2),
            bool(numbers.get(RETAIN_AVAILABLE, 1)),
            numbers.get(KEEP_ALIVE),
        )

    def _reason(self, fields: Fields) -> str:
        if self._version != V5 or fields.is_at_end:
            return ""
        return fields.properties().texts.get(REASON, "")


def _length(content: bytearray, place: int) -> tuple[int, int]:
    """Return where a packet goes on behind its length, and that; 0: it has not come yet."""
    size = 0
    for number in range(4):
        at = place + 1 + number
        if at >= len(content):
            return 0, 0
        size |= (content[at] & 0x7F) << 7 * number
        if content[at] < 0x80:
            return at + 1, size
    raise Malformed("the length of a packet has more than four bytes")
