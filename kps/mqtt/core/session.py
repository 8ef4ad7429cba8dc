"""A session at a broker: what is under way, over several connections.

Bytes, times and messages go in; events and bytes to write come out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kps.mqtt.core import packets
from kps.mqtt.core.fields import Malformed
from kps.mqtt.core.packets import (
    V3,
    V5,
    Connack,
    Disconnect,
    Filter,
    Packet,
    Pingresp,
    Puback,
    Publish,
    Reader,
    Suback,
)
from kps.mqtt.core.reasons import BLAMES, BLAMES_NO_MESSAGE, in_words
from kps.mqtt.core.sending import End, Outgoing, Sending


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """How a client of a broker connects. Times in seconds, sizes in bytes."""

    client_id: str
    version: int = V5
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    keep_alive: int = 30
    """Between two pings; without an answer before the next one the connection ends."""
    expiry: int = 86_400
    """How long the broker keeps the session without a connection; 0: not at all."""
    window: int = 100
    """Messages with QoS 1 that may be under way at a time, each way."""
    max_packet: int = 4 * 1024 * 1024
    """The largest packet that we take."""
    answer_timeout: float = 10.0
    """Time for the answers to CONNECT and SUBSCRIBE."""


class Opened(NamedTuple):
    """The broker has accepted the connection."""

    connack: Connack


class Refused(NamedTuple):
    """The broker has refused the connection."""

    code: int
    reason: str


class Arrived(NamedTuple):
    """A message has come. With QoS 1 it waits for ``acknowledge``."""

    message: Publish


class Subscribed(NamedTuple):
    """The broker's answer to subscriptions, in their order."""

    codes: tuple[int, ...]


class Broken(NamedTuple):
    """The connection must end."""

    reason: str
    code: int = 0


Event = Opened | Refused | Arrived | Subscribed | Broken


class Session:
    """The client's side of a session."""

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.version = config.version
        """The version of MQTT in use."""
        self.is_open = False
        """Whether there is a connection that the broker has accepted."""
        self.was_of_use = False
        """Whether a message came over this connection, or the last one, or was acknowledged."""
        self._reader = Reader(self.version, config.max_packet)
        self._output: list[bytes] = []
        self._sending = Sending(config.window)
        self._asked: tuple[int, int] | None = None  # the SUBSCRIBE: number, and filters in it
        self._answer_by: float | None = None  # when the broker must have answered
        self._ping_at: float | None = None
        self._interval = float(config.keep_alive)  # between pings; 0: none
        self._is_reading = True
        self._has_heard = True  # since the last ping
        self._end = End.OTHER  # why this connection ends, should it end now

    @property
    def deadline(self) -> float | None:
        """When ``tick`` has something to do, if nothing comes before."""
        return min((at for at in (self._answer_by, self._ping_at) if at is not None), default=None)

    @property
    def under_way(self) -> int:
        """Messages with QoS 1 that the broker has not acknowledged yet."""
        return len(self._sending)

    @property
    def has_room(self) -> bool:
        """Whether one more message with QoS 1 may be given."""
        return len(self._sending) < self.config.window

    def fits(self, message: Publish) -> bool:
        """Tell whether the broker takes a message of this size, as far as it has said."""
        names = len(message.topic) + sum(len(name) + len(one) + 2 for name, one in message.user)
        most = len(message.payload) + 4 * names + 16  # a character takes up to four bytes
        return most <= self._sending.max_packet or (
            len(packets.publish(self.version, message)) <= self._sending.max_packet
        )

    # -- life -------------------------------------------------------------------------------

    def begin(self, now: float, version: int) -> None:
        """Begin a connection."""
        config = self.config
        self.version = version
        self._reader = Reader(version, config.max_packet)
        self._output = [
            packets.connect(
                version,
                config.client_id,
                user=config.user,
                password=config.password,
                keep_alive=config.keep_alive,
                session_expiry=config.expiry,
                receive_maximum=config.window,
            )
        ]
        self._answer_by = now + config.answer_timeout
        self._asked = None
        self._is_reading = self._has_heard = True
        self.was_of_use = False
        self._end = End.OTHER

    def end(self) -> None:
        """The connection is gone. Messages over which it ends again and again are given up."""
        self.is_open = False
        self._answer_by = self._ping_at = None
        self._output = []
        self._sending.lost(self._end)
        self._end = End.OTHER

    def give_up(self) -> list[Outgoing]:
        """Forget what the broker has not acknowledged, and return it."""
        return self._sending.give_up()

    def disconnect(self) -> None:
        """Tell the broker that we leave."""
        if self.is_open:
            self._output.append(packets.DISCONNECT)
            self.is_open = False
            self._end = End.OTHER

    # -- what goes out ----------------------------------------------------------------------

    def take(self) -> bytes:
        """Return the bytes to write now."""
        output, self._output = self._output, []
        return b"".join(output)

    def subscribe(self, filters: Sequence[Filter], now: float) -> None:
        """Subscribe. ``Subscribed`` has the answer."""
        pid = self._sending.new_pid()
        self._asked = pid, len(filters)
        self._answer_by = now + self.config.answer_timeout
        self._output.append(packets.subscribe(self.version, pid, filters))

    def publish(self, message: Outgoing) -> None:
        """Send a message, with QoS 1 when the broker takes it. There is room, or QoS is 0.

        One with QoS 0 is done when it is among the bytes to write.
        """
        if message.message.qos == 0:
            self._output.append(packets.publish(self.version, message.message))
            message.done(0, "")
            return
        self._sending.add(message)
        if self.is_open:
            self._output += self._sending.write(self.version)

    def acknowledge(self, pid: int, code: int) -> None:
        """Answer a message with QoS 1 that has come on this connection."""
        self._output.append(packets.puback(self.version, pid, code))

    def set_reading(self, is_reading: bool) -> None:
        """Note whether the connection is read. While it is not, a broker only seems silent."""
        self._is_reading = is_reading
        self._has_heard = True

    def tick(self, now: float) -> list[Event]:
        """Do what is due."""
        is_silent = False
        if self._answer_by is not None and now >= self._answer_by:
            is_silent = self._is_reading
            self._answer_by = now + self.config.answer_timeout
        if self._ping_at is not None and now >= self._ping_at:
            is_silent = is_silent or (self._is_reading and not self._has_heard)
            self._has_heard = False
            self._output.append(packets.PINGREQ)
            self._ping_at = now + self._interval
        return [self._broken("the broker does not answer")] if is_silent else []

    # -- what comes in ----------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the broker."""
        events: list[Event] = []
        try:
            for packet in self._reader.feed(data):
                self._handle(packet, now, events)
        except Malformed as error:
            is_mqtt = self.is_open
            text = str(error) if is_mqtt else f"what answers does not speak MQTT: {error}"
            events.append(self._broken(text))
        self._has_heard = True
        return events

    def _handle(self, packet: Packet, now: float, events: list[Event]) -> None:
        if isinstance(packet, Connack) == self.is_open:
            raise Malformed("a packet came before the broker has accepted, or it did so twice")
        match packet:
            case Publish():
                self.was_of_use = True
                events.append(Arrived(packet))
            case Puback(pid, code, reason):
                self._acknowledged(pid, code, reason)
            case Connack(code) if code == 0:
                self._opened(packet, now)
                events.append(Opened(packet))
            case Connack(code):
                events.append(Refused(code, in_words(code, packet.reason)))
            case Suback(pid, codes):
                if self._asked != (pid, len(codes)):
                    raise Malformed("an answer is to none of our subscriptions")
                self._asked = self._answer_by = None
                events.append(Subscribed(codes))
            case Disconnect(code, reason):
                text = in_words(code, reason) if code else "the broker leaves"
                events.append(self._broken(text, code))
                self._end = _end_of(code)
            case Pingresp():
                pass

    def _opened(self, connack: Connack, now: float) -> None:
        self.is_open = True
        self._end = End.CUT
        kept = connack.keep_alive
        self._interval = float(self.config.keep_alive if kept is None else kept)
        self._answer_by = None
        self._ping_at = now + self._interval if self._interval else None
        self._sending.opened(
            min(self.config.window, connack.receive_maximum),
            connack.max_packet,
            is_present=connack.session_present,
        )
        self._output += self._sending.write(self.version)

    def _acknowledged(self, pid: int, code: int, reason: str) -> None:
        one = self._sending.acknowledged(pid)
        if one is not None:
            self.was_of_use = True
            self._output += self._sending.write(self.version)
            one.done(code, reason)

    def _broken(self, reason: str, code: int = 0) -> Broken:
        """Note that the connection has to end, and nothing is due on it any more."""
        self._end = End.OTHER
        self._answer_by = self._ping_at = None
        return Broken(reason, code)


def _end_of(code: int) -> End:
    if code in BLAMES:
        return End.BLAMED
    return End.OTHER if code in BLAMES_NO_MESSAGE else End.CUT


def versions(wanted: int | None) -> tuple[int, ...]:
    """Return the versions to offer, in order; ``None``: the newer one, then the other."""
    return (V5, V3) if wanted is None else (wanted,)
