"""Token buckets, and the limiters of connections, which are two of them each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.access.rate import Bucket, RateLimiter
from kps.protocol.limits import ServerLimits
from kps.protocol.server.throttle import throttle


def test_takes_what_there_is() -> None:
    bucket = Bucket(10, 20, 0.0)
    assert bucket.take(20, 0.0)
    assert not bucket.take(1, 0.0)
    assert not bucket.take(1, 0.0625)
    assert bucket.take(1, 0.125)
    assert bucket.take(20, 1000.0)
    assert not bucket.take(1, 1000.0)


def test_spends_what_is_still_to_come() -> None:
    bucket = Bucket(10, 10, 0.0)
    bucket.spend(10, 0.0)
    assert (bucket.wait(0, 0.0), bucket.wait(1, 0.0)) == (0.0, 0.1)
    bucket.spend(5, 0.0)
    assert (bucket.wait(0, 0.0), bucket.wait(5, 0.0)) == (0.5, 1.0)
    assert bucket.wait(0, 0.5) == 0.0
    assert bucket.wait(1000, 0.5) == 1.0  # a full burst is as much as there ever is


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 15)), max_size=50))
def test_never_more_than_the_rate_and_one_burst(steps: list[tuple[float, int]]) -> None:
    bucket = Bucket(10, 15, 0.0)
    now, taken = 0.0, 0
    for pause, amount in steps:
        now += pause
        taken += amount * bucket.take(amount, now)
        assert taken <= 15 + 10 * now + 1e-6


def test_nothing_to_limit() -> None:
    found = RateLimiter(ServerLimits(), 0.0)
    assert found.take_messages(10**9, 0.0)
    assert found.take_bytes(10**9, 0.0)
    found.spend(10**9, 10**9, 0.0)
    assert found.wait(10**9, 10**9, 0.0) == 0.0
    assert throttle(ServerLimits(), 0.0) is None


@pytest.mark.parametrize("limits", [{"message_rate": 1.0}, {"byte_rate": 1.0}])
def test_one_limit_is_enough_for_a_throttle(limits: dict[str, float]) -> None:
    assert throttle(ServerLimits(**limits), 0.0) is not None  # type: ignore[arg-type]


def test_a_slow_rate_lets_one_through() -> None:
    found = RateLimiter(ServerLimits(message_rate=0.5), 0.0)
    assert found.take_messages(1, 0.0)
    assert not found.take_messages(1, 1.0)
    assert found.take_messages(1, 2.0)
    assert found.take_bytes(10**9, 0.0)  # there is no limit on these


def test_the_slower_of_messages_and_bytes_says_how_long_to_wait() -> None:
    found = RateLimiter(ServerLimits(message_rate=10, byte_rate=1000), 0.0)
    assert found.wait(10, 1000, 0.0) == 0.0
    found.spend(15, 1000, 0.0)
    assert found.wait(0, 0, 0.0) == 0.5
    found.spend(0, 2000, 0.0)
    assert found.wait(0, 0, 0.0) == 2.0
    assert found.wait(0, 0, 2.0) == 0.0
