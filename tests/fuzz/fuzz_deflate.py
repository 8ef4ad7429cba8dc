"""Deflated messages in frames: both ends of a connection that have agreed on them.

The same bytes must lead to the same messages, answers and end, in whatever pieces they arrive. What
zlib has deflated comes out as it was. And no bytes become more in memory than a message may have.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.deflate import Inflater
from kps.protocol.wire.websocket import WebSocket
from tests.fuzz.choices import Choices, chunk, sparing
from tests.fuzz.fuzz_frames import (
    LONGEST_STREAM,
    MAX_MESSAGE,
    Stream,
    any_frame,
    client_end,
    fed,
    masked,
    server_end,
)
from tests.protocol.helpers import BINARY, CONTINUATION, KEY, PING, TEXT, frame

RSV1 = 4
MOST_REPEATED = (1, 1, 1, 10, 1000)
LARGEST = 66_000_000
"""More bytes than any message here."""
WORDS: tuple[bytes, ...] = ()


@dataclass
class Messages(Stream):
    """A stream, and the messages in it as long as it has nothing else."""

    known: list[bytes] = field(default_factory=list)
    is_sound: bool = True
    is_refused: bool = False
    """Whether a text that is not UTF-8 follows these."""


def one_input(data: bytes) -> None:
    """Bytes: the limit, the sizes of the pieces, and what is sent (see :func:`stream`)."""
    for make, key in ((server_end, KEY), (client_end, None)):
        choices = Choices(data)
        max_message = choices.pick(MAX_MESSAGE)
        sizes = choices.sizes()
        check(make, max_message, sizes, stream(choices, key))


def stream(choices: Choices, key: bytes | None) -> Messages:
    """Deflated messages, frames that only look like those, and any others."""
    made = Messages()
    while choices and len(made.data) < LONGEST_STREAM:
        match choices.below(8):
            case 0:
                made.data += any_frame(choices, key)
                made.is_sound = False
            case 1:
                made.data += in_frames(choices.chunk(), TEXT, choices, key)
                made.is_sound = False
            case 2 if made.close_at is None:
                made.close_at = len(made.data)
            case _:
                message = choices.chunk() * choices.pick(MOST_REPEATED)
                opcode = choices.pick((TEXT, TEXT, TEXT, BINARY))
                made.data += in_frames(deflated(message, choices), opcode, choices, key)
                if made.is_sound and made.close_at is None:
                    made.is_refused = opcode == TEXT and not is_utf8(message)
                    made.is_sound = not made.is_refused
                    made.known += [] if made.is_refused else [message]
    return made


def deflated(message: bytes, choices: Choices) -> bytes:
    """A message as any peer may deflate it."""
    how = choices.byte()
    level, bits, is_final = how % 10, 9 + how // 10 % 7, how > 200
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
    if is_final:  # RFC 7692, section 7.2.3.4
        return compressor.compress(message) + compressor.flush() + b"\0"
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def in_frames(payload: bytes, first: int, choices: Choices, key: bytes | None) -> bytes:
    """A payload in one frame or in several, with a ping in between."""
    cut = choices.byte()
    parts = [payload[:cut], b"", payload[cut:]] if cut % 2 else [payload]
    frames = [
        frame(
            opcode=CONTINUATION if n else first,
            fin=n == len(parts) - 1,
            reserved=0 if n else RSV1,
            key=key,
            claim=len(part),
        )
        + masked(part, key)
        for n, part in enumerate(parts)
    ]
    return frame(b"beat", opcode=PING, key=key).join(frames)


def is_utf8(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


def check(
    make: Callable[[ConnectionLimits], WebSocket],
    max_message: int,
    sizes: Sequence[int],
    stream: Messages,
) -> None:
    limits = ConnectionLimits(max_message=max_message)

    def agreed() -> WebSocket:
        end = make(limits)
        end.reader.inflater = Inflater()
        return end

    whole = fed(agreed(), stream, ())
    sizes = sparing(sizes, len(stream.data))
    assert fed(agreed(), stream, sizes) == whole, "in pieces"
    if len(stream.data) <= 500:
        assert fed(agreed(), stream, [1]) == whole, "byte by byte"
    known, got = stream.known, whole.outcome.messages
    assert got[: len(known)] == known[: len(got)]
    was_too_large = whole.outcome.closed is not None and whole.outcome.closed[0] == 1009
    if not was_too_large:
        assert len(got) >= len(known)
        if stream.is_refused:
            assert (got, whole.has_failed) == (known, True)
    assert not (was_too_large and stream.is_sound and max_message > LARGEST)


def seeds() -> Iterator[bytes]:
    """Messages of all kinds, and what is wrong."""

    def message(content: bytes, times: int = 0, how: int = 6 + 10 * 6, cut: int = 0) -> bytes:
        return bytes([3]) + chunk(content) + bytes([times, 0, how, cut])

    streams = [
        message(b'{"action":"ping"}') * 3,
        message(b'{"n":1},', times=3, cut=5),
        message(b'{"n":1},', times=4) + message(b"caf\xc3\xa9", cut=3),
        message(b"stored", how=0, cut=1) + message(b"final", how=206),
        message(b"\xff") + message(b"{}"),
        message(b"\xff", cut=1),
        bytes([1]) + chunk(b"\xff\xff") + bytes([0]),
        bytes([1]) + chunk(b"\x03\0" * 20) + bytes([0]),
        bytes([1]) + chunk(b"") + bytes([0]) + message(b""),
        message(b"a") + b"\2" + message(b"b", cut=1),
        message(b"", times=1, cut=1) + bytes([0, 9, 0]) + chunk(b"{}"),
    ]
    for content in streams:
        for limit in range(len(MAX_MESSAGE)):
            yield bytes([limit, 2, 0, 6]) + content
