"""The server's end of a WebSocket, however its request and its messages come here."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.frames import text_frame
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.protocol.wire.outbox import Outbox
from kps.protocol.wire.websocket import Closed, ClosedBy, State, WebSocket

ANSWERABLE = (State.HANDSHAKE, State.REQUEST, State.EXCHANGE)
"""In which there may be a plain answer."""


class Books(Protocol):
    """Counts what becomes of a connection."""

    def answered(self, status: int) -> None:
        """Count an answer to an HTTP request."""

    def overflowed(self, messages: int) -> None:
        """Count messages dropped because they overflowed the queue of a connection."""

    def cut_off(self, messages: int) -> None:
        """Count messages dropped because their connection had ended."""


class ServerEnd(WebSocket):
    """A WebSocket that begins with a request, which the server accepts or answers otherwise."""

    __slots__ = ("_books", "deflates", "host", "request")

    def __init__(self, *, limits: ConnectionLimits, now: float, books: Books | None) -> None:
        super().__init__(is_client=False, text_frame=text_frame, limits=limits, now=now)
        self.request: HttpRequest | None = None
        """The request, from the end of its head until ``accept``."""
        self.host = ""
        """The ``Host`` header, by which the client reached the server."""
        self.deflates = False
        """Whether the client takes messages that are deflated."""
        self._books = books

    @abstractmethod
    def accept(self) -> None:
        """Accept the upgrade. Messages that came with the request can then be read."""

    @abstractmethod
    def respond(self, response: HttpResponse, now: float, patience: float | None = None) -> None:
        """Answer with plain HTTP, and close.

        The peer has ``patience`` seconds to read the answer, by default ``close_timeout``.
        """

    @abstractmethod
    def read_body(
        self, receive: Callable[[bytes], None], end: Callable[[], None], now: float
    ) -> None:
        """Read the body of a plain request, which must come in ``handshake_timeout``.

        Each part is given to ``receive``, and ``end`` is called behind the last one. Either may
        come within this call. Until then the body waits. The answer has no particular time.
        """

    @abstractmethod
    def stream(self, head: HttpResponse, outbox: Outbox) -> None:
        """Begin an answer that has no end yet: its bytes are those of an outbox."""

    def end_stream(self, closed: Closed, now: float) -> None:
        """End an answer that is a stream, behind what is queued."""
        if self.state is State.EXCHANGE:
            self._end(closed, now)

    def next_deadline(self) -> float | None:
        due = super().next_deadline()
        return None if due == math.inf else due

    def overflowed(self, messages: int, now: float) -> None:
        before = self.outbox.dropped
        super().overflowed(messages, now)
        if self._books is not None:
            self._books.overflowed(self.outbox.dropped - before)

    def connection_lost(self, now: float) -> None:
        before = self.outbox.dropped
        super().connection_lost(now)
        if self._books is not None:
            self._books.cut_off(self.outbox.dropped - before)

    def handle_timeout(self, now: float) -> None:
        deadline = self.next_deadline()
        waits = self.state in ANSWERABLE
        if waits and deadline is not None and now >= deadline:
            status = 503 if self.state is State.REQUEST else 408
            self.respond(HttpResponse.text(status, "the request took too long"), now)
        else:
            super().handle_timeout(now)

    def _take_request(self) -> HttpRequest:
        """Return the request that is accepted now, and forget it."""
        request, self.request = self.request, None
        assert request is not None
        self.host = request.header("host")
        self._note_answer(101)
        return request

    def _close_behind_answer(self, status: int, now: float, patience: float | None) -> None:
        """Close behind a plain answer, which the peer has ``patience`` seconds to read."""
        self._end(Closed(1006, f"HTTP status {status}", ClosedBy.LOCAL), now)
        if patience is not None:
            self._give_up_at = now + patience

    def _note_answer(self, status: int) -> None:
        if self._books is not None:
            self._books.answered(status)
