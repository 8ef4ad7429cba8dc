"""Patterns of topics and other names: the one language for subscriptions, permissions and rules.

In a pattern ``*`` stands for any characters but ``/``, and ``**`` for any characters; both also for
none. Every other character stands for itself (spec, 14.1).
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from kps.errors import InvalidArgument
from kps.protocol.limits import shown

_TOKENS = re.compile(r"\*\*+|.", re.DOTALL)  # a run of two or more stars is one ``**``


class Pattern:
    """A pattern of topics: ``Pattern("sensors/*/temperature")``.

    ``*`` stands for any characters but ``/``, ``**`` for any characters, each also for none; all
    others stand for themselves. Two patterns are equal if their texts are.

    Raises :class:`kps.InvalidArgument` unless the text is a string that is not empty.
    """

    __slots__ = ("_middle", "head", "tail", "text")

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
        self.head, star, rest = self.text.partition("*")
        inner, _, self.tail = (star + rest).rpartition("*")
        self._middle = inner + star  # from the first star to the last one

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash((Pattern, self.text))

    def matches(self, text: str) -> bool:
        """Tell whether a text matches. The time it takes grows with the text, whatever it is."""
        middle = self._middle
        if not middle:
            return text == self.text
        begin, end = len(self.head), len(text) - len(self.tail)
        if begin > end or not text.startswith(self.head) or not text.endswith(self.tail):
            return False
        if middle == "*":
            return text.find("/", begin, end) < 0
        literals = len(middle) - middle.count("*")
        return literals == 0 or (literals <= end - begin and _matches(middle, text[begin:end]))

    def selects(self, topic: str) -> bool:
        """Tell whether a subscription to the pattern has a topic, which an empty text is not.

        A topic that begins with ``__`` only counts if the pattern begins with the same characters
        up to the topic's first ``/``, or with the whole topic if it has none.
        """
        return (
            topic != ""
            and self.matches(topic)
            and (not topic.startswith(HIDDEN) or self.head.startswith(hidden_beginning(topic)))
        )

    def covers(self, other: "Pattern") -> bool:
        """Tell whether this matches every text that another pattern matches."""
        return _covers(self.text, other.text)


Scope = str | Pattern
"""Which messages a subscription is about: those of a topic, or of a pattern of topics."""


class InGroup(NamedTuple):
    """A membership in a group of subscribers, of which one gets each message (spec, 18)."""

    scope: Scope
    """The topic or pattern."""
    group: str
    """The name of the group among those of the same topic or pattern."""

    def __str__(self) -> str:
        return f"{self.group} of {self.scope}"


Key = Scope | InGroup
"""What a subscription is to."""


def scope_of(key: Key) -> Scope:
    """Return the topic or pattern of a subscription."""
    return key.scope if isinstance(key, InGroup) else key


def group_of(key: Key) -> str:
    """Return the name of the group of which a subscription makes a member; empty: of none."""
    return key.group if isinstance(key, InGroup) else ""


HIDDEN = "__"
"""What the topics begin with that patterns do not have by accident."""


def hidden_beginning(topic: str) -> str:
    """Return what a pattern begins with if it has a hidden topic."""
    return topic[: topic.find("/") + 1] or topic


@lru_cache(maxsize=4096)
def pattern(text: str) -> Pattern:
    """Return the pattern of a text, which may have been made before."""
    return Pattern(text)


def _matches(pattern: str, text: str) -> bool:
    """Match a text with a pattern of several stars, in one pass over the text.

    Bit ``n`` of ``reached`` tells whether the first ``n`` tokens of the pattern can stand for what
    has been passed so far.
    """
    tokens = _tokens(pattern)
    places: dict[str, int] = {}  # for each token, the bits in front of it
    for number, token in enumerate(tokens):
        places[token] = places.get(token, 0) | 1 << number
    anything, stars = places.get("**", 0), places.get("*", 0) | places.get("**", 0)
    reached = 1 | (1 & stars) << 1
    for character in text:
        through = anything if character == "/" else stars
        here = 0 if character == "*" else places.get(character, 0)
        reached = (reached & through) | (reached & here) << 1
        reached |= (reached & stars) << 1  # a star may stand for nothing
    return bool(reached >> len(tokens) & 1)


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
