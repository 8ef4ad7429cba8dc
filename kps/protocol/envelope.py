"""The envelope: JSON objects with known fields (spec, section 3).

Reading is strict in what reaches the bus and lenient in what it ignores: a known field
of the wrong type is refused, an unknown field is passed over, which is the room that
the protocol keeps for growing.
"""

from typing import Any

import orjson

from kps.errors import InvalidArgument

Fields = dict[str, Any]

_STRING_FIELDS = frozenset(("action", "topic", "from", "to", "id", "error", "ack_id"))


class InvalidMessage(Exception):
    """A frame that is not a message of the protocol. ``str()`` is the text for the sender."""


class TooDeep(InvalidMessage):
    """A payload nested deeper than can be written again."""

    def __init__(self) -> None:
        super().__init__("message nested too deeply")


def read(frame: bytes) -> Fields:
    """Read one message. Raises :class:`InvalidMessage`, and nothing else."""
    return _checked(_load(frame))


def read_any(frame: bytes) -> list[Fields]:
    """Read one message or an array of them, as clients accept it.

    Raises :class:`InvalidMessage`, and nothing else.
    """
    loaded = _load(frame)
    if type(loaded) is list:
        return [_checked(item) for item in loaded]
    return [_checked(loaded)]


def _load(frame: bytes) -> Any:
    try:
        return orjson.loads(frame)
    except orjson.JSONDecodeError:
        raise InvalidMessage("message is not valid JSON") from None


def _checked(fields: Any) -> Fields:
    if type(fields) is not dict:
        raise InvalidMessage("message is not a JSON object")
    for name, value in fields.items():
        if type(value) is not str and value is not None and name in _STRING_FIELDS:
            raise InvalidMessage(f"field {name} must be a string")
    return fields


def write(fields: Fields) -> bytes:
    """Write a message whose content came from the wire, or is our own."""
    try:
        return orjson.dumps(fields)
    except TypeError:  # what was read can be written, unless it is too deep for that
        raise TooDeep from None


def compose(fields: Fields) -> bytes:
    """Write a message with content that the program gave.

    Raises :class:`kps.InvalidArgument` when that is not JSON: other types than ``dict``
    with string keys, ``list``, ``str``, ``int`` of 64 bits, ``float``, ``bool`` and
    ``None`` (and those that orjson knows: dataclasses, dates, UUIDs, enums).
    """
    try:
        return orjson.dumps(fields)
    except TypeError as error:
        raise InvalidArgument(f"cannot be written as JSON: {error}") from None


def text(fields: Fields, name: str) -> str:
    """A string field, or ``""`` when it is missing or null."""
    return fields.get(name) or ""


def unwrap(fields: Fields) -> tuple[Any, str]:
    """Payload and sender of a level 1 delivery.

    The server wraps both in ``data``; some originals send the payload bare, with the
    sender beside it.
    """
    data = fields.get("data")
    if type(data) is dict and "data" in data:
        sender = data.get("from")
        return data["data"], sender if type(sender) is str else ""
    return data, text(fields, "from")
