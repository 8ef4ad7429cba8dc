"""What it costs when very many members of a topic go and come back, in the core, in memory."""

import gc
import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from kps.protocol.server.connection import WebSocketConnection
from model import Case, Figure, Sample, Scale, Scenario
from scenarios.core import NOW, new_hub
from wires import KpsWire

P = ParamSpec("P")
T = TypeVar("T")

MESSAGES = Figure("messages in all", more_is_better=False, has_ratio=False)
EACH = Figure("to a member", more_is_better=False, has_ratio=False)
BYTES = Figure("data to a member", "bytes", more_is_better=False, has_ratio=False)
TIME = Figure("time of the core", "µs", more_is_better=False, has_ratio=False)
LONGEST = Figure("its longest call", "ms", more_is_better=False, has_ratio=False)

_LOSING = 1.0  # seconds in which they lose their connections
_WITHIN, _BEYOND = 1.0, 7.0  # seconds until they come back; the grace time is 5
_AFTER = 3.0  # seconds in which the last changes are told


class _Room:
    """A server and the members of one topic, who all observe. Its time is that of the core."""

    def __init__(self) -> None:
        self.now = NOW
        self.messages = self.bytes = 0
        self.spent = self.longest = 0.0
        self._hub = new_hub()

    def enter(self, name: str) -> WebSocketConnection:
        """Connect, register, and observe, each when the answer before has come."""
        wire = KpsWire(2)
        connection = self._timed(self._hub.connect, "memory", self.now)
        requests = [request for request, _ in wire.opening(name)]
        for request in (*requests, wire.observing("room")):
            self._timed(connection.receive_data, request, self.now)
            self._settle()
        return connection

    def lose(self, connection: WebSocketConnection) -> None:
        """End a connection without a close frame."""
        self._timed(connection.connection_lost, self.now)
        self._settle()

    def wait(self, seconds: float) -> None:
        """Let time pass, and do what becomes due."""
        end = self.now + seconds
        while (due := self._hub.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self._settle()
        self.now = max(self.now, end)

    def forget(self) -> None:
        """Count anew."""
        self.messages = self.bytes = 0
        self.spent = self.longest = 0.0

    def _settle(self) -> None:
        """Do what is due, and write what there is to write."""
        hub = self._hub
        while True:
            for number in self._timed(hub.take_unflushed):
                connection = hub.connections.get(number)
                if isinstance(connection, WebSocketConnection):
                    self._write(connection)
            hub.events()
            due = hub.next_deadline()
            if due is None or due > self.now:
                return
            self._timed(hub.handle_timeout, self.now)

    def _write(self, connection: WebSocketConnection) -> None:
        while data := self._timed(connection.data_to_send):
            self.bytes += len(data)
            self.messages += data.count(b'"action":"presence"')

    def _timed(self, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        began = time.thread_time()
        result = call(*args, **named)
        spent = time.thread_time() - began
        self.now += spent
        self.spent += spent
        self.longest = max(self.longest, spent)
        return result


def come_back(number: int, lost: int, away: float) -> Sample:
    """Let some of the members lose their connections, and come back after a while."""
    room = _Room()
    members = [room.enter(f"member-{n}") for n in range(number)]
    room.wait(_AFTER)
    room.forget()
    gc.collect()
    gc.disable()  # a look at everything would be the longest call
    try:
        for member in members[:lost]:
            room.lose(member)
            room.wait(_LOSING / lost)
        room.wait(away)
        for n in range(lost):
            room.enter(f"member-{n}")
        room.wait(_AFTER)
    finally:
        gc.enable()
    return {
        MESSAGES.title: room.messages,
        EACH.title: room.messages / number,
        BYTES.title: room.bytes / number,
        TIME.title: room.spent / lost * 1e6,
        LONGEST.title: room.longest * 1e3,
    }


def _case(number: int, name: str, away: float, share: int = 1) -> Case:
    def run(server: object, scale: Scale) -> Sample:
        too_many = number > scale.count(number, 1000)
        return {} if too_many else come_back(number, number // share, away)

    return Case(f"{number:,}, {name}", run)


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="core_presence",
        title="The core: when the members of a topic come back",
        text="The members of one topic, who all observe, lose their connections within a second: "
        "all of them, or half of them. They come back (handshake, registration, a subscription) as "
        "fast as the core takes them, a second later, which is within the grace time of 5 seconds, "
        "or 7 seconds later. Of up to 1,000 members the names are told, of more the number. The "
        "time is processor time for each that comes back, and the clock of the core goes by it. "
        "The messages to a member must not rise with their number.",
        figures=(MESSAGES, EACH, BYTES, TIME, LONGEST),
        cases=[
            case
            for number in (1_000, 10_000)
            for case in (
                _case(number, "all, within the grace time", _WITHIN),
                _case(number, "all, beyond it", _BEYOND),
                _case(number, "half, within it", _WITHIN, share=2),
                _case(number, "half, beyond it", _BEYOND, share=2),
            )
        ],
        most_rounds=3,
    ),
)
