"""One call at a time in a core, also within one thread.

A signal handler, a finalizer or a log handler of the program runs between any two steps of a call
that is under way in its thread. No lock can keep it out, and it finds the core half changed. So
what it publishes waits for the end of that call, and everything else that it asks for is refused.
"""

from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from kps.errors import InvalidState

P = ParamSpec("P")
R = TypeVar("R")


class Turn:
    """Tells whether a call is under way in a core, and keeps what is to follow it."""

    __slots__ = ("is_taken", "waiting")

    def __init__(self) -> None:
        self.is_taken = False
        self.waiting: deque[Callable[[], object]] = deque()
        """What came in from within the call. None of these raises."""

    def end(self) -> None:
        """End a call: do what waits, in order."""
        try:
            while self.waiting:
                self.waiting.popleft()()
        finally:
            self.is_taken = False

    def check_free(self) -> None:
        """Raise :class:`kps.InvalidState` if a call is under way."""
        if self.is_taken:
            raise InvalidState(
                "another call is under way in this thread; "
                "a signal handler, a finalizer or a log handler can only publish"
            )


class Owner(Protocol):
    """A part of a core."""

    @property
    def turn(self) -> Turn: ...


S = TypeVar("S", bound=Owner)


def entry(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Mark a method by which a driver enters the core."""

    @wraps(method)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        turn = self.turn
        if turn.is_taken:  # the call that is under way calls it
            return method(self, *args, **kwargs)
        turn.is_taken = True
        try:
            return method(self, *args, **kwargs)
        finally:
            turn.end()

    return cast("Callable[Concatenate[S, P], R]", call)


def verb(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Mark a method by which a program enters the core, and which cannot wait for its turn."""

    @wraps(method)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        turn = self.turn
        turn.check_free()
        turn.is_taken = True
        try:
            return method(self, *args, **kwargs)
        finally:
            turn.end()

    return cast("Callable[Concatenate[S, P], R]", call)
