"""Reads TOML. What a file has is read or refused, whatever it is."""

import tomllib
from typing import Any

_BOM = b"\xef\xbb\xbf"


class NotTOML(Exception):
    """What is not TOML; the text says why and where, and shows no value, which may be secret."""


def parse(content: bytes) -> dict[str, Any]:
    """Return what TOML says; a mark for the order of bytes may precede it.

    Raises :class:`NotTOML`.
    """
    try:
        return tomllib.loads(content.removeprefix(_BOM).decode())
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        raise NotTOML(f"{reason[:1].lower()}{reason[1:]}") from None
    except UnicodeDecodeError as error:
        line = content.removeprefix(_BOM).count(b"\n", 0, error.start) + 1
        raise NotTOML(f"it is not UTF-8 (at line {line})") from None
    except RecursionError:
        raise NotTOML("its values are nested too deeply") from None
    except ValueError:  # Python reads no more digits than that
        raise NotTOML("a number has thousands of digits") from None
