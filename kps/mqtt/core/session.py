"""A session at a broker: what is under way, over several connections.

Bytes, times and messages go in; events and bytes to write come out. Messages with QoS 1 stay here
until the broker has acknowledged them, and go to the next connection in their order.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kps.mqtt.core import packets
from kps.mqtt.core.fields import MOST_REMAINING, Malformed
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
from kps.mqtt.core.reasons import TOO_LARGE, in_words

_LAST_PID = 65_535


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
    """Time for the answer to CONNECT."""


class Outgoing:
    """A message for the broker. ``done`` gets the code of its answer, once; see ``reasons``."""

    __slots__ = ("done", "message", "was_written")

    def __init__(self, message: Publish, done: Callable[[int, str], None]) -> None:
        self.message = message
        self.done = done
        self.was_written = False


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
        self.deadline: float | None = None
        """When ``tick`` has something to do, if nothing comes before."""
        self._reader = Reader(self.version, config.max_packet)
        self._output: list[bytes] = []
        self._under_way: dict[int, Outgoing] = {}  # by the number of the packet, in order
        self._unwritten: deque[int] = deque()  # of these, those not written on this connection
        self._in_air = 0
        self._limit = config.window
        self._max_packet = MOST_REMAINING
        self._pid = 0
        self._interval = float(config.keep_alive)  # between pings; 0: none
        self._has_heard = True  # since the last ping

    @property
    def under_way(self) -> int:
        """Messages with QoS 1 that the broker has not acknowledged yet."""
        return len(self._under_way)

    @property
    def has_room(self) -> bool:
        """Whether one more message with QoS 1 may be given."""
        return len(self._under_way) < self.config.window

    def fits(self, message: Publish) -> bool:
        """Tell whether the broker takes a message of this size, as far as it has said."""
        names = len(message.topic) + sum(len(name) + len(one) + 2 for name, one in message.user)
        most = len(message.payload) + 4 * names + 16  # a character takes up to four bytes
        return most <= self._max_packet or (
            len(packets.publish(self.version, message)) <= self._max_packet
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
        self.deadline = now + config.answer_timeout
        self._has_heard = True

    def end(self) -> None:
        """The connection is gone."""
        self.is_open = False
        self.deadline = None
        self._output = []

    def give_up(self) -> list[Outgoing]:
        """Forget what the broker has not acknowledged, and return it."""
        given_up = list(self._under_way.values())
        self._under_way.clear()
        self._unwritten.clear()
        return given_up

    def disconnect(self) -> None:
        """Tell the broker that we leave."""
        if self.is_open:
            self._output.append(packets.DISCONNECT)
            self.is_open = False

    # -- what goes out ----------------------------------------------------------------------

    def take(self) -> bytes:
        """Return the bytes to write now."""
        output, self._output = self._output, []
        return b"".join(output)

    def subscribe(self, filters: Sequence[Filter]) -> None:
        """Subscribe. ``Subscribed`` has the answer."""
        self._output.append(packets.subscribe(self.version, self._new_pid(), filters))

    def publish(self, message: Outgoing) -> None:
        """Send a message, with QoS 1 when the broker takes it. There is room, or QoS is 0.

        One with QoS 0 is done when it is among the bytes to write.
        """
        if message.message.qos == 0:
            self._output.append(packets.publish(self.version, message.message))
            message.done(0, "")
            return
        pid = self._new_pid()
        message.message = replace(message.message, pid=pid)
        self._under_way[pid] = message
        self._unwritten.append(pid)
        if self.is_open:
            self._write_some()

    def acknowledge(self, pid: int, code: int) -> None:
        """Answer a message with QoS 1 that has come on this connection."""
        self._output.append(packets.puback(self.version, pid, code))

    def tick(self, now: float, *, is_reading: bool = True) -> list[Event]:
        """Do what is due. Who has stopped reading cannot say that the broker is silent."""
        if self.deadline is None or now < self.deadline:
            return []
        if not self.is_open or (is_reading and not self._has_heard):
            return [Broken("the broker does not answer")]
        self._has_heard = False
        self._output.append(packets.PINGREQ)
        self.deadline = now + self._interval
        return []

    # -- what comes in ----------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the broker."""
        events: list[Event] = []
        try:
            for packet in self._reader.feed(data):
                self._handle(packet, now, events)
        except Malformed as error:
            events.append(Broken(str(error)))
        self._has_heard = True
        return events

    def _handle(self, packet: Packet, now: float, events: list[Event]) -> None:
        if isinstance(packet, Connack) == self.is_open:
            raise Malformed("a packet came before the broker has accepted, or it did so twice")
        match packet:
            case Publish():
                events.append(Arrived(packet))
            case Puback(pid, code, reason):
                self._acknowledged(pid, code, reason)
            case Connack(code) if code == 0:
                self._opened(packet, now)
                events.append(Opened(packet))
            case Connack(code):
                events.append(Refused(code, in_words(code, packet.reason)))
            case Suback(_, codes):
                events.append(Subscribed(codes))
            case Disconnect(code, reason):
                events.append(Broken(in_words(code, reason) if code else "the broker leaves", code))
            case Pingresp():
                pass

    def _opened(self, connack: Connack, now: float) -> None:
        self.is_open = True
        self._limit = min(self.config.window, connack.receive_maximum)
        self._max_packet = connack.max_packet
        kept = connack.keep_alive
        self._interval = float(self.config.keep_alive if kept is None else kept)
        self.deadline = now + self._interval if self._interval else None
        self._in_air = 0
        self._unwritten = deque(self._under_way)
        if not connack.session_present:
            for one in self._under_way.values():
                one.was_written = False
        self._write_some()

    def _write_some(self) -> None:
        while self._unwritten and self._in_air < self._limit:
            pid = self._unwritten.popleft()
            one = self._under_way[pid]
            written = packets.publish(self.version, replace(one.message, dup=one.was_written))
            if len(written) > self._max_packet:
                del self._under_way[pid]
                one.done(TOO_LARGE, "")
                continue
            one.was_written = True
            self._in_air += 1
            self._output.append(written)

    def _acknowledged(self, pid: int, code: int, reason: str) -> None:
        one = self._under_way.pop(pid, None)
        if one is None:
            return  # of a session that we have given up
        self._in_air -= 1
        self._write_some()
        one.done(code, reason)

    def _new_pid(self) -> int:
        while True:
            self._pid = self._pid % _LAST_PID + 1
            if self._pid not in self._under_way:
                return self._pid


def versions(wanted: int | None) -> tuple[int, ...]:
    """Return the versions to offer, in order; ``None``: the newer one, then the other."""
    return (V5, V3) if wanted is None else (wanted,)
