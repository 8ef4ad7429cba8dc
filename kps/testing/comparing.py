"""Compares what a vector expects with what came, and learns what its placeholders stand for."""

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn
from uuid import uuid4


class Unplayable(Exception):
    """A step that cannot be done: the vector is at fault."""


def read_json(text: str) -> Any:
    """Read JSON as the specification has it. Raises :class:`ValueError`."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def spell_out(text: str | list[list[Any]]) -> str:
    """Return a text, or the one that pairs of a piece and how often it comes stand for."""
    return text if isinstance(text, str) else "".join(piece * times for piece, times in text)


def in_full(
    expected: Sequence[Any], received: Sequence[str], wrong: Sequence[str], names: "Names"
) -> str:
    """Tell what is wrong, what was expected, and what came; nothing if nothing is wrong."""
    if not wrong:
        return ""
    shown = json.dumps(expected, ensure_ascii=False)
    got_all = "\n            ".join(received) or "nothing"
    known = f"\n  names:    {names.bound}" if names.bound else ""
    told = "\n".join(f"  {one}" for one in wrong)
    return f"{told}\n  expected: {shown}\n  received: {got_all}{known}"


def difference(expected: Any, actual: Any, names: "Names", path: str, *, in_order: bool) -> str:
    """Where a JSON value is not what it should be; nothing if it is."""
    if isinstance(expected, dict) and list(expected) == ["$in_order"]:
        return difference(expected["$in_order"], actual, names, path, in_order=True)
    if isinstance(expected, dict) and isinstance(actual, dict):
        expected = {
            key: value["$optional"] if is_optional(value) else value
            for key, value in expected.items()
            if key in actual or not is_optional(value)
        }
        if missing := [key for key in expected if key not in actual]:
            return f"{path}: lacks {missing}"
        if extra := [key for key in actual if key not in expected]:
            return f"{path}: has {extra} besides"
        if in_order and list(expected) != list(actual):
            return f"{path}: keys in the order {list(actual)} instead of {list(expected)}"
        keys: list[Any] = list(expected)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return f"{path}: {len(actual)} elements instead of {len(expected)}"
        keys = list(range(len(expected)))
    elif isinstance(expected, dict) and list(expected) == ["$between"]:
        least, most = expected["$between"]
        same = _is_number(actual) and least <= actual <= most
        return "" if same else f"{path}: {actual!r} is not between {least} and {most}"
    elif expected == "$time" and _is_number(actual):
        return ""
    elif expected in ("$mark", "$later") and type(actual) is int:
        same = names.numbers.setdefault(expected, actual) == actual
        return "" if same else f"{path}: {actual!r} instead of {names.numbers[expected]!r}"
    elif isinstance(expected, str) and isinstance(actual, str):
        same = names.match(expected, actual)
        return "" if same else f"{path}: {actual!r} instead of {expected!r}"
    else:
        # Numbers are equal by value, however they are written; true is not 1.
        numbers = _is_number(expected) and _is_number(actual)
        same = (numbers or type(expected) is type(actual)) and expected == actual
        return "" if same else f"{path}: {actual!r} instead of {expected!r}"
    for key in keys:
        inner = f"{path}[{key!r}]"
        found = difference(expected[key], actual[key], names, inner, in_order=in_order)
        if found:
            return found
    return ""


def is_optional(expected: Any) -> bool:
    """Tell whether a member that a vector expects may be missing."""
    return isinstance(expected, dict) and list(expected) == ["$optional"]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Names:
    """The placeholders of a vector, and what they have been found to stand for."""

    _PLACEHOLDER = re.compile(
        r"\$(?:(?:ack|new|again)\d+|epoch|generated|address|n|text)(?![a-z0-9])"
    )

    def __init__(self, address: str) -> None:
        self.bound = {"$address": address}
        self.numbers: dict[str, int] = {}

    def fill(self, value: Any) -> Any:
        """Put in what the placeholders stand for, at any depth of a JSON value."""
        if isinstance(value, str):
            if value in self.numbers:
                return self.numbers[value]
            return self._PLACEHOLDER.sub(lambda found: self._known(found.group()), value)
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return value

    def match(self, expected: str, actual: str) -> bool:
        """Compare a string with a text that came, and learn from it what is not yet known."""
        pattern = ""
        position = 0
        unknown: list[str] = []
        for found in self._PLACEHOLDER.finditer(expected):
            name = found.group()
            pattern += re.escape(expected[position : found.start()])
            position = found.end()
            if name == "$n":
                pattern += r"\d+"
            elif name == "$text":
                pattern += ".+"
            elif name in self.bound:
                pattern += re.escape(self.bound[name])
            else:
                pattern += "(.+)"
                unknown.append(name)
        result = re.fullmatch(pattern + re.escape(expected[position:]), actual, re.DOTALL)
        if result is None:
            return False
        learnt = dict(zip(unknown, result.groups(), strict=True))
        known = set(self.bound.values())
        if any(one in known for name, one in learnt.items() if not name.startswith("$again")):
            return False  # ids of different names are different
        self.bound.update(learnt)
        return True

    def _known(self, name: str) -> str:
        if name.startswith("$new"):
            self.bound.setdefault(name, str(uuid4()))
        if name not in self.bound:
            raise Unplayable(f"{name} is not known yet")
        return self.bound[name]
