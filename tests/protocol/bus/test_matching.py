"""The table of patterns, and a bus with subscriptions to patterns."""

from collections import Counter
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kps.protocol.bus.matching import MOST_ALIKE, PatternTable
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Stage
from kps.protocol.bus.topics import Bus
from kps.protocol.dialect.server import LEVEL_2
from kps.protocol.patterns import Key, Pattern
from kps.protocol.server.encodings import FRAMES
from kps.protocol.timers import Deadlines
from tests.protocol.bus.test_bus_and_acks import Listener

TEXTS = st.text("ab/*", min_size=1, max_size=5)
TOPICS = st.text("ab/_", min_size=1, max_size=5)


class TestTable:
    @given(st.lists(TEXTS, max_size=30), st.data())
    def test_it_finds_what_a_look_at_all_finds(self, added: list[str], data: st.DataObject) -> None:
        removed = data.draw(st.lists(st.sampled_from([*added, ""])))
        topics = data.draw(st.lists(TOPICS))
        table: PatternTable[str] = PatternTable()
        for text in added:
            table[Pattern(text)] = text
        for text in set(removed) & set(added):
            del table[Pattern(text)]
        left = set(added) - set(removed)
        assert (len(table), set(table.values())) == (len(left), left)
        assert {str(pattern) for pattern in table.keys()} == left  # noqa: SIM118
        for topic in topics:
            expected = [text for text in left if Pattern(text).selects(topic)]
            assert Counter(table.find(topic)[0]) == Counter(expected)

    def test_nothing_is_left_of_what_was_removed(self) -> None:
        table: PatternTable[int] = PatternTable()
        patterns = [Pattern(text) for text in ("a*b", "a*", "*b", "a**b", "a", "**", "ab*b")]
        for pattern in patterns:
            table[pattern] = 1
            table[pattern] = 2
        changes = table.changes
        assert (len(table), changes) == (len(patterns), len(patterns))
        for pattern in patterns:
            del table[pattern]
        assert (table._heads, table._lengths.ordered, table._lengths._counts) == ({}, [], {})
        assert table.changes == 2 * changes

    def test_a_search_looks_at_few_of_many(self) -> None:
        def work(count: int) -> int:
            table: PatternTable[int] = PatternTable()
            for number in range(count):
                table[Pattern(f"room {number:06}/*")] = number
                table[Pattern(f"**/{number:06}")] = number
                table[Pattern(f"room/*/{number:06}")] = number
            found, work = table.find("room 000001/000002")
            assert sorted(found) == [1, 2]
            return work

        assert work(10) == work(5000)

    def test_too_many_that_are_alike(self) -> None:
        table: PatternTable[int] = PatternTable()
        numbers = count()
        while not table.is_crowded(Pattern(f"a*{(number := next(numbers)):04}*b")):
            table[Pattern(f"a*{number:04}*b")] = number
        assert number == MOST_ALIKE // len("a*0000*b")
        assert not table.is_crowded(Pattern("a*0007*b"))  # it is there
        assert not table.is_crowded(Pattern("a*0000*c"))
        assert table.find("a" + "x" * 50 + "b")[1] > MOST_ALIKE // 20
        del table[Pattern("a*0007*b")]
        assert not table.is_crowded(Pattern("a*0008x*b"[:8]))

    @given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=100), TOPICS, st.integers(0, 100))
    def test_what_has_changed_is_found_alone(
        self, changes: list[tuple[str, bool]], topic: str, first: int
    ) -> None:
        table: PatternTable[str] = PatternTable()

        def change(some: list[tuple[str, bool]]) -> None:
            for text, is_there in some:
                if is_there:
                    table[Pattern(text)] = text
                elif table.get(Pattern(text)) is not None:
                    del table[Pattern(text)]

        change(changes[:first])
        found, then = table.find(topic)[0], table.changes
        change(changes[first:])
        again, _ = table.find_again(topic, found, then)
        assert Counter(again) == Counter(table.find(topic)[0])


class TestBus:
    def test_one_delivery_however_many_subscriptions_match(self) -> None:
        bus, alice, bob = Bus(Deadlines()), Listener("alice"), Listener("bob")
        for key in ("a/b", Pattern("a/*"), Pattern("**"), Pattern("a/*")):
            bus.subscribe(alice, key)
        bus.subscribe(bob, Pattern("*/b"))
        assert bus.publish(Publication("a/b", "x", b"1")) == 2
        assert bus.publish(Publication("c/b", "x", b"2")) == 2
        assert bus.publish(Publication("c", "x", b"3")) == 1
        assert bus.publish(Publication("__c", "x", b"3")) == 0
        assert [len(alice.got), len(bob.got)] == [3, 2]
        assert bus.subscribers("a/b") == [alice, bob]
        assert bus.subjects(10) == [
            ("a/b", 1, 1), (Pattern("a/*"), 1, 1), (Pattern("**"), 1, 3), (Pattern("*/b"), 1, 2),
        ]  # fmt: skip
        assert len(bus) == 4

    def test_everyone_gets_it_in_its_own_encoding(self) -> None:
        bus, old = Bus(Deadlines()), Listener("old")
        new = Listener("new", encoding=FRAMES[LEVEL_2])
        bus.subscribe(old, "t")
        first = Publication("t", "x", b"1")
        bus.publish(first)
        bus.subscribe(new, Pattern("*"))
        second = Publication("t", "x", b"1")
        bus.publish(second)
        assert set(first._encoded) == {old.encoding}
        assert set(second._encoded) == {old.encoding, new.encoding}

    @pytest.mark.pure("it replaces a part of the core")
    def test_what_is_remembered_of_topics_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kps.protocol.bus.subjects._MOST_ROUTES", 5)
        bus, alice = Bus(Deadlines()), Listener("alice")
        assert bus.publish(Publication("before", "x", b"1")) == 0
        assert not bus.routes._routes
        bus.subscribe(alice, Pattern("a*"))
        for number in range(20):
            assert bus.publish(Publication(f"a{number}", "x", b"1")) == 1
            assert bus.publish(Publication(f"b{number}", "x", b"1")) == 0
            assert len(bus.routes._routes) <= 5
        bus.unsubscribe(alice, Pattern("a*"))
        assert not bus.routes._routes

    def test_searches_are_charged_once(self) -> None:
        bus, alice = Bus(Deadlines()), Listener("alice")
        bus.publish(Publication("t", "x", b"1"))
        assert bus.routes.searched == 0
        bus.subscribe(alice, Pattern("a*"))
        bus.publish(Publication("t", "x", b"1"))
        searched = bus.routes.searched
        assert searched > 0
        for _ in range(3):
            bus.publish(Publication("t", "x", b"1"))
        assert bus.routes.searched == searched

    def test_there_is_room_for_what_is_there(self) -> None:
        bus, alice = Bus(Deadlines()), Listener("alice")
        bus.subscribe(alice, Pattern("a*"))
        bus.subscribe(alice, "t")
        assert bus.has_room(Pattern("a*"), 2)
        assert bus.has_room("t", 2)
        assert not bus.has_room("a*", 2)
        assert not bus.has_room(Pattern("t"), 2)
        assert bus.has_room(Pattern("t"), 3)


KEYS = st.one_of(
    st.text("ab/_", min_size=1, max_size=3), st.text("ab/*_", min_size=1, max_size=3).map(Pattern)
)


class BusMachine(RuleBasedStateMachine):
    """Subscriptions to topics and patterns come and go; each publication reaches whom it should."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines()
        self.bus = Bus(self.deadlines)
        self.listeners = [Listener(name) for name in "abc"]
        self.wanted: dict[Listener, set[Key]] = {one: set() for one in self.listeners}

    @rule(who=st.integers(0, 2), key=KEYS)
    def subscribe(self, who: int, key: Key) -> None:
        self.bus.subscribe(self.listeners[who], key)
        self.wanted[self.listeners[who]].add(key)

    @rule(who=st.integers(0, 2), key=KEYS)
    def unsubscribe(self, who: int, key: Key) -> None:
        self.bus.unsubscribe(self.listeners[who], key)
        self.wanted[self.listeners[who]].discard(key)

    @rule(who=st.integers(0, 2), data=st.data())
    def unsubscribe_from_one(self, who: int, data: st.DataObject) -> None:
        keys = sorted(self.wanted[self.listeners[who]], key=repr)
        if keys:
            self.unsubscribe(who, data.draw(st.sampled_from(keys)))

    @rule(who=st.integers(0, 2))
    def leave(self, who: int) -> None:
        self.bus.remove(self.listeners[who])
        self.wanted[self.listeners[who]] = set()

    @rule(topic=st.text("ab/_", min_size=1, max_size=3))
    def publish(self, topic: str) -> None:
        expected = [
            one
            for one, keys in self.wanted.items()
            if topic in keys or any(isinstance(key, Pattern) and key.selects(topic) for key in keys)
        ]
        before = [len(one.got) for one in self.listeners]
        assert self.bus.publish(Publication(topic, "x", b"1")) == len(expected)
        got = [len(one.got) - count for one, count in zip(self.listeners, before, strict=True)]
        assert got == [int(one in expected) for one in self.listeners]
        assert set(self.bus.subscribers(topic)) == set(expected)
        assert (topic in self.bus) is bool(expected)

    @invariant()
    def the_subjects_are_those_that_are_wanted(self) -> None:
        counts: Counter[Any] = Counter(key for keys in self.wanted.values() for key in keys)
        assert {key: count for key, count, _ in self.bus.subjects(1000)} == counts
        assert len(self.bus) == len(counts)
        for one, keys in self.wanted.items():
            assert one.topics == dict.fromkeys(keys, Stage.LIVE)


TestBusMachine = BusMachine.TestCase
