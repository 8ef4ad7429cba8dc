"""Token buckets, and the limiters of connections, which are two of them each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.access.rate import Bucket, RateLimiter, UsedLimiters
from kps.protocol.server.throttle import throttle
from kps.protocol.server_limits import ServerLimits


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


class TestUsedLimiters:
    limits = ServerLimits(message_rate=10, rate_burst=2)

    def used(self, messages: int, now: float) -> RateLimiter:
        limiter = RateLimiter(self.limits, now)
        limiter.spend(messages, 0, now)
        return limiter

    def test_the_next_connection_of_the_address_goes_on_with_the_one_that_lacks_most(self) -> None:
        kept = UsedLimiters(100)
        little, much = self.used(5, 0.0), self.used(25, 0.0)
        kept.put("a", little, 0.0)
        kept.put("a", much, 0.0)
        assert kept.take("b", 0.0) is None
        assert [kept.take("a", 0.1) for _ in range(3)] == [much, little, None]

    def test_one_that_is_full_is_not_kept(self) -> None:
        kept = UsedLimiters(100)
        kept.put("a", RateLimiter(self.limits, 0.0), 0.0)
        assert len(kept) == 0

    def test_they_go_when_their_tokens_are_back(self) -> None:
        kept = UsedLimiters(100)
        for _ in range(50):
            kept.put("a", self.used(20, 0.0), 0.0)
        for _ in range(60):
            kept.put("b", self.used(20, 3.0), 3.0)
        assert kept.take("a", 3.0) is None
        assert len(kept) == 60

    def test_their_number_is_bounded(self) -> None:
        kept = UsedLimiters(10)
        for number in range(1000):
            kept.put(f"a{number}", self.used(20, 0.0), 0.0)
        assert len(kept) <= 11

    def test_what_an_earlier_connection_owed_does_not_end_the_debt_of_a_later_one(self) -> None:
        limits = ServerLimits(message_rate=1, rate_burst=10)
        kept, limiter, other = UsedLimiters(100), RateLimiter(limits, 0.0), RateLimiter(limits, 0.0)
        limiter.spend(5, 0, 0.0)
        kept.put("a", limiter, 0.0)  # for five seconds
        assert kept.take("a", 1.0) is limiter
        limiter.spend(100, 0, 1.0)
        kept.put("a", limiter, 1.0)  # for much longer
        other.spend(1, 0, 6.0)
        kept.put("b", other, 6.0)  # which drops what is old
        assert kept.take("a", 6.0) is limiter

    @pytest.mark.pure("it replaces a part of the core")
    def test_what_an_address_left_behind_does_not_slow_it_down(self) -> None:
        comparisons = 0

        class Time(float):
            """Counts how often it is compared with another one."""

            def __lt__(self, other: float) -> bool:
                nonlocal comparisons
                comparisons += 1
                return super().__lt__(other)

            def __gt__(self, other: float) -> bool:
                nonlocal comparisons
                comparisons += 1
                return super().__gt__(other)

        class Limiter(RateLimiter):
            def full_at(self, now: float) -> float:
                return Time(super().full_at(now))

        kept, limiters = UsedLimiters(10_000), []
        for number in range(1000):
            limiter = Limiter(self.limits, 0.0)
            limiter.spend(1000 + number * 7919 % 1000, 0, 0.0)
            limiters.append(limiter)
            kept.put("a", limiter, 0.0)
        comparisons = 0
        taken = [kept.take("a", 0.0) for _ in range(100)]
        assert comparisons < 100 * 40
        lacking = sorted(limiters, key=lambda one: one.full_at(0.0), reverse=True)
        assert taken == lacking[:100]

    def test_two_that_lack_the_same_are_two(self) -> None:
        kept = UsedLimiters(100)
        one, other = self.used(5, 0.0), self.used(5, 0.0)
        for limiter in (one, other):
            kept.put("a", limiter, 0.0)
        assert {kept.take("a", 0.1) for _ in range(2)} == {one, other}
        assert kept.take("a", 0.1) is None
