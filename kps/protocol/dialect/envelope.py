"""The envelope: JSON objects with known fields (spec, section 3).

Reading refuses a known field of the wrong type. It ignores unknown fields, so that the
protocol can grow.
"""

import gc
from collections.abc import Callable, Iterable
from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from enum import Enum
from math import isfinite
from typing import Any

import orjson

from kps.errors import InvalidArgument

Fields = dict[str, Any]

_STRING_FIELDS = frozenset(("action", "topic", "from", "to", "id", "error", "ack_id"))


class InvalidMessage(Exception):
    """A message that is refused.

    ``str()`` is the text for the sender; programs rely on ``code`` (spec, 12.6).
    """

    def __init__(self, text: str, code: str = "bad_message") -> None:
        super().__init__(text)
        self.code = code


class TooDeep(InvalidMessage):
    """Payloads that are nested too deeply to be written again: one, or several of a batch."""

    def __init__(self, payloads: int = 1) -> None:
        several = f" ({payloads} payloads)" if payloads > 1 else ""
        super().__init__(f"message nested too deeply{several}")


def load(frame: bytes) -> Any:
    """Parse the JSON of a frame. Raises :class:`InvalidMessage`, and nothing else."""
    try:
        return orjson.loads(frame)
    except orjson.JSONDecodeError:
        raise InvalidMessage("message is not valid JSON") from None


def check(fields: Any) -> Fields:
    """Return ``fields`` if it is one message. Raises :class:`InvalidMessage`, and nothing else."""
    if type(fields) is not dict:
        raise InvalidMessage("message is not a JSON object")
    for name, value in fields.items():
        if value.__class__ is not str and value is not None and name in _STRING_FIELDS:
            raise InvalidMessage(f"field {name} must be a string")
    return fields


def measure(loaded: Any, most: int) -> tuple[int, bool]:
    """Count the values of parsed JSON in the first ``most`` levels; tell whether there are more."""
    level = [loaded]
    values = 1
    while level and most:
        # One call returns the children of the whole level. A loop in Python would take as long
        # as parsing the JSON did.
        level = gc.get_referents(*level)
        values += len(level)
        most -= 1
    return values, any(type(part) is dict or type(part) is list for part in level)


def payload_of(loaded: Any) -> Any:
    """Return the only array or object in a message, which is usually its payload; else itself."""
    if type(loaded) is dict:
        parts = [part for part in loaded.values() if type(part) is dict or type(part) is list]
        if len(parts) == 1:
            return parts[0]
    return loaded


def is_deeper(loaded: Any, most: int) -> bool:
    """Tell whether parsed JSON has more than ``most`` levels of arrays and objects."""
    return measure(loaded, most)[1]


def check_depth(payload: Any, most: int) -> None:
    """Raise :class:`TooDeep` for a payload that is nested too deeply."""
    if is_deeper(payload, most):
        raise TooDeep


def write(content: Any) -> bytes:
    """Write a message, or a part of it, whose content came from the wire or is our own."""
    try:
        return orjson.dumps(content)
    except TypeError:  # parsed JSON can always be written, unless it is nested too deeply
        raise TooDeep from None


def compose(content: Any) -> bytes:
    """Write a payload of the program, or a message that contains one.

    Raises :class:`kps.InvalidArgument` for types other than ``dict`` with string keys,
    ``list``, ``str``, ``int`` of 64 bits, ``float``, ``bool`` and ``None`` (and those that
    orjson knows: dataclasses, dates, UUIDs, enums), and for infinity and NaN.
    """
    try:
        written = encode(content)
    except TypeError as error:
        raise InvalidArgument(f"cannot be written as JSON: {_in_words(error)}") from None
    if written.rpartition(b"null")[1]:
        check_finite(content)
    return written


def _in_words(error: TypeError) -> str:
    """Put what the library says of a value into words that say what to do."""
    said = str(error)
    kind = said.removeprefix("Type is not JSON serializable: ")
    if kind != said:
        return f"a value of the type {kind}{_INSTEAD.get(kind, '')}"
    if said == "Dict key must be str":
        return "a key that is not a text"
    return f"{said[:1].lower()}{said[1:]}"


_INSTEAD = {
    "bytes": "; see kps.pack_bytes",
    "bytearray": "; see kps.pack_bytes",
    "coroutine": "; await it first",
    "set": "; make a list of it",
    "frozenset": "; make a list of it",
}
"""What to do with values that JSON does not have."""

encode: Callable[[Any], bytes] = orjson.dumps
"""Writes JSON as ``compose`` does, without its checks, and raises :class:`TypeError`: for a place
where a call more costs too much."""


def compose_payload(data: Any) -> bytes:
    """Write a payload of the program by itself; ``embedded`` makes it a part of a message.

    Raises as ``compose`` does, also for a payload that is too deep to be a part of any message.
    """
    return compose([[data]])[2:-2]  # at the deepest place that a message has for a payload


def check_finite(content: Any) -> None:
    """Raise :class:`kps.InvalidArgument` for infinity and NaN in what could be written.

    The library writes null for them, so only JSON with ``null`` in it needs this. ``rpartition``
    is the fastest search.
    """
    level = [content]
    while level:
        kinds = set(map(type, level))
        if float in kinds and not all(map(isfinite, [one for one in level if type(one) is float])):
            raise InvalidArgument("cannot be written as JSON: infinity, or not a number")
        if kinds <= _PLAIN:
            # One call returns the parts of the whole level, which is fast.
            level = gc.get_referents(*level)
        else:
            level = [part for one in level for part in _parts(one)]


_PLAIN = frozenset((dict, list, tuple, str, int, float, bool, type(None)))


def _parts(content: Any) -> Iterable[Any]:
    """Return what may hold a number of floating point in a value that could be written."""
    if isinstance(content, dict):
        return content.values()
    if isinstance(content, list | tuple):
        return content
    if isinstance(content, Enum):
        return (content.value,)
    if is_dataclass(content):  # the library leaves out names that begin with "_"
        names = [field.name for field in fields_of(content) if not field.name.startswith("_")]
        return [getattr(content, name, None) for name in names]
    return ()


def embedded(payload: bytes) -> Any:
    """Return a payload that is already JSON in a form that ``compose`` takes as a part."""
    return orjson.Fragment(payload)


ARRAY = (b"[", b",", b"]")
"""What goes in front of several messages, between two, and behind them: an array (spec, 12.2)."""


def text(fields: Fields, name: str) -> str:
    """Return a string field, or ``""`` if it is missing, null or not a string."""
    value = fields.get(name)
    return value if type(value) is str else ""


def shown(name: str) -> str:
    """Return what an error text repeats of a name that a peer chose: its beginning."""
    return name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}…"


_MOST_SHOWN = 256  # as long as topics and ids are at most, by default


def unwrap(fields: Fields) -> tuple[Any, str]:
    """Return the payload and the sender of a level 1 delivery.

    The server wraps both in ``data``. Some original servers send the payload bare, with the
    sender beside it.
    """
    data = fields.get("data")
    if type(data) is dict and "data" in data:
        sender = data.get("from")
        return data["data"], sender if type(sender) is str else ""
    return data, text(fields, "from")
