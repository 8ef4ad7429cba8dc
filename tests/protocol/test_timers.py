"""The agenda of everything that has a deadline."""

import sys
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.timers import PAUSE, Deadlines, Expiries, Timed


class Alarm:
    """Goes off at a time, once, or every ``again`` seconds."""

    def __init__(self, at: float | None, again: float | None = None) -> None:
        self.at = at
        self.again = again
        self.calls: list[float] = []

    def next_deadline(self) -> float | None:
        return self.at

    def handle_timeout(self, now: float) -> None:
        self.calls.append(now)
        self.at = now + self.again if self.again is not None else None


def agenda(*alarms: Alarm) -> Deadlines:
    deadlines = Deadlines()
    for alarm in alarms:
        deadlines.schedule(alarm)
    return deadlines


def test_empty() -> None:
    deadlines = Deadlines()
    assert deadlines.next_deadline() is None
    deadlines.handle_timeout(1e9)


def test_calls_what_is_due_and_only_that() -> None:
    early, late, never = Alarm(1.0), Alarm(2.0), Alarm(None)
    deadlines = agenda(late, early, never)
    assert deadlines.next_deadline() == 1.0
    deadlines.handle_timeout(0.5)
    assert early.calls == []
    deadlines.handle_timeout(1.0)
    assert (early.calls, late.calls) == ([1.0], [])
    assert deadlines.next_deadline() == 2.0
    deadlines.handle_timeout(5.0)
    assert (early.calls, late.calls, never.calls) == ([1.0], [5.0], [])
    assert (deadlines.next_deadline(), len(deadlines)) == (None, 0)


def test_very_many_take_several_calls() -> None:
    alarms = [Alarm(1.0) for _ in range(2000)]
    deadlines = agenda(*alarms)
    calls = 0
    while deadlines.next_deadline() is not None:
        before = sum(len(alarm.calls) for alarm in alarms)
        deadlines.handle_timeout(3.0)
        assert 0 < sum(len(alarm.calls) for alarm in alarms) - before <= 500
        calls += 1
    assert calls == 4
    assert all(alarm.calls == [3.0] for alarm in alarms)


def test_calls_again_without_being_scheduled_again() -> None:
    alarm = Alarm(1.0, again=1.0)
    deadlines = agenda(alarm)
    for now in (1.0, 2.0, 2.5, 3.0):
        deadlines.handle_timeout(now)
    assert alarm.calls == [1.0, 2.0, 3.0]


def test_postponing_needs_no_word() -> None:
    alarm = Alarm(1.0)
    deadlines = agenda(alarm)
    alarm.at = 10.0
    deadlines.handle_timeout(1.0)
    assert alarm.calls == []
    assert deadlines.next_deadline() == 10.0
    deadlines.handle_timeout(10.0)
    assert alarm.calls == [10.0]


def test_moving_earlier_does() -> None:
    alarm = Alarm(10.0)
    deadlines = agenda(alarm)
    alarm.at = 1.0
    deadlines.schedule(alarm)
    assert (deadlines.next_deadline(), len(deadlines)) == (1.0, 1)
    deadlines.handle_timeout(1.0)
    deadlines.handle_timeout(10.0)  # the old entry means nothing any more
    assert alarm.calls == [1.0]


def test_deadline_that_is_given_up() -> None:
    alarm = Alarm(1.0)
    deadlines = agenda(alarm)
    alarm.at = None
    deadlines.handle_timeout(1.0)
    assert alarm.calls == []
    assert (deadlines.next_deadline(), len(deadlines)) == (None, 0)


def test_cancelled() -> None:
    alarm, other = Alarm(1.0), Alarm(2.0)
    deadlines = agenda(alarm, other)
    for _ in range(2):
        deadlines.cancel(alarm)
    assert deadlines.next_deadline() == 2.0
    deadlines.handle_timeout(2.0)
    assert (alarm.calls, other.calls) == ([], [2.0])


def test_cancelled_and_scheduled_again() -> None:
    alarm = Alarm(1.0)
    deadlines = agenda(alarm)
    deadlines.cancel(alarm)
    deadlines.schedule(alarm)
    deadlines.handle_timeout(1.0)
    assert alarm.calls == [1.0]
    assert deadlines.next_deadline() is None


def test_one_call_may_cancel_and_schedule_others() -> None:
    deadlines = Deadlines()
    victim, newcomer = Alarm(1.0), Alarm(1.0)

    class Busy(Alarm):
        def handle_timeout(self, now: float) -> None:
            super().handle_timeout(now)
            deadlines.cancel(victim)
            deadlines.schedule(newcomer)

    busy = Busy(1.0)
    deadlines.schedule(busy)
    deadlines.schedule(victim)
    deadlines.handle_timeout(1.0)
    assert (busy.calls, victim.calls, newcomer.calls) == ([1.0], [], [1.0])


def test_item_that_stays_due_is_a_bug_and_no_endless_loop() -> None:
    class Stubborn(Alarm):
        def handle_timeout(self, now: float) -> None:
            self.calls.append(now)

    with pytest.raises(AssertionError, match="is still due"):
        agenda(Stubborn(1.0)).handle_timeout(1.0)


def test_any_number_at_the_same_time() -> None:
    alarms = [Alarm(1.0) for _ in range(100)]
    agenda(*alarms).handle_timeout(1.0)
    assert all(alarm.calls == [1.0] for alarm in alarms)


def test_what_comes_and_goes_leaves_nothing() -> None:
    deadlines = agenda(Alarm(1e6))
    for i in range(10_000):
        alarm = Alarm(float(i + 100))
        deadlines.schedule(alarm)
        deadlines.cancel(alarm)
    assert len(deadlines) == 1
    assert len(deadlines._heap) < 200


def test_order_survives_that_most_are_cancelled() -> None:
    alarms = [Alarm(float(number * 37 % 1000)) for number in range(1000)]
    deadlines = agenda(*alarms)
    kept = alarms[::7]
    for alarm in alarms:
        if alarm not in kept:
            deadlines.cancel(alarm)
    times = sorted(alarm.at for alarm in kept if alarm.at is not None)
    for when in times:
        assert deadlines.next_deadline() == when
        deadlines.handle_timeout(when)
    assert sorted(alarm.calls[0] for alarm in kept) == times
    assert len(deadlines) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["schedule", "move", "cancel", "advance"]),
            st.integers(0, 4),
            st.integers(1, 20),
        ),
        max_size=40,
    )
)
def test_goes_off_as_if_all_alarms_were_asked_all_the_time(
    steps: list[tuple[str, int, int]],
) -> None:
    deadlines = Deadlines()
    alarms = [Alarm(None) for _ in range(5)]
    known: set[Alarm] = set()
    now = 0.0
    for step, which, amount in steps:
        alarm = alarms[which]
        if step == "schedule":
            alarm.at = now + amount
            deadlines.schedule(alarm)
            known.add(alarm)
        elif step == "move" and alarm.at is not None:
            alarm.at += amount  # later, which is not told
        elif step == "cancel":
            deadlines.cancel(alarm)
            known.discard(alarm)
        elif step == "advance":
            now += amount
            due = [a for a in known if a.at is not None and a.at <= now]
            before = [len(a.calls) for a in alarms]
            deadlines.handle_timeout(now)
            called = [a for a, n in zip(alarms, before, strict=True) if len(a.calls) == n + 1]
            assert sorted(map(id, called)) == sorted(map(id, due))
            known.difference_update(due)
        # It may say too early, and never too late.
        waiting = [a.at for a in known if a.at is not None]
        announced = deadlines.next_deadline()
        assert not waiting or (announced is not None and announced <= min(waiting))


def test_what_became_stale_takes_no_memory() -> None:
    """A client that is made to wait has a deadline that moves earlier again and again."""
    idle, busy = Alarm(1e5), Alarm(None)
    deadlines = agenda(idle)
    for now in map(float, range(1000)):
        for busy.at in (1e6 - now, now):
            deadlines.schedule(busy)
        deadlines.handle_timeout(now)
        assert len(deadlines._heap) <= 70
    assert (len(deadlines), len(busy.calls)) == (1, 1000)


class TestExpiries:
    def test_those_of_one_duration_are_one_item_of_the_agenda(self) -> None:
        deadlines = Deadlines()
        expiries = Expiries(deadlines)
        alarms = [Alarm(5.0 + number / 100) for number in range(100)]
        for alarm in alarms:
            expiries.schedule(alarm)
        assert (len(expiries), len(deadlines)) == (100, 1)
        deadlines.handle_timeout(5.495)
        assert [len(alarm.calls) for alarm in alarms] == [1] * 50 + [0] * 50
        assert deadlines.next_deadline() == pytest.approx(5.5)
        deadlines.handle_timeout(7.0)
        assert {len(alarm.calls) for alarm in alarms} == {1}
        assert (len(expiries), len(deadlines)) == (0, 0)

    def test_what_is_over_is_let_go_at_once(self) -> None:
        class Large(Alarm):
            pass

        deadlines = Deadlines()
        expiries = Expiries(deadlines)
        first = Large(1.0)
        expiries.schedule(first)
        large = Large(5.0)
        gone = weakref.ref(large)
        expiries.schedule(large)
        expiries.cancel(large)
        del large
        assert gone() is None

    @pytest.mark.pure("it replaces a part of the core")
    def test_one_after_the_other_needs_the_agenda_now_and_then_only(self) -> None:
        pushes = 0

        class Counting(Deadlines):
            def _push(self, when: float, item: Timed) -> None:
                nonlocal pushes
                pushes += 1
                super()._push(when, item)

        deadlines = Counting()
        expiries = Expiries(deadlines)
        for number in range(1000):
            now = number / 1000
            deadlines.handle_timeout(now)
            alarm = Alarm(now + 0.25)
            expiries.schedule(alarm)
            expiries.cancel(alarm)
        assert pushes <= 5
        assert (len(expiries), len(deadlines)) == (0, 1)
        expiries.rest()
        assert deadlines.next_deadline() is None

    def test_many_that_are_due_at_once_leave_turns_to_others(self) -> None:
        deadlines = Deadlines()
        expiries = Expiries(deadlines)
        alarms = [Alarm(1.0) for _ in range(1200)]
        for alarm in alarms:
            expiries.schedule(alarm)
        now, calls = 1.0, []
        while len(expiries):
            deadlines.handle_timeout(now)
            calls.append(sum(len(alarm.calls) for alarm in alarms))
            now += PAUSE
        assert calls == [500, 1000, 1200]

    def test_a_fault_of_one_harms_no_other(self) -> None:
        class Faulty(Alarm):
            def handle_timeout(self, now: float) -> None:
                super().handle_timeout(now)
                raise ZeroDivisionError

        deadlines = Deadlines()
        expiries = Expiries(deadlines)
        faulty, other, later = Faulty(1.0), Alarm(1.0), Alarm(3.0)
        for alarm in (faulty, other, later):
            expiries.schedule(alarm)
        with pytest.raises(ZeroDivisionError):
            deadlines.handle_timeout(1.0)
        deadlines.handle_timeout(2.0)
        deadlines.handle_timeout(3.0)
        assert [len(alarm.calls) for alarm in (faulty, other, later)] == [1, 1, 1]
        assert (len(expiries), len(deadlines)) == (0, 0)

    def test_one_that_goes_on_is_called_again(self) -> None:
        deadlines = Deadlines()
        expiries = Expiries(deadlines)
        alarm = Alarm(1.0, again=2.0)
        expiries.schedule(alarm)
        deadlines.handle_timeout(1.0)
        deadlines.handle_timeout(3.0)
        assert alarm.calls == [1.0, 3.0]
        expiries.cancel(alarm)
        deadlines.handle_timeout(9.0)
        assert alarm.calls == [1.0, 3.0]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["open", "open", "open", "end", "end in silence", "wait", "rest"]),
                st.integers(0, 30),
                st.integers(1, 20),
            ),
            max_size=60,
        )
    )
    def test_goes_off_as_if_all_were_asked_all_the_time(
        self, steps: list[tuple[str, int, int]]
    ) -> None:
        deadlines = Deadlines()
        expiries = Expiries(deadlines)
        open_ones: list[Alarm] = []
        now = 0.0
        for step, which, amount in steps:
            if step == "open":
                alarm = Alarm(now + amount, again=50.0 if which == 0 else None)
                expiries.schedule(alarm)
                open_ones.append(alarm)
            elif step == "rest":
                expiries.rest()
            elif step == "wait":
                now += amount
                due = [one for one in open_ones if one.at is not None and one.at <= now]
                before = {one: len(one.calls) for one in open_ones}
                deadlines.handle_timeout(now)
                called = [one for one in open_ones if len(one.calls) > before[one]]
                assert called == due
                open_ones = [one for one in open_ones if one.at is not None]
            elif open_ones:
                alarm = open_ones.pop(which % len(open_ones))
                alarm.at = None
                if step == "end":
                    expiries.cancel(alarm)
            # It may say too early, and never too late.
            waiting = [one.at for one in open_ones if one.at is not None]
            announced = deadlines.next_deadline()
            assert not waiting or (announced is not None and announced <= min(waiting))
        now += 100.0
        for _ in range(2):
            deadlines.handle_timeout(now)
        assert len(expiries) == 0
        assert all(one.calls for one in open_ones)

    def test_memory_is_bounded_by_those_that_are_open(self) -> None:
        deadlines = Deadlines()
        expiries = Expiries(deadlines)
        expiries.schedule(Alarm(1e6))
        for number in range(20_000):
            alarm = Alarm(1e6 + number)
            expiries.schedule(alarm)
            expiries.cancel(alarm)
        assert sum(sys.getsizeof(queue.items) for queue in expiries._queues) < 10_000
        assert len(deadlines._heap) < 200
