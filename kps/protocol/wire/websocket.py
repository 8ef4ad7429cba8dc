"""One WebSocket connection, after or during its opening handshake, without I/O.

:class:`WebSocket` is what both ends share: messages in and out, the heartbeat, the closing
handshake. The opening handshakes are in ``client_handshake`` and ``server_handshake``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from wsproto.events import CloseConnection, Ping

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.frames import SERVER_PING
from kps.protocol.wire.keepalive import Beat, Keepalive
from kps.protocol.wire.outbox import Entry, Kind, Outbox, Push, control
from kps.protocol.wire.reader import CloseReceived, Control, FrameReader, PingReceived


class State(Enum):
    """Where a connection is in its life."""

    HANDSHAKE = auto()
    """The opening handshake is under way."""
    REQUEST = auto()
    """Server only: a complete upgrade request waits for ``accept`` or ``respond``."""
    OPEN = auto()
    CLOSING = auto()
    """We sent a close frame and wait for the peer's."""
    DRAINING = auto()
    """We have nothing more to say: what is queued still goes out, input is ignored."""
    CLOSED = auto()
    """The transport is gone."""


class Step(Enum):
    """What takes a connection from one state to the next."""

    REQUESTED = auto()
    """The request for an upgrade is complete."""
    OPENED = auto()
    """The opening handshake is done."""
    CLOSE_SENT = auto()
    """We began the closing handshake."""
    ENDED = auto()
    """Nothing more is received, and nothing more is queued."""
    GONE = auto()
    """The transport is gone."""


# A step that a state does not name changes nothing: an end may come twice.
TRANSITIONS: dict[State, dict[Step, State]] = {
    State.HANDSHAKE: {
        Step.REQUESTED: State.REQUEST,
        Step.OPENED: State.OPEN,
        Step.ENDED: State.DRAINING,
        Step.GONE: State.CLOSED,
    },
    State.REQUEST: {
        Step.OPENED: State.OPEN,
        Step.ENDED: State.DRAINING,
        Step.GONE: State.CLOSED,
    },
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
    """What the driver does with the transport once everything queued is written."""

    KEEP = auto()
    HALF_CLOSE = auto()
    """Shut down the sending side and go on reading, so that the peer gets the last
    bytes (a full close with unread input would reset the connection). A transport
    that cannot, such as TLS, is closed."""
    CLOSE = auto()
    ABORT = auto()
    """Drop the transport now, with whatever it still holds."""


class ClosedBy(Enum):
    """Whose doing the end of a connection was."""

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


_OPEN = State.OPEN


class WebSocket(ABC):
    """Messages, heartbeat and closing, for either end.

    The owner calls ``receive_data``, ``receive_eof``, ``handle_timeout`` and
    ``connection_lost`` as things happen, and after each of them looks at ``state``,
    ``data_to_send``, ``output`` and ``next_deadline``. Nothing that the peer sends
    makes any of these raise.
    """

    __slots__ = (
        "_abort",
        "_eof",
        "_give_up_at",
        "_is_client",
        "_keepalive",
        "_reader",
        "closed",
        "limits",
        "outbox",
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
        self.state = State.HANDSHAKE
        self.outbox = Outbox(limits, text_frame)
        self.closed: Closed | None = None
        """How the connection ended, from the moment that it is known."""
        self._is_client = is_client
        self._reader = FrameReader(is_client=is_client, max_message=limits.max_message)
        self._keepalive = Keepalive(limits.heartbeat_interval, limits.heartbeat_timeout, now)
        self._eof = False
        self._abort = False
        self._give_up_at = now + limits.handshake_timeout

    # -- incoming -------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> list[bytes]:
        """Take bytes from the transport; return messages that they complete, as ``read`` does.

        What comes behind an opening handshake is read by the next call of ``read``, so that the
        owner notices first that the connection is open.
        """
        self._keepalive.heard(now)
        if self.state is _OPEN or self.state is State.CLOSING:
            self._reader.feed(data)
        elif self.state is State.HANDSHAKE or self.state is State.REQUEST:
            self._receive_handshake(data, now)
            return []
        return self.read(now)

    def read(self, now: float) -> list[bytes]:
        """Return the next messages, up to a ping, a close frame or a violation.

        What is behind them takes effect with the next call. So the owner handles the messages,
        whose answers then come first, and calls again until there are no more.
        """
        messages: list[bytes] = []
        while self.state is _OPEN or self.state is State.CLOSING:
            event = self._reader.read(messages, is_open=self.state is _OPEN)
            if event is None:
                break
            self._handle(event, now)
        return messages

    @property
    def has_more(self) -> bool:
        """Whether ``read`` may return something, or have an effect."""
        return self._reader.has_more

    def receive_eof(self, now: float) -> None:
        """Note that the peer will send nothing more. May be called twice."""
        if self._eof or self.state is State.CLOSED:
            return
        self._eof = True
        if self.state is not State.DRAINING:
            self._end(Closed(1006, "connection lost", ClosedBy.LOST), now)

    def connection_lost(self, now: float) -> None:
        """Note that the transport is gone. May be called twice."""
        self.receive_eof(now)
        self._move(Step.GONE)
        self.outbox.clear()

    def set_reading(self, is_reading: bool, now: float) -> None:
        """Note whether the driver reads: while it does not, no pong can be seen."""
        if is_reading:
            self._keepalive.resume(now)
        else:
            self._keepalive.pause(now)

    @abstractmethod
    def _receive_handshake(self, data: bytes, now: float) -> None:
        """Take bytes before the connection is open."""

    def _opened(self, trailing: bytes) -> None:
        self._reader.feed(trailing)
        self._move(Step.OPENED)

    def _handle(self, event: Control, now: float) -> None:
        if isinstance(event, PingReceived):
            self.queue(Entry(event.pong, Kind.REPLY, messages=0), now)
        elif isinstance(event, CloseReceived):
            if event.answer:
                self.outbox.push_anyway(control(event.answer))
            by = ClosedBy.PEER if event.answer else ClosedBy.LOCAL
            self._end(Closed(event.code, event.reason, by), now)
        else:
            self.fail(event.code, event.reason, now)

    # -- outgoing -------------------------------------------------------------------------

    def send(self, message: bytes, kind: Kind, now: float) -> Push:
        """Queue a text message that no policy may drop."""
        if self.state is not State.OPEN:
            return Push.DROPPED
        pushed = self.outbox.send(message, kind)
        if pushed is Push.OVERFLOW:
            self.overflowed(1, now)
        return pushed

    def queue(self, entry: Entry, now: float) -> Push:
        """Queue whole frames. Without room, the policy of the limits acts."""
        if self.state is not State.OPEN:
            return Push.DROPPED
        pushed = self.outbox.push(entry)
        if pushed is Push.OVERFLOW:
            self.overflowed(entry.messages, now)
        return pushed

    def overflowed(self, messages: int, now: float) -> None:
        """Close because so many messages had no room, and no policy made any."""
        self.outbox.clear()
        self.outbox.dropped += messages
        self.fail(1008, "slow consumer", now)

    def close(self, code: int, reason: str, now: float, grace: float = 0.0) -> None:
        """Start the closing handshake, behind whatever is queued. May be called twice.

        It is given up after the limits' ``close_timeout``, or ``grace`` if that is longer.
        """
        if self.state is State.OPEN:
            self._send_close(code, reason)
            self._move(Step.CLOSE_SENT)
            self.closed = Closed(code, reason, ClosedBy.LOCAL)
            self._give_up_at = now + max(grace, self.limits.close_timeout)
        elif self.state is State.HANDSHAKE or self.state is State.REQUEST:
            self._end(Closed(1006, reason, ClosedBy.LOCAL), now)

    def fail(self, code: int, reason: str, now: float) -> None:
        """Close because the peer is at fault: say so, and listen to it no longer."""
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
        if self.state is State.DRAINING:
            return Output.CLOSE if self._eof else Output.HALF_CLOSE
        return Output.KEEP

    @property
    def wants_pause(self) -> bool:
        """Whether the driver should read no more for now: backpressure to the peer."""
        return (
            self.state is State.REQUEST or self.outbox.pending_replies > self.limits.backlog_bytes
        )

    def _send_close(self, code: int, reason: str) -> None:
        """Queue a close frame; if there is a WebSocket, and it has not been closed before."""
        if self.state is State.OPEN:
            frame = self._reader.wsproto.send(CloseConnection(code, reason))
            self.outbox.push_anyway(control(frame))

    def _end(self, closed: Closed, now: float) -> None:
        """Nothing more is received, and nothing more is queued."""
        self.outbox.seal()
        if self.closed is None:
            self.closed = closed
        if self._move(Step.ENDED):
            self._give_up_at = now + self.limits.close_timeout
        self._reader.clear()

    def _move(self, step: Step) -> bool:
        """Take a step, if the state knows it; tell whether it does."""
        following = TRANSITIONS[self.state].get(step)
        if following is not None:
            self.state = following
        return following is not None

    # -- time -----------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, as an absolute time, or ``None``."""
        if self.state is State.CLOSED or self._abort:
            return None
        return self._keepalive.next_deadline() if self.state is State.OPEN else self._give_up_at

    def handle_timeout(self, now: float) -> None:
        """Act on a deadline: heartbeat, handshake or closing time is over."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state is not State.OPEN:
            self.abort("timed out while " + self.state.name.lower(), now)
            return
        beat = self._keepalive.check(now, is_stuck=self.outbox.pending_bytes > 0)
        if beat is Beat.PING:
            ping = self._reader.wsproto.send(Ping(b"")) if self._is_client else SERVER_PING
            self.outbox.push_first(control(ping))  # the peer may be busy with what waits
        elif beat is Beat.GONE:
            self.abort("no answer to the heartbeat", now)
