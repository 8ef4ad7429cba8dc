"""Searches among very many, and rates: the right ones, in small steps, and forgotten in time."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.server import rates
from kps.protocol.server.rates import Rates
from kps.protocol.server.search import Search, natural
from kps.protocol.timers import Deadlines

Thing = tuple[int, str]


def search(things: list[Thing], most: int, *, descending: bool = False) -> Search[Thing]:
    """A search among pairs, which does not want those whose number is below 0."""
    ended: list[Search[Thing]] = []
    made = Search(
        things,
        lambda thing: thing if thing[0] >= 0 else None,
        most,
        descending=descending,
        done=ended.append,
    )
    for _ in made.steps():
        assert not ended
    for _ in made.steps():  # again, as after an exception out of a signal handler
        raise AssertionError("there was something left")
    assert ended == [made]
    return made


def test_what_is_done_with_the_first_ones_counts_as_work() -> None:
    """Otherwise many searches could end in one slice."""
    things = [(number, "x") for number in range(70)]
    made = Search(things, lambda one: one, 50, descending=False, done=lambda _: None)
    assert list(made.steps())[-1] == 50
    assert list(made.steps()) == []


@given(
    st.lists(st.tuples(st.integers(-2, 5), st.text("ab", max_size=2)), max_size=400),
    st.integers(1, 50),
    st.booleans(),
)
def test_it_finds_what_sorting_all_of_them_would(
    things: list[Thing], most: int, descending: bool
) -> None:
    found = search(things, most, descending=descending)
    wanted = [thing for thing in things if thing[0] >= 0]
    sign = -1 if descending else 1
    assert found.first() == sorted(wanted, key=lambda one: (sign * one[0], one[1]))[:most]
    assert found.found == len(wanted)


def test_it_keeps_few_of_very_many() -> None:
    things = [(number, "") for number in range(20_000)]
    Random(0).shuffle(things)
    kept = []
    made = Search(things, lambda thing: thing, 10, descending=True, done=lambda _: None)
    for step in made.steps():
        kept.append(len(made._best))
        assert step <= 64
    assert max(kept) < 200
    assert [number for number, _ in made.first()] == list(range(19_999, 19_989, -1))


@pytest.mark.parametrize(
    "names",
    [["a2", "a10"], ["A2", "a10", "B1"], ["9", "10", "a"], ["sensor", "sensor-1"], ["", "0", "1x"]],
)
def test_numbers_in_names_count(names: list[str]) -> None:
    shuffled = names[:]
    Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=natural) == names


class Clock:
    """Rates, and a time that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.deadlines = Deadlines()
        self.rates: Rates[str] = Rates(self.deadlines, lambda: self.now)

    def look(self, **counts: int) -> dict[str, float]:
        """The rates, at one look."""
        note, end = self.rates.look()
        found = {name: note(name, count)[0] for name, count in counts.items()}
        end()
        return found

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.deadlines.handle_timeout(self.now)


class TestRates:
    def test_the_second_look_knows_them(self) -> None:
        clock = Clock()
        assert clock.look(a=5, b=0) == {"a": 0, "b": 0}
        clock.wait(2.0)
        assert clock.look(a=9, b=3, new=4) == {"a": 2, "b": 1.5, "new": 2}

    def test_another_one_soon_after_gets_the_same(self) -> None:
        clock = Clock()
        clock.look(a=0)
        clock.wait(2.0)
        assert clock.look(a=4) == {"a": 2}
        clock.wait(0.1)
        assert clock.look(a=5) == {"a": 2}
        clock.wait(0.9)
        assert clock.look(a=5) == {"a": 1}

    def test_both_counts(self) -> None:
        clock = Clock()
        note, end = clock.rates.look()
        note("a", 1, 10)
        end()
        clock.wait(1.0)
        note, end = clock.rates.look()
        assert note("a", 3, 15) == (2, 5)

    def test_they_are_forgotten_when_nobody_asks(self) -> None:
        clock = Clock()
        clock.look(a=1)
        clock.wait(10.0)
        clock.look(a=1)
        clock.wait(14.0)
        assert clock.rates._latest is not None
        clock.wait(1.5)
        assert clock.rates._latest is None
        assert clock.rates.next_deadline() is None
        assert clock.deadlines.next_deadline() is None

    def test_there_are_not_endlessly_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rates, "MOST", 2)
        clock = Clock()
        clock.look(a=1, zero=0, b=1, c=100)
        clock.wait(1.0)
        assert clock.look(a=2, b=3, c=101) == {"a": 1, "b": 2, "c": 0}
        latest = clock.rates._latest
        assert latest is not None
        assert set(latest._counts) == {"a", "b"}

    def test_an_earlier_look_is_not_kept_for_ever(self) -> None:
        clock = Clock()
        for _ in range(3):
            clock.look(a=1)
            clock.wait(1.0)
        latest = clock.rates._latest
        assert latest is not None
        assert latest._before is None


def test_a_function_of_another_look_stays_right() -> None:
    """Two searches are under way at once."""
    clock = Clock()
    clock.look(a=0)
    clock.wait(1.0)
    looks: list[tuple[Callable[..., Any], Callable[[], object]]] = [
        clock.rates.look(),
        clock.rates.look(),
    ]
    assert [note("a", 7)[0] for note, _ in looks] == [7, 7]
    for _, end in looks:
        end()
    clock.wait(1.0)
    assert clock.look(a=8) == {"a": 1}
