"""Topics and filters of MQTT, beside topics and patterns of KPS.

A topic is the same text on both sides. A filter of MQTT says the same as one or two patterns:
``+`` is ``*``, and ``a/#`` is ``a`` and ``a/**``. So both are compared as patterns.
"""

import re
from functools import lru_cache

from kps.errors import InvalidArgument
from kps.mqtt.core.fields import LONGEST_TEXT
from kps.protocol.limits import shown
from kps.protocol.patterns import Pattern

_TOKENS = re.compile(r"\*\*+|.", re.DOTALL)


def check_filter(text: str) -> str:
    """Return a filter of MQTT. Raises :class:`kps.InvalidArgument`."""
    if not isinstance(text, str) or not text:
        raise InvalidArgument(f"a filter of MQTT is a text that is not empty, not {shown(text)}")
    levels = text.split("/")
    is_fit = all(level in ("+", "#") or not ({"+", "#"} & set(level)) for level in levels)
    if not is_fit or "#" in levels[:-1]:
        raise InvalidArgument(
            f"in a filter of MQTT '+' is a whole level, and '#' the last one, unlike {shown(text)}"
        )
    if "\0" in text or len(text.encode(errors="replace")) > LONGEST_TEXT:
        raise InvalidArgument(f"MQTT takes no filter like {shown(text)}")
    if levels[0] == "$share":
        raise InvalidArgument(f"a bridge takes no shared subscription, unlike {shown(text)}")
    return text


def matches(filter_text: str, topic: str) -> bool:
    """Tell whether a filter has a topic. A wildcard in front has none that begins with ``$``."""
    if topic.startswith("$") and filter_text[:1] in ("+", "#"):
        return False
    return any(pattern.matches(topic) for pattern in patterns(filter_text))


@lru_cache(maxsize=4096)
def patterns(filter_text: str) -> tuple[Pattern, ...]:
    """Return patterns that together match what a filter matches, apart from the ``$``.

    A star in a filter stands for itself, and in a pattern for anything: then they match more.
    """
    if filter_text == "#":
        return (Pattern("**"),)
    *levels, last = filter_text.split("/")
    begin = "/".join("*" if level == "+" else level for level in levels)
    if last == "#":
        ends = (begin, f"{begin}/**")
        return tuple(Pattern(end) for end in ends if end)
    level = "*" if last == "+" else last
    whole = f"{begin}/{level}" if levels else level
    return (Pattern(whole),)


def filters_meet(one: str, other: str) -> bool:
    """Tell whether some topic matches both filters."""
    if {one[:1], other[:1]} in ({"$", "+"}, {"$", "#"}):
        return False  # a wildcard in front has no topics with $
    return any(may_meet(a, b) for a in patterns(one) for b in patterns(other))


def literal(text: str, wildcards: str) -> str:
    """Return what a filter or pattern begins with, before its first wildcard."""
    return re.split(f"[{re.escape(wildcards)}]", text, maxsplit=1)[0]


def may_meet(one: Pattern, other: Pattern) -> bool:
    """Tell whether some topic matches both patterns."""
    first, second = _TOKENS.findall(one.text), _TOKENS.findall(other.text)
    seen = set()
    ahead = [(0, 0)]
    while ahead:
        place = ahead.pop()
        if place in seen:
            continue
        seen.add(place)
        here, there = place
        if here == len(first) and there == len(second):
            return True
        token = first[here] if here < len(first) else ""
        fellow = second[there] if there < len(second) else ""
        # A star may stand for nothing more, or for what the other pattern has next.
        if token.startswith("*"):
            ahead.append((here + 1, there))
        if fellow.startswith("*"):
            ahead.append((here, there + 1))
        if token and fellow and _agree(token, fellow):
            ahead.append((here + (not token.startswith("*")), there + (not fellow.startswith("*"))))
    return False


def _agree(token: str, fellow: str) -> bool:
    """Tell whether two tokens may stand for the same character."""
    for one, other in ((token, fellow), (fellow, token)):
        if one.startswith("**"):
            return True
        if one == "*":
            return other != "/"
    return token == fellow
