"""A WebSocket whose frames another program reads and writes: it gives and takes whole messages.

Such a program, for instance a server of ASGI, has also read the request. It answers pings by
itself, and tells nothing of them. So silence means nothing here: whether a peer that sends nothing
is still there, is for that program to find out. A peer that takes nothing of the data pending for
it, for as long as a heartbeat may take, counts as gone.

Within, messages are frames as everywhere, so the queue, the reader and the limits are the same.
They are unmasked in both directions, which is what the reader of a client expects.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.controls import CLOSE_FIN, CloseReceived, read_control
from kps.protocol.wire.frames import TEXT_FIN, read_header
from kps.protocol.wire.http import HttpRequest, HttpResponse, Responder
from kps.protocol.wire.outbox import Outbox
from kps.protocol.wire.reader import FrameReader
from kps.protocol.wire.server_end import ANSWERABLE, Books, ServerEnd
from kps.protocol.wire.server_handshake import fault_of
from kps.protocol.wire.websocket import State, Step


class _Body(NamedTuple):
    """What takes the body of a request."""

    receive: Callable[[bytes], None]
    end: Callable[[], None]


class MessageSocket(ServerEnd):
    """The server's end of a WebSocket of which it sees requests and messages as values."""

    __slots__ = ("_body", "answer", "head", "is_accepted")

    def __init__(self, *, limits: ConnectionLimits, now: float, books: Books | None = None) -> None:
        super().__init__(limits=limits, now=now, books=books)
        self.reader = FrameReader(is_client=True, max_message=limits.max_message)
        self.answer: HttpResponse | None = None
        """The plain answer to the request, if that is not accepted."""
        self.head: HttpResponse | None = None
        """The head of the answer, if that is a stream of bytes."""
        self.is_accepted = False
        """Whether the request was accepted."""
        self._body: _Body | None = None  # whoever wants it
        self._keepalive.pause(now)  # for ever

    def begin(self, request: HttpRequest, respond: Responder, now: float) -> None:
        """Take the request. A plain one has its answer at once, or waits for ``respond``."""
        self.request = request
        response = _fault_in(request) if request.is_upgrade else respond(request)
        if response is None:
            self._move(Step.REQUESTED)
        else:
            self.respond(response, now)

    def accept(self) -> None:
        if self.state is State.REQUEST:
            self._take_request()
            self.is_accepted = True
            self._opened(b"")

    def respond(self, response: HttpResponse, now: float, patience: float | None = None) -> None:
        if self.state in ANSWERABLE:
            self.answer = response
            self._note_answer(response.status)
            self._close_behind_answer(response.status, now, patience)

    def read_body(
        self, receive: Callable[[bytes], None], end: Callable[[], None], now: float
    ) -> None:
        if self._move(Step.TAKEN):
            self._give_up_at = now + self.limits.handshake_timeout
            self._body = _Body(receive, end)

    @property
    def wants_body(self) -> bool:
        """Whether the body of the request may come."""
        return self._body is not None

    def take_body(self, part: bytes, *, is_last: bool) -> None:
        """Take a part of the body, which may be empty."""
        body = self._body
        if body is None:
            return  # nobody wants it
        if part:
            body.receive(part)
        if is_last:
            self._body = None
            body.end()
            if self.state is State.EXCHANGE:  # there is no answer yet
                self._give_up_at = math.inf

    def stream(self, head: HttpResponse, outbox: Outbox) -> None:
        if self._move(Step.TAKEN):
            self._give_up_at = math.inf
            self._note_answer(head.status)
            self.head, self.outbox = head, outbox

    def set_reading(self, is_reading: bool, now: float) -> None:
        """Do nothing: the keepalive stays as it is while nobody reads."""

    def probe(self) -> None:
        """Do nothing: the other program has its own pings."""

    def _receive_handshake(self, data: bytes, now: float) -> None:
        """Drop messages that come before the request is accepted: nobody may send any."""


def _fault_in(request: HttpRequest) -> HttpResponse | None:
    fault = fault_of(request)
    return HttpResponse.text(400, f"bad upgrade: {fault}") if fault else None


def read_written(data: bytes) -> Iterator[str | CloseReceived]:
    """Read the messages, and the close frame, in what a :class:`MessageSocket` gave to write."""
    position, end = 0, len(data)
    while position < end:
        header = read_header(data, position)
        assert header is not None
        position = header.start + header.length
        if header.first == TEXT_FIN:
            yield data[header.start : position].decode()
        elif header.first == CLOSE_FIN:
            control = read_control(data[:position], header)
            assert isinstance(control, CloseReceived)
            yield control
