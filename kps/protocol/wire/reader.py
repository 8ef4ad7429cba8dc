"""Reads the frames of one connection, after its opening handshake.

This module reads whole text frames, which are nearly all traffic. It passes everything else to
wsproto, the authority on frames. Differential tests compare the two.
"""

from dataclasses import dataclass

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from kps.protocol.wire.frames import TEXT_FIN, read_header, read_pong, read_texts

# An incomplete frame of this size goes to wsproto in pieces, so that we buffer few bytes.
_STREAM_FROM = 16 * 1024

ALL = 1 << 62
"""An allowance that ``read`` cannot use up."""

# These take as long as so many bytes of whole text frames: a frame that wsproto reads, a pong.
_FRAME_WEIGHT = 640
_PONG_WEIGHT = 32

# A message may have this many frames, and one more for each ``_BYTES_PER_FRAME`` bytes. So
# frames without content, which cost the peer almost nothing, have a bound.
_FREE_FRAMES = 1024
_BYTES_PER_FRAME = 16


@dataclass(frozen=True, slots=True)
class PingReceived:
    """The peer sent a ping."""

    pong: bytes
    """The frame that answers it."""


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The peer sent a close frame: its own, or the answer to ours."""

    code: int
    reason: str
    answer: bytes
    """The frame that answers it; empty if this is the answer to ours."""


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the WebSocket protocol or a limit."""

    code: int
    reason: str


Control = PingReceived | CloseReceived | Violation


class FrameReader:
    """Turns bytes into messages and controls.

    ``feed`` takes bytes, ``read`` reads them. No input of the peer makes them raise.
    """

    __slots__ = (
        "_claimed",
        "_data",
        "_fragments",
        "_frames",
        "_in_message",
        "_is_client",
        "_parts",
        "_passing",
        "_position",
        "_waiting",
        "allowance",
        "controls",
        "extra",
        "frames",
        "has_more",
        "max_message",
        "met_others",
    )

    def __init__(self, *, is_client: bool, max_message: int) -> None:
        self.max_message = max_message
        """Largest message, in bytes."""
        self.allowance = ALL
        """What ``read`` may still read before it returns, in bytes of whole text frames. It may
        exceed this by one frame."""
        self.extra = 0
        """Bytes read so far beside whole messages: controls and parts of messages."""
        self.controls = 0
        """Controls read so far."""
        self.frames = 0
        """Frames and parts of frames that wsproto has read so far, which takes longer."""
        self.met_others = False
        """Whether it has read frames that are no whole texts, since the owner last reset this."""
        self.has_more = False
        """Whether ``read`` may find something without more bytes."""
        self._is_client = is_client
        self._frames: Connection | None = None  # made when something needs wsproto
        self._data = b""
        self._position = 0
        self._waiting: list[Event] = []  # events of wsproto that are not handled yet
        self._passing = 0  # remaining bytes of the current frame, which go to wsproto
        self._fragments = bytearray()  # of an incomplete message
        self._claimed = 0  # size of that message so far, by its frames' headers
        self._parts = 0  # number of its frames so far
        self._in_message = False

    @property
    def wsproto(self) -> Connection:
        """wsproto's view of the connection, made on first use: many connections never need it."""
        if self._frames is None:
            role = ConnectionType.CLIENT if self._is_client else ConnectionType.SERVER
            self._frames = Connection(role)
        return self._frames

    @property
    def unread(self) -> int:
        """Bytes that wait for ``read``."""
        return len(self._data) - self._position

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._data:
            data = self._data[self._position :] + data
        self._data = data
        self._position = 0
        self.has_more = True

    def clear(self) -> None:
        """Drop everything that has not been read."""
        self.has_more = False
        self._data = b""
        self._position = 0
        self._waiting.clear()
        self._fragments.clear()

    def read(self, messages: list[bytes], *, is_open: bool) -> Control | None:
        """Append whole messages to ``messages`` up to the next control; return that or ``None``.

        A control that follows messages waits for the next call, so that the owner can handle
        the messages first. Unless the connection ``is_open``, messages are skipped. Stop when the
        ``allowance`` is used up; ``has_more`` then tells so.
        """
        data, position, end = self._data, self._position, len(self._data)
        begun, limit = position, position + self.allowance
        is_masked = not self._is_client
        longest = self.max_message
        control: Control | None = None
        while True:
            if self._waiting:  # these precede the bytes in ``data``
                if messages:
                    break
                control = self._handle_event(messages, is_open=is_open)
                if control is not None:
                    break
                continue
            stop = limit if limit < end else end
            if not self._passing:
                if is_open and not self._in_message:
                    position = read_texts(data, position, stop, is_masked, longest, messages)
                if position < stop:
                    pong = read_pong(data, position, end, is_masked)
                    if pong is not None:
                        self.met_others = True
                        self.extra += pong - position
                        self.controls += 1
                        position = pong
                        limit -= _PONG_WEIGHT
                        self.allowance -= _PONG_WEIGHT
                        continue
            if position >= end:
                self._data, self._position = b"", 0  # an idle connection keeps no buffer alive
                self.has_more = False
                self.allowance -= position - begun
                return None
            if position >= stop or messages:  # a control may be next
                break
            self._position = position
            if self._passing:
                piece = data[position : position + self._passing]
                position += len(piece)
                self._passing -= len(piece)
                self.met_others = True
                self.extra += len(piece)
                self.frames += 1
                limit -= _FRAME_WEIGHT
                self.allowance -= _FRAME_WEIGHT
                self._feed_wsproto(piece)
                continue
            control = self._begin_frame(is_open=is_open)
            if control is not None:
                break
            if not self._passing:  # an incomplete frame: keep its bytes only
                self._data, self._position = data[position:], 0
                self.has_more = False
                self.allowance -= position - begun
                return None
        self._position = position
        self.allowance -= position - begun
        return control

    def _begin_frame(self, *, is_open: bool) -> Violation | None:
        """Decide how to read the next frame; if ``_passing`` stays 0, it is incomplete."""
        data, position = self._data, self._position
        header = read_header(data, position)
        if header is None:
            return None
        if not header.is_control and self._claims_too_much(header.length):
            return Violation(1009, "message too big")
        stop = header.start + header.length
        may_be_whole_text = (
            header.first == TEXT_FIN
            and header.masked is not self._is_client
            and header.minimal
            and not self._in_message
            and is_open
        )
        if may_be_whole_text and stop > len(data) and header.length < _STREAM_FROM:
            return None
        if header.is_control:
            self.controls += 1
        else:
            self._claimed += header.length
            self._parts += 1
            if self._parts > _FREE_FRAMES + self._claimed // _BYTES_PER_FRAME:
                return Violation(1008, "too many frames in a message")
        self._passing = stop - position
        return None

    def _claims_too_much(self, length: int) -> bool:
        return self._claimed + length > self.max_message

    def _feed_wsproto(self, piece: bytes) -> None:
        frames = self.wsproto
        frames.receive_data(piece)
        self._waiting += frames.events()

    def _handle_event(self, messages: list[bytes], *, is_open: bool) -> Control | None:
        """Handle one event of wsproto: a message or part of one, or a control."""
        frames = self.wsproto
        event = self._waiting.pop(0)
        if isinstance(event, (TextMessage, BytesMessage)):
            part = event.data.encode() if isinstance(event, TextMessage) else event.data
            self._fragments += part
            self._in_message = not event.message_finished
            if event.message_finished:
                message = bytes(self._fragments)
                self._fragments.clear()
                self._claimed = self._parts = 0
                self.extra -= len(message)
                if is_open:
                    messages.append(message)
        elif isinstance(event, Ping):
            if is_open:
                return PingReceived(frames.send(event.response()))
        elif isinstance(event, CloseConnection):
            code, reason = int(event.code), event.reason or ""
            if frames.state is ConnectionState.REMOTE_CLOSING:
                return CloseReceived(code, reason, frames.send(event.response()))
            if frames.state is ConnectionState.CLOSED:  # the answer to our close frame
                return CloseReceived(code, reason, b"")
            return Violation(code, reason)  # wsproto reports a violation this way
        return None
