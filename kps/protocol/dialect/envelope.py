"""The envelope: JSON objects with known fields (spec, section 3).

Reading is strict in what reaches the bus and lenient in what it ignores: a known field
of the wrong type is refused, an unknown field is passed over, which is the room that
the protocol keeps for growing.
"""

import gc
from collections.abc import Sequence
from typing import Any

import orjson

from kps.errors import InvalidArgument

Fields = dict[str, Any]

_STRING_FIELDS = frozenset(("action", "topic", "from", "to", "id", "error", "ack_id"))


class InvalidMessage(Exception):
    """A message that is refused.

    ``str()`` is the text for the sender, ``code`` what its program can rely on (spec, 12.6).
    """

    def __init__(self, text: str, code: str = "bad_message") -> None:
        super().__init__(text)
        self.code = code


class TooDeep(InvalidMessage):
    """A payload nested deeper than can be written again."""

    def __init__(self) -> None:
        super().__init__("message nested too deeply")


def load(frame: bytes) -> Any:
    """Read the JSON of a frame. Raises :class:`InvalidMessage`, and nothing else."""
    try:
        return orjson.loads(frame)
    except orjson.JSONDecodeError:
        raise InvalidMessage("message is not valid JSON") from None


def check(fields: Any) -> Fields:
    """Return what is one message. Raises :class:`InvalidMessage`, and nothing else."""
    if type(fields) is not dict:
        raise InvalidMessage("message is not a JSON object")
    for name, value in fields.items():
        if type(value) is not str and value is not None and name in _STRING_FIELDS:
            raise InvalidMessage(f"field {name} must be a string")
    return fields


def is_deeper(loaded: Any, most: int) -> bool:
    """Whether what was read has more than so many levels of arrays and objects."""
    level = [loaded]
    while level and most:
        # What is in all of them, in one call: a loop in Python would take as long as reading
        # the JSON did.
        level = gc.get_referents(*level)
        most -= 1
    return any(type(part) is dict or type(part) is list for part in level)


def check_depth(payload: Any, most: int) -> None:
    """Refuse a payload that is too deep. Raises :class:`TooDeep`."""
    if is_deeper(payload, most):
        raise TooDeep


def write(fields: Fields) -> bytes:
    """Write a message whose content came from the wire, or is our own."""
    try:
        return orjson.dumps(fields)
    except TypeError:  # what was read can be written, unless it is too deep for that
        raise TooDeep from None


def compose(content: Any) -> bytes:
    """Write what the program gave, or a message with it.

    Raises :class:`kps.InvalidArgument` when that is not JSON: other types than ``dict``
    with string keys, ``list``, ``str``, ``int`` of 64 bits, ``float``, ``bool`` and
    ``None`` (and those that orjson knows: dataclasses, dates, UUIDs, enums).
    """
    try:
        return orjson.dumps(content)
    except TypeError as error:
        raise InvalidArgument(f"cannot be written as JSON: {error}") from None


def join(messages: Sequence[bytes]) -> bytes:
    """Make an array, as one message, of several messages (spec, 12.2)."""
    return b"[" + b",".join(messages) + b"]"


def text(fields: Fields, name: str) -> str:
    """A string field, or ``""`` when it is missing, null or not a string."""
    value = fields.get(name)
    return value if type(value) is str else ""


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
