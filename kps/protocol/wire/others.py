"""The frames of one connection that are neither whole texts nor sound controls.

wsproto, the authority on frames, reads them: binary messages, messages in several frames, large
ones in pieces, and whatever breaks the protocol. Most clients meet none of these and never import
this module, because wsproto takes long to import and much memory.
"""

from typing import NamedTuple

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from kps.protocol.wire.controls import CloseReceived, Violation


class Part(NamedTuple):
    """A part of a message, or all of it."""

    content: bytes
    is_last: bool


class OtherFrames:
    """Reads other frames. No input of the peer makes it raise."""

    __slots__ = ("_frames",)

    def __init__(self, *, is_client: bool) -> None:
        self._frames = Connection(ConnectionType.CLIENT if is_client else ConnectionType.SERVER)

    def read(self, piece: bytes) -> list[Part | CloseReceived | Violation]:
        """Read a frame or a part of one."""
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
                was_sound = frames.state is ConnectionState.REMOTE_CLOSING
                found.append((CloseReceived if was_sound else Violation)(code, reason))
        return found
