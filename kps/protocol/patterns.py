"""Patterns of topics and other names: the one language for subscriptions, permissions and rules.

In a pattern ``*`` stands for any characters but ``/``, and ``**`` for any characters; both also for
none. Every other character stands for itself (spec, 14.1). Matching takes time in proportion to
the length of pattern and text, whatever they are: it never tries a place twice.
"""

import re
from functools import lru_cache
from typing import Final

from kps.errors import InvalidArgument
from kps.protocol.limits import shown

_STARS = re.compile(r"\*\*+")  # a run of two or more is one ``**``
_TOKENS = re.compile(r"\*\*+|.", re.DOTALL)

# Stars of a pattern that is kept in pieces. One with more would take too much memory so.
_MOST_KEPT = 8


class Pattern:
    """A pattern of topics: ``Pattern("sensors/*/temperature")``.

    ``*`` stands for any characters but ``/``, ``**`` for any characters, each also for none; all
    others stand for themselves. Two patterns are equal if their texts are.

    Raises :class:`kps.InvalidArgument` unless the text is a string that is not empty.
    """

    __slots__ = ("_parts", "head", "tail", "text")

    text: Final[str]
    """How it is written."""
    head: Final[str]
    """What each text that it matches begins with: all before its first star."""
    tail: Final[str]
    """What each text that it matches ends with, behind the head: all behind its last star."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text:
            raise InvalidArgument(f"a pattern is a text that is not empty, not {shown(text)}")
        self.text = str(text)
        self.head, _, rest = self.text.partition("*")
        self.tail = rest.rpartition("*")[2]
        self._parts = _parts_of(text) if text.count("*") <= _MOST_KEPT else None

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash((Pattern, self.text))

    def matches(self, text: str) -> bool:
        """Tell whether a text matches."""
        first, *others = self._parts or _parts_of(self.text)
        if not others and len(first) == 1:
            return text == first[0]
        if not text.startswith(self.head) or not text.endswith(self.tail):
            return False
        if not others:
            end = _follow(first[:-1], text, 0, len(text) - len(self.tail))
            return (
                0 <= end <= len(text) - len(self.tail)
                and "/" not in text[end : len(text) - len(self.tail)]
            )
        last = others.pop()
        begin = _follow(first, text, 0, len(text))
        end = _follow_back(last, text, begin)
        if begin < 0 or end < begin:
            return False
        for part in others:
            begin = _find(part, text, begin, end)
            if begin < 0:
                return False
        return True

    def selects(self, topic: str) -> bool:
        """Tell whether a subscription to the pattern has a topic.

        A topic that begins with ``__`` only counts if the pattern begins with the same characters
        up to the topic's first ``/``, or with the whole topic if it has none.
        """
        return self.matches(topic) and (
            not topic.startswith(HIDDEN) or self.head.startswith(hidden_beginning(topic))
        )

    def covers(self, other: "Pattern") -> bool:
        """Tell whether this matches every text that another pattern matches."""
        return _covers(self.text, other.text)


Key = str | Pattern
"""What a subscription is to: a topic, or a pattern of topics."""

HIDDEN = "__"
"""What the topics begin with that patterns do not have by accident."""


def hidden_beginning(topic: str) -> str:
    """Return what a pattern begins with if it has a hidden topic."""
    return topic[: topic.find("/") + 1] or topic


def _parts_of(text: str) -> list[list[str]]:
    """Split a pattern: between two ``**`` is a part, and between two ``*`` of a part a piece."""
    return [part.split("*") for part in _STARS.split(text)]


@lru_cache(maxsize=4096)
def pattern(text: str) -> Pattern:
    """Return the pattern of a text, which may have been made before."""
    return Pattern(text)


def _follow(pieces: list[str], text: str, begin: int, end: int) -> int:
    """Match pieces from ``begin`` on, with ``*`` in between; return where the last one ends, or -1.

    To take the earliest place of each is enough. What is between two pieces has no ``/``: so if the
    next one does not follow the earliest place, it follows no later one.
    """
    first, *others = pieces
    if not text.startswith(first, begin, end):
        return -1
    begin += len(first)
    for piece in others:
        place = text.find(piece, begin, end)
        if place < 0 or text.find("/", begin, place) >= 0:
            return -1
        begin = place + len(piece)
    return begin


def _follow_back(pieces: list[str], text: str, begin: int) -> int:
    """Match pieces back from the end of a text, not before ``begin``; return where, or -1."""
    *others, last = pieces
    end = len(text) - len(last)
    if end < begin or not text.endswith(last):
        return -1
    for piece in reversed(others):
        place = text.rfind(piece, begin, end)
        if place < 0 or text.find("/", place + len(piece), end) >= 0:
            return -1
        end = place
    return end


def _find(pieces: list[str], text: str, begin: int, end: int) -> int:
    """Find the first place, from ``begin`` on, where pieces match; return its end, or -1."""
    first, *others = pieces
    while True:
        begin = text.find(first, begin, end)
        if begin < 0:
            return -1
        place = begin + len(first)
        for piece in others:
            found = text.find(piece, place, end)
            if found < 0:
                return -1
            slash = text.find("/", place, found)
            if slash >= 0:
                # The first piece must end behind that slash, or be there.
                begin = max(begin + 1, slash + 1 - len(first))
                break
            place = found + len(piece)
        else:
            return place


def _covers(granted: str, asked: str) -> bool:
    """Match the pattern ``asked`` as a text, symbol by symbol, against the pattern ``granted``.

    Only a ``**`` takes a ``**``, and only a star takes a ``*``.
    """
    tokens, symbols = _tokens(granted), _tokens(asked)
    # reached: how many of the tokens may have been used by the symbols so far
    reached = _skip_stars({0}, tokens)
    for symbol in symbols:
        after = set()
        for place in reached:
            token = tokens[place] if place < len(tokens) else ""
            if token == "**" or (token == "*" and symbol not in ("/", "**")):
                after.add(place)
            elif token == symbol:
                after.add(place + 1)
        reached = _skip_stars(after, tokens)
        if not reached:
            return False
    return len(tokens) in reached


def _tokens(text: str) -> list[str]:
    return ["**" if len(token) > 1 else token for token in _TOKENS.findall(text)]


def _skip_stars(places: set[int], tokens: list[str]) -> set[int]:
    """Add the places behind stars that stand for nothing."""
    for place in list(places):
        while place < len(tokens) and tokens[place] in ("*", "**"):
            place += 1
            places.add(place)
    return places
