"""The fields of MQTT's packets as bytes: numbers, texts, and the properties of MQTT 5."""

from collections.abc import Iterable, Mapping
from typing import Final

from kps.errors import KPSError


class Malformed(KPSError):
    """A packet that MQTT does not allow."""


LONGEST_TEXT = 65_535
"""Bytes of a text in UTF-8."""
MOST_REMAINING = 268_435_455
"""Bytes of a packet behind its length."""

SESSION_EXPIRY: Final = 0x11
KEEP_ALIVE: Final = 0x13
REASON: Final = 0x1F
RECEIVE_MAXIMUM: Final = 0x21
MAXIMUM_QOS: Final = 0x24
RETAIN_AVAILABLE: Final = 0x25
USER: Final = 0x26
MAXIMUM_PACKET: Final = 0x27

_BYTE, _TWO, _FOUR, _VARIABLE, _TEXT, _BINARY = range(6)
_KINDS: Mapping[int, int] = (
    dict.fromkeys((0x01, 0x17, 0x19, MAXIMUM_QOS, RETAIN_AVAILABLE, 0x28, 0x29, 0x2A), _BYTE)
    | dict.fromkeys((KEEP_ALIVE, RECEIVE_MAXIMUM, 0x22, 0x23), _TWO)
    | dict.fromkeys((0x02, SESSION_EXPIRY, 0x18, MAXIMUM_PACKET), _FOUR)
    | {0x0B: _VARIABLE}
    | dict.fromkeys((0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, REASON), _TEXT)
    | dict.fromkeys((0x09, 0x16), _BINARY)
)

Pairs = tuple[tuple[str, str], ...]
"""Names and texts: the user properties of a packet."""


def variable(number: int) -> bytes:
    """Write a number in one to four bytes."""
    written = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        written.append(low | 0x80 if number else low)
        if not number:
            return bytes(written)


def text(content: str) -> bytes:
    """Write a text, or the bytes of a name: at most ``LONGEST_TEXT`` bytes."""
    return binary(content.encode())


def binary(content: bytes) -> bytes:
    """Write bytes with their length."""
    if len(content) > LONGEST_TEXT:
        raise Malformed(f"a text of MQTT has at most {LONGEST_TEXT} bytes")
    return len(content).to_bytes(2) + content


def properties(numbers: Iterable[tuple[int, int]] = (), user: Pairs = ()) -> bytes:
    """Write the properties of a packet of MQTT 5, with their length."""
    written = bytearray()
    for key, number in numbers:
        written.append(key)
        written += number.to_bytes((1, 2, 4)[_KINDS[key]])
    for name, value in user:
        written.append(USER)
        written += text(name) + text(value)
    return variable(len(written)) + written


class Fields:
    """Reads the fields of a packet, one behind the other. Raises :class:`Malformed`."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.place = 0
        """How many bytes were read."""

    @property
    def is_at_end(self) -> bool:
        """Whether there is nothing more."""
        return self.place >= len(self._content)

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        end = self.place + count
        if end > len(self._content):
            raise Malformed("a packet is shorter than its fields")
        taken = self._content[self.place : end]
        self.place = end
        return taken

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._content) - self.place)

    def number(self, size: int) -> int:
        """Return a number of that many bytes."""
        return int.from_bytes(self.take(size))

    def variable(self) -> int:
        """Return a number of one to four bytes."""
        number = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise Malformed("a number has more than four bytes")

    def text(self) -> str:
        """Return a text."""
        try:
            return self.take(self.number(2)).decode()
        except UnicodeDecodeError:
            raise Malformed("a text is not UTF-8") from None

    def properties(self) -> "Properties":
        """Return the properties of a packet of MQTT 5."""
        end = self.variable() + self.place
        found = Properties()
        user = []
        while self.place < end:
            key = self.variable()
            if key == USER:
                user.append((self.text(), self.text()))
                continue
            match _KINDS.get(key):
                case 0 | 1 | 2 as kind:
                    found.numbers[key] = self.number((1, 2, 4)[kind])
                case 3:
                    found.numbers[key] = self.variable()
                case 4:
                    found.texts[key] = self.text()
                case 5:
                    self.take(self.number(2))
                case _:
                    raise Malformed(f"there is no property {key}")
        if self.place != end:
            raise Malformed("the properties of a packet are longer than they say")
        found.user = tuple(user)
        return found


class Properties:
    """The properties of a packet of MQTT 5."""

    __slots__ = ("numbers", "texts", "user")

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.texts: dict[int, str] = {}
        self.user: Pairs = ()


NO_PROPERTIES = Properties()
"""Those of a packet of MQTT 3.1.1."""
