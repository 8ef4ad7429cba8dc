"""What ``publish_with_ack`` returns."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from kps.compat.unified import BlockingUnifiedAck
from kps.protocol.bus.message import AckHandle
from kps.protocol.dialect.outcome import AckResponse


class AckKeeper(Protocol):
    """The client or server that an ack request belongs to."""

    @property
    def _lock(self) -> AbstractContextManager[object]: ...

    def _wait_for(self, condition: Callable[[], bool]) -> bool:
        """With the lock held: wait for news that make a condition true."""

    def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        """Ask who has answered."""

    def _cancel_ack(self, handle: AckHandle) -> None:
        """Stop gathering answers."""


class Ack(BlockingUnifiedAck):
    """The answers to one message, as they come (spec, section 6). For any thread.

    They are gathered from the moment of publishing, whether anybody waits or not. Every
    subscriber that was addressed ends in exactly one :class:`AckResponse`: it handled the
    message, it failed (with its error), it disconnected, or its time was over.
    """

    def __init__(self, keeper: AckKeeper, handle: AckHandle) -> None:
        self._keeper = keeper
        self._handle = handle

    def __repr__(self) -> str:
        state = "finished" if self._handle.finished else "waiting"
        return f"<Ack {self._handle.id} {state}, {len(self._handle.responses)} responses>"

    @property
    def id(self) -> str:
        """The publisher's id of the request."""
        return self._handle.id

    @property
    def responses(self) -> dict[str, AckResponse]:
        """The outcomes so far, by client id."""
        with self._keeper._lock:
            return dict(self._handle.responses)

    def wait(self) -> dict[str, AckResponse]:
        """Wait until all have answered or the time is over; return the outcomes by client id.

        The time is the one given when publishing (and one second more, for a server that is
        silent). Empty when nobody was subscribed, or after ``cancel``. May be called twice.
        Raises :class:`kps.ConnectionLost` or :class:`kps.ClientClosed` at once when the
        connection that the request was made on ends.
        """
        self._until(lambda: False)
        return self.responses

    def wait_any(self) -> AckResponse | None:
        """Wait for the first outcome; ``None`` when the request ends without one.

        A server on level 1 tells all outcomes together, at the end. Raises as ``wait``.
        """
        self._until(lambda: bool(self._handle.responses))
        return next(iter(self.responses.values()), None)

    def status(self) -> dict[str, bool]:
        """Ask the server who was addressed, and who of them has answered.

        Raises :class:`kps.NotConnected`, :class:`kps.ConnectionLost`, or
        :class:`kps.RequestTimeout` when the server does not say.
        """
        with self._keeper._lock:
            if self._handle.finished:
                return self._handle.known_status()
            return self._keeper._ack_status(self._handle)

    def is_complete(self) -> bool:
        """Whether everyone who was addressed has answered. Raises as ``status``."""
        if self._handle.finished and self._handle.error is not None:
            return False
        status = self.status()
        return bool(status) and all(status.values())

    def cancel(self) -> None:
        """Stop waiting: whoever waits gets what has come so far. May be called twice."""
        with self._keeper._lock:
            self._keeper._cancel_ack(self._handle)

    def __iter__(self) -> Iterator[AckResponse]:
        """Yield outcomes as they come, until the request ends. Raises as ``wait``."""
        given = 0
        while True:
            more = list(self.responses.values())[given:]
            yield from more
            given += len(more)
            if not more and self._handle.finished:
                self._until(lambda: False)  # raises what it ended with, if anything
                return
            self._until(lambda: len(self._handle.responses) > given)  # noqa: B023

    def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition or the end, and raise what that is for."""
        handle = self._handle
        with self._keeper._lock:
            self._keeper._wait_for(lambda: handle.finished or condition())
            if handle.error is not None and not condition():
                raise handle.error
