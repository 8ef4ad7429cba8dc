"""Signs what nodes send to each other with the secret of their cluster."""

from hashlib import blake2b
from hmac import compare_digest

_LENGTH = 16  # bytes of a signature


class Seal:
    """Signs bytes, and checks signatures. Without a secret it does neither."""

    def __init__(self, secret: bytes) -> None:
        self._key = blake2b(secret).digest() if secret else b""

    def close(self, body: bytes) -> bytes:
        """Return bytes with their signature behind them."""
        return body + self._signature(body)

    def open(self, chunk: bytes) -> bytes | None:
        """Return bytes without their signature; ``None`` if that is wrong."""
        if not self._key:
            return chunk
        body = chunk[:-_LENGTH]
        return body if compare_digest(chunk[-_LENGTH:], self._signature(body)) else None

    def _signature(self, body: bytes) -> bytes:
        return blake2b(body, key=self._key, digest_size=_LENGTH).digest() if self._key else b""
