"""Messages deflated one by one, as permessage-deflate has them (RFC 7692, section 7.2).

Nothing is kept between two messages, each begins with an empty window. So one deflated message
is good for every peer, and an idle connection takes no memory for it.
"""

import zlib

from kps.protocol.wire.controls import Violation

# The cheapest level. zlib's default takes three to five times as long, for up to a quarter less.
_LEVEL = 1
_WINDOW_BITS = -15  # raw deflate, with the largest window
_MEMORY = 5  # 150 KiB while a message is deflated; more would be no faster

_TAIL = b"\0\0\xff\xff"
"""What each flush ends with, and no message does."""

_WINDOW = 1 << 15
_MOST_ENDS = 16  # final blocks of a message, each of which makes zlib begin anew

_LARGEST = (1 << 31) - 2  # bytes of a message: zlib is told of one more


def deflate(message: bytes) -> bytes:
    """Deflate a message."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY)
    deflated = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return deflated[: -len(_TAIL)]


class Inflater:
    """Inflates the messages of one peer."""

    __slots__ = ("inflated",)

    def __init__(self) -> None:
        self.inflated = 0
        """Bytes of its messages so far."""

    def inflate(self, payload: bytes, most: int) -> bytes | Violation:
        """Return the message that was deflated, of at most ``most`` bytes.

        A larger one is inflated up to there only.
        """
        most = min(most, _LARGEST)
        message, rest = b"", payload + _TAIL
        for _ in range(_MOST_ENDS):
            decompressor = zlib.decompressobj(_WINDOW_BITS, zdict=message[-_WINDOW:])
            try:
                part = decompressor.decompress(rest, most + 1 - len(message))
            except zlib.error:
                return Violation(1007, "cannot be inflated")
            message += part
            self.inflated += len(part)
            if len(message) > most:
                return Violation(1009, "message too big")
            rest = decompressor.unused_data  # what is behind a final block
            if not rest:
                return message
        return Violation(1008, "too many final blocks in a message")
