"""Patterns, permissions, and whose an id is."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import InvalidArgument
from kps.protocol.access.identity import Permissions, matches
from kps.protocol.access.ids import IdOwners


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "fits", "others"),
        [
            ("news", ["news"], ["", "new", "newss", "NEWS"]),
            ("*", ["", "a", "a/b", "*"], []),
            ("chat/*", ["chat/", "chat/a", "chat/a/b"], ["chat", "achat/a"]),
            ("*/status", ["/status", "a/status"], ["a/status/", "astatus"]),
            ("a*b*c", ["abc", "axbxc", "abbcc"], ["acb", "ab", "abcx"]),
            ("ab*ba", ["abba", "abxba"], ["aba", "ab"]),
            ("", [""], ["a"]),
            ("a.c", ["a.c"], ["abc"]),
        ],
    )
    def test_matches(self, pattern: str, fits: list[str], others: list[str]) -> None:
        assert [text for text in fits + others if matches(text, [pattern])] == fits

    def test_one_of_several_is_enough(self) -> None:
        assert matches("b", ("a", "b"))
        assert not matches("c", ("a", "b"))
        assert not matches("c", ())

    @given(st.text("ab*", max_size=8), st.text("ab*\n", max_size=12))
    def test_star_is_any_characters(self, pattern: str, text: str) -> None:
        expected = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
        assert matches(text, [pattern]) == bool(expected.fullmatch(text))

    def test_no_text_makes_it_slow(self) -> None:
        # By trying every way to fill the stars, this would not end.
        assert not matches("a" * 256, ["*a" * 60 + "*b"])


class TestPermissions:
    def test_lists_become_tuples(self) -> None:
        assert Permissions(publish=["a"]).publish == ("a",)
        assert hash(Permissions(publish=["a"])) == hash(Permissions(publish=("a",)))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"publish": "chat/*"},
            {"ids": [1]},
            {"direct": None},
            {"relay": {}},
            {"console": 1},
            {"peer": "yes"},
        ],
    )
    def test_what_is_no_permission(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgument, match=next(iter(wrong))):
            Permissions(**wrong)


class TestIdOwners:
    def test_an_id_belongs_to_the_first(self) -> None:
        owners = IdOwners(10, 100)
        assert owners.may_use("a", "alice")
        owners.take("a", "alice")
        assert owners.may_use("a", "alice")
        assert not owners.may_use("a", "bob")
        assert not owners.may_use("a", "")

    def test_who_has_no_name_owns_nothing(self) -> None:
        owners = IdOwners(10, 100)
        owners.take("a", "")
        assert owners.may_use("a", "alice")

    def test_the_oldest_is_free_when_there_are_too_many(self) -> None:
        owners = IdOwners(2, 100)
        owners.take("other", "bob")
        for client_id in ("1", "2", "1", "3"):
            owners.take(client_id, "alice")
        assert [i for i in ("1", "2", "3", "other") if owners.may_use(i, "carol")] == ["2"]

    def test_nor_are_those_of_all_too_many(self) -> None:
        owners = IdOwners(10, 2)
        for name in ("alice", "bob", "alice", "carol"):
            owners.take(f"{name}-1", name)
        assert [n for n in ("alice", "bob", "carol") if owners.may_use(f"{n}-1", "x")] == ["bob"]
        assert (len(owners), len(owners._ids)) == (2, 2)

    def test_one_in_the_middle_is_found_wherever_its_digest_may_seem_to_begin(self) -> None:
        owners = IdOwners(300, 1000)
        for _ in range(3):
            for number in range(300):
                owners.take(str(number), "alice")
        owners.take("150", "alice")
        for number in range(298):
            owners.take(f"new {number}", "alice")
        mine = [n for n in range(300) if not owners.may_use(str(n), "bob")]
        assert mine == [150, 299]
