"""WebSocket frames as bytes: the few that need no state (RFC 6455, section 5.2).

wsproto is the authority on frames. These functions handle the frames that make up nearly
all traffic, in a fraction of the time; a differential test compares them with wsproto.
"""

from collections.abc import Callable
from typing import NamedTuple

LONGEST_HEADER = 14
"""The most bytes that a frame has before its payload."""

TEXT_FIN = 0x81
PONG_FIN = 0x8A
SERVER_PING = b"\x89\0"
"""A heartbeat of a server: a ping without a payload."""

_CONTROL_BIT = 0x08
_KEYS_AT_ONCE = 1024

# Multiplied by a key, ``_ONES`` gives the key repeated.
_MANY_WORDS, _MOST_WORDS = 512, 1 << 14
_ONES = int.from_bytes(b"\1\0\0\0" * _MOST_WORDS, "little")


class Header(NamedTuple):
    """The header of a frame, which has two to fourteen bytes."""

    first: int
    """The first byte: FIN, reserved bits and opcode."""
    length: int
    """Length of the payload in bytes, as claimed."""
    masked: bool
    start: int
    """Where the payload starts."""
    minimal: bool
    """Whether the length uses the shortest form, as it must."""

    @property
    def is_control(self) -> bool:
        return bool(self.first & _CONTROL_BIT)


def read_header(data: bytes, position: int) -> Header | None:
    """Read the frame header at ``position``; return ``None`` if it is incomplete."""
    available = len(data) - position
    if available < 2:
        return None
    first = data[position]
    second = data[position + 1]
    length = second & 0x7F
    start = position + 2
    minimal = True
    if length == 126:
        if available < 4:
            return None
        length = data[start] << 8 | data[start + 1]
        minimal = length > 125
        start += 2
    elif length == 127:
        if available < 10:
            return None
        length = int.from_bytes(data[start : start + 8], "big")
        minimal = 65535 < length < 1 << 63
        start += 8
    masked = second > 127
    if masked:
        start += 4
        if len(data) < start:
            return None
    return Header(first, length, masked, start, minimal)


def read_text(data: bytes, position: int, end: int, is_masked: bool) -> tuple[bytes, int] | None:
    """Read a text message of one frame; return its payload and where the next frame starts.

    Return ``None`` for any other frame, for an incomplete one, and for one that breaks RFC
    6455, in its masking for instance. It does not check that the payload is UTF-8.
    """
    start = position + 2
    if start > end or data[position] != TEXT_FIN:
        return None
    length = data[position + 1]
    if (length > 127) is not is_masked:
        return None
    length &= 0x7F
    if length == 127 or start + 2 > end:
        header = read_header(data, position)
        if header is None or not header.minimal:
            return None
        length, start = header.length, header.start
    else:
        if length == 126:
            length = data[start] << 8 | data[start + 1]
            if length < 126:
                return None
            start += 2
        if is_masked:
            start += 4
    stop = start + length
    if stop > end:
        return None
    if is_masked:
        return mask(data[start:stop], data[start - 4 : start]), stop
    return data[start:stop], stop


def read_pong(data: bytes, position: int, end: int, is_masked: bool) -> int | None:
    """Read a whole pong, the answer to a heartbeat; return where the next frame starts.

    Return ``None`` for any other frame, and for one that breaks RFC 6455.
    """
    if position + 2 > end or data[position] != PONG_FIN:
        return None
    length = data[position + 1]
    if (length > 127) is not is_masked:
        return None
    length &= 0x7F
    stop = position + (6 if is_masked else 2) + length
    return stop if length < 126 and stop <= end else None


def mask(payload: bytes, key: bytes) -> bytes:
    """XOR the payload with the four-byte key. This masks and unmasks."""
    size = len(payload)
    words = (size + 3) >> 2
    if _MANY_WORDS < words <= _MOST_WORDS:
        # Multiplying is faster than converting the repeated key from bytes.
        pattern = int.from_bytes(key, "little") * (_ONES >> 32 * (_MOST_WORDS - words))
    else:
        pattern = int.from_bytes(key * words, "little")
    xored = int.from_bytes(payload, "little") ^ pattern
    return xored.to_bytes(4 * words, "little")[:size]


def text_frame(payload: bytes) -> bytes:
    """Make the frame of an unmasked text message, as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((TEXT_FIN, size)) + payload
    if size < 65536:
        return bytes((TEXT_FIN, 126, size >> 8, size & 0xFF)) + payload
    return bytes((TEXT_FIN, 127)) + size.to_bytes(8, "big") + payload


class Masker:
    """Makes the frames of a client, each masked with a fresh key (RFC 6455, section 5.3).

    ``entropy(n)`` returns ``n`` unpredictable bytes.
    """

    __slots__ = ("_entropy", "_keys", "_position")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._keys = b""
        self._position = 0

    def text_frame(self, payload: bytes) -> bytes:
        """Make the frame of a masked text message."""
        if self._position == len(self._keys):
            self._keys = self._entropy(4 * _KEYS_AT_ONCE)
            self._position = 0
        key = self._keys[self._position : self._position + 4]
        self._position += 4
        size = len(payload)
        if size < 126:
            head = bytes((TEXT_FIN, 0x80 | size))
        elif size < 65536:
            head = bytes((TEXT_FIN, 0xFE, size >> 8, size & 0xFF))
        else:
            head = bytes((TEXT_FIN, 0xFF)) + size.to_bytes(8, "big")
        return head + key + mask(payload, key)
