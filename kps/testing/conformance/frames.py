"""WebSocket frames made and read by hand, for either end."""

import os
import struct
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_KNOWN = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)

NO_CODE = 1005
"""Stands for a close frame without a code."""


class BadFrame(Exception):
    """The peer does not keep to RFC 6455."""


class Message(NamedTuple):
    """A whole message, or a control frame, by its opcode."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """The code of a close frame."""
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else NO_CODE


def frame(opcode: int, payload: bytes = b"", *, masked: bool = False) -> bytes:
    """Make a whole frame."""
    size = len(payload)
    length = size if size < 126 else 126 if size < 2**16 else 127
    head = bytes([0x80 | opcode, 0x80 * masked | length])
    if length == 126:
        head += struct.pack("!H", size)
    elif length == 127:
        head += struct.pack("!Q", size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + _mask(payload, key)


def close_frame(code: int, reason: str = "", *, masked: bool = False) -> bytes:
    """Make a close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode(), masked=masked)


class Reader:
    """Reads the frames of a peer, whose frames must be masked, or must not."""

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._data = bytearray()
        self._opcode = CONTINUATION  # that of the message that has begun
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes; return what is complete. Raises :class:`BadFrame`."""
        self._data += data
        messages: list[Message] = []
        while (found := self._take()) is not None:
            is_last, opcode, payload = found
            if opcode >= CLOSE:
                messages.append(Message(opcode, payload))
                continue
            if (opcode == CONTINUATION) != (self._opcode != CONTINUATION):
                raise BadFrame("a fragment that continues nothing, or a message within another")
            self._opcode = self._opcode or opcode
            self._parts.append(payload)
            if is_last:
                messages.append(Message(self._opcode, b"".join(self._parts)))
                self._opcode = CONTINUATION
                self._parts.clear()
        return messages

    def _take(self) -> tuple[bool, int, bytes] | None:
        """Take one frame, if it is there."""
        data = self._data
        if len(data) < 2:
            return None
        is_last, opcode = bool(data[0] & 0x80), data[0] & 0x0F
        if data[0] & 0x70 or opcode not in _KNOWN:
            raise BadFrame(f"a frame that begins with the byte {data[0]:#04x}")
        if bool(data[1] & 0x80) != self._masked:
            raise BadFrame("a frame that is not masked" if self._masked else "a masked frame")
        length, place = data[1] & 0x7F, 2
        if length >= 126:
            if opcode >= CLOSE:
                raise BadFrame("a control frame that is too long")
            place = 4 if length == 126 else 10
            if len(data) < place:
                return None
            length = int.from_bytes(data[2:place])
        key = bytes(data[place : place + 4]) if self._masked else b""
        begin = place + len(key)
        if len(data) < place + 4 * self._masked + length:
            return None
        payload = bytes(data[begin : begin + length])
        del data[: begin + length]
        return is_last, opcode, _mask(payload, key) if key else payload


def _mask(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(size)
