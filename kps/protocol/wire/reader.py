"""Reads the frames of one connection, after its opening handshake.

This module reads whole text frames, which are nearly all traffic, deflated or not, and sound
controls. It passes everything else to wsproto, the authority on frames. Differential tests compare
the two.
"""

from typing import TYPE_CHECKING

from kps.protocol.wire.controls import (
    CloseReceived,
    Control,
    PingReceived,
    Violation,
    is_sound,
    read_control,
)
from kps.protocol.wire.frames import (
    DEFLATED_FIN,
    TEXT_FIN,
    Header,
    Part,
    is_utf8,
    mask,
    read_header,
    read_pong,
    read_text,
    read_texts,
)

if TYPE_CHECKING:
    from kps.protocol.wire.deflate import Inflater
    from kps.protocol.wire.others import OtherFrames

# An incomplete frame of this size goes to wsproto in pieces, so that we buffer few bytes.
_STREAM_FROM = 16 * 1024

ALL = 1 << 62
"""An allowance that ``read`` cannot use up."""

# These take as long as so many bytes of whole text frames: a frame that wsproto reads, or a ping
# with its answer; a pong.
_FRAME_WEIGHT = 640
_PONG_WEIGHT = 32

# A message may have this many frames, and one more for each ``_BYTES_PER_FRAME`` bytes. So
# frames without content, which cost the peer almost nothing, have a bound.
_FREE_FRAMES = 1024
_BYTES_PER_FRAME = 16


class FrameReader:
    """Turns bytes into messages and controls.

    ``feed`` takes bytes, ``read`` reads them. No input of the peer makes them raise.
    """

    __slots__ = (
        "_claimed",
        "_data",
        "_fragments",
        "_in_message",
        "_is_client",
        "_others",
        "_parts",
        "_passing",
        "_position",
        "_waiting",
        "allowance",
        "controls",
        "extra",
        "frames",
        "has_more",
        "inflater",
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
        """Pings, close frames and deflated texts so far, and the frames and parts of frames that
        wsproto has read: all take longer, and may have an answer."""
        self.met_others = False
        """Whether it has read frames that are no whole texts, since the owner last reset this."""
        self.has_more = False
        """Whether ``read`` may find something without more bytes."""
        self.inflater: Inflater | None = None
        """Inflates messages, if both ends have agreed on that."""
        self._is_client = is_client
        self._others: OtherFrames | None = None  # made when something needs wsproto
        self._data = b""
        self._position = 0
        self._waiting: list[Part | Control] = []  # what is not handled yet
        self._passing = 0  # remaining bytes of the current frame, which go to wsproto
        self._fragments = bytearray()  # of an incomplete message
        self._claimed = 0  # size of that message so far, by its frames' headers
        self._parts = 0  # number of its frames so far
        self._in_message = False

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
        self._others = None

    def read(self, messages: list[bytes], *, is_open: bool) -> Control | None:
        """Append whole messages to ``messages`` up to the next control; return that or ``None``.

        A control that follows messages waits for the next call, so that the owner can handle
        the messages first. Unless the connection ``is_open``, messages are skipped. Stop when the
        ``allowance`` is used up; ``has_more`` then tells so.
        """
        data, position = self._data, self._position
        if (
            is_open
            and self.allowance > 0
            and not (position or self._waiting or self._passing or self._in_message)
        ):
            message = read_text(data, not self._is_client, self.max_message)
            if message is not None:
                messages.append(message)
                self._data = b""
                self.has_more = False
                self.allowance -= len(data)
                return None
        end = len(data)
        begun, limit = position, position + self.allowance
        is_masked = not self._is_client
        longest = self.max_message
        control: Control | None = None
        while True:
            if self._waiting:  # these precede the bytes in ``data``
                if messages:
                    break
                control = self._take_waiting(messages, is_open=is_open)
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
                self._pass_on(piece)
                continue
            control = self._begin_frame(is_open=is_open)
            if control is not None:
                break
            if self._position > position:  # a control or a deflated text
                position = self._position
                limit -= _FRAME_WEIGHT
                self.allowance -= _FRAME_WEIGHT
                continue
            if not self._passing:  # an incomplete frame: keep its bytes only
                self._data, self._position = data[position:], 0
                self.has_more = False
                self.allowance -= position - begun
                return None
        self._position = position
        self.allowance -= position - begun
        return control

    def _begin_frame(self, *, is_open: bool) -> Violation | None:
        """Read a control or a deflated text, or decide how to read the next frame.

        It is incomplete if neither ``_position`` nor ``_passing`` changes.
        """
        data, position = self._data, self._position
        header = read_header(data, position)
        if header is None:
            return None
        if not header.is_control and self._claims_too_much(header.length):
            return Violation(1009, "message too big")
        stop = header.start + header.length
        is_deflated = header.first == DEFLATED_FIN and self.inflater is not None
        may_be_whole_text = (
            (is_deflated or header.first == TEXT_FIN)
            and header.masked is not self._is_client
            and header.minimal
            and not self._in_message
            and is_open
        )
        if may_be_whole_text and stop > len(data) and header.length < _STREAM_FROM:
            return None
        if may_be_whole_text and is_deflated and stop <= len(data):
            self._read_deflated(header, stop)
            return None
        if is_sound(header, not self._is_client) and (
            stop > len(data) or self._read_control(header, stop, is_open=is_open)
        ):
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

    def _read_control(self, header: Header, stop: int, *, is_open: bool) -> bool:
        """Read a whole ping or close frame; tell whether it is sound."""
        control = read_control(self._data, header)
        if control is None:
            return False
        if is_open or isinstance(control, CloseReceived):
            self._waiting.append(control)
        self.met_others = True
        self.extra += stop - self._position
        self.frames += 1
        self.controls += 1
        self._position = stop
        return True

    def _read_deflated(self, header: Header, stop: int) -> None:
        """Read a whole text that was deflated."""
        payload = self._data[header.start : stop]
        if header.masked:
            payload = mask(payload, self._data[header.start - 4 : header.start])
        assert self.inflater is not None
        text = self.inflater.inflate(payload, self.max_message)
        if isinstance(text, bytes):
            is_text = text.isascii() or is_utf8(text)
            self._waiting.append(Part(text, True) if is_text else Violation(1007, "not UTF-8"))
        else:
            self._waiting.append(text)
        self._claimed = header.length
        self.met_others = True
        self.extra += stop - self._position
        self.frames += 1
        self._position = stop

    def _pass_on(self, piece: bytes) -> None:
        """Let wsproto read a frame or a part of one."""
        if self._others is None:
            from kps.protocol.wire.others import OtherFrames

            self._others = OtherFrames(is_client=self._is_client, inflater=self.inflater)
        self._waiting += self._others.read(piece, self.max_message)

    def _take_waiting(self, messages: list[bytes], *, is_open: bool) -> Control | None:
        """Take a control, or a message or a part of one."""
        found = self._waiting.pop(0)
        if isinstance(found, (PingReceived, CloseReceived, Violation)):
            return found
        self._fragments += found.content
        self._in_message = not found.is_last
        if found.is_last:
            message = bytes(self._fragments)
            self._fragments.clear()
            self.extra -= self._claimed
            self._claimed = self._parts = 0
            if is_open:
                messages.append(message)
        return None
