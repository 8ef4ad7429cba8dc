"""Groups: one member gets each message, and one at a time a message that wants an ack."""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import QueueFull
from kps.protocol import cost
from kps.protocol.bus.ack_request import AckRequest, Work
from kps.protocol.bus.acks import AckBook
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Stage
from kps.protocol.bus.tasks import cost_of_task
from kps.protocol.bus.topics import Bus
from kps.protocol.dialect.outcome import (
    NO_SUBSCRIBER,
    GroupResponse,
    as_json,
    size_of_failure,
)
from kps.protocol.patterns import InGroup, Key, Pattern
from kps.protocol.server_limits import ServerLimits
from kps.protocol.timers import Deadlines
from tests.protocol.bus.test_bus_and_acks import Asker, Listener
from tests.protocol.helpers import THOROUGH

JOBS = InGroup("jobs", "workers")
NOT_BEGUN = ("unsubscribed", NO_SUBSCRIBER, "queue full")
"""Errors with which workers here say that they have not begun."""
MANY = 2200
"""More than is done in one slice."""
EMOJI = "\N{GRINNING FACE}"
ID = "a".__sizeof__()
"""What the id of a member takes, which each attempt is charged for."""


class Worker(Listener):
    """A member that has what it was given until it answers."""

    def __init__(self, client_id: str, then: Callable[[], None] = lambda: None) -> None:
        super().__init__(client_id, then)
        self.has_room = True

    def deliver(self, publication: Publication) -> bool:
        super().deliver(publication)
        return self.has_room

    def take(self) -> list[Publication]:
        taken, self.got = self.got, []
        return taken

    def payloads(self) -> list[bytes]:
        return [payload for one in self.take() for payload in one.payloads()]


class Shop:
    """An ack book on a bus, and somebody who asks."""

    def __init__(self, **limits: Any) -> None:
        self.deadlines = Deadlines()
        self.bus = Bus(self.deadlines)
        self.handed_out = 0
        self.book = AckBook(self.bus, self.deadlines, ServerLimits(**limits), self._count)
        self.tasks = self.book.tasks
        self.asker = Asker()
        self.now = 0.0

    def _count(self) -> None:
        self.handed_out += 1

    def worker(self, name: str, concurrency: int = 1, key: Key = JOBS) -> Worker:
        worker = Worker(name)
        self.bus.subscribe(worker, key, concurrency)
        return worker

    def crowded(self, name: str, concurrency: int = 1) -> Worker:
        """A worker with so many subscriptions that it leaves in slices, at last this group."""
        worker = Worker(name)
        for number in range(MANY):
            self.bus.subscribe(worker, f"t{number}")
        self.bus.subscribe(worker, JOBS, concurrency)
        return worker

    def ask(
        self,
        name: str,
        *groups: InGroup,
        subscribers: tuple[Listener, ...] = (),
        message_key: str = "",
        retries: int = 0,
        data: bytes | None = None,
        asker: Asker | None = None,
        seconds: float = 5.0,
    ) -> AckRequest:
        payload = name.encode() if data is None else data
        request = self.book.open(
            asker or self.asker,
            name,
            subscribers,
            tells_timeouts=True,
            deadline=self.now + seconds,
            work=Work(groups or (JOBS,), "jobs", "x", payload, message_key, retries),
        )
        self.tasks.begin(request)
        self.book.close(request)
        return request

    def answer(self, worker: Worker, *publications: Publication, error: str | None = None) -> None:
        for one in publications:
            self.book.answer(worker, one.ack_id, error, has_begun=error not in NOT_BEGUN)

    def work_off(self, *workers: Worker, error: str | None = None) -> list[tuple[str, str, int]]:
        """Let workers answer until nobody has anything: who had which message, at which attempt."""
        done = []
        while any(worker.got for worker in workers):
            for worker in workers:
                for one in worker.take():
                    done.append((worker.id, one.payloads()[0].decode(), one.attempt))
                    self.answer(worker, one, error=error)
        return done

    def leave(self, worker: Worker) -> None:
        """The connection of a worker has ended."""
        self.bus.remove(worker)
        self.book.drop_owner(self.asker if worker.id == "asker" else Asker())
        self.book.drop_subscriber(worker)

    def advance(self, seconds: float = 0.0) -> int:
        """Let time pass; return how many calls it took."""
        end, calls = self.now + seconds, 0
        while (due := self.deadlines.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.deadlines.handle_timeout(self.now)
            calls += 1
        self.now = end
        return calls

    def check_nothing_left(self) -> None:
        """Nothing is kept of requests that have ended, and of members that have left."""
        self.deadlines.handle_timeout(1e9)
        book, tasks = self.book, self.tasks
        assert (len(book), len(self.deadlines), len(self.bus)) == (0, 0, 0)
        assert (book._by_owner, book._by_subscriber) == ({}, {})
        assert (book.awaited, book._cost, book._results, tasks.kept) == (0, 0, 0, 0)
        assert (tasks._under_way, tasks._by_subscriber) == ({}, {})
        assert (tasks._waiting, tasks._for_members, tasks.waiting_for) == ({}, {}, {})
        assert (len(tasks._answers), tasks._is_answering) == (0, False)


def outcome(request: AckRequest, key: InGroup = JOBS) -> GroupResponse:
    response = {response.name: response for response in request.responses.values()}[str(key)]
    assert isinstance(response, GroupResponse)
    assert response.success is (response.error is None)
    assert (response.scope, response.group) == key
    return response


def told(request: AckRequest, key: InGroup = JOBS) -> tuple[str, str | None, int]:
    """Of an outcome: the member, the error, the attempts."""
    response = outcome(request, key)
    return response.client_id, response.error, response.attempts


class TestMembers:
    def test_a_group_begins_with_its_first_member_and_ends_with_its_last(self) -> None:
        shop = Shop()
        bus = shop.bus
        assert "jobs" not in bus
        a, b = shop.worker("a"), shop.worker("b")
        assert "jobs" in bus
        assert (len(bus), bus.subscribers("jobs")) == (1, [])
        assert a.topics == {JOBS: Stage.LIVE}
        group = bus.group(JOBS)
        assert group is not None
        assert [one.subscriber for one in group.present()] == [a, b]
        bus.unsubscribe(a, JOBS)
        assert bus.group(JOBS) is group
        for _ in range(2):
            bus.unsubscribe(b, JOBS)
        assert (bus.group(JOBS), len(bus), a.topics, b.topics) == (None, 0, {}, {})
        assert "jobs" not in bus
        assert bus.publish(Publication("jobs", "x", b"1")) == 0

    def test_members_and_subscribers_keep_a_topic_for_each_other(self) -> None:
        shop = Shop()
        a, b = shop.worker("a"), Worker("b")
        shop.bus.subscribe(b, "jobs")
        shop.bus.unsubscribe(a, JOBS)
        assert shop.bus.publish(Publication("jobs", "x", b"1")) == 1
        shop.bus.subscribe(a, JOBS)
        shop.bus.unsubscribe(b, "jobs")
        assert shop.bus.publish(Publication("jobs", "x", b"2")) == 1
        assert (a.payloads(), b.payloads()) == ([b"2"], [b"1"])

    @pytest.mark.parametrize("scope", ["jobs", Pattern("j*")])
    def test_hooks_are_told_once_of_a_membership_and_each_time_of_its_size(
        self, scope: str | Pattern
    ) -> None:
        shop, key = Shop(), InGroup(scope, "g")
        seen: list[tuple[object, ...]] = []
        shop.bus.on_join.append(lambda who, key: seen.append(("joined", who, key)))
        shop.bus.on_leave.append(lambda who, key: seen.append(("left", who, key)))
        shop.bus.on_member.append(lambda group, one: seen.append(("member", one.concurrency)))
        shop.bus.on_member_gone.append(lambda group, one: seen.append(("gone", group.key)))
        a = shop.worker("a", key=key)
        shop.bus.subscribe(a, key, 5)
        shop.bus.unsubscribe(a, key)
        shop.bus.unsubscribe(a, key)
        assert seen == [
            *(("joined", a, key), ("member", 1), ("member", 5)),
            *(("gone", key), ("left", a, key)),
        ]

    def test_all_members_keep_the_same_key(self) -> None:
        shop = Shop()
        keys = [InGroup("".join(["jo", "bs"]), "".join(["work", "ers"])) for _ in range(3)]
        workers = [shop.worker(f"{n}", key=key) for n, key in enumerate(keys)]
        assert len({id(key) for worker in workers for key in worker.topics}) == 1


class TestPublications:
    def test_members_take_turns(self) -> None:
        shop = Shop()
        a, b, c = workers = [shop.worker(name) for name in "abc"]
        for number in range(7):
            assert shop.bus.publish(Publication("jobs", "x", b"%d" % number)) == 1
        assert [worker.payloads() for worker in workers] == [
            [b"0", b"3", b"6"], [b"1", b"4"], [b"2", b"5"],
        ]  # fmt: skip
        d = shop.worker("d")
        shop.bus.unsubscribe(b, JOBS)
        for number in range(6):
            shop.bus.publish(Publication("jobs", "x", b"%d" % number))
        assert [len(one.payloads()) for one in (a, b, c, d)] == [2, 0, 2, 2]

    @pytest.mark.parametrize("joined", [True, False])
    @pytest.mark.parametrize("count", [1, 2, 3, 4, 10, 100])
    def test_a_batch_is_shared_evenly_and_in_order(self, count: int, joined: bool) -> None:
        shop = Shop()
        workers = [shop.worker(name) for name in "abc"]
        payloads = [b"%d" % number for number in range(count)]
        publication = Publication("jobs", "x")
        publication.add([b",".join(payloads)] if joined else payloads, count)
        assert shop.bus.publish(publication) == 1
        assert publication.partial == 0
        for worker in workers:
            assert len(worker.got) <= 1, "each one's share is one publication"
        shares = [worker.payloads() for worker in workers]
        assert shares == [payloads[n::3] for n in range(3)]
        shop.bus.publish(Publication("jobs", "x", b"next"))
        assert workers[count % 3].payloads() == [b"next"], "it goes on where it has ended"

    @given(
        st.integers(1, 20),
        st.lists(st.booleans(), min_size=1, max_size=6),
        st.booleans(),
    )
    def test_what_had_room_is_counted(self, count: int, room: list[bool], subscribes: bool) -> None:
        """The group counts as one subscriber: whether the last payload had room."""
        shop = Shop()
        workers = [shop.worker(f"{n}") for n in range(len(room))]
        for worker, has_room in zip(workers, room, strict=True):
            worker.has_room = has_room
        if subscribes:
            shop.bus.subscribe(Listener("plain"), "jobs")
        payloads = [b"%d" % number for number in range(count)]
        publication = Publication("jobs", "x", *payloads)
        reached = shop.bus.publish(publication)
        shares = [worker.payloads() for worker in workers]
        (last,) = [n for n, share in enumerate(shares) if payloads[-1] in share]
        assert reached == room[last] + subscribes
        taken = sum(len(share) for share, had in zip(shares, room, strict=True) if had)
        assert reached * count + publication.partial == taken + subscribes * count

    def test_a_member_that_takes_a_part_counts_as_much(self) -> None:
        shop = Shop()

        class Half(Worker):
            def deliver(self, publication: Publication) -> bool:
                publication.partial -= 1  # it had no room for one of them, but for the last one
                return super().deliver(publication)

        half = Half("half")
        shop.bus.subscribe(half, JOBS)
        publication = Publication("jobs", "x", b"1", b"2", b"3")
        assert (shop.bus.publish(publication), publication.partial) == (1, -1)

    def test_each_group_gets_it_and_each_subscriber(self) -> None:
        shop = Shop()
        keys: list[Key] = [
            "jobs", JOBS, InGroup("jobs", "auditors"), InGroup(Pattern("j*"), "workers"),
            InGroup(Pattern("*"), "workers"), Pattern("jo*"), InGroup("other", "workers"),
            InGroup(Pattern("J*"), "workers"),
        ]  # fmt: skip
        pairs = [(shop.worker(f"{n}", key=key), shop.worker("-", key=key)) for n, key in
                 enumerate(keys)]  # fmt: skip
        assert shop.bus.publish(Publication("jobs", "x", b"1")) == 2 + 2 + 4
        got = [[len(one.got) for one in pair] for pair in pairs]
        assert got == [[1, 1], [1, 0], [1, 0], [1, 0], [1, 0], [1, 1], [0, 0], [0, 0]]
        groups = [pair[0].got[0].group for pair in pairs[:6]]
        assert groups == [None, *keys[1:5], None]

    def test_one_may_be_a_subscriber_and_a_member_of_several(self) -> None:
        shop, a = Shop(), Worker("a")
        keys: list[Key] = ["jobs", JOBS, InGroup("jobs", "others"), InGroup(Pattern("*"), "p")]
        for key in keys:
            shop.bus.subscribe(a, key)
        assert shop.bus.publish(Publication("jobs", "x", b"1")) == 4
        assert [one.group for one in a.take()] == [None, *keys[1:]]
        shop.bus.unsubscribe(a, "jobs")
        shop.bus.unsubscribe(a, keys[3])
        assert shop.bus.publish(Publication("jobs", "x", b"2")) == 2
        assert [one.group for one in a.take()] == keys[1:3]

    def test_a_member_gets_no_offset(self) -> None:
        shop = Shop()
        a, plain = shop.worker("a"), Listener("plain")
        shop.bus.subscribe(plain, "jobs")
        publication = Publication("jobs", "x", b"1", b"2")
        publication.offset, publication.epoch = 7, "e"
        shop.bus.publish(publication)
        assert [(one.offset, one.epoch, one.ack_id) for one in a.got] == [(0, "", "")]
        assert plain.got == [publication]

    def test_a_group_that_comes_and_goes_changes_the_route(self) -> None:
        shop, plain = Shop(), Listener("plain")
        shop.bus.subscribe(plain, "jobs")
        for scope in ("jobs", Pattern("j*")):
            for _ in range(2):
                a = shop.worker("a", key=InGroup(scope, "g"))
                assert shop.bus.publish(Publication("jobs", "x", b"1")) == 2
                assert not shop.bus.count_for(plain, "jobs")
                shop.bus.unsubscribe(a, InGroup(scope, "g"))
                assert shop.bus.publish(Publication("jobs", "x", b"1")) == 1
                assert shop.bus.count_for(plain, "jobs")

    def test_members_may_leave_while_it_is_delivered_to_them(self) -> None:
        shop = Shop()
        workers = [shop.worker(name) for name in "abc"]
        for worker in workers:
            worker._then = partial(shop.bus.remove, worker)
        assert shop.bus.publish(Publication("jobs", "x", b"1", b"2")) == 1
        assert [worker.payloads() for worker in workers] == [[b"1"], [b"2"], []]
        assert len(shop.bus) == 1


class TestLeaving:
    """Subscriptions of one that leaves end in slices. Meanwhile it gets nothing from any group."""

    def test_it_gets_nothing_meanwhile(self) -> None:
        shop = Shop()
        crowded = shop.crowded("crowded", 100)
        shop.bus.remove(crowded)
        assert JOBS in crowded.topics
        assert shop.bus.publish(Publication("jobs", "x", b"1")) == 0
        request = shop.ask("0")
        assert told(request) == ("", "no member", 0)
        b = shop.worker("b")
        assert shop.bus.publish(Publication("jobs", "x", b"1", b"2", b"3")) == 1
        assert b.payloads() == [b"1", b"2", b"3"]
        requests = [shop.ask(str(number), message_key="k" * (number % 2)) for number in range(9)]
        assert {worker for worker, _, _ in shop.work_off(b)} == {"b"}
        assert shop.advance(1.0) > 2
        assert all(told(request) == ("b", None, 1) for request in requests)
        assert crowded.got == []
        assert crowded.topics == {}
        shop.bus.remove(b)
        shop.check_nothing_left()

    def test_subscribers_are_counted_without_it(self) -> None:
        shop = Shop()
        crowded, b = shop.crowded("crowded"), shop.worker("b")
        assert {key: count for key, count, _ in shop.bus.subjects(MANY + 1)}["jobs"] == 2
        shop.bus.remove(crowded)
        assert {key: count for key, count, _ in shop.bus.subjects(MANY + 1)}["jobs"] == 1
        shop.bus.remove(b)

    def test_what_it_had_goes_to_others_at_once(self) -> None:
        shop = Shop()
        crowded, b = shop.crowded("crowded", 3), Worker("b")
        requests = [shop.ask(str(number)) for number in range(5)]
        assert len(crowded.take()) == 3
        shop.bus.subscribe(b, JOBS, 10)
        assert b.payloads() == [b"3", b"4"]
        shop.leave(crowded)
        assert JOBS in crowded.topics
        assert [(one.payloads(), one.attempt) for one in b.take()] == [
            ([b"0"], 2), ([b"1"], 2), ([b"2"], 2),
        ]  # fmt: skip
        shop.advance(1.0)
        assert not any(request.responses for request in requests)


class TestSharing:
    """Messages that want acks."""

    def test_a_member_gets_as_many_as_it_takes_and_the_others_wait_in_order(self) -> None:
        shop = Shop()
        a = shop.worker("a", 2)
        requests = [shop.ask(str(number)) for number in range(6)]
        first, second = a.take()
        for number, one in enumerate((first, second)):
            assert (one.payloads(), one.attempt, one.group) == ([b"%d" % number], 1, JOBS)
            assert one.ack_id == f"{requests[number].id}.1"
        assert (first.topic, first.sender, first.offset) == ("jobs", "x", 0)
        shop.answer(a, second)
        assert [told(request) for request in requests if request.responses] == [("a", None, 1)]
        (third,) = a.take()
        assert third.payloads() == [b"2"]
        shop.answer(a, third, first)
        assert a.payloads() == [b"3", b"4"]
        assert [request.status() for request in requests[:4]] == [{"workers of jobs": True}] * 3 + [
            {"workers of jobs": False}
        ]

    def test_the_least_loaded_gets_it_and_in_a_tie_they_take_turns(self) -> None:
        shop = Shop()
        workers = [shop.worker(name, 10) for name in "abc"]
        for number in range(6):
            shop.ask(str(number))
        shares = [worker.take() for worker in workers]
        assert [[one.payloads()[0] for one in share] for share in shares] == [
            [b"0", b"3"], [b"1", b"4"], [b"2", b"5"],
        ]  # fmt: skip
        shop.answer(workers[1], *shares[1])
        for number in range(6, 9):
            shop.ask(str(number))
        assert [worker.payloads() for worker in workers] == [[b"8"], [b"6", b"7"], []]
        shop.ask("9")
        assert [worker.payloads() for worker in workers] == [[], [], [b"9"]]

    def test_messages_without_ack_are_no_load(self) -> None:
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        shop.bus.publish(Publication("jobs", "x", b"plain"))
        assert a.payloads() == [b"plain"]
        shop.ask("1")
        assert (a.payloads(), b.payloads()) == ([b"1"], [])
        for number in range(4):
            shop.bus.publish(Publication("jobs", "x", b"%d" % number))
        assert (a.payloads(), b.payloads()) == ([b"1", b"3"], [b"0", b"2"])

    @pytest.mark.parametrize("message_key", ["", "key"])
    def test_a_member_that_takes_more_gets_what_waits_and_one_that_takes_less_no_more(
        self, message_key: str
    ) -> None:
        shop = Shop()
        a = shop.worker("a")
        for number in range(8):
            shop.ask(str(number), message_key=message_key)
        had = a.take()
        shop.bus.subscribe(a, JOBS, 4)
        had += a.take()
        assert [one.payloads()[0] for one in had] == [b"0", b"1", b"2", b"3"]
        shop.bus.subscribe(a, JOBS, 2)
        for one in had[:2]:
            shop.answer(a, one)
            assert a.got == []
        shop.answer(a, had[2])
        assert a.payloads() == [b"4"]
        shop.bus.subscribe(a, JOBS)
        shop.answer(a, had[3])
        assert a.got == []

    def test_who_joins_gets_what_waits(self) -> None:
        shop = Shop()
        a = shop.worker("a")
        for number in range(5):
            shop.ask(str(number))
        b = shop.worker("b", 2)
        c = shop.worker("c")
        assert [one.payloads() for one in (a, b, c)] == [[b"0"], [b"1", b"2"], [b"3"]]

    def test_groups_do_not_know_of_each_other(self) -> None:
        shop, a, keys = Shop(), Worker("a"), (JOBS, InGroup(Pattern("*"), "workers"))
        for key in keys:
            shop.bus.subscribe(a, key)
        requests = [shop.ask(str(number), *keys) for number in range(2)]
        both = a.take()
        assert [(one.payloads(), one.group) for one in both] == [([b"0"], key) for key in keys]
        assert [one.ack_id for one in both] == [f"{requests[0].id}.1", f"{requests[0].id}.2"]
        shop.answer(a, both[1], error="no")
        assert [(one.payloads(), one.group) for one in a.take()] == [([b"1"], keys[1])]
        assert (told(requests[0], keys[1]), len(requests[0].responses)) == (("a", "no", 1), 1)
        shop.answer(a, both[0])
        assert shop.asker.finished == requests[:1]
        assert [one.name for one in requests[0].responses.values()] == [
            "workers of *",
            "workers of jobs",
        ]

    def test_subscribers_and_groups_have_one_request(self) -> None:
        shop = Shop()
        a, plain = shop.worker("a"), Worker("plain")
        request = shop.ask("1", subscribers=(plain,))
        assert request.status() == {"plain": False, "workers of jobs": False}
        shop.answer(a, *a.take(), error="no")
        assert shop.asker.finished == []
        shop.book.answer(plain, request.id, None)
        assert shop.asker.finished == [request]
        assert shop.asker.updates == [("a", "no"), ("plain", None)]
        shop.bus.remove(a)
        shop.check_nothing_left()

    def test_who_has_no_room_has_it_all_the_same(self) -> None:
        """It must answer; only the figures tell the difference."""
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        a.has_room = False
        shop.ask("1")
        shop.ask("2")
        assert shop.handed_out == 1
        assert [one.payloads() for one in (a, b)] == [[b"1"], [b"2"]]


class TestBusy:
    def test_so_many_may_wait_for_a_group(self) -> None:
        shop = Shop(max_waiting=3)
        a = shop.worker("a")
        requests = [shop.ask(str(number), message_key="k" * (number % 2)) for number in range(6)]
        assert [told(request) for request in requests[4:]] == [("", "busy", 0)] * 2
        assert shop.asker.finished == requests[4:]
        (had,) = a.take()
        shop.answer(a, had)
        late = shop.ask("late")
        assert late.responses == {}
        assert told(shop.ask("too late")) == ("", "busy", 0)
        other = shop.ask("other", InGroup("jobs", "others"))
        assert told(other, InGroup("jobs", "others")) == ("", "no member", 0)

    def test_it_is_not_while_a_member_is_free(self) -> None:
        """What waits may be for another one."""
        shop = Shop(max_waiting=1)
        a, b = shop.worker("a"), shop.worker("b")
        first, _ = shop.ask("1"), shop.ask("2")
        shop.answer(a, *a.take(), error="unsubscribed")
        third = shop.ask("3")
        assert (first.responses, third.responses) == ({}, {})
        assert (a.payloads(), b.payloads()) == ([b"3"], [b"2"])
        assert told(shop.ask("4")) == ("", "busy", 0)

    def test_what_has_been_with_a_member_always_has_room(self) -> None:
        shop = Shop(max_waiting=2)
        a, b = shop.worker("a", 3), shop.worker("b")
        requests = [shop.ask(str(number)) for number in range(6)]
        assert len(a.take()) == 3
        (had,) = b.take()
        shop.leave(a)
        assert told(shop.ask("6")) == ("", "busy", 0)
        shop.answer(b, had)
        assert [data for _, data, _ in shop.work_off(b)] == ["0", "2", "3", "4", "5"]
        assert sum(outcome(request).success for request in requests) == 6
        shop.bus.remove(b)
        shop.check_nothing_left()

    def test_what_has_waited_has_room_with_others(self) -> None:
        shop = Shop(max_waiting=2)
        a, b = shop.worker("a"), Worker("b")
        requests = [shop.ask(str(number), message_key="k") for number in range(3)]
        shop.bus.subscribe(b, JOBS)
        other = shop.ask("other")
        shop.answer(b, *b.take(), error="unsubscribed")
        assert shop.tasks.waiting_for == {JOBS: 3}
        shop.bus.unsubscribe(a, JOBS)
        assert [data for _, data, _ in shop.work_off(b)] == ["1", "2", "other"]
        shop.answer(a, *a.take())
        assert all(outcome(request).success for request in (*requests, other))


class TestKeys:
    KEYS = tuple(f"key {number}" for number in range(300))

    def owners(self, shop: Shop) -> dict[str, str]:
        group = shop.bus.group(JOBS)
        assert group is not None
        found = {message_key: group.member_for(message_key) for message_key in self.KEYS}
        return {
            message_key: member.subscriber.id
            for message_key, member in found.items()
            if member is not None
        }

    def test_each_has_a_member_of_its_own_and_all_members_have_some(self) -> None:
        shop = Shop()
        for name in "abcd":
            shop.worker(name)
        owners = self.owners(shop)
        assert len(owners) == len(self.KEYS)
        counts = Counter(owners.values())
        assert len(counts) == 4
        assert min(counts.values()) > len(self.KEYS) / 8
        for _ in range(5):
            shop.bus.publish(Publication("jobs", "x", b"1"))  # turns make no difference
        assert self.owners(shop) == owners

    def test_only_those_move_whose_member_comes_or_goes(self) -> None:
        shop = Shop()
        workers = [shop.worker(name) for name in "abcd"]
        before = self.owners(shop)
        fifth = shop.worker("e")
        after = self.owners(shop)
        moved = {
            message_key for message_key in self.KEYS if before[message_key] != after[message_key]
        }
        assert {after[message_key] for message_key in moved} == {"e"}
        assert len(self.KEYS) / 15 < len(moved) < len(self.KEYS) / 3
        shop.bus.unsubscribe(fifth, JOBS)
        assert self.owners(shop) == before
        shop.bus.unsubscribe(workers[0], JOBS)
        after = self.owners(shop)
        assert {
            message_key for message_key in self.KEYS if before[message_key] != after[message_key]
        } == {message_key for message_key in self.KEYS if before[message_key] == "a"}
        assert self.owners(shop) == after

    def test_they_go_to_that_member_and_wait_for_it(self) -> None:
        shop = Shop()
        workers = {name: shop.worker(name) for name in "abc"}
        owner = self.owners(shop)["key 0"]
        requests = [shop.ask(str(number), message_key="key 0") for number in range(5)]
        assert [worker.id for worker in workers.values() if worker.got] == [owner]
        others = [worker for worker in workers.values() if worker.id != owner]
        free = [shop.ask(f"1{number}") for number in range(2)]
        assert all(len(worker.take()) == 1 for worker in others), "those without a key do not wait"
        assert [data for _, data, _ in shop.work_off(workers[owner])] == list("01234")
        assert {told(request) for request in requests} == {(owner, None, 1)}
        assert not any(request.responses for request in free)

    def test_what_waits_for_its_own_member_goes_out_in_the_order_of_all(self) -> None:
        shop = Shop()
        a = shop.worker("a")
        for number in range(6):
            shop.ask(str(number), message_key="k" * (number % 2))
        assert [data for _, data, _ in shop.work_off(a)] == list("012345")

    @pytest.mark.parametrize("unsubscribes", [True, False])
    def test_they_move_in_order_when_their_member_goes(self, unsubscribes: bool) -> None:
        shop = Shop()
        workers = {name: shop.worker(name) for name in "abc"}
        owner = workers.pop(self.owners(shop)["key 1"])
        requests = [shop.ask(str(number), message_key="key 1") for number in range(5)]
        (had,) = owner.take()
        if unsubscribes:
            shop.bus.unsubscribe(owner, JOBS)
        else:
            shop.leave(owner)
        done = shop.work_off(*workers.values())
        assert len({name for name, _, _ in done}) == 1
        # What it had goes before all that still wait.
        expected = [("1", 1), ("0", 2), ("2", 1), ("3", 1), ("4", 1)]
        if unsubscribes:
            expected.remove(("0", 2))
        assert [(data, attempt) for _, data, attempt in done] == expected
        if unsubscribes:
            shop.answer(owner, had)
        assert all(outcome(request).success for request in requests)
        for worker in workers.values():
            shop.bus.remove(worker)
        shop.check_nothing_left()

    def test_after_a_failure_they_go_to_it_again(self) -> None:
        shop = Shop()
        workers = {name: shop.worker(name) for name in "abc"}
        owner = self.owners(shop)["key 2"]
        request, other = (shop.ask(name, message_key="key 2", retries=2) for name in ("1", "2"))
        done = shop.work_off(*workers.values(), error="no")
        assert done == [(owner, "1", n) for n in (1, 2, 3)] + [(owner, "2", n) for n in (1, 2, 3)]
        assert told(request) == told(other) == (owner, "no", 3)

    def test_very_many_move_in_slices(self) -> None:
        shop = Shop()
        a = shop.worker("a")
        requests = [shop.ask(str(number), message_key=f"k{number}") for number in range(MANY)]
        b = shop.worker("b", MANY)
        shop.bus.unsubscribe(a, JOBS)
        assert 0 < len(b.got) <= 500
        shop.advance(1.0)
        assert b.payloads() == [b"%d" % number for number in range(1, MANY)]
        assert not any(request.responses for request in requests)

    def test_to_find_members_for_them_counts_as_work(self) -> None:
        shop = Shop()
        a = shop.worker("a")
        for number in range(300):
            shop.ask(str(number), message_key=f"k{number}")
        crowd = [shop.worker(f"b{number}", 300) for number in range(80)]
        shop.bus.unsubscribe(a, JOBS)
        assert 0 < sum(len(worker.got) for worker in crowd) < 100
        shop.advance(1.0)
        assert sum(len(worker.got) for worker in crowd) == 299


class TestAgain:
    def test_when_a_member_is_gone_another_one_has_it_at_once(self) -> None:
        shop = Shop()
        a, b = shop.worker("a", 3), Worker("b")
        requests = [shop.ask(str(number)) for number in range(5)]
        a.take()
        shop.bus.subscribe(b, JOBS)
        assert b.payloads() == [b"3"]
        shop.leave(a)
        (waiting,) = [one for one in shop.tasks._under_way.values() if one.last is b]
        shop.book.answer(b, waiting.id, None)
        assert [(data, attempt) for _, data, attempt in shop.work_off(b)] == [
            ("0", 2), ("1", 2), ("2", 2), ("4", 1),
        ]  # fmt: skip
        assert [told(request) for request in requests] == [
            *[("b", None, 2)] * 3, *[("b", None, 1)] * 2,
        ]  # fmt: skip
        assert outcome(requests[0]).failures == (("a", "disconnected"),)
        shop.bus.remove(b)
        shop.check_nothing_left()

    def test_very_many_go_to_others_in_slices(self) -> None:
        shop = Shop(max_pending_acks=10_000)
        a = shop.worker("a", MANY)
        requests = [shop.ask(str(number)) for number in range(MANY)]
        a.take()
        b = shop.worker("b", MANY)
        shop.leave(a)
        assert 0 < len(b.got) <= 500
        shop.advance(1.0)
        assert [(one.payloads()[0], one.attempt) for one in b.got] == [
            (b"%d" % number, 2) for number in range(MANY)
        ]
        shop.work_off(b)
        assert all(told(request) == ("b", None, 2) for request in requests)

    def test_it_may_be_told_twice_that_a_member_is_gone(self) -> None:
        """A signal handler may interrupt a session that leaves: then it leaves again."""
        shop = Shop()
        a = shop.worker("a", MANY)
        for number in range(MANY):
            shop.ask(str(number))
        a.take()
        b = shop.worker("b", 10)
        for _ in range(2):
            shop.leave(a)
        shop.advance(1.0)
        done = shop.work_off(b)
        assert sorted(int(data) for _, data, _ in done) == list(range(MANY))
        assert {attempt for _, _, attempt in done} == {2}

    @pytest.mark.parametrize("error", NOT_BEGUN)
    def test_who_has_not_begun_gives_it_on(self, error: str) -> None:
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        request = shop.ask("1")
        shop.answer(a, *a.take(), error=error)
        assert a.got == []
        (again,) = b.take()
        assert (again.attempt, again.ack_id) == (1, f"{request.id}.1")
        shop.answer(b, again)
        assert told(request) == ("b", None, 1)
        assert outcome(request).failures == ()

    @pytest.mark.parametrize("error", ["", "no", "timeout", "disconnected", "no member", "busy"])
    def test_every_other_failure_is_final(self, error: str) -> None:
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        request = shop.ask("1")
        shop.answer(a, *a.take(), error=error)
        assert (told(request)[1:], outcome(request).failures, b.got) == ((error, 1), (), [])
        assert request.is_late is False

    def test_unless_the_publisher_wants_it_tried_again(self) -> None:
        shop = Shop()
        workers = [shop.worker(name) for name in "abc"]
        request = shop.ask("1", retries=2)
        assert shop.work_off(*workers, error="no") == [("a", "1", 1), ("b", "1", 2), ("c", "1", 3)]
        assert told(request) == ("c", "no", 3)
        assert outcome(request).failures == (("a", "no"), ("b", "no"))
        again = shop.ask("2", retries=2)
        (first, *_) = workers
        shop.answer(first, *first.take(), error="unsubscribed")  # that is none of the two failures
        assert shop.work_off(*workers, error="no") == [("b", "2", 1), ("c", "2", 2), ("a", "2", 3)]
        assert told(again) == ("a", "no", 3)

    def test_the_same_member_has_it_again_only_if_there_is_no_other(self) -> None:
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        first, second, third = (shop.ask(name, retries=1) for name in "123")
        (one,), (two,) = a.take(), b.take()
        shop.answer(a, one, error="no")
        # It waits for the other one, which is busy, and this one goes on with the next message.
        assert a.payloads() == [b"3"]
        assert first.responses == {}
        shop.answer(b, two, error="no")
        assert [(p.payloads(), p.attempt) for p in b.take()] == [([b"1"], 2)]
        # Now the second one waits for the first member. When that leaves, nobody else is there.
        assert a.got == []
        shop.bus.unsubscribe(a, JOBS)
        (task,) = [one for one in shop.tasks._under_way.values() if one.last is b]
        shop.book.answer(b, task.id, None)
        assert [(p.payloads(), p.attempt) for p in b.take()] == [([b"2"], 2)]
        assert told(first) == ("b", None, 2)
        assert not second.responses
        assert not third.responses

    def test_the_only_member_has_it_again(self) -> None:
        shop = Shop()
        a = shop.worker("a")
        request = shop.ask("1", retries=1)
        assert shop.work_off(a, error="no") == [("a", "1", 1), ("a", "1", 2)]
        assert told(request) == ("a", "no", 2)

    def test_what_is_tried_again_goes_before_what_waits(self) -> None:
        shop = Shop()
        a = shop.worker("a")
        for number in range(4):
            shop.ask(str(number), retries=1)
        assert [(data, n) for _, data, n in shop.work_off(a, error="no")] == [
            (str(number), n) for number in range(4) for n in (1, 2)
        ]

    @pytest.mark.parametrize("how", ["leaves", "fails"])
    @pytest.mark.parametrize("attempts", [1, 2, 5])
    def test_a_message_that_ends_its_workers_ends_itself(self, attempts: int, how: str) -> None:
        shop = Shop(max_attempts=attempts)
        workers = [shop.worker(f"{n}") for n in range(8)]
        request = shop.ask("poison", retries=100)
        had = []
        while busy := [worker for worker in workers if worker.got]:
            (worker,) = busy
            (one,) = worker.take()
            had.append((worker.id, one.attempt))
            if how == "leaves":
                shop.leave(worker)
            else:
                shop.answer(worker, one, error="no")
        assert had == [(f"{n}", n + 1) for n in range(attempts)]
        error = {"leaves": "disconnected", "fails": "no"}[how]
        assert told(request) == (f"{attempts - 1}", error, attempts)
        assert len(outcome(request).failures) == attempts - 1
        assert shop.asker.finished == [request]

    def test_what_nobody_begins_with_ends_at_last(self) -> None:
        shop = Shop()
        workers = [shop.worker(name) for name in "ab"]
        request = shop.ask("1")
        for number in range(21):
            (worker,) = [one for one in workers if one.got]
            assert worker.id == "ab"[number % 2]
            shop.answer(worker, *worker.take(), error="queue full")
        assert told(request) == ("", "queue full", 0)

    def test_a_key_goes_to_the_next_member_if_its_own_has_not_begun(self) -> None:
        shop = Shop()
        workers = [shop.worker(name) for name in "abc"]
        shop.ask("1", message_key="k")
        (first,) = [one for one in workers if one.got]
        shop.answer(first, *first.take(), error="queue full")
        (second,) = [one for one in workers if one.got]
        assert second is not first
        shop.ask("2", message_key="k")
        assert first.payloads() == [b"2"]

    def test_its_member_is_named_as_it_was_when_it_was_asked(self) -> None:
        shop = Shop()
        a = shop.worker("a")
        request, other = shop.ask("1", retries=1), shop.ask("2")
        (one,) = a.take()
        a.id = "renamed"
        shop.answer(a, one, error="no")
        (one,) = a.take()
        a.id = "again"
        shop.answer(a, one)
        assert told(request) == ("renamed", None, 2)
        assert outcome(request).failures == (("a", "no"),)
        shop.answer(a, *a.take())
        assert told(other) == ("again", None, 1)

    def test_very_many_that_a_member_has_failed_with_do_not_hide_the_others(self) -> None:
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        requests = [shop.ask(str(number)) for number in range(150)]
        b.take()
        failed = []
        while had := a.take():
            failed += [payload for one in had for payload in one.payloads()]
            shop.answer(a, *had, error="unsubscribed")
        assert failed == [b"0", *(b"%d" % number for number in range(2, 150))]
        shop.leave(b)
        assert [int(data) for _, data, _ in shop.work_off(a)] == [0, *range(2, 150), 1]
        assert all(outcome(request).success for request in requests)


class TestAnswersAtOnce:
    """The server's own program may answer within the call that gives it a message."""

    class Hasty(Worker):
        """It has no room, and says so."""

        def __init__(self, client_id: str, shop: Shop) -> None:
            super().__init__(client_id)
            self._shop = shop
            self.refuses = True

        def deliver(self, publication: Publication) -> bool:
            super().deliver(publication)
            if self.refuses:
                answer = self._shop.book.answer
                answer(self, publication.ack_id, "queue full", has_begun=False)
            return not self.refuses

    def test_very_many_of_them_do_not_pile_up(self) -> None:
        shop = Shop()
        hasty = self.Hasty("hasty", shop)
        hasty.refuses = False
        shop.bus.subscribe(hasty, JOBS)
        requests = [shop.ask(str(number)) for number in range(MANY)]
        (first,) = hasty.take()
        hasty.refuses = True
        shop.answer(hasty, first)
        assert told(requests[0]) == ("hasty", None, 1)
        assert all(told(request) == ("", "queue full", 0) for request in requests[1:])
        assert len(hasty.take()) == MANY - 1
        shop.bus.remove(hasty)
        shop.check_nothing_left()

    def test_another_member_has_it_at_once(self) -> None:
        shop = Shop()
        hasty = self.Hasty("hasty", shop)
        shop.bus.subscribe(hasty, JOBS)
        b = shop.worker("b", 10)
        requests = [shop.ask(str(number)) for number in range(10)]
        shop.work_off(b)
        assert all(told(request)[:2] == ("b", None) for request in requests)

    def test_an_interrupted_one_is_made_good_for(self) -> None:
        """A signal handler raises while an answer is handled."""
        shop = Shop()
        a = shop.worker("a")
        request, other = shop.ask("1"), shop.ask("2")
        (one,) = a.take()

        def interrupt() -> None:
            shop.asker.then = lambda: None
            raise KeyboardInterrupt

        shop.asker.then = interrupt
        with pytest.raises(KeyboardInterrupt):
            shop.answer(a, one)
        assert told(request) == ("a", None, 1)
        shop.bus.subscribe(a, JOBS)
        assert shop.work_off(a) == [("a", "2", 1)]
        assert told(other) == ("a", None, 1)


class TestEnds:
    def test_without_a_member_there_is_an_outcome_at_once(self) -> None:
        shop = Shop()
        request = shop.ask("1")
        assert (told(request), outcome(request).failures) == (("", "no member", 0), ())
        assert shop.asker.finished == [request]
        shop.check_nothing_left()

    def test_when_the_last_member_leaves_what_waits_has_one(self) -> None:
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        requests = [shop.ask(str(number), message_key="k" * (number % 2)) for number in range(7)]
        held = {one.payloads()[0]: worker for worker in (a, b) for one in worker.take()}
        shop.bus.unsubscribe(a, JOBS)
        shop.bus.unsubscribe(b, JOBS)
        for number, request in enumerate(requests):
            if b"%d" % number not in held:
                assert told(request) == ("", "no member", 0)
            else:
                assert request.responses == {}, "who has it may answer"
        for worker in (a, b):
            shop.leave(worker)
        for data in held:
            request = requests[int(data)]
            assert told(request) == ("", "no member", 1)
            assert [error for _, error in outcome(request).failures] == ["disconnected"]
        shop.check_nothing_left()

    def test_very_many_have_it_in_slices_unless_somebody_comes(self) -> None:
        shop = Shop()
        a = shop.worker("a")
        requests = [shop.ask(str(number)) for number in range(MANY)]
        shop.bus.unsubscribe(a, JOBS)
        over = len(shop.asker.finished)
        assert 0 < over <= 500
        b = shop.worker("b", 3)
        assert len(b.got) == 3
        shop.advance(1.0)
        assert len(shop.asker.finished) == over
        assert [int(data) for _, data, _ in shop.work_off(b)] == list(range(over + 1, MANY))
        shop.answer(a, *a.take())
        shop.bus.remove(b)
        assert {told(request)[1] for request in requests} == {None, "no member"}
        shop.check_nothing_left()

    def test_a_member_that_unsubscribes_may_still_answer(self) -> None:
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        first, second = shop.ask("1"), shop.ask("2")
        shop.bus.unsubscribe(a, JOBS)
        shop.answer(a, *a.take())
        assert told(first) == ("a", None, 1)
        shop.bus.unsubscribe(b, JOBS)
        shop.leave(b)
        assert told(second) == ("", "no member", 1)
        shop.check_nothing_left()

    def test_a_member_that_comes_again_begins_anew(self) -> None:
        """What it had before is no load of its new membership."""
        shop = Shop()
        a = shop.worker("a")
        first, second, third = (shop.ask(name) for name in "123")
        (one,) = a.take()
        shop.bus.unsubscribe(a, JOBS)
        assert told(second)[1] == told(third)[1] == "no member"
        shop.bus.subscribe(a, JOBS)
        fourth, fifth = shop.ask("4"), shop.ask("5")
        (four,) = a.take()
        shop.answer(a, one)
        assert told(first) == ("a", None, 1)
        assert a.got == []
        shop.answer(a, four)
        assert a.payloads() == [b"5"]
        assert told(fourth) == ("a", None, 1)
        assert fifth.responses == {}

    def test_a_time_limit(self) -> None:
        shop = Shop()
        a, plain = shop.worker("a"), Worker("plain")
        first = shop.ask("1", subscribers=(plain,), seconds=1.0)
        second = shop.ask("2", seconds=1.0)
        third = shop.ask("3", message_key="k", seconds=1.0)
        fourth = shop.ask("4", seconds=2.0)
        (one,) = a.take()
        shop.advance(1.5)
        assert told(first) == ("a", "timeout", 1)
        assert told(second) == told(third) == ("", "timeout", 0)
        assert [request.is_late for request in (first, second, third, fourth)] == [True] * 3 + [
            False
        ]
        assert (first.missing(), second.missing()) == (["plain"], [])
        assert shop.asker.finished == [first, second, third]
        # A late answer is no outcome, but the member is free. What has ended does not wait.
        shop.answer(a, one, error="no")
        assert told(first) == ("a", "timeout", 1)
        assert a.payloads() == [b"4"]
        shop.advance(1.0)
        assert told(fourth) == ("a", "timeout", 1)
        shop.leave(a)
        shop.check_nothing_left()

    def test_a_time_limit_after_a_failure(self) -> None:
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        request = shop.ask("1", retries=1, seconds=1.0)
        other = shop.ask("2", seconds=1.0)
        shop.answer(a, *a.take(), error="no")
        shop.advance(1.0)
        assert told(request) == ("a", "timeout", 1)
        assert outcome(request).failures == (("a", "no"),)
        assert told(other) == ("b", "timeout", 1)
        assert b.payloads() == [b"2"]

    def test_not_late_is_who_has_all_outcomes(self) -> None:
        shop = Shop()
        a, plain = shop.worker("a"), Worker("plain")
        request = shop.ask("1", subscribers=(plain,), seconds=1.0)
        shop.answer(a, *a.take())
        shop.advance(1.0)
        assert (request.is_late, request.missing()) == (False, ["plain"])
        assert told(request) == ("a", None, 1)

    @pytest.mark.parametrize("how", ["cancel", "owner"])
    def test_cancelled_says_nothing_and_leaves_nothing_waiting(self, how: str) -> None:
        shop = Shop()
        a, other = shop.worker("a"), Asker()
        for number in range(3):
            shop.ask(str(number), message_key="k" * (number % 2))
        kept = shop.ask("kept", asker=other)
        (one,) = a.take()
        if how == "owner":
            shop.book.drop_owner(shop.asker)
        else:
            for number in range(3):
                shop.book.cancel(shop.asker, str(number))
        assert (len(shop.book), shop.tasks.waiting_for) == (1, {JOBS: 1})
        assert a.got == [], "it is busy with it"
        shop.answer(a, one, error="unsubscribed")
        assert [p.payloads() for p in a.got] == [[b"kept"]]
        shop.answer(a, *a.take())
        assert told(kept) == ("a", None, 1)
        assert (shop.asker.finished, shop.asker.updates) == ([], [])
        shop.bus.remove(a)
        shop.check_nothing_left()

    def test_answers_of_others_and_second_ones_are_ignored(self) -> None:
        shop = Shop()
        a, b = shop.worker("a"), shop.worker("b")
        request = shop.ask("1", retries=1)
        (one,) = a.take()
        for who in (b, Worker("a"), Worker("stranger")):
            shop.answer(who, one)
        for ack_id in (request.id, "ack_1.2", "ack_1.", "ack_1.1.1", "", "1"):
            shop.book.answer(a, ack_id, None)
        assert request.responses == {}
        shop.answer(a, one, error="no")
        (two,) = b.take()
        assert two.ack_id == one.ack_id
        shop.answer(a, one)  # it has it no more
        assert request.responses == {}
        shop.answer(b, two)
        shop.answer(b, two, error="second thoughts")
        assert told(request) == ("b", None, 2)
        assert len(shop.asker.finished) == 1

    def test_what_is_asked_and_ended_from_within(self) -> None:
        """Telling an owner may overflow its queue, and then it leaves in the middle of it."""
        shop = Shop()
        a = shop.worker("a", 5)
        for number in range(10):
            shop.ask(str(number), JOBS, InGroup("jobs", "none"))
        shop.asker.then = lambda: shop.book.drop_owner(shop.asker)
        had = a.take()
        shop.answer(a, *had)
        assert len(shop.asker.finished) == 1
        assert (len(shop.book), shop.tasks.waiting_for, a.got) == (0, {}, [])
        shop.bus.remove(a)
        shop.check_nothing_left()

    def test_owner_that_leaves_because_of_a_timeout(self) -> None:
        shop = Shop()
        a = shop.worker("a")
        shop.asker.then = lambda: shop.book.drop_owner(shop.asker)
        for number in range(10):
            shop.ask(str(number), JOBS, InGroup(Pattern("*"), "none"), seconds=1.0)
        shop.advance(2.0)
        assert len(shop.asker.finished) == 1
        shop.leave(a)
        shop.check_nothing_left()

    @pytest.mark.parametrize("is_crowded", [True, False])
    def test_owner_that_is_a_member_and_leaves_when_it_is_told(self, is_crowded: bool) -> None:
        shop = Shop()
        a = shop.crowded("a") if is_crowded else shop.worker("a")
        requests = [shop.ask(str(number)) for number in range(3)]
        shop.asker.then = lambda: shop.bus.remove(a)
        shop.answer(a, *a.take())
        assert a.got == []
        shop.advance(1.0)
        assert told(requests[0]) == ("a", None, 1)
        assert told(requests[1]) == told(requests[2]) == ("", "no member", 0)
        shop.check_nothing_left()

    def test_members_that_leave_when_they_get_it(self) -> None:
        shop = Shop()
        workers = [shop.worker(f"{n}") for n in range(3)]
        for worker in workers:
            worker._then = partial(shop.leave, worker)
        request = shop.ask("1")
        assert told(request) == ("", "no member", 3)
        assert [name for name, _ in outcome(request).failures] == ["0", "1", "2"]
        shop.check_nothing_left()


class TestAccounts:
    def test_each_group_of_a_request_is_awaited(self) -> None:
        shop = Shop(max_awaited_acks=3)
        a = shop.worker("a")
        keys = (JOBS, InGroup(Pattern("*"), "p"))
        shop.bus.subscribe(a, keys[1])
        first = shop.ask("1", *keys)
        with pytest.raises(QueueFull, match="too many answers"):
            shop.ask("2", *keys)
        one, two = a.take()
        shop.answer(a, one)
        shop.ask("2", *keys)
        assert shop.book.awaited == 3
        shop.book.cancel(shop.asker, "2")
        shop.answer(a, two)
        assert shop.asker.finished == [first]
        shop.leave(a)
        shop.check_nothing_left()

    def test_a_task_is_paid_for_with_its_payload_and_its_names(self) -> None:
        shop = Shop()
        shop.worker("a")

        def cost_of(name: str, **more: str | bytes) -> int:
            before = shop.book._cost
            shop.ask(name, **more)  # type: ignore[arg-type]
            return shop.book._cost - before

        plain = cost_of("1", data=b"")
        assert plain >= cost.ACK_REQUEST + cost.TASK
        assert cost_of("2", data=b"x" * 5000) == plain + 5000
        assert cost_of("3", data=b"", message_key=EMOJI * 100) >= plain + 800
        with pytest.raises(QueueFull, match="too much memory"):
            shop.ask("4", data=b"x" * ServerLimits().max_ack_bytes)

    def test_results_and_errors_are_charged_until_the_end(self) -> None:
        shop = Shop()
        a, plain = shop.worker("a", 3), Worker("plain")
        result = as_json(b"[1,2,3]")
        first = shop.ask("1", subscribers=(plain,))
        second = shop.ask("2", subscribers=(plain,))
        one, two = a.take()
        shop.book.answer(a, one.ack_id, None, result, 7)
        assert first.size == ID + cost.of_answer(None, 7)
        assert outcome(first).result == [1, 2, 3]
        shop.answer(a, two, error="no" * 100)
        assert second.size == ID + cost.of_answer("no" * 100, 0)
        assert shop.book._results == first.size + second.size
        for request in (first, second):
            shop.book.answer(plain, request.id, None)
        assert shop.book._results == 0

    @pytest.mark.parametrize("limit", ["max_results", "max_all_results"])
    def test_a_result_without_room_is_a_failure(self, limit: str) -> None:
        shop = Shop(**{limit: 1000})
        a, plain = shop.worker("a"), Worker("plain")
        request = shop.ask("1", subscribers=(plain,))
        (one,) = a.take()
        shop.book.answer(a, one.ack_id, None, as_json(b"1" * 2000), 2000)
        assert told(request) == ("a", "no room for the result", 1)
        assert (outcome(request).result, shop.book._results) == (None, ID)

    def test_failures_of_attempts_are_charged(self) -> None:
        shop = Shop()
        workers = [shop.worker(name) for name in ("a", EMOJI * 50)]
        request = shop.ask("1", retries=5)
        errors = ["no" * 100, EMOJI * 100, "not", "x"]
        expected = workers[0].id.__sizeof__()
        assert request.size == expected
        for number, error in enumerate(errors):
            worker, other = workers[number % 2], workers[1 - number % 2]
            shop.answer(worker, *worker.take(), error=error)
            expected += size_of_failure("", error) + other.id.__sizeof__()
            assert shop.book._results == request.size == expected
        shop.leave(workers[0])
        assert told(request) == (workers[0].id, "disconnected", 5)
        assert len(outcome(request).failures) == 4
        assert shop.book._results == 0

    @pytest.mark.parametrize("limit", ["max_results", "max_all_results"])
    def test_without_room_for_a_failure_it_is_the_last(self, limit: str) -> None:
        shop = Shop(**{limit: 12_000})
        workers = [shop.worker(name) for name in "ab"]
        plain = Worker("plain")
        request = shop.ask("1", retries=5, subscribers=(plain,))
        shop.work_off(*workers, error=EMOJI * 1000)
        assert told(request) == ("b", "no room for the result", 2)
        assert 0 < shop.book._results <= 12_000
        assert len(outcome(request).failures) == 1

    def test_what_members_have_of_ended_requests_is_bounded(self) -> None:
        """Else a member that never answers would make the server keep any number of them."""
        each = cost_of_task(JOBS)
        shop = Shop(max_ack_bytes=50 * each)
        a = shop.worker("a", 1000)
        for number in range(100):
            shop.ask(str(number), seconds=1.0, data=b"x" * 300)
            shop.advance(1.0)
            assert shop.tasks.kept == min(number + 1, 12) * each
        (member,) = shop.bus.group(JOBS).members.values()  # type: ignore[union-attr]
        assert member.load == 12
        had = a.take()
        shop.answer(a, had[0])
        assert member.load == 12
        shop.answer(a, had[-1])
        assert member.load == 11
        shop.leave(a)
        assert shop.tasks.kept == 0
        shop.worker("b")
        shop.ask("again")
        shop.book.cancel(shop.asker, "again")
        assert shop.tasks.kept == each

    def test_a_task_that_has_ended_keeps_no_payload(self) -> None:
        shop = Shop()
        a = shop.worker("a", 5)
        for number, end in enumerate(("timeout", "cancel", "owner")):
            shop.ask(str(number), data=b"x" * 10_000, seconds=1.0)
            if end == "timeout":
                shop.advance(1.0)
            elif end == "cancel":
                shop.book.cancel(shop.asker, str(number))
            else:
                shop.book.drop_owner(shop.asker)
        assert len(a.got) == 3
        for task in shop.tasks._under_way.values():
            assert (task.data, task.topic, task.message_key, task.sender) == (b"", "", "", "")

    @pytest.mark.parametrize("limit", ["max_results", "max_all_results"])
    def test_without_room_for_the_id_of_a_member_nobody_gets_it(self, limit: str) -> None:
        shop = Shop(**{limit: 100})
        a = shop.worker("a" * 200)
        request = shop.ask("1")
        assert told(request) == ("", "no room for the result", 0)
        assert a.got == []
        shop.bus.remove(a)
        shop.check_nothing_left()

    def test_a_group_keeps_nothing_of_the_load_that_it_had(self) -> None:
        shop = Shop()
        a = shop.worker("a", 1000)
        for number in range(1000):
            shop.ask(str(number))
        shop.work_off(a)
        group = shop.bus.group(JOBS)
        assert group is not None
        assert list(group._by_load) == [0]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("join", "leave", "vanish", "ask", "ask", "ask", "ask key", "answer", "answer"),
                *("answer", "fail", "give on", "cancel", "owner leaves", "publish", "wait"),
            ]
        ),
        st.integers(0, 4),
        st.integers(0, 4),
    ),
    max_size=60,
)


@THOROUGH
@given(STEPS, st.sampled_from([1, 2, 5]), st.sampled_from([2, 1000]))
def test_whatever_happens(
    steps: list[tuple[str, int, int]], max_attempts: int, max_waiting: int
) -> None:
    shop = Shop(max_attempts=max_attempts, max_waiting=max_waiting)
    bus, book = shop.bus, shop.book
    askers = [Asker() for _ in range(2)]
    keys = [JOBS, InGroup("jobs", "others"), InGroup(Pattern("j*"), "workers")]
    here: dict[int, Worker] = {}
    everyone: list[Worker] = []
    requests: list[tuple[AckRequest, Asker]] = []
    silent: set[AckRequest] = set()
    had: dict[str, list[tuple[Worker, int]]] = defaultdict(list)
    held: dict[str, Worker] = {}
    begun: set[tuple[InGroup, str]] = set()

    def note() -> None:
        """Look at what has been given out since."""
        for worker in everyone:
            for one in worker.take():
                if not one.ack_id:
                    continue
                assert one.group is not None
                attempts = had[one.ack_id]
                assert one.attempt == len(attempts) + 1 <= max_attempts
                attempts.append((worker, one.attempt))
                held[one.ack_id] = worker

    def check() -> None:
        under_way = {ack_id: task.last for ack_id, task in shop.tasks._under_way.items()}
        for ack_id, worker in under_way.items():
            assert worker in everyone
            assert had[ack_id][-1][0] is worker, "it is with one member at a time"
        waiting = {key: list(queue) for key, queue in shop.tasks._waiting.items()}
        for key in keys:
            group = bus.group(key)
            mine = [task for task in shop.tasks._under_way.values() if task.key == key]
            if group is None:
                assert not waiting.get(key), "nobody will take it"
                continue
            for member in group.members.values():
                load = sum(task.member is member for task in mine)
                assert load == member.load
                for task in shop.tasks._for_members.get(member, ()):
                    assert not member.is_free, "it could take what waits for it"
                    assert group.member_for(task.message_key) is not None
                if member.is_free:
                    assert all(task.last is member.subscriber for task in waiting.get(key, ()))
                    assert not waiting.get(key) or len(group.members) > 1
        assert book.awaited == sum(
            len(request.awaited) + len(request.tasks) for request in book._by_id.values()
        )

    def fail(number: int, error: str | None) -> None:
        ids = list(shop.tasks._under_way)
        if ids:
            ack_id = ids[number % len(ids)]
            worker = shop.tasks._under_way[ack_id].last
            assert worker is not None
            book.answer(worker, ack_id, error)

    for step, i, j in steps:
        if step == "join":
            worker = here.get(i)
            if worker is None:
                worker = here[i] = Worker(f"w{i}")
                everyone.append(worker)
            bus.subscribe(worker, keys[j % 3], 1 + j % 2)
        elif step == "leave" and i in here:
            bus.unsubscribe(here[i], keys[j % 3])
        elif step == "vanish" and i in here:
            shop.leave(here.pop(i))
        elif step.startswith("ask"):
            groups = tuple(keys[: 1 + j % 3])
            asker = askers[i % 2]
            request = shop.ask(
                str(len(requests)), *groups, asker=asker, retries=i % 3, seconds=3,
                message_key=f"k{j}" if step == "ask key" else "",
            )  # fmt: skip
            requests.append((request, asker))
            begun.update((key, request.id) for key in groups)
        elif step in ("answer", "fail", "give on"):
            fail(i * 5 + j, {"answer": None, "fail": "no", "give on": "unsubscribed"}[step])
        elif step == "cancel" and requests:
            request, asker = requests[-1 - (i * 5 + j) % len(requests)]
            if request.id in book._by_id:
                silent.add(request)
            book.cancel(asker, request.owner_ack_id)
        elif step == "owner leaves":
            silent.update(r for r, a in requests if a is askers[i % 2] and r.id in book._by_id)
            book.drop_owner(askers[i % 2])
        elif step == "publish":
            bus.publish(Publication("jobs", "x", *[b"1"] * (i + 1)))
        elif step == "wait":
            shop.advance(1.0)
        note()
        check()
    shop.advance(3.0)
    note()
    for worker in here.values():
        shop.leave(worker)
    note()
    for request, asker in requests:
        assert asker.finished.count(request) == (request not in silent)
        if request in silent:
            continue
        expected = {str(key) for key, ack_id in begun if ack_id == request.id}
        assert {one.name for one in request.responses.values()} == expected
        for response in request.responses.values():
            assert isinstance(response, GroupResponse)
            had_it = had[response.ack_id]
            assert response.attempts == len(had_it)
            # The last one is in the outcome, unless it was no attempt of a member.
            assert len(had_it) - 1 <= len(response.failures) <= len(had_it)
            names = [name for name, _ in response.failures]
            assert names == [worker.id for worker, _ in had_it][: len(names)]
    shop.check_nothing_left()
