"""How long to wait before the next attempt to connect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.client.reconnect import LEAST, Backoff


def test_grows_up_to_the_longest() -> None:
    backoff = Backoff(first=1, factor=2, longest=10, jitter=0)
    assert [backoff.delay(n, 0.9) for n in range(6)] == [1, 2, 4, 8, 10, 10]


def test_jitter_takes_part_of_the_wait_away() -> None:
    backoff = Backoff(first=8, factor=2, longest=100, jitter=0.5)
    assert backoff.delay(0, 0.0) == 8
    assert backoff.delay(0, 0.5) == 6
    assert 4 < backoff.delay(0, 0.999) < 4.01


def test_fixed_interval() -> None:
    backoff = Backoff.every(10)
    assert {backoff.delay(n, chance) for n in range(20) for chance in (0.0, 0.5)} == {10}


def test_some_wait_there_is() -> None:
    """A client that retries at once, for ever, would be a busy loop."""
    with pytest.raises(ValueError, match="first of a backoff"):
        Backoff.every(0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": -1},
        {"first": 0},
        {"first": LEAST / 2},
        {"first": 31},
        {"first": "a"},
        {"first": True},
        {"first": 10**400},
        {"first": float("inf")},
        {"first": 1, "longest": float("inf")},
        {"longest": None},
        {"factor": "2"},
        {"factor": float("inf")},
        {"factor": float("nan")},
        {"jitter": None},
        {"factor": 0.9},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"first": float("nan")},
    ],
)
def test_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="backoff"):
        Backoff(**wrong)


@given(
    first=st.floats(LEAST, 10),
    factor=st.floats(1, 1e300),
    more=st.floats(0, 1000),
    jitter=st.floats(0, 1),
    attempt=st.integers(0, 5000),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_stays_within_bounds(
    first: float, factor: float, more: float, jitter: float, attempt: int, chance: float
) -> None:
    backoff = Backoff(first=first, factor=factor, longest=first + more, jitter=jitter)
    delay = backoff.delay(attempt, chance)
    assert first * (1 - jitter) <= delay <= first + more
    assert delay <= backoff.delay(attempt + 1, chance)
