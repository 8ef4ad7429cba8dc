"""The logs of topics with history, without any connection."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import InvalidArgument
from kps.protocol.bus.given import check_demands
from kps.protocol.bus.history import History
from kps.protocol.bus.logs import BREAK, LogBook, TopicLog
from kps.protocol.bus.past import check_start
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.store import Entry, KeptPast, KeptTopic, new_entry
from kps.protocol.dialect.places import Position, Start
from kps.protocol.patterns import Pattern
from kps.protocol.server_limits import ServerLimits
from kps.protocol.timers import Deadlines


def new_book(*rules: History, most_bytes: int = 1 << 30, most_topics: int = 1000) -> LogBook:
    epochs = count(1)
    return LogBook(rules, Deadlines(), lambda: f"epoch {next(epochs)}", most_bytes, most_topics)


def publish(book: LogBook, topic: str, *payloads: int, now: float = 0.0) -> Publication:
    publication = Publication(topic, "me")
    publication.add([b",".join(b"%d" % one for one in payloads)], len(payloads))
    book.keep(publication, now)
    return publication


def contents(log: TopicLog, offset: int = 0, most: int = 1 << 30) -> list[tuple[int, int]]:
    """The offsets and payloads that are kept from an offset on."""
    found: list[tuple[int, int]] = []
    for entry in log.read(offset, most):
        texts = entry.text.split(b",")
        assert len(texts) == entry.messages
        found += [(place, int(text)) for place, text in enumerate(texts, entry.first)]
    return found


def the_log(book: LogBook, topic: str) -> TopicLog:
    log = book.log(topic)
    assert log is not None
    return log


class TestRules:
    def test_the_first_that_has_the_topic_counts(self) -> None:
        rules = History("a/special", size=1), History("a/**", size=2), History("__own/*", size=3)
        book = new_book(*rules)
        found = [book.rule_of(topic) for topic in ("a/special", "a/b/c", "__own/x", "b", "__a/x")]
        assert found == [*rules, None, None]
        assert publish(book, "b", 1).offset == 0
        assert book.log("b") is None
        assert len(book) == 0

    @pytest.mark.parametrize(
        "wrong",
        [
            {"topics": ""}, {"topics": "*"}, {"topics": 5}, {"size": 0}, {"size": 1.5},
            {"size": True}, {"ttl": 0}, {"ttl": -1}, {"ttl": "5"}, {"ttl": float("nan")},
        ],
    )  # fmt: skip
    def test_what_is_no_rule(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgument):
            History(**{"topics": "a", **wrong})


class TestAsking:
    @pytest.mark.parametrize(
        ("since", "last"),
        [
            (None, -1), (None, True), (None, "5"), (None, 10**30), (5, 0), ("e:5", 0),
            (Position("e", -1), 0), (Position("e", 2**53), 0), (Position(5, 1), 0),  # type: ignore[arg-type]
            (Position("e", 1), 3),
        ],
    )  # fmt: skip
    def test_what_cannot_be_asked_for(self, since: Any, last: Any) -> None:
        with pytest.raises(InvalidArgument):
            check_start("t", since, last)

    def test_what_can(self) -> None:
        position = Position("e", 5)
        assert check_start("t", None, 0) is None
        assert check_start("t", position, 0) == Start(position)
        assert check_start(Pattern("t*"), None, 3) == Start(None, 3)
        with pytest.raises(InvalidArgument, match="a pattern has many positions"):
            check_start(Pattern("t*"), position, 0)
        assert History(Pattern("t*")) == History("t*")

    @pytest.mark.parametrize("wrong", ["a", 5, None, [5], [""], b"a"])
    def test_who_cannot_be_expected(self, wrong: object) -> None:
        with pytest.raises(InvalidArgument, match="expect takes a list of ids"):
            check_demands(wrong, (), "", 0, ServerLimits())


class TestNumbers:
    def test_offsets_have_no_gaps_and_outlive_the_messages(self) -> None:
        book = new_book(History("**", size=3, ttl=10))
        assert [publish(book, "t", *range(n)).offset for n in (1, 3, 2)] == [1, 2, 5]
        log = the_log(book, "t")
        assert (log.top, log.first, log.kept) == (6, 4, 5)
        assert contents(log) == [(4, 2), (5, 0), (6, 1)]
        log.handle_timeout(10.0)
        assert (log.top, log.first, contents(log), book.size) == (6, 7, [], 0)
        assert publish(book, "t", 7, now=11.0).offset == 7
        assert contents(log) == [(7, 7)]

    def test_a_batch_that_is_larger_than_the_log(self) -> None:
        book = new_book(History("**", size=2))
        assert publish(book, "t", 1, 2, 3, 4, 5).offset == 1
        assert contents(the_log(book, "t")) == [(4, 4), (5, 5)]

    def test_what_a_position_says(self) -> None:
        book = new_book(History("**", size=3))
        publish(book, "t", *range(1, 11))
        log = the_log(book, "t")
        assert [log.is_whole(offset) for offset in (6, 7, 10, 11)] == [False, True, True, False]
        assert [log.count_lost(offset) for offset in (0, 6, 7, 10)] == [7, 1, 0, 0]
        assert log.count_lost(11) is None
        assert [log.latest(n) for n in (1, 3, 100)] == [10, 8, 8]
        assert [log.count_from(n) for n in (0, 9, 11)] == [3, 2, 0]

    def test_a_break(self) -> None:
        book = new_book(History("**", size=10))
        kept = KeptTopic("t", "old", 3, [new_entry(1, 1, 3, "me", b"1,2,3", 0.0)])
        book.open(Nothing(), KeptPast("latest", 1, False, [kept]), 0.0)
        assert book.epoch == "latest"
        log = the_log(book, "t")
        publication = publish(book, "t", 4)
        assert (publication.offset, publication.epoch) == (BREAK + 1, "old")
        assert contents(log) == [(1, 1), (2, 2), (3, 3), (BREAK + 1, 4)]
        assert [log.is_whole(n) for n in (0, 3, BREAK, BREAK + 1)] == [False, False, True, True]
        assert log.count_lost(3) is None
        assert [log.latest(n) for n in (1, 2, 9)] == [BREAK + 1, 3, 1]
        assert contents(log, 3) == [(3, 3), (BREAK + 1, 4)]
        assert publish(book, "new", 1).offset == BREAK + 1
        assert book.is_whole("latest", BREAK)
        assert not book.is_whole("latest", 1)
        assert not book.is_whole("old", BREAK)

    @given(
        st.integers(1, 6),
        st.sampled_from([None, 5.0]),
        st.lists(st.tuples(st.integers(0, 9), st.floats(0, 4))),
        st.integers(0, 30),
        st.integers(1, 9),
    )
    def test_it_keeps_the_latest(
        self,
        size: int,
        ttl: float | None,
        batches: list[tuple[int, float]],
        offset: int,
        most: int,
    ) -> None:
        book = new_book(History("**", size=size, ttl=ttl))
        now, numbers, expected = 0.0, count(1), list[tuple[int, float]]()
        for messages, pause in batches:
            now += pause
            payloads = [next(numbers) for _ in range(messages)]
            publish(book, "t", *payloads, now=now)
            expected += [(number, now) for number in payloads]
        log = the_log(book, "t")
        log.handle_timeout(now)
        left = [number for number, when in expected[-size:] if ttl is None or when + ttl > now]
        assert contents(log) == [(number, number) for number in left]
        assert log.first == (left[0] if left else log.top + 1)
        assert log.count_from(offset) == len([number for number in left if number >= offset])
        assert contents(log, offset, most) == [(n, n) for n in left if n >= offset][:most]
        assert book.size == sum(entry.size for entry in log.entries)
        assert log.kept == sum(entry.messages for entry in log.entries)
        if left:
            latest = log.latest(most)
            assert contents(log, latest) == contents(log)[-most:]


class TestBounds:
    def test_bytes(self) -> None:
        book = new_book(History("**", size=1000), most_bytes=10_000)
        for number in range(1000):
            publish(book, f"t{number % 7}", number)
            assert book.size <= 10_000
        assert sum(log.kept for log in book.logs()) > 10
        assert {log for log in book.logs() if log.entries} == set(book._filled)

    def test_topics_are_forgotten_and_begin_anew_in_another_epoch(self) -> None:
        book = new_book(History("a*", size=5), most_topics=10)
        publish(book, "a0", 1)
        first = the_log(book, "a0")
        for number in range(100):
            publish(book, f"b{number}", 1)  # which has no history
            assert len(book._without) <= 10
        for number in range(100):
            the_log(book, f"a{number}")
            assert len(book) == 1  # who only asks makes none
        assert the_log(book, "a0") is first
        for number in range(1, 30):
            publish(book, f"a{number}", 1)
            assert len(book._logs) <= 10
        again = publish(book, "a0", 2)
        assert again.offset == 1
        assert again.epoch not in ("", first.epoch)
        assert book.forgotten > 0

    def test_those_without_messages_go_first(self) -> None:
        book = new_book(History("**", size=5, ttl=1), most_topics=3)
        publish(book, "kept", 1)
        publish(book, "old", 1)
        the_log(book, "old").handle_timeout(5.0)
        publish(book, "new", 1)
        publish(book, "newer", 1)
        assert [log.topic for log in book.logs()] == ["kept", "new", "newer"]


class TestMarks:
    def test_what_came_after_a_mark(self) -> None:
        book = new_book(History("**", size=3))
        publish(book, "t", 1, 2)
        mark = book.latest
        publish(book, "u", 1)
        publish(book, "t", 3)
        assert the_log(book, "t").since_number(mark) == (3, True)
        assert the_log(book, "u").since_number(mark) == (1, True)
        assert the_log(book, "u").since_number(book.latest) == (2, True)
        publish(book, "t", 4, 5, 6)
        assert the_log(book, "t").since_number(mark) == (4, False)
        assert the_log(book, "t").since_number(0) == (4, False)


class Nothing:
    """A store that keeps nothing."""

    def append(self, topic: str, epoch: str, entry: Entry) -> None: ...
    def trim(self, topic: str, offset: int) -> None: ...
    def forget(self, topic: str) -> None: ...
    def place(self, *_: object) -> None: ...
    def begin(self, epoch: str, number: int) -> None: ...


class Kept(Nothing):
    """A store that keeps all at once."""

    def __init__(self) -> None:
        self.topics: dict[str, tuple[str, list[Entry]]] = {}
        self.epoch = ""

    def append(self, topic: str, epoch: str, entry: Entry) -> None:
        self.topics.setdefault(topic, (epoch, []))[1].append(entry)

    def trim(self, topic: str, offset: int) -> None:
        epoch, entries = self.topics[topic]
        self.topics[topic] = epoch, [one for one in entries if one.behind > offset]

    def forget(self, topic: str) -> None:
        self.topics.pop(topic, None)

    def begin(self, epoch: str, number: int) -> None:
        self.epoch = epoch

    def load(self, tops: dict[str, int]) -> Iterator[KeptTopic]:
        for topic, (epoch, entries) in self.topics.items():
            yield KeptTopic(topic, epoch, tops[topic], entries)


class TestStore:
    @given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 4)), max_size=60))
    def test_what_it_keeps_is_what_there_was(self, batches: list[tuple[str, int]]) -> None:
        rules = [History("**", size=3)]
        book, store = new_book(*rules, most_topics=4), Kept()
        book.open(store, None, 0.0)
        for number, (topic, messages) in enumerate(batches):
            publish(book, topic, *range(number, number + messages))
        tops = {log.topic: log.top for log in book.logs()}
        again = new_book(*rules, most_topics=4)
        past = KeptPast(store.epoch, book.latest, True, list(store.load(tops)))
        again.open(store, past, 0.0)
        assert again.epoch == store.epoch
        assert {log.topic: (log.epoch, log.top, contents(log)) for log in again.logs()} == {
            log.topic: (log.epoch, log.top, contents(log)) for log in book.logs()
        }
        entries = [entry for _, kept in store.topics.values() for entry in kept]
        assert len(entries) < 5 * (64 + 10)

    def test_topics_whose_rule_is_gone_are_forgotten(self) -> None:
        book, store = new_book(History("a", size=3)), Kept()
        store.append("b", "e", new_entry(1, 1, 1, "me", b"1", 0.0))
        book.open(store, KeptPast("e", 1, True, list(store.load({"b": 1}))), 0.0)
        assert store.topics == {}
        assert book.logs() == []
