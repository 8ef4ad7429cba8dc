"""Payloads, as they are written on a command line, on the input and on the output."""

from typing import Any

import orjson

from kps.cli.complaints import complain
from kps.errors import InvalidArgument

_BEGINNINGS = ("{", "[", '"')
"""With what a text begins that was probably meant as JSON."""


def payload(text: str, name: str, *, insist: bool = False) -> Any:
    """Read a payload: JSON, or else a string. The command of that ``name`` says what is doubtful.

    Raises :class:`kps.InvalidArgument` for what is not JSON, if we ``insist``.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if insist:
            raise InvalidArgument(f"not JSON: {error}") from None
        if text.lstrip().startswith(_BEGINNINGS):
            complain(f"{name}: sent as a string, because it is not JSON: {error}")
        return text


def plain(data: Any) -> bytes:
    """Write a payload without quotes, if it is a string, or else as JSON."""
    return data.encode() if isinstance(data, str) else orjson.dumps(data)
