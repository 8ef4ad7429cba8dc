"""The frames of one connection that are neither whole texts nor sound controls.

wsproto, the authority on frames, reads them: binary messages, messages in several frames, large
ones in pieces, and whatever breaks the protocol. Most clients meet none of these and never import
this module, because wsproto takes long to import and much memory.
"""

from typing import TYPE_CHECKING

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from kps.protocol.wire.controls import CloseReceived, Violation
from kps.protocol.wire.frames import Part

if TYPE_CHECKING:
    from kps.protocol.wire.deflate import Inflater


class OtherFrames:
    """Reads other frames. No input of the peer makes it raise.

    With an ``inflater``, messages may be deflated.
    """

    __slots__ = ("_deflate", "_frames")

    def __init__(self, *, is_client: bool, inflater: "Inflater | None") -> None:
        self._deflate = _Deflate(inflater) if inflater is not None else None
        self._frames = Connection(
            ConnectionType.CLIENT if is_client else ConnectionType.SERVER,
            [self._deflate] if self._deflate is not None else [],
        )

    def read(self, piece: bytes, longest: int) -> list[Part | CloseReceived | Violation]:
        """Read a frame or a part of one. A message may have ``longest`` bytes, once inflated."""
        if self._deflate is not None:
            self._deflate.longest = longest
        frames = self._frames
        frames.receive_data(piece)
        found: list[Part | CloseReceived | Violation] = []
        for event in frames.events():
            if isinstance(event, TextMessage):
                found.append(Part(event.data.encode(), event.message_finished))
            elif isinstance(event, BytesMessage):
                found.append(Part(bytes(event.data), event.message_finished))
            elif isinstance(event, CloseConnection):
                code, reason = int(event.code), event.reason or ""
                # wsproto reports a violation in the same way, but in another state.
                if frames.state is ConnectionState.REMOTE_CLOSING:
                    found.append(CloseReceived(code, reason))
                else:
                    ours = self._deflate.violation if self._deflate is not None else None
                    found.append(ours or Violation(code, reason))
        return found


class _Deflate(Extension):
    """Gathers a deflated message, and inflates it at once when it is complete.

    wsproto's own extension would inflate whatever comes, however large it becomes.
    """

    name = "permessage-deflate"

    def __init__(self, inflater: "Inflater") -> None:
        self.longest = 0
        """Most bytes of a message."""
        self.violation: Violation | None = None
        """What was wrong with a deflated message."""
        self._inflater = inflater
        self._gathered = bytearray()
        self._is_within = False  # whether a message has begun
        self._is_deflated = False  # whether that is
        self._is_control = False  # whether the frame is one

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False  # the handshakes are our own

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._is_control = opcode.iscontrol()
        if self._is_control or opcode is Opcode.CONTINUATION:
            return RsvBits(False, False, False)
        if self._is_within:  # else what is wrong with the second message could be told first
            return CloseReason.PROTOCOL_ERROR
        self._is_within, self._is_deflated = True, rsv.rsv1
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes:
        if self._is_control or not self._is_deflated:
            return data
        self._gathered += data
        return b""

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        if self._is_control or not fin:
            return None
        was_deflated, self._is_within, self._is_deflated = self._is_deflated, False, False
        if not was_deflated:
            return None
        payload, self._gathered = bytes(self._gathered), bytearray()
        message = self._inflater.inflate(payload, self.longest)
        if isinstance(message, bytes):
            return message
        self.violation = message
        return CloseReason(message.code)
