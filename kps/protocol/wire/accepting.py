"""The proof that a server has read an upgrade (RFC 6455, section 4.2.2)."""

from binascii import b2a_base64
from hashlib import sha1

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_token(key: bytes) -> bytes:
    """Return the ``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key``."""
    return b2a_base64(sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)
