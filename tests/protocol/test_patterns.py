"""The pattern language, held to a matcher that is too simple to be wrong."""

import itertools
import pickle
import re
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kps
from kps.errors import InvalidArgument
from kps.protocol.patterns import Pattern


@cache
def naive(pattern: str) -> re.Pattern[str]:
    """The regular expression for a pattern. Some texts would make it very slow."""
    tokens = re.findall(r"\*\*+|.", pattern, re.DOTALL)
    meaning = {"*": "[^/]*"}
    parts = [".*" if len(one) > 1 else meaning.get(one, re.escape(one)) for one in tokens]
    return re.compile("".join(parts), re.DOTALL)


def all_texts(alphabet: str, longest: int) -> list[str]:
    return [
        "".join(one)
        for size in range(longest + 1)
        for one in itertools.product(alphabet, repeat=size)
    ]


class TestMatching:
    def test_all_short_patterns_with_all_short_texts(self) -> None:
        texts = all_texts("ab/", 5)
        for pattern in all_texts("a/*", 5)[1:]:
            expected = [text for text in texts if naive(pattern).fullmatch(text)]
            assert [text for text in texts if Pattern(pattern).matches(text)] == expected, pattern

    @given(
        st.lists(st.sampled_from(["a", "b", "b/", "/", "*", "**"]), min_size=1, max_size=12),
        st.text("ab/*", max_size=20),
    )
    def test_ones_of_likely_pieces(self, pieces: list[str], text: str) -> None:
        pattern = "".join(pieces)
        assert Pattern(pattern).matches(text) == bool(naive(pattern).fullmatch(text))

    @given(st.text("ab/*", min_size=1, max_size=14), st.text("ab/\n", max_size=20))
    def test_longer_ones(self, pattern: str, text: str) -> None:
        assert Pattern(pattern).matches(text) == bool(naive(pattern).fullmatch(text))

    @given(
        st.lists(st.sampled_from(["a", "b", "/", "*", "**", "ab"]), min_size=10, max_size=40),
        st.text("ab/", max_size=12),
    )
    def test_many_stars(self, pieces: list[str], text: str) -> None:
        pattern = "".join(pieces)
        assert Pattern(pattern).matches(text) == bool(naive(pattern).fullmatch(text))

    def test_pieces_with_slashes_in_the_middle(self) -> None:
        """Here it is wrong to look only behind the slash at which an attempt has failed."""
        assert Pattern("**f*x/*c**").matches("fx/fx/c")
        assert not Pattern("**f*x/*c**").matches("fx/fx//c")

    @pytest.mark.parametrize(
        ("pattern", "text"),
        [
            ("*a" * 60 + "*b", "a" * 256),
            ("**a" * 60 + "**b", "a" * 256),
            ("**" + "a*" * 60 + "b**", "a/" * 128),
            ("**" + "a*" * 60 + "b**c", "a" * 256),
            ("**a*b**c", "a/" * 100_000 + "b"),
        ],
    )
    def test_nothing_makes_it_slow(self, pattern: str, text: str) -> None:
        # By trying every way to fill the stars, this would not end.
        assert not Pattern(pattern).matches(text)

    @pytest.mark.parametrize(
        ("pattern", "topics", "others"),
        [
            ("**", ["a", "_x", "a/__b", "a__"], ["__a", "__a/b", "__kps/stats", "__"]),
            ("__*", ["__"], ["__a", "__a/b", "__kps/stats"]),
            ("__kps/*", ["__kps/stats", "__kps/"], ["__kps", "__other/stats"]),
            ("__kp*/stats", [], ["__kps/stats"]),
            ("__kps/stats", ["__kps/stats"], []),
            ("__a*", ["__a"], ["__ab", "__a/b"]),
            ("__ab*", ["__ab"], ["__a", "__abc"]),
        ],
    )
    def test_topics_that_no_pattern_has_by_accident(
        self, pattern: str, topics: list[str], others: list[str]
    ) -> None:
        found = [topic for topic in topics + others if Pattern(pattern).selects(topic)]
        assert found == topics


class TestCovering:
    def test_what_is_covered_has_nothing_else(self) -> None:
        texts = all_texts("ab/", 6)
        patterns = [*all_texts("a/*", 4)[1:], "a*b", "*ab*", "b/**a", "**b/*", "a**b**"]
        language = {
            pattern: frozenset(text for text in texts if naive(pattern).fullmatch(text))
            for pattern in patterns
        }
        covered = 0
        for granted, asked in itertools.product(patterns, repeat=2):
            if Pattern(granted).covers(Pattern(asked)):
                covered += 1
                assert language[asked] <= language[granted], (granted, asked)
        assert covered > 2 * len(patterns)

    @pytest.mark.parametrize(
        ("granted", "asked", "is_covered"),
        [
            ("sensors/*", "sensors/**", False),  # although it matches the characters
            ("sensors/*", "sensors/*", True),
            ("sensors/*", "sensors/a*", True),
            ("sensors/**", "sensors/*/temperature", True),
            ("sensors/**", "sensors/**/**", True),
            ("**", "**", True),
            ("**", "a*b**c", True),
            ("*", "**", False),
            ("*", "*/*", False),
            ("**/*", "**", False),
            ("a*c", "a*b*c", True),
            ("a*b*c", "a*c", False),
            ("a", "a*", False),
            ("a*", "a", True),
            ("***", "**", True),
        ],
    )
    def test_covers(self, granted: str, asked: str, is_covered: bool) -> None:
        assert Pattern(granted).covers(Pattern(asked)) is is_covered

    def test_each_pattern_covers_itself(self) -> None:
        for text in all_texts("a/*", 5)[1:]:
            assert Pattern(text).covers(Pattern(text))


class TestValues:
    def test_they_are_equal_by_text_and_no_texts(self) -> None:
        assert Pattern("a*") == Pattern("a*")
        assert Pattern("a*") != Pattern("b*")
        assert Pattern("a*") != "a*"
        assert len({Pattern("a*"), Pattern("a*"), "a*"}) == 2
        assert (str(Pattern("a*")), repr(Pattern("a*"))) == ("a*", "Pattern('a*')")
        assert pickle.loads(pickle.dumps(Pattern("a*b"))) == Pattern("a*b")
        assert kps.Pattern is Pattern

    @pytest.mark.parametrize("wrong", ["", None, 5, b"a", ["a"]])
    def test_what_is_no_pattern(self, wrong: object) -> None:
        with pytest.raises(InvalidArgument, match="a pattern is a text that is not empty"):
            Pattern(wrong)  # type: ignore[arg-type]
