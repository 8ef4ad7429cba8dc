"""One WebSocket connection, after or during its opening handshake, without I/O.

:class:`WebSocket` is what both ends share: frames in and out, reassembly under a
limit, ping and pong, heartbeat, the closing handshake, the outgoing queue.
:class:`ClientWebSocket` adds the client's opening handshake here; the server's, which
shares its port with plain HTTP, is in :mod:`kps.protocol.http`.

wsproto and h11 are imported by these two modules only.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Ping,
    TextMessage,
)

from kps.protocol.limits import Limits
from kps.protocol.wire.frames import (
    LONGEST_HEADER,
    SERVER_PING,
    TEXT_FIN,
    read_header,
    read_pong,
    read_text,
)
from kps.protocol.wire.outbox import Frames, Outbox, Push

# Enough to make cheap what is done once for all messages of an array.
_LARGEST_ARRAY = 16 * 1024

# A frame of this size that is not all there yet goes to wsproto in pieces, so that
# the bytes that wait here stay few.
_STREAM_FROM = 16 * 1024

_AROUND_ARRAY = LONGEST_HEADER + len("[]")


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


class WebSocket(ABC):
    """Frames and closing, for either end.

    The owner calls ``receive_data``, ``receive_eof``, ``handle_timeout`` and
    ``connection_lost`` as things happen, and after each of them looks at ``state``,
    ``data_to_send``, ``output`` and ``next_deadline``. Nothing that the peer sends
    makes any of these raise.
    """

    __slots__ = (
        "_abort",
        "_buffer",
        "_claimed",
        "_eof",
        "_fragments",
        "_frames",
        "_gathered",
        "_gathered_size",
        "_give_up_at",
        "_in_message",
        "_is_client",
        "_last_received",
        "_passing",
        "_pinged_at",
        "closed",
        "gathers",
        "interlude",
        "largest_array",
        "limits",
        "outbox",
        "state",
        "text_frame",
    )

    def __init__(
        self, *, is_client: bool, text_frame: Callable[[bytes], bytes], limits: Limits, now: float
    ) -> None:
        self.limits = limits
        self.text_frame = text_frame
        """Makes a whole frame of a text message."""
        self.state = State.HANDSHAKE
        self.outbox = Outbox(limits)
        self.closed: Closed | None = None
        """How the connection ended, from the moment that it is known."""
        self.gathers = False
        """Whether messages that wait together leave together (spec, 12.2)."""
        self.largest_array = _LARGEST_ARRAY
        """Bytes of a message that is formed of several."""
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._is_client = is_client
        self._frames: Connection | None = None  # made when something needs wsproto
        self._buffer = b""
        self._passing = 0  # bytes of the current frame that wsproto still gets
        self._fragments = bytearray()  # of a message that is not all there yet
        self._claimed = 0  # the size of that message so far, by its frames' headers
        self._in_message = False
        self.interlude: Callable[[], None] = _nothing
        """Called before anything but a whole text message is read, so that an owner who
        gathers messages can see to those that it has."""
        self._eof = False
        self._abort = False
        self._last_received = now
        self._pinged_at: float | None = None
        self._give_up_at = now + limits.handshake_timeout

    # -- incoming -------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> Iterator[bytes]:
        """Take bytes from the transport; yield the messages that they complete.

        What is behind a message is read when the next one is asked for, so that answers to
        it are queued before a close frame or a pong that follows from what is behind it.
        """
        self._last_received = now
        self._pinged_at = None  # anything received shows that the peer lives
        if self.state is State.HANDSHAKE or self.state is State.REQUEST:
            self._receive_handshake(data, now)
            data = b""
        return self._receive_frames(data, now)

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
        self._seal()
        self.state = State.CLOSED
        self.outbox.clear()

    @abstractmethod
    def _receive_handshake(self, data: bytes, now: float) -> None:
        """Take bytes before the connection is open."""

    def _opened(self, trailing: bytes) -> None:
        self._buffer = trailing
        self.state = State.OPEN

    def _receive_frames(self, data: bytes, now: float) -> Iterator[bytes]:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        position = 0
        end = len(data)
        is_masked = not self._is_client
        longest = self.limits.max_message
        while position < end and (self.state is State.OPEN or self.state is State.CLOSING):
            if not self._passing and not self._in_message and self.state is State.OPEN:
                whole = read_text(data, position, end, is_masked)
                if whole is not None and len(whole[0]) <= longest and _is_utf8(whole[0]):
                    payload, position = whole
                    yield payload
                    continue
            if not self._passing:
                pong = read_pong(data, position, end, is_masked)
                if pong is not None:
                    position = pong
                    continue
            self.interlude()
            if self._passing:
                piece = data[position : position + self._passing]
                position += len(piece)
                self._passing -= len(piece)
                yield from self._feed(piece, now)
                continue
            header = read_header(data, position)
            if header is None:
                self._buffer = data[position:]
                return
            if not header.is_control and self._claims_too_much(header.length):
                self.fail(1009, "message too big", now)
                return
            stop = header.start + header.length
            may_be_whole_text = (
                header.first == TEXT_FIN
                and header.masked is is_masked
                and header.minimal
                and not self._in_message
                and self.state is State.OPEN
            )
            if may_be_whole_text and stop > end and header.length < _STREAM_FROM:
                self._buffer = data[position:]
                return
            self._passing = stop - position
            if not header.is_control:
                self._claimed += header.length

    def _wsproto(self) -> Connection:
        """wsproto's view of the connection; many connections never need it."""
        if self._frames is None:
            role = ConnectionType.CLIENT if self._is_client else ConnectionType.SERVER
            self._frames = Connection(role)
        return self._frames

    def _claims_too_much(self, length: int) -> bool:
        return self._claimed + length > self.limits.max_message

    def _feed(self, piece: bytes, now: float) -> Iterator[bytes]:
        frames = self._wsproto()
        frames.receive_data(piece)
        for event in frames.events():
            if isinstance(event, (TextMessage, BytesMessage)):
                part = event.data.encode() if isinstance(event, TextMessage) else event.data
                self._fragments += part
                self._in_message = not event.message_finished
                if event.message_finished:
                    message = bytes(self._fragments)
                    self._fragments.clear()
                    self._claimed = 0
                    if self.state is State.OPEN:
                        yield message
            elif isinstance(event, Ping):
                if self.state is State.OPEN:
                    self.queue(Frames.holding(frames.send(event.response()), 0), now)
            elif isinstance(event, CloseConnection):
                self._receive_close(event, frames, now)
                return

    def _receive_close(self, event: CloseConnection, frames: Connection, now: float) -> None:
        code = int(event.code)
        if frames.state is ConnectionState.REMOTE_CLOSING:
            self._seal()
            self.outbox.push_anyway(Frames.holding(frames.send(event.response()), 0))
            self._end(Closed(code, event.reason or "", ClosedBy.PEER), now)
        elif frames.state is ConnectionState.CLOSED:  # the answer to our close frame
            self._end(Closed(code, event.reason or "", ClosedBy.LOCAL), now)
        else:  # wsproto's way to say that the peer broke the protocol
            self.fail(code, event.reason or "", now)

    # -- outgoing -------------------------------------------------------------------------

    def send(self, message: bytes, now: float) -> Push:
        """Queue a text message that no policy may drop."""
        if not self.gathers or self.state is not State.OPEN:
            return self.queue(self.text_frame(message), now)
        size = self._gathered_size + len(message) + 1
        if size > self.largest_array:
            self._seal()
            size = len(message) + 1
        if not self.outbox.has_room(size + _AROUND_ARRAY):
            return self.queue(self.text_frame(message), now)
        self._gathered.append(message)
        self._gathered_size = size
        return Push.QUEUED

    def queue(self, frame: bytes, now: float) -> Push:
        """Queue a whole frame. Without room, the policy of the limits acts."""
        if self.state is not State.OPEN:
            return Push.DROPPED
        if self._gathered:
            self._seal()
        pushed = self.outbox.push(frame)
        if pushed is Push.OVERFLOW:
            self.outbox.clear()
            self.outbox.give_up(frame)
            self.fail(1008, "slow consumer", now)
        return pushed

    def queue_all(self, frames: Frames) -> bool:
        """Queue several frames as one, if there is room for all; ``False`` if there is not."""
        if self._gathered:
            self._seal()
        return self.state is State.OPEN and self.outbox.push_all(frames)

    def has_room(self, size: int) -> bool:
        """Whether a frame of that size can be queued behind what waits."""
        if self._gathered:  # and become a frame of their own before it
            return self.outbox.has_room(self._gathered_size + _AROUND_ARRAY + size, 2)
        return not self.outbox.pending_bytes or self.outbox.has_room(size)

    def queue_anyway(self, frame: bytes) -> None:
        """Queue a whole frame without regard to the limits."""
        if self.state is State.OPEN:
            self._seal()
            self.outbox.push_anyway(frame)

    def _seal(self) -> None:
        """Let nothing more join the messages that have been gathered."""
        gathered, self._gathered = self._gathered, []
        self._gathered_size = 0
        if len(gathered) == 1:
            self.outbox.push_anyway(self.text_frame(gathered[0]))
        elif gathered:
            frame = self.text_frame(b"[" + b",".join(gathered) + b"]")
            self.outbox.push_anyway(Frames.holding(frame, len(gathered)))

    def close(self, code: int, reason: str, now: float, grace: float = 0.0) -> None:
        """Start the closing handshake, behind whatever is queued. May be called twice.

        It is given up after the limits' ``close_timeout``, or ``grace`` if that is longer.
        """
        if self.state is State.OPEN:
            self._send_close(code, reason)
            self.state = State.CLOSING
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
        if self._gathered:
            self._seal()
        return self.outbox.take(limit) if self.outbox.pending_bytes else b""

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
        waiting = self.outbox.pending_answers + self._gathered_size
        return self.state is State.REQUEST or waiting > self.limits.backlog_bytes

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be written."""
        return self.outbox.pending_bytes + self._gathered_size

    @property
    def pending_messages(self) -> int:
        """Messages that wait to be written."""
        return self.outbox.pending_frames + len(self._gathered)

    def _send_close(self, code: int, reason: str) -> None:
        self._seal()
        if self.state is State.HANDSHAKE or self.state is State.REQUEST:
            return
        frames = self._wsproto()
        if frames.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            self.outbox.push_anyway(Frames.holding(frames.send(CloseConnection(code, reason)), 0))

    def _end(self, closed: Closed, now: float) -> None:
        """Nothing more is received, and nothing more is queued."""
        if self.closed is None:
            self.closed = closed
        if self.state is not State.CLOSED and self.state is not State.DRAINING:
            self.state = State.DRAINING
            self._give_up_at = now + self.limits.close_timeout
        self._buffer = b""
        self._fragments.clear()

    # -- time -----------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, as an absolute time, or ``None``."""
        if self.state is State.CLOSED or self._abort:
            return None
        if self.state is not State.OPEN:
            return self._give_up_at
        if self._pinged_at is not None:
            return self._pinged_at + self.limits.heartbeat_timeout
        # Many connections then have their heartbeats together: one wake-up for all of them.
        interval = self.limits.heartbeat_interval
        step = interval / 32
        return ceil((self._last_received + interval) / step) * step

    def was_alive(self, now: float) -> None:
        """Take it that the peer lives, as after a time in which it was not listened to."""
        self._last_received = now
        self._pinged_at = None

    def handle_timeout(self, now: float) -> None:
        """Act on a deadline: heartbeat, handshake or closing time is over."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state is not State.OPEN:
            self.abort("timed out while " + self.state.name.lower(), now)
        elif self._pinged_at is not None:
            self.abort("no answer to the heartbeat", now)
        else:
            self._pinged_at = now
            self.ping(now)

    def ping(self, now: float) -> None:
        """Show the peer that this end lives, and the network that there is something to carry."""
        ping = self._wsproto().send(Ping(b"")) if self._is_client else SERVER_PING
        self.queue(Frames.holding(ping, 0), now)


def _nothing() -> None:
    """The interlude of an owner who handles each message at once."""


def _is_utf8(payload: bytes) -> bool:
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
