"""What is kept of very many things from several sources."""

from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.server.latest import Latest

MOST = 5


def test_the_oldest_goes_if_there_is_one_source() -> None:
    latest: Latest[int] = Latest(3)
    for number in range(10):
        latest.add("a", number, number)
    assert sorted(latest) == [7, 8, 9]


def test_the_oldest_goes_if_each_has_a_source_of_its_own() -> None:
    latest: Latest[int] = Latest(3)
    for number in range(10):
        latest.add(str(number), number, number)
    assert sorted(latest) == [7, 8, 9]


def test_one_that_comes_again_is_the_latest() -> None:
    latest: Latest[int] = Latest(2)
    latest.add("a", "x", 1)
    latest.add("a", "y", 2)
    assert latest.take("a", "x") == 1
    assert latest.take("a", "x") is None
    assert latest.take("b", "x") is None
    latest.add("a", "x", 3)
    latest.add("a", "z", 4)
    assert sorted(latest) == [3, 4]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=60))
def test_no_source_loses_anything_to_a_busier_one(steps: list[tuple[str, bool]]) -> None:
    latest: Latest[tuple[str, int]] = Latest(MOST)
    had: dict[str, list[tuple[str, int]]] = {}
    for number, (source, comes_again) in enumerate(steps):
        mine = had.setdefault(source, [])
        thing = source, number
        if comes_again and mine and latest.take(source, mine[-1]) is not None:
            mine.pop()
        mine.append(thing)
        before = set(latest)
        latest.add(source, thing, thing)
        kept = set(latest)
        assert len(kept) == min(len(before) + 1, MOST)
        assert thing in kept
        for loser, _ in before - kept:
            of_each = [sum(one == other for one, _ in before | {thing}) for other in had]
            assert sum(one == loser for one, _ in before | {thing}) == max(of_each)
    for things in had.values():
        mine = [thing for thing in things if thing in set(latest)]
        assert mine == things[len(things) - len(mine) :]
