"""Exceptions out of signal handlers, at every place where events are handed on."""

import pytest

from kps.io_common.events import EventQueue
from tests.interrupting import Interruption, at_every_place

HERE = ("/kps/io_common/events.py", "/tests/io_common/test_events.py")


class Core:
    """Has events, as the core of a client or server."""

    def __init__(self, *events: int) -> None:
        self.events = list(events)

    def take(self) -> list[int]:
        events, self.events = self.events, []
        return events


def test_no_event_is_lost_and_none_overtakes_another() -> None:
    def run(interruption: Interruption) -> None:
        queue, core = EventQueue(), Core(1, 2, 3)
        handled: dict[int, bool] = {}

        def handle(event: int) -> None:
            handled[event] = True

        interruption.during(lambda: queue.hand_on(handle, core.take))
        core.events.append(4)
        queue.hand_on(handle, core.take)
        assert list(handled) == [1, 2, 3, 4]

    assert at_every_place(run, *HERE) > 5


def test_a_mistake_does_not_come_again() -> None:
    queue, core = EventQueue(), Core(1, 0, 2)
    quotients: list[float] = []

    def divide(event: int) -> None:
        quotients.append(2 / event)

    with pytest.raises(ZeroDivisionError):
        queue.hand_on(divide, core.take)
    queue.hand_on(divide)
    assert quotients == [2.0, 1.0]
