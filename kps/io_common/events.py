"""Hands a core's events to a driver."""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

Event = TypeVar("Event")


class EventQueue:
    """Hands on events one at a time, so that an exception loses none of those that follow.

    An exception out of a signal handler may come in at any step. The event at hand then comes
    again. But it does not after an ``Exception``, which may be a mistake of KPS: the events behind
    it would never have their turn.
    """

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()  # of one core

    def hand_on(self, events: list[Event], handle: Callable[[Event], object]) -> None:
        """Give ``handle`` the events that are left of earlier calls, and these."""
        waiting = self._waiting
        waiting.extend(events)
        while waiting:
            event = waiting.popleft()
            try:
                handle(event)
            except Exception:
                raise
            except BaseException:
                waiting.appendleft(event)
                raise
