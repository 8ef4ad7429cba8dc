"""Turns alone: who works when, and for how long. The workers are made by hand."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.server.turns import SHARE, TURN, Turns

LONG = 1 << 20


class Heap:
    """A worker with pieces of work, each of so many units."""

    def __init__(self, turns: Turns, *pieces: int, log: "list[Heap] | None" = None) -> None:
        self.used = 0
        self.waits = False
        self.number = 1
        self.waiting_bytes = 0
        self.pieces = deque(pieces)
        self.spent: list[int] = []
        """Units that it used, for each time that it could work."""
        self._turns = turns
        self._log = log

    def work(self) -> bool:
        spent = 0
        if self._log is not None:
            self._log.append(self)
        while self.pieces and self._turns.left > 0:
            piece = self.pieces.popleft()
            self._turns.left -= piece
            spent += piece
        self.spent.append(spent)
        return bool(self.pieces)


class Reader(Heap):
    """A worker whose pieces are long messages, of so many bytes."""

    def work(self) -> bool:
        self.spent.append(0)
        while self.pieces and self._turns.left > 0:
            if self._turns.takes(self.pieces[0]):
                size = self.pieces.popleft()
                self._turns.left -= size >> 6
                self.spent[-1] += 1
        self.waiting_bytes = self.pieces[0] if self.pieces else 0
        return bool(self.pieces)


def run(turns: Turns, turns_at_most: int = 100_000) -> int:
    """Go on until nobody waits, as a driver does; return how many turns that took."""
    count = 0
    turns.end()
    while turns.are_due:
        count += 1
        assert count <= turns_at_most, "somebody waits for ever"
        turns.go_on()
        turns.end()
    return count


def test_who_comes_first_works_at_once_and_for_the_whole_turn() -> None:
    turns = Turns()
    one = Heap(turns, *[10] * 400)
    turns.enter(one)
    assert one.spent == [4000]
    assert not one.waits
    assert not turns.are_due


def test_work_stops_at_the_end_of_the_turn_and_goes_on_in_the_next() -> None:
    turns = Turns()
    one = Heap(turns, *[1] * (3 * TURN))
    turns.enter(one)
    assert one.spent == [TURN]
    assert one.waits
    assert turns.are_due
    assert run(turns) == 2
    assert one.spent == [TURN] * 3


def test_a_waiting_worker_does_not_work_when_more_comes() -> None:
    turns = Turns()
    one = Heap(turns, *[1] * (TURN + 1))
    turns.enter(one)
    turns.enter(one)
    assert one.spent == [TURN]


def test_a_light_worker_works_at_once_though_the_turn_is_used_up() -> None:
    turns = Turns()
    heavy, light = Heap(turns, *[1] * (9 * TURN)), Heap(turns, 2)
    turns.enter(heavy)
    turns.enter(light)
    assert light.spent == [2]


def test_a_light_worker_has_its_share_only_and_then_waits() -> None:
    turns = Turns()
    heavy, other = Heap(turns, *[1] * (9 * TURN)), Heap(turns, *[1] * (2 * SHARE))
    turns.enter(heavy)
    turns.enter(other)
    assert other.spent == [SHARE]
    assert other.waits


def test_one_that_has_caused_less_goes_on_first() -> None:
    turns = Turns()
    log: list[Heap] = []
    heavy = Heap(turns, *[1] * (9 * TURN), log=log)
    light = Heap(turns, *[1] * (2 * SHARE), log=log)
    turns.enter(heavy)
    turns.enter(light)
    turns.end()
    log.clear()
    turns.go_on()
    assert log[0] is light
    assert not light.waits


def test_equals_go_on_in_the_order_in_which_they_came() -> None:
    turns = Turns()
    log: list[Heap] = []
    workers = [Heap(turns, 1, log=log) for _ in range(9)]
    for worker in workers:
        turns.wait(worker)
    turns.go_on()
    assert log == workers


def test_those_that_wait_together_share_the_turn() -> None:
    turns = Turns()
    workers = [Heap(turns, *[1] * TURN) for _ in range(5)]
    for worker in workers:
        turns.wait(worker)
    turns.go_on()
    spent = [sum(worker.spent) for worker in workers]
    assert max(spent) - min(spent) <= SHARE
    assert TURN <= sum(spent) <= TURN + SHARE


def test_nobody_owes_anything_after_a_turn_without_waiting_workers() -> None:
    turns = Turns()
    heavy, light = Heap(turns, *[1] * TURN * 9), Heap(turns, 1)
    turns.enter(heavy)
    run(turns)
    turns.enter(light)
    turns.enter(heavy)
    heavy.pieces, light.pieces = deque([TURN]), deque([1])
    turns.enter(light)
    turns.enter(heavy)  # which may have the whole turn, whatever it used before
    assert (light.spent[-1], heavy.spent[-1]) == (1, TURN)


def test_an_idle_worker_saves_up_nothing() -> None:
    turns = Turns()
    idle, busy = Heap(turns, 1), Heap(turns, *[1] * TURN * 100)
    turns.enter(idle)
    turns.enter(busy)
    for _ in range(50):
        turns.go_on()
        turns.end()
    idle.pieces.extend([1] * TURN * 50)
    turns.enter(idle)
    for _ in range(20):
        turns.go_on()
        turns.end()
    assert sum(idle.spent) < 12 * TURN
    assert len(busy.pieces) < TURN * 42


def test_who_waits_goes_on_though_others_use_up_every_turn() -> None:
    turns = Turns()
    one = Heap(turns, *[1] * (TURN + 5 * SHARE))
    turns.enter(one)
    for _ in range(100):
        for _ in range(2 * TURN // SHARE):  # of new ones, which have caused nothing yet
            turns.enter(Heap(turns, *[1] * SHARE))
        turns.go_on()
        turns.end()
    assert not one.waits


@pytest.mark.parametrize("ends", [1, 2, 3])
def test_who_waits_goes_on_however_often_turns_end(ends: int) -> None:
    turns = Turns()
    one = Heap(turns, *[1] * (TURN + 5 * SHARE))
    turns.enter(one)
    turns.end()
    for _ in range(800):
        for _ in range(TURN // SHARE):
            turns.wait(Heap(turns, *[1] * SHARE))
        turns.go_on()
        for _ in range(ends):
            turns.end()
    assert not one.waits


def test_a_turn_ends_however_many_have_caused_nothing_yet() -> None:
    turns = Turns()
    crowd = [Heap(turns, *[1] * SHARE) for _ in range(10 * TURN // SHARE)]
    for _ in range(2):  # the turn before makes no difference
        for worker in crowd:
            worker.pieces.extend([1] * SHARE)
            worker.spent.clear()
            turns.enter(worker)
        assert sum(sum(worker.spent) for worker in crowd) <= 2 * TURN + SHARE
        run(turns)
        assert not any(worker.pieces for worker in crowd)


def test_little_things_go_before_long_messages_that_came_first() -> None:
    turns = Turns()
    log: list[Heap] = []
    light, heavy = Heap(turns, *[1] * 20, log=log), [Reader(turns, LONG) for _ in range(20)]
    turns.enter(light)
    for reader in heavy:
        turns.enter(reader)
    turns._of_turn = -TURN  # so that the light one has to wait, too
    light.pieces.extend([1] * 20)
    turns.enter(light)
    assert light.waits
    log.clear()
    turns.end()
    turns.go_on()
    assert log == [light]
    assert sum(sum(reader.spent) for reader in heavy) == 1, "one in each turn"


def test_new_ones_come_behind_those_that_are_known() -> None:
    turns = Turns()
    turns.end()
    log: list[Heap] = []
    known, new = Heap(turns, 1, log=log), Heap(turns, 1, log=log)
    new.used = turns.start
    turns.wait(new)
    turns.wait(known)
    turns.go_on()
    assert log == [known, new]


def test_stop_returns_the_units_that_were_left() -> None:
    turns = Turns()

    class Blocked(Heap):
        def work(self) -> bool:
            self._turns.left -= 10
            self._turns.stop(number=2)  # of another one, which does not work
            assert self._turns.left > 0
            self._turns.stop(self.number)
            self._turns.stop(self.number)
            assert self._turns.left == 0
            self._turns.left -= 3  # what it began may still cause work
            return False

    one, other = Blocked(turns), Heap(turns, *[1] * TURN)
    turns.enter(one)
    assert one.used == 13
    turns.enter(other)
    assert other.spent == [TURN - 13]


def test_what_is_lent_counts() -> None:
    turns = Turns()

    class Borrower(Heap):
        def work(self) -> bool:
            self._turns.lend(1000)
            return super().work()

    one = Borrower(turns, *[1] * (TURN + 2000))
    turns.enter(one)
    assert one.spent == [TURN + 1000]
    assert one.used == TURN + 1000
    assert run(turns) == 1


def test_a_long_message_that_does_not_fit_waits_for_its_turn() -> None:
    turns = Turns()
    one = Reader(turns, LONG)
    turns.enter(one)
    assert one.spent == [0]
    assert one.waits
    turns.go_on()
    assert one.spent == [0, 1]
    assert not one.waits


def test_only_the_first_long_message_of_a_turn_need_not_fit() -> None:
    turns = Turns()
    one = Reader(turns, LONG, LONG, LONG)
    turns.enter(one)
    assert run(turns) == 3
    assert one.spent == [0, 1, 1, 1]


def test_a_long_message_that_does_not_fit_costs_others_no_units() -> None:
    turns = Turns()
    one, other = Reader(turns, LONG), Heap(turns, *[1] * SHARE * 2)
    turns.enter(one)
    assert one.used == 0
    turns.end()
    turns.enter(other)
    assert other.spent == [SHARE]


def test_long_messages_that_fit_are_handled_at_once() -> None:
    turns = Turns()
    one = Reader(turns, *[64 * 1024] * 4)
    turns.enter(one)
    assert one.spent == [4]


def test_little_goes_before_much_that_waits() -> None:
    turns, log = Turns(), list[Heap]()
    first, heavy, light = (Heap(turns, *[1] * 10, log=log) for _ in range(3))
    heavy.waiting_bytes = LONG
    light.used = 2 * SHARE  # it has caused more so far
    turns.wait(first)  # so that the others have to wait
    turns.wait(heavy)
    turns.wait(light)
    run(turns)
    assert log == [first, light, heavy]


pieces = st.lists(st.integers(1, 300), min_size=1, max_size=40)


@given(st.lists(pieces, min_size=1, max_size=8), st.integers(1, 2000))
def test_everybody_gets_work_and_no_turn_is_much_too_long(
    works: list[list[int]], turn: int
) -> None:
    """A turn and a share, and the piece that was begun."""
    turns = Turns(turn)
    workers = [Heap(turns, *work) for work in works]
    for worker in workers:
        turns.enter(worker)
    while turns.are_due:
        before = sum(sum(worker.spent) for worker in workers)
        turns.end()
        turns.go_on()
        done = sum(sum(worker.spent) for worker in workers) - before
        assert 0 < done <= turn + SHARE + 300
    assert not any(worker.pieces or worker.waits for worker in workers)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(2, 6))
def test_workers_that_have_enough_to_do_get_the_same(costs: list[int], count: int) -> None:
    """Up to a turn and a piece: that much one may be ahead of another."""
    turns = Turns()
    workers = [Heap(turns, *(costs * 4000)[:20_000]) for _ in range(count)]
    for worker in workers:
        turns.enter(worker)
    for _ in range(10):
        turns.end()
        turns.go_on()
    if all(worker.pieces for worker in workers):
        spent = [sum(worker.spent) for worker in workers]
        assert max(spent) - min(spent) <= TURN + SHARE + 600


@given(st.lists(st.tuples(st.booleans(), st.integers(1, SHARE // 4)), max_size=60))
def test_a_light_worker_never_waits_behind_a_heavy_one(steps: list[tuple[bool, int]]) -> None:
    """It uses less than its fair part of each turn, and so does not wait for the next one."""
    turns = Turns()
    heavy, light = Heap(turns, *[7] * 200_000), Heap(turns)
    turns.enter(heavy)
    for comes, cost in steps:
        if comes:
            light.pieces.append(cost)
            turns.enter(light)
        turns.go_on()
        assert not light.waits, "after one turn"
        assert not light.pieces
        turns.end()
