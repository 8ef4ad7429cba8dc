"""Messages with QoS 1 on their way to the broker, until it has acknowledged them.

They go to the next connection in their order. A broker that ends the connection because of one of
them would so end each connection, and nothing would pass any more. So when connections end again
and again, and none of these messages was acknowledged, they go one at a time; and one over which
connections go on to end is given up.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum, auto

from kps.mqtt.core import packets
from kps.mqtt.core.fields import MOST_REMAINING
from kps.mqtt.core.packets import Publish
from kps.mqtt.core.reasons import ENDS_CONNECTION, TOO_LARGE

_LAST_PID = 65_535
_ENOUGH = 4  # connections in a row that end over messages


class End(Enum):
    """Why a connection has ended, as far as messages may be the reason."""

    OTHER = auto()
    """We have ended it, or it had not begun."""
    CUT = auto()
    """The broker has ended it, or the network."""
    BLAMED = auto()
    """The broker has, and has said that a packet was bad."""


class Outgoing:
    """A message for the broker. ``done`` gets the code of its answer, once; see ``reasons``."""

    __slots__ = ("done", "message", "was_written")

    def __init__(self, message: Publish, done: Callable[[int, str], None]) -> None:
        self.message = message
        self.done = done
        self.was_written = False


class Sending:
    """The messages that the broker has not acknowledged, in their order.

    At most ``limit`` of them are in the air, and none is larger than ``max_packet`` bytes.
    """

    def __init__(self, window: int) -> None:
        self.limit = window
        self.max_packet = MOST_REMAINING
        self._messages: dict[int, Outgoing] = {}  # by the number of the packet
        self._unwritten: deque[int] = deque()  # of these, those not written on this connection
        self._in_air: set[int] = set()  # the others
        self._pid = 0
        self._suspects = 0  # messages, from the first one on, that go one at a time
        self._cuts = 0  # connections in a row that ended over them
        self._has_answers = False  # whether one was acknowledged on this connection

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, one: Outgoing) -> None:
        """Take a message."""
        pid = self.new_pid()
        one.message = replace(one.message, pid=pid)
        self._messages[pid] = one
        self._unwritten.append(pid)

    def new_pid(self) -> int:
        """Return a number for a packet that no message has."""
        while True:
            self._pid = self._pid % _LAST_PID + 1
            if self._pid not in self._messages:
                return self._pid

    def opened(self, limit: int, max_packet: int, *, is_present: bool) -> None:
        """Begin with a connection. ``is_present``: whether the broker may have had messages."""
        self.limit = limit
        self.max_packet = max_packet
        self._unwritten = deque(self._messages)
        if not is_present:
            for one in self._messages.values():
                one.was_written = False

    def write(self, version: int) -> Iterator[bytes]:
        """Yield what can be written now. A message that is too large is done."""
        while self._unwritten and len(self._in_air) < (1 if self._suspects else self.limit):
            pid = self._unwritten.popleft()
            one = self._messages[pid]
            written = packets.publish(version, replace(one.message, dup=one.was_written))
            if len(written) > self.max_packet:
                self._take_out(pid).done(TOO_LARGE, "")
                continue
            one.was_written = True
            self._in_air.add(pid)
            yield written

    def acknowledged(self, pid: int) -> Outgoing | None:
        """Take a message out; ``None`` if it is not in the air, or of an earlier session."""
        if pid not in self._in_air:
            return None
        self._in_air.discard(pid)
        self._has_answers = True
        self._cuts = 0
        return self._take_out(pid)

    def lost(self, end: End) -> None:
        """The connection is gone. A message may be given up for that."""
        had, self._in_air = len(self._in_air), set()
        has_answers, self._has_answers = self._has_answers, False
        if had and end is End.BLAMED:
            self._cuts = _ENOUGH
        elif had and end is End.CUT and not has_answers:
            self._cuts += 1
        if self._cuts < _ENOUGH:
            return
        self._cuts = 0
        if self._suspects:
            self._take_out(next(iter(self._messages))).done(ENDS_CONNECTION, "")
        else:
            self._suspects = had  # what was in the air are the first ones

    def give_up(self) -> list[Outgoing]:
        """Forget all messages, and return them."""
        given_up = list(self._messages.values())
        self._messages.clear()
        self._unwritten.clear()
        self._in_air.clear()
        return given_up

    def _take_out(self, pid: int) -> Outgoing:
        self._suspects = max(0, self._suspects - 1)
        return self._messages.pop(pid)
