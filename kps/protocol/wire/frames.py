"""WebSocket frames as bytes: the few that need no state (RFC 6455, section 5.2).

wsproto is the authority on frames. These functions handle the frames that make up nearly
all traffic, in a fraction of the time; a differential test compares them with wsproto.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

LONGEST_HEADER = 14
"""The most bytes that a frame has before its payload."""

TEXT_FIN = 0x81
DEFLATED_FIN = 0xC1
"""The same with a message that was deflated: RSV1 (RFC 7692, section 6)."""
PONG_FIN = 0x8A
SERVER_PING = b"\x89\0"
"""A heartbeat of a server: a ping without a payload."""

_CONTROL_BIT = 0x08
_KEYS_AT_ONCE = 1024

_SHORT = 512  # bytes of a message that is worth taking together with others
_FEW = 16  # messages that are not worth writing together
_MANY = 2 * 1024  # bytes behind a frame, from which those frames are read together
_MOST = 16 * 1024  # bytes of what is read or written together: a larger XOR takes longer for each

# A row of frames with the same header is looked for where a frame that is so far ahead has it too,
# and is read in parts of up to so many.
_FAR, _ROW = 8, 128

# The first two bytes of a masked text frame without a payload, as a number.
_EMPTY = TEXT_FIN << 8 | 0x80
_two_numbers, _two_as_bytes = Struct(">HH").unpack_from, Struct(">HH").pack

SEPARATOR = b"\xff"
"""A byte that no text in UTF-8 has, so that it may stand between two."""

# Multiplied by a key, ``_ONES`` gives the key repeated.
_MANY_WORDS, _MOST_WORDS = 512, 1 << 14
_from_bytes = int.from_bytes  # found faster than the method
_ONES = _from_bytes(b"\1\0\0\0" * _MOST_WORDS, "little")


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


class Part(NamedTuple):
    """A part of a message, or all of it."""

    content: bytes
    is_last: bool


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


def split_frames(data: bytes) -> Iterator[bytes]:
    """Yield the frames of which ``data`` consists."""
    position = 0
    while (header := read_header(data, position)) is not None:
        begun, position = position, header.start + header.length
        yield data[begun:position]


def read_text(data: bytes, is_masked: bool, longest: int) -> bytes | None:
    """Return the text message of which ``data`` is the one whole frame; else ``None``.

    It does what ``read_texts`` does, for what comes alone, in a fraction of the time.
    """
    end = len(data)
    if end < 8 or data[0] != TEXT_FIN:
        return None
    length, start = data[1], 2
    if is_masked:
        length, start = length - 0x80, 6
    if length > 125:
        if length != 126:
            return None
        length = data[2] << 8 | data[3]
        start += 2
        if length < 126:
            return None
    if start + length != end or length > longest:  # a length below 0 never fits
        return None
    message = data[start:]
    if is_masked:
        words = (length + 3) >> 2
        if words > _MANY_WORDS:
            message = mask(message, data[start - 4 : start])
        else:  # as ``mask`` does, whose call would take a tenth of the time
            pattern = _from_bytes(data[start - 4 : start] * words, "little")
            xored = _from_bytes(message, "little") ^ pattern
            message = xored.to_bytes(4 * words, "little")[:length]
    return message if message.isascii() or is_utf8(message) else None


def read_texts(
    data: bytes, position: int, stop: int, is_masked: bool, longest: int, messages: list[bytes]
) -> int:
    """Append the text messages of one frame each that begin before ``stop`` to ``messages``.

    Return where the first other frame begins: a frame of another kind, an incomplete one, one that
    breaks RFC 6455, in its masking for instance, or a message of more than ``longest`` bytes.
    """
    end = len(data)
    many = stop - _MANY
    before = -1
    while position < stop:
        start = position + 2
        if start > end or data[position] != TEXT_FIN:
            break
        length = data[position + 1]
        if (length > 127) is not is_masked:
            break
        length &= 0x7F
        if length > 125:
            if length == 127 or start + 2 > end:
                header = read_header(data, position)
                if header is None or not header.minimal:
                    break
                length, start = header.length, header.start
            else:
                length = data[start] << 8 | data[start + 1]
                if length < 126:
                    break
                start += 6 if is_masked else 2
        elif is_masked:
            start += 4
        after = start + length
        if after > end or length > longest:
            break
        message = data[start:after]
        if is_masked:
            message = mask(message, data[start - 4 : start])
        if not (message.isascii() or is_utf8(message)):
            break
        messages.append(message)
        if after < many and length < _SHORT:
            if is_masked or length == before:
                size = after - position
                head = data[position : start - 4 if is_masked else start]
                if data.startswith(head, after + _FAR * size):
                    after = _read_row(data, after, stop, head, size, messages)
                elif is_masked:
                    after = _read_many(data, after, stop, longest, messages)
            before = length
        position = after
    return position


def _read_row(
    data: bytes, position: int, stop: int, header: bytes, size: int, messages: list[bytes]
) -> int:
    """Do what ``read_texts`` does for frames of ``size`` bytes in a row that have this header.

    It may stop at any frame. Nothing is done for each frame but to cut out its message.
    """
    stop = min(stop, len(data) - size + 1, position + min(_ROW * size, _MOST))
    others = 0
    for place in range(len(header)):  # one byte of each header; then without those that are equal
        column = data[position + place : stop + place : size]
        others = max(others, len(column.lstrip(header[place : place + 1])))
    taken = size * (len(column) - others)
    row = data[position : position + taken]
    start = len(header)
    if header[1] & 0x80:
        row = _unmask_row(row, size, start)
        start += 4
    texts = [row[at : at + size - start] for at in range(start, taken, size)]
    return position + size * _add(texts, messages)


def _unmask_row(row: bytes, size: int, start: int) -> bytes:
    """Unmask frames of ``size`` bytes in a row; the key of each is at ``start``.

    To shift a number takes a tenth of the time that it takes to make one from bytes. So the keys
    are repeated by shifting.
    """
    masked = _from_bytes(row, "little")
    pattern = _pattern(masked, size, start, len(row) // size)
    return (masked ^ pattern).to_bytes(len(row) + 3, "little")


def _pattern(row: int, size: int, start: int, count: int) -> int:
    """Repeat the key of each frame in a row to its end.

    The last word may reach into the next frame's header and key.
    """
    keys = _repeated(0xFFFFFFFF << 8 * start, 8 * size, count)
    return _repeated(row & keys, 32, (size - start + 3) >> 2)


def _repeated(number: int, bits: int, times: int) -> int:
    """Repeat the bits of a number at a distance of so many bits."""
    done = 1
    while done < times:
        more = min(done, times - done)
        number |= number << bits * more
        done += more
    return number


def _read_many(data: bytes, position: int, stop: int, longest: int, messages: list[bytes]) -> int:
    """Do what ``read_texts`` does for masked frames, and unmask all with one XOR.

    It may stop at any frame.
    """
    end = len(data)
    stop = min(stop, position + _MOST, end - 3)
    starts: list[int] = []
    ends = [position]
    while position < stop:
        two_bytes, length = _two_numbers(data, position)
        if two_bytes == _EMPTY + 126:
            if length < 126:
                break
            start = position + 8
        else:
            length = two_bytes - _EMPTY
            if not 0 <= length < 126:
                break
            start = position + 6
        after = start + length
        if after > end or length > longest:
            break
        starts.append(start)
        ends.append(after)
        position = after
    if not starts:
        return position
    # The pattern begins at the first key. That of each frame reaches to the next frame's key.
    base = starts[0] - 4
    pattern = b"".join(
        [
            (data[start - 4 : start] * ((following - start + 3) >> 2))[: following - start]
            for start, following in pairwise((*starts, position + 4))
        ]
    )
    xored = _from_bytes(data[base:position], "little") ^ _from_bytes(pattern, "little")
    data = xored.to_bytes(position - base, "little")
    spans = zip(starts, ends[1:], strict=True)
    return ends[_add([data[start - base : after - base] for start, after in spans], messages)]


def _add(texts: list[bytes], messages: list[bytes]) -> int:
    """Add texts to ``messages`` up to the first one that is not UTF-8; return how many."""
    if not b"".join(texts).isascii():
        for place, text in enumerate(texts):
            if not is_utf8(text):
                del texts[place:]
                break
    messages += texts
    return len(texts)


def is_utf8(payload: bytes) -> bool:
    """Tell whether bytes are a text."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


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
    if words <= _MANY_WORDS or words > _MOST_WORDS:
        pattern = _from_bytes(key * words, "little")
    else:  # multiplying is faster than converting the repeated key from bytes
        pattern = _from_bytes(key, "little") * (_ONES >> 32 * (_MOST_WORDS - words))
    xored = _from_bytes(payload, "little") ^ pattern
    return xored.to_bytes(4 * words, "little")[:size]


def size_of_masked(size: int) -> int:
    """Return how many bytes the frame of a masked message of that size has."""
    return size + (6 if size < 126 else 8 if size < 65536 else 14)


def text_frame(payload: bytes) -> bytes:
    """Make the frame of an unmasked text message, as a server sends it."""
    return _head(len(payload)) + payload


def deflated_frame(deflated: bytes) -> bytes:
    """Make the frame of an unmasked text message that was deflated."""
    return _head(len(deflated), DEFLATED_FIN) + deflated


def _head(size: int, first: int = TEXT_FIN) -> bytes:
    """Make the header of an unmasked text frame."""
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return bytes((first, 126, size >> 8, size & 0xFF))
    return bytes((first, 127)) + size.to_bytes(8, "big")


def text_frames(messages: Sequence[bytes]) -> bytes:
    """Make the frames of unmasked text messages, as ``text_frame`` does."""
    heads = {size: _head(size) for size in set(map(len, messages))}
    return b"".join([part for one in messages for part in (heads[len(one)], one)])


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
        position, keys = self._position, self._keys
        if position == len(keys):
            keys = self._keys = self._entropy(4 * _KEYS_AT_ONCE)
            position = 0
        after = self._position = position + 4
        key = keys[position:after]
        size = len(payload)
        words = (size + 3) >> 2
        if words > _MANY_WORDS:
            return _masked_header(size) + key + mask(payload, key)
        # As ``mask`` does, whose call would take a tenth of the time.
        xored = _from_bytes(payload, "little") ^ _from_bytes(key * words, "little")
        return _masked_header(size) + key + xored.to_bytes(4 * words, "little")[:size]

    def text_frames(self, head: bytes, payloads: bytes, tail: bytes) -> bytes:
        """Make the frames of masked text messages that have their beginning and end in common.

        ``payloads`` has what is between these, with a ``SEPARATOR`` between each two. A frame
        takes half the time if all are of one size.
        """
        count = payloads.count(SEPARATOR) + 1
        if count <= _FEW:
            parts = payloads.split(SEPARATOR)
            return b"".join([self.text_frame(head + part + tail) for part in parts])
        each = payloads.find(SEPARATOR) + 1
        length = len(head) + each - 1 + len(tail)
        are_alike = count * each == len(payloads) + 1 and payloads[
            each - 1 :: each
        ] == SEPARATOR * (count - 1)
        if not are_alike or length >= _SHORT:
            return self._many(head, payloads.split(SEPARATOR), tail)
        at_once = each * (_MOST // (length + 8))
        parts = [payloads[at : at + at_once - 1] for at in range(0, count * each, at_once)]
        return b"".join([self._row(head, part, tail, length) for part in parts])

    def _many(self, head: bytes, payloads: list[bytes], tail: bytes) -> bytes:
        """Make frames of different sizes, and mask them with one XOR."""
        around = len(head) + len(tail)
        keys = self._entropy(4 * len(payloads))
        at = 0
        known: dict[int, tuple[bytes, bytes, int]] = {}
        plain: list[bytes] = []
        pattern: list[bytes] = []
        for payload in payloads:
            size = around + len(payload)
            shape = known.get(size)
            if shape is None:
                header = _masked_header(size)
                shape = known[size] = (header, bytes(len(header) + 4), (size + 3) >> 2)
            key = keys[at : at + 4]
            at += 4
            plain += (shape[0], key, head, payload, tail)
            pattern += (shape[1], (key * shape[2])[:size])
        frames = b"".join(plain)
        masked = _from_bytes(frames, "little") ^ _from_bytes(b"".join(pattern), "little")
        return masked.to_bytes(len(frames), "little")

    def _row(self, head: bytes, payloads: bytes, tail: bytes, length: int) -> bytes:
        """Make frames of messages of ``length`` bytes each."""
        header = _masked_header(length)
        start = len(header)
        size = start + 4 + length
        begin = header + bytes(4) + head
        row = bytearray(begin + payloads.replace(SEPARATOR, tail + begin) + tail)
        count = len(row) // size
        keys = self._entropy(4 * count)
        for place in range(4):  # any order of random bytes is as good
            row[start + place :: size] = keys[place * count : (place + 1) * count]
        plain = _from_bytes(row, "little")
        payload_places = _repeated(((1 << 8 * length) - 1) << 8 * (start + 4), 8 * size, count)
        masked = plain ^ _pattern(plain, size, start, count) & payload_places
        return masked.to_bytes(len(row), "little")


def _masked_header(size: int) -> bytes:
    """Return the header of a masked text frame, up to its key."""
    if size < 126:
        return _SHORT_HEADERS[size]
    if size < 65536:
        return _two_as_bytes(_EMPTY + 126, size)
    return bytes((TEXT_FIN, 0xFF)) + size.to_bytes(8, "big")


_SHORT_HEADERS = [bytes((TEXT_FIN, 0x80 | size)) for size in range(126)]
