"""One call at a time in a core, also within one thread.

A signal handler, a finalizer or a log handler of the program runs between any two steps of a call
that is under way in its thread. No lock can keep it out, and it finds the core half changed. So
what needs no answer waits for the end of that call: what it publishes, the outcome of a message,
the end of a subscription or of the whole. Everything else that it asks for is refused.

A signal handler may also raise, as that of Ctrl-C does: the call then ends, and the next one works.
"""

from collections import deque
from collections.abc import Callable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from kps.errors import InvalidState

P = ParamSpec("P")
R = TypeVar("R")


class Calls:
    """Tells whether a call is under way in a core, and keeps what is to follow it."""

    __slots__ = ("is_under_way", "waiting")

    def __init__(self) -> None:
        self.is_under_way = False
        self.waiting: deque[Callable[[], object]] = deque()
        """What came in from within the call. None of these raises."""

    def end(self) -> None:
        """At the end of a call: do what waits, in order. After it, the call is not under way.

        A signal handler may raise as this begins, so the caller says that, in a ``finally``.
        """
        while self.waiting:
            self.waiting.popleft()()

    def check_free(self) -> None:
        """Raise :class:`kps.InvalidState` if a call is under way."""
        if self.is_under_way:
            raise InvalidState(
                "another call is under way in this thread; "
                "a signal handler, a finalizer or a log handler can only publish, or end things"
            )


class Owner(Protocol):
    """A part of a core."""

    @property
    def calls(self) -> Calls: ...


S = TypeVar("S", bound=Owner)


def _one_at_a_time(
    method: Callable[Concatenate[S, P], R],
    nested: Callable[[Calls, Callable[[], R]], R],
) -> Callable[Concatenate[S, P], R]:
    """Return the method as a call of its own; ``nested`` decides while another one is under way."""

    @wraps(method)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        calls = self.calls
        if calls.is_under_way:
            return nested(calls, partial(method, self, *args, **kwargs))
        calls.is_under_way = True
        try:
            return method(self, *args, **kwargs)
        finally:
            try:
                if calls.waiting:
                    calls.end()
            finally:
                calls.is_under_way = False

    return cast("Callable[Concatenate[S, P], R]", call)


def entry(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Mark a method by which a driver enters the core, and which calls of the core may use.

    The two that carry every byte, ``receive_data`` and ``data_to_send``, do the same themselves:
    a call of a decorator takes as long as queueing a message.
    """
    return _one_at_a_time(method, lambda calls, call: call())


def patient(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Mark a method by which a program enters the core, and which waits for its turn.

    It must not raise.
    """
    return _one_at_a_time(method, lambda calls, call: calls.waiting.append(call))


def verb(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Mark a method by which a program enters the core, and which cannot wait for its turn."""

    def refuse(calls: Calls, call: Callable[[], R]) -> R:
        calls.check_free()  # raises
        return call()

    return _one_at_a_time(method, refuse)
