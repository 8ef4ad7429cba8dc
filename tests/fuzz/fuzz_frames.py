"""Frames: both ends of a connection, held to wsproto and to themselves.

The same bytes must lead to the same messages, answers and end, in whatever pieces they
arrive; and, but for the limit on messages, to what wsproto alone makes of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.frames import LONGEST_HEADER, Masker, mask, text_frame
from kps.protocol.wire.websocket import ClosedBy, State, WebSocket
from kps.testing.network import split
from tests.fuzz.choices import Choices, chunk, sparing
from tests.fuzz.invariants import check_websocket
from tests.fuzz.work import weighed
from tests.protocol.helpers import CLOSE, CONTINUATION, KEY, PING, PONG, TEXT, frame
from tests.protocol.wire.test_websocket import (
    NOW,
    REST,
    Outcome,
    by_wsproto,
    new_client_end,
    new_server_end,
    receive,
    sent_by,
)

UNLIMITED = 1 << 80  # more than any header can claim
MAX_MESSAGE = (UNLIMITED, UNLIMITED, 200, 20, 65_536)
LONGEST_STREAM = 150_000
MOST_REPEATED = 1500
"""Bytes of small frames of a kind, one behind the other."""
WORDS: tuple[bytes, ...] = ()

# First bytes of frames: the usual ones, and some that are wrong.
FIRST = bytes.fromhex("81 01 80 00 82 02 89 8a 88 c1 91 83 8b 09 08 0a")

MANY = 15
"""As the way in which a frame is made: it comes very many times."""

# What waits before it is passed on to wsproto: a text frame just below the size from which it
# goes there in pieces.
LONGEST_WAIT = 16 * 1024 + LONGEST_HEADER


@dataclass
class Stream:
    """Bytes for one end, and where between them that end begins to close."""

    data: bytes = b""
    close_at: int | None = None


@dataclass
class Result:
    """All that can be seen of an end that has got a stream."""

    outcome: Outcome = field(default_factory=Outcome)
    state: State = State.OPEN
    has_failed: bool = False


def one_input(data: bytes) -> None:
    """Bytes: the limit, the sizes of the pieces, and frames (see :func:`stream`)."""
    for make, key, role in (
        (server_end, KEY, ConnectionType.SERVER),
        (client_end, None, ConnectionType.CLIENT),
    ):
        choices = Choices(data)
        max_message = choices.pick(MAX_MESSAGE)
        sizes = choices.sizes()
        check(make, role, max_message, sizes, stream(choices, key))


def server_end(limits: ConnectionLimits) -> WebSocket:
    """The server's end, without the handshake, which would take longer than all the rest."""
    end = new_server_end(limits)
    end._opened(b"")
    return end


def client_end(limits: ConnectionLimits) -> WebSocket:
    """The client's end, likewise."""
    end = new_client_end(limits)
    end._opened(b"")
    end.data_to_send()  # its request
    return end


def stream(choices: Choices, key: bytes | None) -> Stream:
    """Frames on end for an end that wants them masked with ``key``: right ones and wrong ones."""
    made = Stream()
    while choices and len(made.data) < LONGEST_STREAM:
        match choices.below(8):
            case 0:
                made.data += choices.chunk()
            case 1 if made.close_at is None:
                made.close_at = len(made.data)
            case _:
                made.data += any_frame(choices, key)
    return made


def any_frame(choices: Choices, key: bytes | None) -> bytes:
    """A frame, right or wrong; or very many small ones of a kind."""
    first = choices.pick(FIRST)
    how = choices.byte()
    payload = choices.chunk() * (1, 1, 1, 100, 1, 1, 1, 1000)[how >> 4 & 7]
    payload = payload[: LONGEST_STREAM // 2]
    if how & 0x80 and key is not None:
        key = bytes(4)
    length_bytes, claim = None, None
    match how & 15:
        case 1:
            key = KEY if key is None else None
        case 2:
            length_bytes = 2
        case 3:
            length_bytes = 8
        case 4:
            length_bytes, claim = 8, int.from_bytes(choices.take(8), "big")
        case 5:
            claim = choices.below(126)
            length_bytes = 0
    if length_bytes in (0, 2):  # what does not fit into this form
        payload = payload[: 125 if length_bytes == 0 else 65535]
    head = frame(
        opcode=first & 15,
        fin=first > 127,
        reserved=first >> 4 & 7,
        key=key,
        length_bytes=length_bytes,
        claim=len(payload) if claim is None else claim,
    )
    one = head + masked(payload, key)
    return one * (MOST_REPEATED // len(one) or 1) if how & 15 == MANY else one


def whole_text(payload: bytes, key: bytes | None) -> bytes:
    """A text message in one frame."""
    return frame(claim=len(payload), key=key) + masked(payload, key)


def masked(payload: bytes, key: bytes | None) -> bytes:
    # The core's own way, as others are slow. wsproto reads it too, and so looks after it.
    return payload if key is None else mask(payload, key)


def check(
    make: Callable[[ConnectionLimits], WebSocket],
    role: ConnectionType,
    max_message: int,
    sizes: Sequence[int],
    stream: Stream,
) -> None:
    limits = ConnectionLimits(max_message=max_message)
    whole = fed(make(limits), stream, ())
    sizes = sparing(sizes, len(stream.data))
    assert fed(make(limits), stream, sizes) == whole, "in pieces"
    if len(stream.data) <= 500:
        assert fed(make(limits), stream, [1]) == whole, "byte by byte"
    if stream.close_at is None:
        complete = fed(make(limits), replace(stream, data=stream.data + REST), ())
        check_against(by_wsproto(stream.data, role), complete, max_message)
        for message in complete.outcome.messages[:3]:
            check_written(message)


def fed(end: WebSocket, stream: Stream, sizes: Sequence[int]) -> Result:
    """Let an end receive a stream, in pieces of the given sizes."""
    result = Result()
    data, cut = stream.data, stream.close_at
    if cut is None:
        let_receive(end, split(data, sizes), result.outcome)
    else:
        let_receive(end, split(data[:cut], sizes), result.outcome)
        end.close(1000, "enough", NOW)
        let_receive(end, split(data[cut:], sizes), result.outcome)
    if end.closed is not None:
        result.has_failed = end.closed.by is ClosedBy.FAULT
        # How wsproto words a fault depends on where in a piece it was.
        reason = "fault" if result.has_failed else end.closed.reason
        result.outcome.closed = end.closed.code, reason
    result.state = end.state
    assert (end.closed is None) == (end.state is State.OPEN)
    sent = sent_by(end)
    assert sent.closed == (end.closed and (end.closed.code, end.closed.reason))
    assert sent.pings == 0
    result.outcome.pongs = sent.pongs
    return result


def let_receive(end: WebSocket, pieces: Iterator[bytes], outcome: Outcome) -> None:
    messages = outcome.messages
    for piece in pieces:
        known = len(messages)
        with weighed(len(piece), end.reader):
            receive(end, piece, outcome)
        assert all(len(message) <= end.limits.max_message for message in messages[known:])
        assert len(end.reader._data) <= LONGEST_WAIT
        assert len(end.reader._fragments) <= end.limits.max_message
        check_websocket(end)


def check_against(wsproto: Outcome, ours: Result, max_message: int) -> None:
    """The same as wsproto or, where a message was too big for us, the same up to it."""
    outcome = ours.outcome
    if max_message != UNLIMITED and outcome.closed is not None and outcome.closed[0] == 1009:
        assert wsproto.messages[: len(outcome.messages)] == outcome.messages
        assert wsproto.pongs[: len(outcome.pongs)] == outcome.pongs
        assert wsproto.pongs_before[: len(outcome.messages)] == outcome.pongs_before
    else:
        assert outcome == wsproto


def check_written(message: bytes) -> None:
    """What was read can be written by either end, and wsproto reads it again."""
    try:
        text = message.decode()
    except UnicodeDecodeError:
        return
    masker = Masker(Random(len(message)).randbytes)
    for written, reader in (
        (text_frame(message), ConnectionType.CLIENT),
        (masker.text_frame(message), ConnectionType.SERVER),
    ):
        connection = Connection(reader)
        connection.receive_data(written)
        events = list(connection.events())
        assert all(isinstance(event, TextMessage) for event in events)
        assert "".join(event.data for event in events if isinstance(event, TextMessage)) == text


def seeds() -> Iterator[bytes]:
    """Each kind of frame, fragments with a ping between them, and what is wrong."""

    def spec(opcode: int, payload: bytes, *, fin: bool = True, how: int = 0) -> bytes:
        first = FIRST.index(fin << 7 | opcode)
        return bytes([7, first, how]) + chunk(payload)

    fragments = (
        spec(TEXT, b"caf\xc3", fin=False)
        + spec(PING, b"beat")
        + spec(CONTINUATION, b"", fin=False)
        + spec(CONTINUATION, b"\xa9")
    )
    streams = [
        spec(TEXT, b'{"action":"ping"}') * 3,
        fragments,
        spec(PONG, b"") + spec(PING, b"x" * 125) + spec(CLOSE, b"\x03\xe8bye"),
        spec(TEXT, b"0123456789" * 20, how=3 << 4),
        spec(TEXT, b"\xc3\xa9" * 40, how=7 << 4) + fragments,
        spec(TEXT, b"\xff"),
        b"\0" + chunk(frame(b"raw") + frame(b"")),
    ]
    streams += [spec(TEXT, b"x" * 126, how=how) for how in range(6)]
    streams += [spec(CLOSE, code.to_bytes(2, "big")) for code in (0, 999, 1005, 3000, 5000)]
    streams += [spec(TEXT, b"a") + b"\1" + after for after in (spec(TEXT, b"b"), streams[2])]
    for content in streams:
        for limit in range(len(MAX_MESSAGE)):
            yield bytes([limit, 2, 0, 6]) + content
