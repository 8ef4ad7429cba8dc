"""Hands events to a driver."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Event = TypeVar("Event")


class EventQueue:
    """Hands on events one at a time, so that an exception loses none of those that follow.

    An exception out of a signal handler may come in at any step. The event at hand then comes
    again. But it does not after an ``Exception``, which may be a mistake of KPS: the events behind
    it would never have their turn.
    """

    def __init__(self) -> None:
        self.waiting: deque[Any] = deque()
        """Any thread may append an event."""

    def hand_on(
        self, handle: Callable[[Event], object], take: Callable[[], Iterable[Event]] = tuple
    ) -> None:
        """Give ``handle`` the events that wait, and then those that ``take`` returns."""
        waiting = self.waiting
        waiting.extend(take())  # no exception comes in between
        while waiting:
            event = waiting[0]
            del waiting[0]  # unlike ``popleft``, no call, after which an exception may come in
            try:
                handle(event)
            except Exception:
                raise
            except BaseException:
                waiting.appendleft(event)
                raise
