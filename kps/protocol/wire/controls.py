"""Control frames as bytes: pings, pongs and close frames (RFC 6455, section 5.5).

These functions handle those that are as they must be. Whatever else begins like one is for
wsproto to judge, see ``others``.
"""

from collections.abc import Callable
from typing import NamedTuple

from kps.protocol.wire.frames import PONG_FIN, Header, mask

CLOSE_FIN = 0x88
PING_FIN = 0x89

_LONGEST = 125
_NO_STATUS = 1005
"""The code for a close frame without one; it never is in a frame."""
_CODES = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013))
"""Those that a frame may have, besides the ones from 3000 on: wsproto knows the same."""


class PingReceived(NamedTuple):
    """The peer sent a ping."""

    payload: bytes
    """That of the pong which answers it."""


class CloseReceived(NamedTuple):
    """The peer sent a close frame: its own, or the answer to ours."""

    code: int
    reason: str


class Violation(NamedTuple):
    """The peer broke the WebSocket protocol or a limit."""

    code: int
    reason: str


Control = PingReceived | CloseReceived | Violation


def is_sound(header: Header, is_masked: bool) -> bool:
    """Tell whether a header is that of a ping, a pong or a close frame, as it must be."""
    return (
        header.first in (CLOSE_FIN, PING_FIN, PONG_FIN)
        and header.length <= _LONGEST
        and header.minimal
        and header.masked is is_masked
    )


def read_control(data: bytes, header: Header) -> PingReceived | CloseReceived | None:
    """Read a whole ping or close frame with a sound header; return ``None`` if it is not sound."""
    start = header.start
    payload = data[start : start + header.length]
    if header.masked:
        payload = mask(payload, data[start - 4 : start])
    return PingReceived(payload) if header.first == PING_FIN else _read_close(payload)


def _read_close(payload: bytes) -> CloseReceived | None:
    if not payload:
        return CloseReceived(_NO_STATUS, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or (code not in _CODES and not 3000 <= code < 5000):
        return None
    try:
        return CloseReceived(code, payload[2:].decode())
    except UnicodeDecodeError:
        return None


def close_payload(code: int, reason: str) -> bytes:
    """Return the content of a close frame, with as much of the reason as it holds."""
    if code == _NO_STATUS:
        return b""
    text = reason.encode()
    if len(text) > _LONGEST - 2:
        text = text[: _LONGEST - 2].decode(errors="ignore").encode()  # no half of a character
    return code.to_bytes(2, "big") + text


def control_frame(first: int, payload: bytes, text_frame: Callable[[bytes], bytes]) -> bytes:
    """Make a control frame: it differs from that of a short text in its first byte only."""
    return bytes((first,)) + text_frame(payload)[1:]
