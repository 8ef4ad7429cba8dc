"""Payloads as they were written: their bytes within the JSON of a message.

A server passes the bytes of a payload on. A parser returns values, but not where they stand, so
this module finds them. It takes only JSON that a parser has accepted.
"""

import re
from contextlib import suppress
from typing import Any

import orjson

from kps.protocol.dialect.envelope import Fields, TooDeep, write

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_SCALAR = rb'[^\[\]{}",\s]++'
_SPACE = rb"[ \t\n\r]*+"

# A member of an object as far as its value, or the whole of it if that is no array or object.
_MEMBER = re.compile(
    _SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE + rb"(" + _STRING + rb"|" + _SCALAR
    + rb"|(?=[\[{]))",
    re.DOTALL,
)  # fmt: skip
_ELEMENT = re.compile(_SPACE + rb"(" + _STRING + rb"|" + _SCALAR + rb"|(?=[\[{]))", re.DOTALL)
_COMMA = re.compile(_SPACE + rb",")
_BEGIN = re.compile(_SPACE + rb"[\[{]")

_OPENING = b"[{"

_MOST_STEPS = 10_000
"""Fields, and brackets of more than four levels, to look at one by one: that takes milliseconds.
Beyond so many a payload is written anew, or no client could be sure of its turn."""


class HardToFind(Exception):
    """A message is written in such a way that it takes too long to find a text in it."""


def _to_bracket() -> "re.Pattern[bytes]":
    """Make the pattern that goes on to the next bracket, past containers that are not deep.

    A loop in Python over all brackets would take ten times as long as parsing.
    """
    plain = rb'[^"\[\]{}]++|' + _STRING
    within = plain
    for _ in range(4):
        within = plain + rb"|[\[{](?:" + within + rb")*+[\]}]"
    return re.compile(rb"(?:" + within + rb")*+([\[\]{}])", re.DOTALL)


_TO_BRACKET = _to_bracket()


def text_of(message: bytes | None, fields: Fields, name: str) -> bytes:
    """Return the text of the field ``name`` of a message, whose fields are ``fields``.

    ``message`` is ``None`` if it is written as we would write it. If the text is hard to find, it
    is written anew. None of the fields may be nested too deeply: the JSON library may write past
    its memory above 200 levels.
    """
    # Most clients write JSON as we do. To compare takes less time than to take apart.
    if message is not None and not is_as_we_write(message, fields):
        with suppress(HardToFind):
            return find_text(message, name)
    return write(fields.get(name))


def find_text(message: bytes, name: str) -> bytes:
    """Return the text of a field of a message, and ``null`` if there is no such field.

    Raises :class:`HardToFind`.
    """
    span = find_span(message, name)
    if span is None:
        return b"null"
    begin, end = span
    return message[begin:end]


def find_span(message: bytes, name: str, steps: int = _MOST_STEPS) -> tuple[int, int] | None:
    """Return where the text of a field begins and ends; its last occurrence counts.

    Raises :class:`HardToFind` if it takes more steps.
    """
    span = None
    position = _end(_BEGIN, message, 0)
    while member := _MEMBER.match(message, position):
        key, (begin, position) = member[1], member.span(2)
        steps -= 1
        if begin == position:
            position, steps = _end_of_container(message, begin, steps)
        if key[1:-1] == name.encode() or (b"\\" in key and orjson.loads(key) == name):
            span = begin, position
        comma = _COMMA.match(message, position)
        if comma is None:
            break
        if steps < 0:
            raise HardToFind
        position = comma.end()
    return span


def split_texts(array: bytes) -> list[bytes]:
    """Return the texts of the elements of an array. Raises :class:`HardToFind`."""
    texts = []
    position, steps = _end(_BEGIN, array, 0), _MOST_STEPS
    while element := _ELEMENT.match(array, position):
        begin, position = element.span(1)
        if begin == position:
            position, steps = _end_of_container(array, begin, steps)
        texts.append(array[begin:position])
        comma = _COMMA.match(array, position)
        if comma is None:
            break
        position = comma.end()
    return texts


def split_joined(text: bytes) -> list[bytes]:
    """Return the texts of values with commas in between.

    They are written anew if that is as good, or if the texts are hard to find.
    """
    array = b"[%b]" % text
    texts = [write(value) for value in orjson.loads(array)]
    if b",".join(texts) != text:
        with suppress(HardToFind):
            return split_texts(array)
    return texts


def is_as_we_write(text: bytes, value: Any) -> bool:
    """Tell whether a text is what we would write for its value."""
    try:
        return write(value) == text
    except TooDeep:
        return False


def _end(pattern: "re.Pattern[bytes]", text: bytes, position: int) -> int:
    found = pattern.match(text, position)
    assert found is not None
    return found.end()


def _end_of_container(text: bytes, position: int, steps: int) -> tuple[int, int]:
    """Return where the array or object ends that begins at ``position``, and what steps are left.

    Raises :class:`HardToFind`.
    """
    depth, position = 1, position + 1
    while depth:
        bracket = _TO_BRACKET.match(text, position)
        assert bracket is not None
        position = bracket.end()
        depth += 1 if bracket[1] in _OPENING else -1
        steps -= 1
        if steps < 0:
            raise HardToFind
    return position, steps
