"""Who gets what, and who answers: topics and ack requests, without any connection."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import QueueFull
from kps.protocol import cost
from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.bus.acks import AckBook, DuplicateAckId
from kps.protocol.bus.publication import Encoding, Publication
from kps.protocol.bus.subscriber import UNSUBSCRIBED, Stage, Subscriber
from kps.protocol.bus.topics import Bus
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.dialect.server import LEVEL_1, LEVEL_2, ServerLevel1
from kps.protocol.patterns import Key
from kps.protocol.server.encodings import FRAMES
from kps.protocol.server_limits import ServerLimits
from kps.protocol.timers import Deadlines
from kps.protocol.wire.outbox import Entry, Kind


class Listener:
    """A subscriber that keeps what it gets, and may do something when it gets it."""

    def __init__(
        self,
        client_id: str,
        then: Callable[[], None] = lambda: None,
        encoding: Encoding[Any] = FRAMES[LEVEL_1],
    ) -> None:
        self.id = client_id
        self.encoding = encoding
        self.topics: dict[Key, Stage] = {}
        self.departure = UNSUBSCRIBED
        self.answers = True
        self.got: list[Publication] = []
        self._then = then

    def deliver(self, publication: Publication) -> bool:
        self.got.append(publication)
        self._then()
        return True


class TestBus:
    def test_subscribers_get_it_once_and_in_order(self) -> None:
        bus, alice, bob = Bus(Deadlines()), Listener("alice"), Listener("bob")
        for _ in range(2):
            bus.subscribe(alice, "news")
        bus.subscribe(bob, "news")
        first, second = Publication("news", "x", b"1"), Publication("news", "x", b"2")
        assert [bus.publish(first), bus.publish(second)] == [2, 2]
        assert alice.got == bob.got == [first, second]
        assert bus.subscribers("news") == [alice, bob]
        assert alice.topics == {"news": Stage.LIVE}

    def test_topics_are_plain_names(self) -> None:
        bus = Bus(Deadlines())
        topics = ["news", "News", "news.*", "news/", " news", "*", ">", "#"]
        listeners = {topic: Listener(topic) for topic in topics}
        for topic, listener in listeners.items():
            bus.subscribe(listener, topic)
        for topic in topics:
            assert bus.publish(Publication(topic, "x", b"null")) == 1
        assert all(len(listener.got) == 1 for listener in listeners.values())

    def test_nobody_subscribed(self) -> None:
        assert Bus(Deadlines()).publish(Publication("news", "x", b"null")) == 0
        assert Bus(Deadlines()).subscribers("news") == []

    def test_unsubscribe(self) -> None:
        bus, alice, bob = Bus(Deadlines()), Listener("alice"), Listener("bob")
        bus.subscribe(alice, "news")
        bus.subscribe(bob, "news")
        for _ in range(2):
            bus.unsubscribe(alice, "news")
        bus.unsubscribe(alice, "never subscribed")
        assert bus.publish(Publication("news", "x", b"null")) == 1
        assert (alice.got, alice.topics) == ([], {})

    def test_empty_topics_are_forgotten(self) -> None:
        bus, alice = Bus(Deadlines()), Listener("alice")
        for number in range(100):
            bus.subscribe(alice, f"topic {number}")
        assert len(bus) == 100
        bus.unsubscribe(alice, "topic 5")
        assert len(bus) == 99
        bus.remove(alice)
        assert (len(bus), alice.topics) == (0, {})

    def test_subscriber_may_leave_while_it_is_delivered_to(self) -> None:
        bus = Bus(Deadlines())
        listeners: list[Listener] = []
        for name in ("a", "b", "c"):
            listener = Listener(name)
            listener._then = partial(bus.remove, listener)
            listeners.append(listener)
            bus.subscribe(listener, "news")
        assert bus.publish(Publication("news", "x", b"null")) == 3
        assert all(len(listener.got) == 1 for listener in listeners)
        assert len(bus) == 0


class TestStages:
    def test_what_was_asked_for_is_not_yet_in_force(self) -> None:
        bus, alice = Bus(Deadlines()), Listener("alice")
        bus.ask(alice, "news")
        assert alice.topics == {"news": Stage.ASKED}
        assert ("news" in bus, len(bus), bus.subscribers("news")) == (False, 0, [])
        assert bus.publish(Publication("news", "x", b"1")) == 0
        bus.subscribe(alice, "news")
        assert alice.topics == {"news": Stage.LIVE}
        assert bus.publish(Publication("news", "x", b"2")) == 1
        assert [publication.payloads() for publication in alice.got] == [[b"2"]]

    def test_asking_again_does_not_take_it_back(self) -> None:
        bus, alice = Bus(Deadlines()), Listener("alice")
        bus.subscribe(alice, "news")
        bus.ask(alice, "news")
        assert alice.topics == {"news": Stage.LIVE}
        assert bus.subscribers("news") == [alice]

    def test_what_was_only_asked_for_can_be_given_up(self) -> None:
        bus, alice, bob = Bus(Deadlines()), Listener("alice"), Listener("bob")
        bus.subscribe(bob, "news")
        bus.ask(alice, "news")
        bus.ask(alice, "weather")
        bus.unsubscribe(alice, "news")
        assert alice.topics == {"weather": Stage.ASKED}
        bus.remove(alice)
        assert alice.topics == {}
        assert bus.subscribers("news") == [bob]

    def test_hooks_are_told_once_of_what_comes_into_force_and_ends(self) -> None:
        bus, alice, bob = Bus(Deadlines()), Listener("alice"), Listener("bob")
        told: list[tuple[str, Subscriber, Key, bool]] = []

        def note(name: str, is_new: bool, who: Subscriber, key: Key) -> None:
            told.append((name, who, key, is_new))

        for name in ("first", "second"):
            bus.on_join.append(partial(note, name, True))
            bus.on_leave.append(partial(note, name, False))

        def news() -> list[tuple[str, Subscriber, Key, bool]]:
            latest = told.copy()
            told.clear()
            return latest

        bus.ask(alice, "news")
        assert news() == []
        for _ in range(2):
            bus.subscribe(alice, "news")
        assert news() == [("first", alice, "news", True), ("second", alice, "news", True)]
        bus.subscribe(bob, "news")
        assert news() == [("first", bob, "news", True), ("second", bob, "news", True)]
        bus.ask(bob, "weather")
        bus.unsubscribe(bob, "weather")  # it was never in force
        assert news() == []
        for _ in range(2):
            bus.unsubscribe(bob, "news")
            bus.remove(alice)
        assert [(who, is_new) for _, who, _, is_new in news()] == [(bob, False)] * 2 + [
            (alice, False)
        ] * 2

    def test_hooks_see_the_bus_as_it_is_then(self) -> None:
        bus, alice, seen = Bus(Deadlines()), Listener("alice"), []
        bus.on_join.append(
            lambda who, key: seen.append((bus.subscribers(str(key)), dict(who.topics)))
        )
        bus.on_leave.append(
            lambda who, key: seen.append((bus.subscribers(str(key)), dict(who.topics)))
        )
        bus.subscribe(alice, "news")
        bus.unsubscribe(alice, "news")
        assert seen == [([alice], {"news": Stage.LIVE}), ([], {})]


@pytest.mark.parametrize("dialect", [LEVEL_1, LEVEL_2], ids=["level 1", "level 2"])
class TestPublication:
    def test_bytes_are_made_once(self, dialect: ServerLevel1) -> None:
        publication, encoding = Publication("news", "alice", b'{"a":1}', b"2"), FRAMES[dialect]
        assert publication.encoded(encoding) is publication.encoded(encoding)
        assert publication.encoded(encoding.in_parts) is publication.encoded(encoding.in_parts)

    def test_only_what_wants_no_answer_may_be_dropped(self, dialect: ServerLevel1) -> None:
        plain = Publication("t", "x", b"1").encoded(FRAMES[dialect])
        assert isinstance(plain, Entry)
        assert plain.kind is Kind.DROPPABLE
        # What wants an answer is a message, which each connection queues as it queues others, or,
        # if it is large, one entry that all share.
        asking = Publication("t", "x", b"1", ack_id="ack_1").encoded(FRAMES[dialect])
        assert isinstance(asking, bytes)
        assert b'"ack_id":"ack_1"' in asking
        large = Publication("t", "x", b"1" * 300, ack_id="ack_1").encoded(FRAMES[dialect])
        assert isinstance(large, Entry)
        assert (large.kind, large.messages, large.frames) == (Kind.FORWARDED, 1, 1)
        assert b'"ack_id":"ack_1"' in large.data

    def test_several_are_as_many_frames_or_one(self, dialect: ServerLevel1) -> None:
        publication, encoding = Publication("t", "x", b"1", b'"two"'), FRAMES[dialect]
        joined = publication.encoded(encoding)
        assert isinstance(joined, Entry)
        assert (joined.frames, joined.messages) == (3 - dialect.level, 2)
        single = publication.encoded(encoding.in_parts)
        alone = [Publication("t", "x", data).encoded(encoding) for data in (b"1", b'"two"')]
        assert [entry.data for entry in single] == [
            entry.data for entry in alone if isinstance(entry, Entry)
        ]
        for entry in single:
            assert (entry.kind, entry.frames, entry.messages) == (Kind.DROPPABLE, 1, 1)

    @pytest.mark.parametrize("count", [64, 65, 1000, 65_536])
    def test_very_many_are_few_parts(self, dialect: ServerLevel1, count: int) -> None:
        publication = Publication("t", "x")
        publication.add([b",".join([b"%d" % number for number in range(count)])], count)
        parts = publication.encoded(FRAMES[dialect].in_parts)
        assert len(parts) <= 64
        assert sum(part.messages for part in parts) == count
        assert max(part.messages for part in parts) <= 1 + count // 64

    def test_several_in_one_text(self, dialect: ServerLevel1) -> None:
        """Where each has its own message, they are taken apart. Nothing is written anew."""
        joined, apart = Publication("t", "x"), Publication("t", "x", b"1.00", b'[ "," ]', b"2")
        joined.add([b'1.00, [ "," ]'], 2)
        joined.add([b"2"], 1)
        encoding = FRAMES[dialect].in_parts
        assert [each.data for each in joined.encoded(encoding)] == [
            each.data for each in apart.encoded(encoding)
        ]
        assert joined.payloads() == [b"1.00", b'[ "," ]', b"2"]


class TestEncodings:
    def test_each_level_gets_its_own_form(self) -> None:
        bus, old = Bus(Deadlines()), Listener("old")
        new = Listener("new", encoding=FRAMES[LEVEL_2])
        bus.subscribe(old, "t")
        bus.subscribe(new, "t")
        publication = Publication("t", "x", b"1")
        assert bus.publish(publication) == 2
        first, second = (publication.encoded(each.encoding) for each in (old, new))
        assert b'"data":{"data":1,"from":"x"}' in first.data
        assert b'"from":"x","data":1' in second.data

    def test_each_form_is_made_once_for_all_who_take_it(self) -> None:
        made: list[str] = []

        class Counted:
            def __init__(self, name: str) -> None:
                self.name = name

            def encode(self, publication: Publication) -> str:
                made.append(self.name)
                return f"{self.name}: {publication.payloads()}"

        bus, encodings = Bus(Deadlines()), [Counted("one"), Counted("other"), Counted("one")]
        listeners = [Listener(f"{n}", encoding=encodings[n % 3]) for n in range(9)]
        for listener in listeners:
            bus.subscribe(listener, "t")
        publication = Publication("t", "x", b"1")
        assert bus.publish(publication) == 9
        # Those with the same name are still two: an encoding is equal to itself only.
        assert sorted(made) == ["one", "one", "other"]
        forms = [publication.encoded(listener.encoding) for listener in listeners]
        assert forms == ["one: [b'1']", "other: [b'1']", "one: [b'1']"] * 3
        assert len(made) == 3

    def test_encodings_are_looked_up_when_subscribers_change_only(self) -> None:
        looks = 0

        class Looked(Listener):
            @property
            def encoding(self) -> Encoding[Any]:
                nonlocal looks
                looks += 1
                return self._encoding

            @encoding.setter
            def encoding(self, encoding: Encoding[Any]) -> None:
                self._encoding = encoding

        bus = Bus(Deadlines())
        listeners = [Looked(f"{n}") for n in range(100)]
        for listener in listeners:
            bus.subscribe(listener, "t")
        for _ in range(10):
            assert bus.publish(Publication("t", "x", b"1")) == 100
        assert looks <= 100
        other = Listener("other", encoding=FRAMES[LEVEL_2])
        for change in (bus.subscribe, bus.unsubscribe, bus.subscribe):
            change(other, "t")
            publication = Publication("t", "x", b"1")
            bus.publish(publication)
            expected = {listeners[0].encoding} | {one.encoding for one in bus.subscribers("t")}
            assert set(publication._encoded) == expected


class TestLeaving:
    """The subscriptions of one that leaves end in slices, so that nobody waits for all."""

    MANY = 2200

    def crowd(self) -> tuple[Deadlines, Bus, Listener, Listener, list[Key]]:
        """Alice with very many topics, of which bob shares every other one."""
        deadlines = Deadlines()
        bus, alice, bob, ended = Bus(deadlines), Listener("alice"), Listener("bob"), []
        bus.on_leave.append(lambda _, topic: ended.append(topic))
        for number in range(self.MANY):
            bus.subscribe(alice, f"t{number}")
            if number % 2:
                bus.subscribe(bob, f"t{number}")
        return deadlines, bus, alice, bob, ended

    def check_alice_is_not_there(self, bus: Bus, alice: Listener, bob: Listener) -> None:
        counts = {topic: count for topic, count, _ in bus.subjects(self.MANY)}
        assert counts == {f"t{number}": 1 for number in range(1, self.MANY, 2)}
        for number in range(0, self.MANY, 7):
            topic, reached = f"t{number}", number % 2
            assert bus.subscribers(topic) == [bob] * reached
            assert (topic in bus) is bool(reached)
            assert bus.publish(Publication(topic, "x", b"1")) == reached
        assert alice.got == []

    def test_nothing_of_it_is_seen_meanwhile(self) -> None:
        deadlines, bus, alice, bob, ended = self.crowd()
        bus.remove(alice)
        assert 0 < len(ended) <= 500
        now, calls = 0.0, 0
        while (due := deadlines.next_deadline()) is not None:
            self.check_alice_is_not_there(bus, alice, bob)
            before, now = len(ended), max(now, due)
            deadlines.handle_timeout(now)
            assert len(ended) - before <= 500
            calls += 1
        assert calls > 2
        self.check_alice_is_not_there(bus, alice, bob)
        assert sorted(map(str, ended)) == sorted(f"t{number}" for number in range(self.MANY))
        assert (alice.topics, len(bus), len(deadlines)) == ({}, self.MANY // 2, 0)
        assert bus._leaving == set()

    def test_many_that_leave_together_take_turns(self) -> None:
        deadlines = Deadlines()
        bus, ended = Bus(deadlines), []
        bus.on_leave.append(lambda *_: ended.append(1))
        leavers = [Listener(f"{number}") for number in range(30)]
        for leaver in leavers:
            for number in range(1000):
                bus.subscribe(leaver, f"t{number}")
        for leaver in leavers:
            bus.remove(leaver)
        assert len(ended) <= 500
        now = 0.0
        while (due := deadlines.next_deadline()) is not None:
            now = max(now, due)
            deadlines.handle_timeout(now)
        assert (len(ended), len(bus)) == (30_000, 0)

    def test_its_topics_leave_room_for_others_at_once(self) -> None:
        _, bus, alice, bob, _ = self.crowd()
        most = self.MANY
        assert bus.has_room("t1", most)
        assert not bus.has_room("new", most)
        bus.remove(alice)
        for number in range(self.MANY // 2):
            assert bus.has_room(f"new {number}", most)
            bus.subscribe(bob, f"new {number}")
        assert not bus.has_room("one more", most)
        assert len(bus) == most

    def test_another_one_may_come_meanwhile(self) -> None:
        deadlines, bus, alice, _, _ = self.crowd()
        bus.remove(alice)
        late = f"t{self.MANY - 2}"
        again = Listener("alice")
        bus.subscribe(again, late)
        assert bus.publish(Publication(late, "x", b"1")) == 1
        deadlines.handle_timeout(1.0)
        while (due := deadlines.next_deadline()) is not None:
            deadlines.handle_timeout(due)
        assert bus.subscribers(late) == [again]


class Asker:
    """The owner of ack requests; keeps what it is told."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, str | None]] = []
        self.finished: list[AckRequest] = []
        self.then: Callable[[], None] = lambda: None

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        self.updates.append((response.client_id, response.error))

    def ack_finished(self, request: AckRequest) -> None:
        self.finished.append(request)
        self.then()


class Desk:
    """An ack book with its agenda, an asker and two subscribers."""

    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.bus = Bus(self.deadlines)
        self.book = AckBook(self.bus, self.deadlines, ServerLimits())
        self.asker = Asker()
        self.bob, self.carol = Listener("bob"), Listener("carol")

    def open(
        self,
        ack_id: str = "mine",
        *subscribers: Listener,
        asker: Asker | None = None,
        tells_timeouts: bool = True,
        deadline: float = 5.0,
    ) -> AckRequest:
        return self.book.open(
            asker or self.asker,
            ack_id,
            subscribers or (self.bob, self.carol),
            tells_timeouts=tells_timeouts,
            deadline=deadline,
        )

    def check_empty(self) -> None:
        """Nothing is left behind by requests that have ended."""
        assert len(self.book) == 0
        self.deadlines.handle_timeout(1e9)  # the agenda may look at a request that has ended
        assert len(self.deadlines) == 0
        assert self.deadlines.next_deadline() is None
        assert self.book._by_owner == {}
        assert self.book._by_subscriber == {}


def outcomes(request: AckRequest) -> dict[str, str | None]:
    return {client_id: response.error for client_id, response in request.responses.items()}


class TestSlices:
    """Very many outcomes at one instant are told in slices, so that nobody waits for all."""

    MANY = 2200

    def open_many(self, desk: Desk, *subscribers: Listener) -> list[AckRequest]:
        return [desk.open(str(number), *subscribers) for number in range(self.MANY)]

    def go_on(self, desk: Desk, now: float) -> int:
        """Handle what is due; return how many calls it took, until nothing more was."""
        calls = 0
        while (due := desk.deadlines.next_deadline()) is not None and due <= now + 1.0:
            before = len(desk.asker.finished)
            desk.deadlines.handle_timeout(max(due, now))
            assert len(desk.asker.finished) - before <= 1000
            calls += 1
        return calls

    def test_subscriber_that_leaves(self) -> None:
        desk = Desk()
        requests = self.open_many(desk, desk.bob)
        desk.book.drop_subscriber(desk.bob)
        assert 0 < len(desk.asker.finished) < 1000
        waits = desk.book.find(desk.asker, str(self.MANY - 1))
        assert waits is not None
        assert waits.status() == {"bob": False}
        assert self.go_on(desk, 1.0) > 1
        assert sorted(map(id, desk.asker.finished)) == sorted(map(id, requests))
        assert all(outcomes(request) == {"bob": "disconnected"} for request in requests)
        desk.check_empty()

    def test_requests_that_time_out_together(self) -> None:
        desk = Desk()
        requests = self.open_many(desk)
        assert self.go_on(desk, 5.0) > 2
        assert desk.asker.finished == requests
        assert all(request.missing() == ["bob", "carol"] for request in requests)
        desk.check_empty()

    def test_owner_that_leaves(self) -> None:
        desk = Desk()
        self.open_many(desk)
        desk.book.drop_owner(desk.asker)
        assert 0 < len(desk.book) < self.MANY
        self.go_on(desk, 1.0)
        assert desk.asker.finished == []
        desk.check_empty()

    def test_others_end_meanwhile(self) -> None:
        desk = Desk()
        requests = self.open_many(desk)
        desk.book.drop_subscriber(desk.bob)
        desk.book.cancel(desk.asker, str(self.MANY - 1))
        for request in requests[:-1]:
            desk.book.answer(desk.carol, request.id, None)
        self.go_on(desk, 1.0)
        assert sorted(map(id, desk.asker.finished)) == sorted(map(id, requests[:-1]))
        expected = {"bob": "disconnected", "carol": None}
        assert all(outcomes(request) == expected for request in requests[:-1])
        desk.check_empty()

    def test_owner_leaves_while_its_outcomes_wait(self) -> None:
        desk, other = Desk(), Asker()
        self.open_many(desk, desk.bob)
        kept = desk.open("kept", asker=other)
        desk.book.drop_subscriber(desk.bob)
        told = len(desk.asker.finished)
        desk.book.drop_owner(desk.asker)
        self.go_on(desk, 1.0)
        assert len(desk.asker.finished) == told
        assert outcomes(kept) == {"bob": "disconnected"}
        desk.book.cancel(other, "kept")
        desk.check_empty()

    def test_a_pause_is_in_between(self) -> None:
        desk = Desk()
        self.open_many(desk, desk.bob)
        desk.book.drop_subscriber(desk.bob)
        desk.deadlines.handle_timeout(1.0)
        due = desk.deadlines.next_deadline()
        assert due is not None
        assert 1.0 < due < 1.1

    def test_one_request_with_very_many_receivers_is_a_slice_of_its_own(self) -> None:
        desk = Desk()
        crowd = [Listener(str(number)) for number in range(self.MANY)]
        for name in ("1", "2", "3"):
            desk.open(name, *crowd)
        desk.deadlines.handle_timeout(5.0)
        assert len(desk.asker.finished) == 1
        self.go_on(desk, 5.0)
        assert len(desk.asker.finished) == 3
        desk.check_empty()


# Of a request with an id of one character to two clients.
COST = cost.ACK_REQUEST + 2 * cost.ADDRESSED + sum(map(cost.of_text, ("1", "bob", "carol")))


class TestBounds:
    def desk(self, max_ack_bytes: int) -> Desk:
        desk = Desk()
        desk.book = AckBook(desk.bus, desk.deadlines, ServerLimits(max_ack_bytes=max_ack_bytes))
        return desk

    def test_memory_of_all_requests(self) -> None:
        desk = self.desk(max_ack_bytes=2 * COST)
        desk.open("1")
        request = desk.open("2")
        with pytest.raises(QueueFull):
            desk.open("3")
        desk.book.answer(desk.bob, request.id, None)  # an outcome has been paid for
        with pytest.raises(QueueFull):
            desk.open("3")
        desk.book.answer(desk.carol, request.id, None)
        desk.open("3")
        for name in ("1", "3"):
            desk.book.cancel(desk.asker, name)
        desk.check_empty()
        assert desk.book._cost == 0

    @pytest.mark.parametrize("ack_id", ["x" * 1000, "\N{GRINNING FACE}" * 1000])
    def test_a_long_id_counts(self, ack_id: str) -> None:
        desk = self.desk(max_ack_bytes=COST + 900)
        desk.open("1")
        with pytest.raises(QueueFull):
            desk.open(ack_id)


class TestAcks:
    def test_ends_with_the_last_answer(self) -> None:
        desk = Desk()
        request = desk.open()
        assert request.status() == {"bob": False, "carol": False}
        desk.book.answer(desk.bob, request.id, None)
        assert request.status() == {"bob": True, "carol": False}
        assert desk.asker.finished == []
        desk.book.answer(desk.carol, request.id, "no")
        assert desk.asker.finished == [request]
        assert outcomes(request) == {"bob": None, "carol": "no"}
        assert [r.success for r in request.responses.values()] == [True, False]
        assert {r.ack_id for r in request.responses.values()} == {request.id}
        desk.check_empty()

    def test_updates_come_one_by_one(self) -> None:
        desk = Desk()
        request = desk.open()
        desk.book.answer(desk.carol, request.id, "no")
        desk.book.answer(desk.bob, request.id, None)
        assert desk.asker.updates == [("carol", "no"), ("bob", None)]

    def test_first_answer_counts(self) -> None:
        desk = Desk()
        request = desk.open()
        desk.book.answer(desk.bob, request.id, None)
        desk.book.answer(desk.bob, request.id, "second thoughts")
        assert outcomes(request) == {"bob": None}
        desk.book.answer(desk.carol, request.id, None)
        desk.book.answer(desk.carol, request.id, "too late")
        assert outcomes(request) == {"bob": None, "carol": None}
        assert desk.asker.finished == [request]

    def test_who_was_not_asked_cannot_answer(self) -> None:
        desk = Desk()
        request = desk.open("mine", desk.bob)
        desk.book.answer(desk.carol, request.id, None)
        desk.book.answer(Listener("bob"), request.id, None)  # the same id is not the same client
        desk.book.answer(desk.bob, "ack_999", None)
        desk.book.answer(desk.bob, "mine", None)  # the publisher's own id is not known to others
        assert request.status() == {"bob": False}

    def test_who_leaves_has_answered(self) -> None:
        desk = Desk()
        first, second = desk.open("1"), desk.open("2")
        desk.book.answer(desk.bob, second.id, None)
        for _ in range(2):
            desk.book.drop_subscriber(desk.bob)
        assert outcomes(first) == {"bob": "disconnected"}
        assert outcomes(second) == {"bob": None}
        desk.book.drop_subscriber(desk.carol)
        assert desk.asker.finished == [first, second]
        desk.check_empty()

    @pytest.mark.parametrize("tells", [True, False])
    def test_time_is_over(self, tells: bool) -> None:
        desk = Desk()
        request = desk.open(tells_timeouts=tells)
        desk.book.answer(desk.bob, request.id, None)
        desk.deadlines.handle_timeout(4.9)
        assert desk.asker.finished == []
        desk.deadlines.handle_timeout(5.0)
        assert desk.asker.finished == [request]
        assert request.tells_timeouts is tells
        assert (outcomes(request), request.missing()) == ({"bob": None}, ["carol"])
        desk.check_empty()
        desk.book.answer(desk.carol, request.id, None)
        assert (outcomes(request), request.missing()) == ({"bob": None}, ["carol"])

    def test_nobody_addressed(self) -> None:
        desk = Desk()
        request = desk.book.open(desk.asker, "mine", (), tells_timeouts=True, deadline=5.0)
        assert desk.asker.finished == []
        desk.book.close(request)
        desk.book.close(request)
        assert desk.asker.finished == [request]
        desk.check_empty()

    def test_cancelled_says_nothing(self) -> None:
        desk = Desk()
        desk.open()
        for _ in range(2):
            desk.book.cancel(desk.asker, "mine")
        desk.book.cancel(Asker(), "mine")
        assert desk.asker.finished == []
        desk.check_empty()

    def test_only_its_owner_can_cancel_or_find_it(self) -> None:
        desk = Desk()
        request = desk.open()
        desk.book.cancel(Asker(), "mine")
        desk.book.cancel(desk.asker, request.id)
        assert desk.book.find(desk.asker, "mine") is request
        assert desk.book.find(Asker(), "mine") is None
        assert desk.book.find(desk.asker, request.id) is None

    def test_owner_that_leaves_takes_its_requests_along(self) -> None:
        desk = Desk()
        other = Asker()
        desk.open("1")
        desk.open("2")
        kept = desk.open("1", asker=other)
        for _ in range(2):
            desk.book.drop_owner(desk.asker)
        assert desk.asker.finished == []
        assert len(desk.book) == 1
        desk.book.drop_subscriber(desk.bob)
        desk.book.drop_subscriber(desk.carol)
        assert other.finished == [kept]
        desk.check_empty()

    def test_id_in_use(self) -> None:
        desk = Desk()
        request = desk.open()
        with pytest.raises(DuplicateAckId):
            desk.open()
        assert len(desk.book) == 1
        assert desk.open(asker=Asker()).id != request.id  # another's ids are its own affair
        desk.book.cancel(desk.asker, "mine")
        assert desk.open().id not in ("", request.id)

    def test_ids_on_the_wire_are_never_used_again(self) -> None:
        desk = Desk()
        ids = set()
        for _ in range(100):
            ids.add(desk.open().id)
            desk.book.cancel(desk.asker, "mine")
        assert len(ids) == 100

    def test_owner_that_leaves_because_of_an_answer(self) -> None:
        """Telling an owner may overflow its queue, and then it leaves in the middle of it."""
        desk = Desk()
        desk.asker.then = lambda: desk.book.drop_owner(desk.asker)
        requests = [desk.open(name, desk.bob) for name in ("1", "2", "3")]
        desk.book.drop_subscriber(desk.bob)
        assert desk.asker.finished == requests[:1]
        desk.check_empty()

    def test_owner_that_leaves_because_of_a_timeout(self) -> None:
        desk = Desk()
        desk.asker.then = lambda: desk.book.drop_owner(desk.asker)
        for name in ("1", "2", "3"):
            desk.open(name)
        desk.deadlines.handle_timeout(5.0)
        assert len(desk.asker.finished) == 1
        desk.check_empty()

    def test_owner_that_asks_again_when_it_is_told(self) -> None:
        desk = Desk()
        again: list[AckRequest] = []

        def ask_again() -> None:
            if len(again) < 3:
                again.append(desk.open("mine", deadline=10.0))

        desk.asker.then = ask_again
        desk.open()
        desk.deadlines.handle_timeout(5.0)
        assert len(again) == len(desk.book) == 1
        for now in (10.0, 10.01, 10.02):
            desk.deadlines.handle_timeout(now)
        assert len(again) == 3
        desk.check_empty()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["open", "answer", "answer", "leave", "owner leaves", "cancel", "wait"]
            ),
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        max_size=40,
    )
)
def test_every_subscriber_has_one_outcome_and_nothing_is_left(
    steps: list[tuple[str, int, int]],
) -> None:
    desk = Desk()
    askers = [Asker() for _ in range(4)]
    subscribers = [Listener(f"s{n}") for n in range(4)]
    requests: list[tuple[AckRequest, Asker, set[str]]] = []
    silent: set[AckRequest] = set()  # those that end without a word
    now = 0.0

    for step, i, j in steps:
        if step == "open":
            addressed = subscribers[: i + 1]
            request = desk.open(
                f"request {len(requests)}", *addressed, asker=askers[j], deadline=now + 3
            )
            requests.append((request, askers[j], {s.id for s in addressed}))
        elif step == "answer" and requests:
            request = requests[(i * 7 + j) % len(requests)][0]
            desk.book.answer(subscribers[j], request.id, None if i % 2 else "no")
        elif step == "leave":
            desk.book.drop_subscriber(subscribers[i])
        elif step == "owner leaves":
            silent.update(r for r, a, _ in requests if a is askers[i] and r.deadline is not None)
            desk.book.drop_owner(askers[i])
        elif step == "cancel" and requests:
            request, asker, _ = requests[(i * 7 + j) % len(requests)]
            if request.deadline is not None:
                silent.add(request)
            desk.book.cancel(asker, request.owner_ack_id)
        elif step == "wait":
            now += 1
            desk.deadlines.handle_timeout(now)
    desk.deadlines.handle_timeout(now + 3)

    for request, asker, addressed_ids in requests:
        told = asker.finished.count(request)
        assert told == (0 if request in silent else 1)
        if told:
            assert {*request.responses, *request.missing()} == addressed_ids
            assert not set(request.responses) & set(request.missing())
    for asker in askers:
        expected = sum(len(request.responses) for request, owner, _ in requests if owner is asker)
        assert len(asker.updates) == expected
    desk.check_empty()
