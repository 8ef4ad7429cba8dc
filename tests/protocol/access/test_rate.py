"""Token buckets."""

from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.access.rate import Bucket, limiter
from kps.protocol.limits import Limits


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
    assert bucket.spend(10, 0.0) == 0.0
    assert bucket.spend(5, 0.0) == 0.5
    assert bucket.spend(5, 0.5) == 0.5
    assert bucket.spend(0, 1.0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 15)), max_size=50))
def test_never_more_than_the_rate_and_one_burst(steps: list[tuple[float, int]]) -> None:
    bucket = Bucket(10, 15, 0.0)
    now, taken = 0.0, 0
    for pause, amount in steps:
        now += pause
        taken += amount * bucket.take(amount, now)
        assert taken <= 15 + 10 * now + 1e-6


def test_nothing_to_limit() -> None:
    assert limiter(Limits(), 0.0) is None


def test_a_slow_rate_lets_one_through() -> None:
    found = limiter(Limits(message_rate=0.5), 0.0)
    assert found is not None
    assert found.take_messages(1, 0.0)
    assert not found.take_messages(1, 1.0)
    assert found.take_messages(1, 2.0)
    assert found.take_bytes(10**9, 0.0)  # there is no limit on these
