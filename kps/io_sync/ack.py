# Made from kps/io_asyncio/ack.py by tools/unasync.py: edit that one.

"""The result of ``publish_with_ack``."""

from collections.abc import Iterator
from copy import copy
from typing import Generic, Protocol

from kps.compat.blocking import UnifiedAck
from kps.io_sync.driver import Driver
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.dialect.outcome import AckResponse, R


class AckKeeper(Protocol):
    """The client or server that owns an ack request."""

    def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        """Return the addressed client ids, and whether each has answered."""

    def _cancel_ack(self, handle: AckHandle) -> None:
        """Stop gathering answers."""


class Ack(UnifiedAck, Generic[R]):
    """The acks of one message (spec, section 6).

    KPS gathers them from the moment of publishing, whether or not the program waits. Each
    addressed subscriber gives exactly one :class:`kps.AckResponse`: it handled the message, it
    failed (with its error), it disconnected, or it timed out.

    ``Ack[Price]`` declares the type of the results; plain ``Ack`` means any.
    """

    def __init__(self, keeper: AckKeeper, driver: Driver, handle: AckHandle) -> None:
        self._keeper = keeper
        self._driver = driver
        self._handle = handle
        self._news = driver.new_news()

    def __repr__(self) -> str:
        state = "finished" if self._handle.finished else "waiting"
        return f"<Ack {self._handle.id} {state}, {len(self._handle.outcomes)} responses>"

    @property
    def id(self) -> str:
        """The publisher's id of the request."""
        return self._handle.id

    @property
    def responses(self) -> dict[str, AckResponse[R]]:
        """The outcomes so far, by client id, and of groups by ``GROUP of TOPIC``."""
        with self._driver.lock:
            return self._handle.responses

    @property
    def presence(self) -> int | None:
        """The ``version`` of the topic's :class:`kps.Presence` at which the message was published.

        Known at the end of the request; ``None`` if nobody observed the topic.
        """
        return self._handle.presence

    @property
    def degraded(self) -> bool:
        """Whether only the clients of one node were asked.

        It could not reach the other nodes of its cluster, so it cannot name the subscribers there
        (spec, 23.3). Known at the end of the request.
        """
        return self._handle.is_degraded

    def wait(self) -> dict[str, AckResponse[R]]:
        """Wait until all have answered or timed out; return the outcomes by client id.

        The timeout is that given when publishing. It begins when the request is written, and a
        client waits for one second more for the server's answer. The result is empty if nobody
        was subscribed, or after ``cancel``. May be called twice.

        Raises :class:`kps.RequestTimeout` if the server did not answer in time, and
        :class:`kps.ConnectionLost` or :class:`kps.ClientClosed` at once when the connection of
        the request ends (but see ``message_id``). ``responses`` then has the outcomes that were
        known.
        """
        with self._driver.lock:
            self._news.until(self._is_finished)
            self._raise_error()
            return self._handle.responses

    def wait_any(self) -> AckResponse[R] | None:
        """Wait for the first outcome; return ``None`` if the request ends without one.

        A server on level 1 sends all outcomes together, at the end. Raises as ``wait``.
        """
        with self._driver.lock:
            handle = self._handle
            self._news.until(lambda: handle.finished or bool(handle.outcomes))
            if not handle.outcomes:
                self._raise_error()
            return next(iter(handle.outcomes.values()), None)

    def status(self) -> dict[str, bool]:
        """Ask the server for the addressed client ids, and whether each has answered.

        Raises :class:`kps.NotConnected`, :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout` when the server does not answer, or
        :class:`kps.ServerError` when it refuses the question. Of a request that has ended
        it tells the outcomes, or raises the error of ``wait``.
        """
        with self._driver.lock:
            if self._handle.finished:
                self._raise_error()
                return self._handle.known_status()
            return self._keeper._ack_status(self._handle)

    def is_complete(self) -> bool:
        """Tell whether all addressed subscribers have answered. Raises as ``status``.

        A request that has ended with an error is not complete.
        """
        if self._handle.finished and self._handle.error is not None:
            return False
        status = self.status()
        return bool(status) and all(status.values())

    def cancel(self) -> None:
        """End the request: callers that wait get the outcomes so far. May be called twice."""
        with self._driver.lock:
            self._keeper._cancel_ack(self._handle)

    def __iter__(self) -> Iterator[AckResponse[R]]:
        """Yield outcomes as they come, until the request ends. Raises as ``wait``."""
        handle = self._handle
        given = 0
        while True:
            for response in list(self.responses.values())[given:]:
                yield response
                given += 1
            if len(handle.outcomes) > given:
                continue
            if handle.finished:
                self._raise_error()
                return
            self._news.until(lambda: handle.finished or len(handle.outcomes) > given)  # noqa: B023

    def _changed(self) -> None:
        self._news.announce()

    def _is_finished(self) -> bool:
        return self._handle.finished

    def _raise_error(self) -> None:
        if self._handle.error is not None:
            raise copy(self._handle.error) from None  # each caller has its own traceback
