"""Read the values of options from texts."""

from urllib.parse import urlsplit

from kps.protocol.limits import LARGEST, LONGEST, shown


class BadValue(Exception):
    """A value that an option does not take; the text says why."""


def text(value: str) -> str:
    """Read a text that is sent. File names may be any bytes: see ``file``."""
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadValue("is not UTF-8")
    return value


def size(value: str, most: int = LARGEST) -> int:
    """Read a whole number from 1 to ``most``."""
    return whole(value, 1, most)


def whole(value: str, least: int = 0, most: int = LARGEST) -> int:
    """Read a whole number from ``least`` to ``most``."""
    digits = (value.lstrip("0") or "0") if value.isdecimal() else ""
    if not digits or len(digits) > 16 or not least <= int(digits) <= most:
        raise BadValue(f"must be a whole number from {least} to {most}, not {shown(value)}")
    return int(digits)


def port(value: str) -> int:
    """Read a port; 0 lets the system choose one, where a server listens."""
    return whole(value, 0, 65535)


def address(value: str) -> str:
    """Read an address, of which a port alone (``8080``, ``:8080``) means the one on localhost."""
    plain = value.removeprefix(":")
    is_port = plain.isascii() and plain.isdecimal()
    return f"localhost:{plain}" if is_port and value != "0" else value


def with_port(value: str, port: int) -> str:
    """Return an address with another port, or its first one."""
    head, scheme, rest = value.rpartition("://")
    place, slash, target = rest.partition("/")
    if has_port(value):
        place = place.rpartition(":")[0]
    return f"{head}{scheme}{place}:{port}{slash}{target}"


def has_port(value: str) -> bool:
    """Tell whether an address names its port."""
    try:
        return urlsplit(value if "://" in value else f"ws://{value}").port is not None
    except ValueError:
        return True  # one that cannot be read, as is said later


def file(value: str) -> str:
    """Read the name of a file. An empty one is refused: it must not mean that there is none."""
    if not value:
        raise BadValue("must be the name of a file")
    return value


def name(value: str) -> str:
    """Read a name. An empty one is refused: it must not mean that there is none."""
    if not value:
        raise BadValue("must be a name that is not empty")
    return text(value)


def header(value: str) -> str:
    """Read the name and the text of a header."""
    if value.find("=") < 1:
        raise BadValue("must be NAME=TEXT")
    return text(value)


def seconds(value: str) -> float:
    """Read a number of seconds above 0, up to ``LONGEST``."""
    number = _number(value)
    if not 0 < number <= LONGEST:
        raise BadValue(
            f"must be a number of seconds above 0, up to {LONGEST:.0f}, not {shown(value)}"
        )
    return number


def rate(value: str) -> float:
    """Read a number per second; 0 means no limit."""
    number = _number(value)
    if not number >= 0:
        raise BadValue(f"must be a number per second, or 0, not {shown(value)}")
    return number


def pace(value: str) -> float:
    """Read a number per second above 0."""
    number = _number(value)
    if not 0 < number <= LONGEST:
        raise BadValue(f"must be a number per second above 0, not {shown(value)}")
    return number


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return -1.0
