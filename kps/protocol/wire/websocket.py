"""One WebSocket connection, without I/O.

:class:`WebSocket` is what both ends share: messages in and out, the heartbeat, the closing
handshake. ``client_handshake`` and ``server_handshake`` add the opening handshakes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.controls import (
    CLOSE_FIN,
    PING_FIN,
    CloseReceived,
    Control,
    PingReceived,
    close_payload,
    control_frame,
)
from kps.protocol.wire.frames import PONG_FIN, SERVER_PING
from kps.protocol.wire.keepalive import Beat, Keepalive
from kps.protocol.wire.outbox import Entry, Kind, Outbox, Push, control
from kps.protocol.wire.reader import ALL, FrameReader


class State(Enum):
    """The states of a connection."""

    HANDSHAKE = auto()
    """The opening handshake is under way."""
    REQUEST = auto()
    """Server only: the upgrade request is complete and waits for ``accept`` or ``respond``."""
    EXCHANGE = auto()
    """Server only: the body of a plain request is read, or its answer is made or written."""
    OPEN = auto()
    CLOSING = auto()
    """We sent a close frame and wait for the peer's."""
    DRAINING = auto()
    """We write the queue to its end, queue nothing more, and ignore input."""
    CLOSED = auto()
    """The transport is gone."""


class Step(Enum):
    """The events that change the state of a connection."""

    REQUESTED = auto()
    """The request for an upgrade is complete."""
    OPENED = auto()
    """The opening handshake is done."""
    TAKEN = auto()
    """Somebody has taken on a plain request."""
    CLOSE_SENT = auto()
    """We began the closing handshake."""
    ENDED = auto()
    """Nothing more is received, and nothing more is queued."""
    GONE = auto()
    """The transport is gone."""


# A step that a state does not list changes nothing: a connection may end twice.
TRANSITIONS: dict[State, dict[Step, State]] = {
    State.HANDSHAKE: {
        Step.REQUESTED: State.REQUEST,
        Step.OPENED: State.OPEN,
        Step.ENDED: State.DRAINING,
        Step.GONE: State.CLOSED,
    },
    State.REQUEST: {
        Step.OPENED: State.OPEN,
        Step.TAKEN: State.EXCHANGE,
        Step.ENDED: State.DRAINING,
        Step.GONE: State.CLOSED,
    },
    State.EXCHANGE: {Step.ENDED: State.DRAINING, Step.GONE: State.CLOSED},
    State.OPEN: {
        Step.CLOSE_SENT: State.CLOSING,
        Step.ENDED: State.DRAINING,
        Step.GONE: State.CLOSED,
    },
    State.CLOSING: {Step.ENDED: State.DRAINING, Step.GONE: State.CLOSED},
    State.DRAINING: {Step.GONE: State.CLOSED},
    State.CLOSED: {},
}


class Output(Enum):
    """What the driver does with the transport once the queue is written."""

    KEEP = auto()
    HALF_CLOSE = auto()
    """Shut down the sending side and go on reading, so that the peer gets the last
    bytes (a full close with unread input would reset the connection). The driver closes a
    transport that cannot do that, such as TLS."""
    CLOSE = auto()
    ABORT = auto()
    """Drop the transport now, and the data that it still holds."""


class ClosedBy(Enum):
    """Who or what ended a connection."""

    PEER = auto()
    """The peer closed it in an orderly way."""
    LOCAL = auto()
    """The program on our side closed it."""
    FAULT = auto()
    """We closed it because the peer broke a rule or a limit."""
    LOST = auto()
    """The network or the peer's process went away."""


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended."""

    code: int
    """The WebSocket close code; 1006 when there was no close frame."""
    reason: str
    by: ClosedBy


# Python 3.11 finds a name of a module ten times as fast as an attribute of an enum.
_HANDSHAKE = State.HANDSHAKE
_REQUEST = State.REQUEST
_EXCHANGE = State.EXCHANGE
_OPEN = State.OPEN
_CLOSING = State.CLOSING
_DRAINING = State.DRAINING
_CLOSED = State.CLOSED
_WITHOUT_FRAMES = (_HANDSHAKE, _REQUEST, _EXCHANGE)
CONNECTION_LOST = "connection lost"
"""Why a connection has ended whose other end is gone without a word."""
_LATE = {
    _HANDSHAKE: "the opening handshake took too long",
    _REQUEST: "it took too long to decide on the request",
    _EXCHANGE: "the request, or its answer, took too long",
    _CLOSING: "the other end did not close in time",
    _DRAINING: "the other end did not read to the end in time",
}
"""Why a connection is given up whose deadline is over, by its state."""
_DROPPED = Push.DROPPED
_OVERFLOW = Push.OVERFLOW
_KEEP = Output.KEEP


class WebSocket(ABC):
    """Messages, heartbeat and closing, for either end.

    The owner calls ``feed`` and ``read``, ``receive_eof``, ``handle_timeout`` and
    ``connection_lost`` as things happen, and after each of them looks at ``state``,
    ``data_to_send``, ``output`` and ``next_deadline``. No input of the peer makes any of
    these raise.
    """

    __slots__ = (
        "_abort",
        "_eof",
        "_give_up_at",
        "_is_client",
        "_keepalive",
        "closed",
        "limits",
        "outbox",
        "reader",
        "state",
    )

    def __init__(
        self,
        *,
        is_client: bool,
        text_frame: Callable[[bytes], bytes],
        limits: ConnectionLimits,
        now: float,
    ) -> None:
        self.limits = limits
        self.state = _HANDSHAKE
        self.outbox = Outbox(limits, text_frame)
        self.closed: Closed | None = None
        """How the connection ended, once that is known."""
        self._is_client = is_client
        self.reader = FrameReader(is_client=is_client, max_message=limits.max_message)
        """What it read, and what there is still to read."""
        self._keepalive = Keepalive(limits.heartbeat_interval, limits.heartbeat_timeout, now)
        self._eof = False
        self._abort = False
        self._give_up_at = now + limits.handshake_timeout

    # -- incoming -------------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes from the transport: of the opening handshake, or for ``read``."""
        self._keepalive.heard(now)
        if self.state is _OPEN or self.state is _CLOSING:
            self.reader.feed(data)
        elif self.state in _WITHOUT_FRAMES:
            self._receive_handshake(data, now)

    def read(self, now: float, allowance: int = ALL) -> list[bytes]:
        """Return the next messages, up to a ping, a close frame or a violation.

        The next call handles that control. The owner handles the messages first, so that their
        answers precede the pong or close frame, and calls again while ``reader.has_more``.
        Reading also stops after ``allowance`` bytes; a frame that is not a whole text counts as
        many.
        """
        messages: list[bytes] = []
        reader = self.reader
        reader.allowance = allowance
        while self.state is _OPEN or self.state is _CLOSING:
            event = reader.read(messages, is_open=self.state is _OPEN)
            if event is None:
                break
            self._handle(event, now)
        return messages

    def receive_eof(self, now: float) -> None:
        """Note that the peer will send nothing more. May be called twice."""
        if self._eof or self.state is _CLOSED:
            return
        self._eof = True
        if self.state is not _DRAINING:
            self._end(Closed(1006, CONNECTION_LOST, ClosedBy.LOST), now)

    def connection_lost(self, now: float) -> None:
        """Note that the transport is gone. May be called twice."""
        self.receive_eof(now)
        self._move(Step.GONE)
        self.outbox.clear()

    def set_reading(self, is_reading: bool, now: float) -> None:
        """Note whether the driver reads: while it does not, the keepalive sees no pongs."""
        if is_reading:
            self._keepalive.resume(now)
        else:
            self._keepalive.pause(now)

    @abstractmethod
    def _receive_handshake(self, data: bytes, now: float) -> None:
        """Take bytes before the connection is open."""

    def _opened(self, trailing: bytes) -> None:
        self.reader.feed(trailing)
        self._move(Step.OPENED)

    def _handle(self, event: Control, now: float) -> None:
        if isinstance(event, PingReceived):
            pong = self._frame(PONG_FIN, event.payload)
            self.queue(Entry(pong, Kind.REPLY, messages=0), now)
        elif isinstance(event, CloseReceived):
            is_answer = self.state is _CLOSING
            self._send_close(event.code, event.reason)
            by = ClosedBy.LOCAL if is_answer else ClosedBy.PEER
            self._end(Closed(event.code, event.reason, by), now)
        else:
            self.fail(event.code, event.reason, now)

    # -- outgoing -------------------------------------------------------------------------

    def send(self, message: bytes, kind: Kind, now: float) -> Push:
        """Queue a text message that no policy may drop."""
        if self.state is not _OPEN:
            return _DROPPED
        pushed = self.outbox.send(message, kind)
        if pushed is _OVERFLOW:
            self.overflowed(1, now)
        return pushed

    def queue(self, entry: Entry, now: float) -> Push:
        """Queue whole frames. If they have no room, the overflow policy applies."""
        if self.state is not _OPEN:
            return _DROPPED
        pushed = self.outbox.push(entry)
        if pushed is _OVERFLOW:
            self.overflowed(entry.messages, now)
        return pushed

    def overflowed(self, messages: int, now: float) -> None:
        """Close as a slow consumer: ``messages`` more had no room."""
        self.outbox.clear()
        self.outbox.dropped += messages
        self.fail(1008, "slow consumer", now)

    def close(self, code: int, reason: str, now: float, grace: float | None = None) -> None:
        """Start the closing handshake, behind the queued data. Another call can only shorten it.

        We abort it after ``grace`` seconds, by default the limits' ``close_timeout``.
        """
        give_up_at = now + (self.limits.close_timeout if grace is None else grace)
        if self.state is _OPEN:
            self._send_close(code, reason)
            self._move(Step.CLOSE_SENT)
            self.closed = Closed(code, reason, ClosedBy.LOCAL)
            self._give_up_at = give_up_at
        elif self.state is _CLOSING:
            self._give_up_at = min(self._give_up_at, give_up_at)
        elif self.state in _WITHOUT_FRAMES:
            self._end(Closed(1006, reason, ClosedBy.LOCAL), now)

    def fail(self, code: int, reason: str, now: float) -> None:
        """Close because the peer is at fault: send a close frame, and ignore further input."""
        self._send_close(code, reason)
        self._end(Closed(code, reason, ClosedBy.FAULT), now)

    def abort(self, reason: str, now: float) -> None:
        """Drop the connection without a closing handshake."""
        self._abort = True
        self._end(Closed(1006, reason, ClosedBy.LOST), now)

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take up to ``limit`` bytes (or one larger frame) to write."""
        data = self.outbox.take(limit)
        if data:
            self._keepalive.wrote()
        return data

    @property
    def output(self) -> Output:
        """What to do with the transport once ``data_to_send`` is empty."""
        if self._abort:
            return Output.ABORT
        if self.state is _DRAINING:
            return Output.CLOSE if self._eof else Output.HALF_CLOSE
        return _KEEP

    @property
    def wants_pause(self) -> bool:
        """Whether the driver should pause reading: back-pressure to the peer."""
        return self.state is _REQUEST or self.outbox.pending_replies > self.limits.backlog_bytes

    def _send_close(self, code: int, reason: str) -> None:
        """Queue a close frame, if the WebSocket is open."""
        if self.state is _OPEN:
            payload = close_payload(code, reason)
            self.outbox.push_anyway(control(self._frame(CLOSE_FIN, payload)))

    def _frame(self, first: int, payload: bytes = b"") -> bytes:
        return control_frame(first, payload, self.outbox.text_frame)

    def _end(self, closed: Closed, now: float) -> None:
        """Stop receiving and queueing."""
        self.outbox.seal()
        if self.closed is None:
            self.closed = closed
        was_closing = self.state is _CLOSING
        if self._move(Step.ENDED):
            give_up_at = now + self.limits.close_timeout
            # What a peer sends while we close must not prolong it.
            self._give_up_at = min(self._give_up_at, give_up_at) if was_closing else give_up_at
        self.reader.clear()

    def _move(self, step: Step) -> bool:
        """Take a step if the state lists it; tell whether it does."""
        following = TRANSITIONS[self.state].get(step)
        if following is not None:
            self.state = following
        return following is not None

    # -- time -----------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, as an absolute time, or ``None``."""
        if self.state is _CLOSED or self._abort:
            return None
        return self._keepalive.next_deadline() if self.state is _OPEN else self._give_up_at

    def probe(self) -> None:
        """Queue a ping: writing it shows whether the network still reaches the peer."""
        ping = self._frame(PING_FIN) if self._is_client else SERVER_PING
        self.outbox.push_first(control(ping))  # the peer may be slow to take the backlog

    def handle_timeout(self, now: float) -> None:
        """Act on a deadline: of the heartbeat, the handshake or the closing handshake."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state is not _OPEN:
            self.abort(_LATE[self.state], now)
            return
        beat = self._keepalive.check(now, is_stuck=self.outbox.pending_bytes > 0)
        if beat is Beat.PING:
            self.probe()
        elif beat is Beat.GONE:
            self.abort("no answer to the heartbeat", now)
