"""Patterns, permissions, and whose an id is."""

from typing import Any

import pytest

from kps.errors import InvalidArgument
from kps.protocol.access.identity import OPEN, Permissions, matches
from kps.protocol.access.ids import IdOwners
from kps.protocol.access.rules import check_relay
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.dialect.envelope import InvalidMessage


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "fits", "others"),
        [
            ("news", ["news"], ["", "new", "newss", "NEWS"]),
            ("**", ["", "a", "a/b", "*"], []),
            ("*", ["", "a", "*"], ["a/b"]),
            ("chat/*", ["chat/", "chat/a"], ["chat", "achat/a", "chat/a/b"]),
            ("chat/**", ["chat/", "chat/a", "chat/a/b"], ["chat", "achat/a"]),
            ("*/status", ["/status", "a/status"], ["a/status/", "astatus", "a/b/status"]),
            ("a*b*c", ["abc", "axbxc", "abbcc"], ["acb", "ab", "abcx"]),
            ("ab*ba", ["abba", "abxba"], ["aba", "ab"]),
            ("a.c", ["a.c"], ["abc"]),
        ],
    )
    def test_matches(self, pattern: str, fits: list[str], others: list[str]) -> None:
        assert [text for text in fits + others if matches(text, [pattern])] == fits

    def test_one_of_several_is_enough(self) -> None:
        assert matches("b", ("a", "b"))
        assert not matches("c", ("a", "b"))
        assert not matches("c", ())


class TestPermissions:
    def test_lists_become_tuples(self) -> None:
        assert Permissions(publish=["a"]).publish == ("a",)
        assert hash(Permissions(publish=["a"])) == hash(Permissions(publish=("a",)))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"publish": "chat/*"},
            {"publish": ["*"]},
            {"ids": ["a", ""]},
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


class TestRelay:
    """What a pattern allows; whether the server's token may go there with TLS, and without."""

    @pytest.mark.parametrize(
        ("pattern", "to", "plain", "tls"),
        [
            ("a.example:1", "a.example:1", True, True),
            ("a.example:1", "a.example:1/ws/bus", True, True),
            ("a.example:1", "a.example:2", None, None),
            ("a.example:1", "a.example:1/other", None, None),
            ("a.example:1", "a.example:1/ws/bus/..", None, None),
            ("a.example:1", "a.example:1::b/other", None, None),
            ("a.example:1", "a.example:1::b", True, True),
            ("a.example:1/other", "a.example:1/other", True, True),
            ("a.example:1/other", "a.example:1", None, None),
            ("a.example:1/*", "a.example:1/other", False, False),
            ("wss://a.example:1", "a.example:1", None, True),
            ("wss://a.example:1", "a.example:1/other", None, None),
            ("wss://a.example:1/other", "a.example:1/other", None, True),
            ("ws://a.example:1", "a.example:1", True, None),
            ("wss://*.example:1", "a.example:1", None, True),
            ("wss://*.example:1", "a.example:2", None, None),
            ("wss://*", "a.example:1/other", None, True),
            ("**", "a.example:1", False, False),
            ("**", "a.example:1/other", False, False),
            ("a.example:*", "a.example:1/other", False, False),
            ("10.0.0.*:9313", "10.0.0.1:9313", False, False),
            ("10.0.0.*:9313", "10.0.0.1:80/x:9313", None, None),
            ("10.0.0.*:9313", "10.0.0.1:9313/other", None, None),
            ("[::1]:1", "[::1]:1", True, True),
        ],
    )
    def test_pattern(self, pattern: str, to: str, plain: bool | None, tls: bool | None) -> None:
        def shows_token(secure: bool) -> bool | None:
            permissions, target = Permissions(relay=[pattern]), RelayTarget.parse(to)
            try:
                return check_relay(target, permissions, secure=secure)
            except InvalidMessage:
                return None

        assert (shows_token(False), shows_token(True)) == (plain, tls)

    def test_one_pattern_that_lets_the_token_go_is_enough(self) -> None:
        permissions = Permissions(relay=["**", "ws://a:1"])
        assert check_relay(RelayTarget.parse("a:1"), permissions, secure=False)
        assert not check_relay(RelayTarget.parse("b:1"), permissions, secure=False)

    @pytest.mark.parametrize("pattern", ["http://a:1", "://a:1", "*://a:1", "WSS://a:1"])
    def test_what_is_no_pattern(self, pattern: str) -> None:
        with pytest.raises(InvalidArgument):
            Permissions(relay=[pattern])

    def test_the_open_ones_may_be_changed(self) -> None:
        changed = Permissions.open(relay=["a:1"])
        assert (changed.relay, changed.peer, changed.console) == (("a:1",), True, True)
        assert Permissions.open() == OPEN
        assert not Permissions(relay=["a:1"]).peer
