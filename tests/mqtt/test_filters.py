"""Filters of MQTT, alone and beside patterns of KPS."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import InvalidArgument
from kps.mqtt.core.filters import check_filter, filters_meet, matches, may_meet, patterns
from kps.protocol.patterns import Pattern

LEVELS = st.sampled_from(["", "a", "b", "ab", "+"])
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(LEVELS, min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
).filter(bool)
SHORT = ["".join(one) for size in range(1, 5) for one in product("a/b", repeat=size)]
PATTERNS = st.text("ab/*", min_size=1, max_size=4).map(Pattern)


def by_the_standard(levels: list[str], topic: list[str]) -> bool:
    """Match level by level, as section 4.7 of MQTT tells it."""
    if levels == ["#"]:
        return True
    if not levels or not topic:
        return not levels and not topic
    return levels[0] in ("+", topic[0]) and (
        by_the_standard(levels[1:], topic[1:]) or (levels[1:] == ["#"] and not topic[1:])
    )


@given(FILTERS)
def test_a_filter_matches_as_the_standard_says(text: str) -> None:
    for topic in SHORT:
        assert matches(text, topic) == by_the_standard(text.split("/"), topic.split("/")), topic


@pytest.mark.parametrize(
    ("text", "topic", "expected"),
    [
        ("#", "$SYS/load", False),
        ("+/load", "$SYS/load", False),
        ("$SYS/#", "$SYS/load", True),
        ("a/#", "a", True),
        ("a/+", "a/", True),
        ("a b/#", "a b/c.d", True),
    ],
)
def test_some_filters(text: str, topic: str, expected: bool) -> None:
    assert matches(text, topic) is expected


@pytest.mark.parametrize("text", ["", "a#", "#/a", "a/b+", "++", "a\0", "$share/g/a", "x" * 70_000])
def test_no_filters(text: str) -> None:
    with pytest.raises(InvalidArgument):
        check_filter(text)


@given(PATTERNS, PATTERNS)
def test_patterns_that_meet(one: Pattern, other: Pattern) -> None:
    """A text that both match is as long as both together, at most."""
    common = [topic for topic in SHORT if one.matches(topic) and other.matches(topic)]
    if common:
        assert may_meet(one, other)
    assert may_meet(one, other) == may_meet(other, one)
    if "*" not in one.text:
        assert may_meet(one, other) == other.matches(one.text)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("#", "$SYS/#", False),
        ("$SYS/#", "+/load", False),
        ("$SYS/+", "$SYS/load", True),
        ("+/b", "a/#", True),
        ("a/b", "a/c", False),
    ],
)
def test_filters_that_meet(one: str, other: str, expected: bool) -> None:
    assert filters_meet(one, other) is filters_meet(other, one) is expected


def test_patterns_that_do_not_meet() -> None:
    assert not may_meet(Pattern("a/*"), Pattern("a/b/**"))
    assert not may_meet(Pattern("*x"), Pattern("**y"))
    assert may_meet(Pattern("*/b"), Pattern("a/*"))
    assert [str(one) for one in patterns("a/+/#")] == ["a/*", "a/*/**"]
