"""The heartbeat: when an end pings, and when the peer counts as gone."""

from itertools import pairwise
from math import nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.wire.keepalive import Beat, Keepalive
from tests.protocol.helpers import THOROUGH

NOW = 1000.0
INTERVAL, TIMEOUT = 32.0, 20.0
LATE = 1.0
"""Seconds after which a call counts as late."""
NEARLY = 1e-6
"""Seconds that do not count: sums of numbers with a point are not exact."""


def keepalive(now: float = NOW) -> Keepalive:
    return Keepalive(INTERVAL, TIMEOUT, now)


def paused(now: float = NOW) -> Keepalive:
    """The heartbeat of an end that does not read from that time on."""
    beat = keepalive(now)
    beat.pause(now)
    return beat


def pinged(now: float = NOW) -> Keepalive:
    """The heartbeat of an end that has pinged at that time, and waits for an answer."""
    beat = keepalive(now - INTERVAL)
    assert beat.check(now, is_stuck=False) is Beat.PING
    return beat


def due(beat: Keepalive, *, is_stuck: bool = False, late: float = 0.0) -> tuple[float, Beat]:
    """What comes next if the call comes in time, or so late; and when."""
    now = beat.next_deadline() + late
    return now - NOW, beat.check(now, is_stuck=is_stuck)


class TestWhileWeRead:
    def test_silence_brings_a_ping_and_more_silence_the_end(self) -> None:
        beat = keepalive()
        assert due(beat) == (INTERVAL, Beat.PING)
        assert due(beat) == (INTERVAL + TIMEOUT, Beat.GONE)

    def test_nothing_is_due_before_its_time(self) -> None:
        beat = keepalive()
        assert beat.check(nextafter(NOW + INTERVAL, 0), is_stuck=True) is Beat.NOTHING
        assert beat.check(NOW + INTERVAL, is_stuck=True) is Beat.PING
        assert beat.check(NOW + INTERVAL, is_stuck=True) is Beat.NOTHING
        end = NOW + INTERVAL + TIMEOUT
        assert beat.check(nextafter(end, 0), is_stuck=True) is Beat.NOTHING
        assert beat.check(end, is_stuck=True) is Beat.GONE

    def test_whatever_arrives_puts_the_ping_off(self) -> None:
        beat = keepalive()
        for seconds in range(1, 200):
            beat.heard(NOW + seconds)
            assert beat.check(NOW + seconds, is_stuck=False) is Beat.NOTHING
        assert due(beat) == (199 + INTERVAL, Beat.PING)

    def test_whatever_arrives_answers_the_ping(self) -> None:
        beat = pinged()
        beat.heard(NOW + TIMEOUT)  # in the last moment
        assert beat.check(NOW + TIMEOUT, is_stuck=False) is Beat.NOTHING
        assert due(beat) == (TIMEOUT + INTERVAL, Beat.PING)
        assert due(beat) == (TIMEOUT + INTERVAL + TIMEOUT, Beat.GONE)

    @pytest.mark.parametrize("is_stuck", [False, True])
    def test_that_the_peer_takes_what_waits_answers_no_ping(self, is_stuck: bool) -> None:
        """A router takes all for a dead host. Who lives has something to say to a ping."""
        beat = pinged()
        beat.wrote()
        assert due(beat, is_stuck=is_stuck) == (TIMEOUT, Beat.GONE)

    def test_pings_go_on_while_a_timeout_longer_than_the_interval_lasts(self) -> None:
        """So that the network has something to carry, and what arrives only puts off a call."""
        beat = Keepalive(INTERVAL, 3.5 * INTERVAL, NOW)
        for turn in range(1, 5):
            assert due(beat) == (turn * INTERVAL, Beat.PING)
        assert due(beat) == (4.5 * INTERVAL, Beat.GONE)

    @given(st.floats(0.0, 1e9), st.floats(0.01, 1e5))
    def test_a_ping_comes_within_a_32nd_after_the_interval(
        self, now: float, interval: float
    ) -> None:
        deadline = Keepalive(interval, TIMEOUT, now).next_deadline()
        assert interval - NEARLY <= deadline - now <= interval * 33 / 32 + NEARLY

    def test_connections_have_their_pings_together(self) -> None:
        """Those that fell silent within a 32nd of the interval wake us up once."""
        silent_since = [NOW - step / 100 for step in range(100)]
        assert {keepalive(since).next_deadline() for since in silent_since} == {NOW + INTERVAL}


class TestLateCalls:
    """The process or the loop stood still: what the peer sent meanwhile may wait to be read."""

    def test_a_late_end_is_forgiven_with_one_more_ping(self) -> None:
        beat = pinged()
        assert due(beat, late=LATE) == (TIMEOUT + LATE, Beat.PING)
        assert due(beat) == (TIMEOUT + LATE + TIMEOUT, Beat.GONE)

    def test_a_little_late_is_in_time(self) -> None:
        beat = pinged()
        assert due(beat, late=LATE - NEARLY)[1] is Beat.GONE

    def test_only_one_is_forgiven_while_nothing_arrives(self) -> None:
        beat = pinged()
        assert due(beat, late=60)[1] is Beat.PING
        assert due(beat, late=60)[1] is Beat.GONE

    def test_who_has_answered_is_forgiven_again(self) -> None:
        beat = pinged()
        for _ in range(5):
            assert due(beat, late=60)[1] is Beat.PING
            beat.heard(beat.next_deadline() - 1)
            assert due(beat, late=60)[1] is Beat.PING  # the next one, however late it is

    def test_after_a_late_ping_the_peer_has_all_its_time(self) -> None:
        beat = keepalive()
        assert due(beat, late=1000) == (INTERVAL + 1000, Beat.PING)
        assert due(beat) == (INTERVAL + 1000 + TIMEOUT, Beat.GONE)


class TestWhileWeDoNotRead:
    def test_no_missing_pong_means_anything(self) -> None:
        beat = paused()
        for turn in range(1, 20):
            assert due(beat) == (turn * INTERVAL, Beat.PING)

    def test_a_ping_that_went_out_before_is_forgotten(self) -> None:
        beat = pinged()
        beat.pause(NOW + TIMEOUT - 1)
        assert due(beat) == (TIMEOUT - 1 + INTERVAL, Beat.PING)

    def test_many_short_pauses_put_off_no_ping(self) -> None:
        """Pings of the peer may wait behind its data, so it must hear from us all the same."""
        beat = keepalive()
        pings: list[int] = []
        for second in range(int(10 * INTERVAL)):
            now = NOW + second
            if second % 8 == 0:
                beat.resume(now)
                beat.heard(now)
            elif second % 8 == 1:
                beat.pause(now)
            if beat.check(now, is_stuck=False) is Beat.PING:
                pings.append(second)
        gaps = [later - earlier for earlier, later in pairwise([0, *pings])]
        assert len(pings) >= 8
        assert max(gaps) <= INTERVAL + 2

    def test_after_a_pause_one_ping_is_due_though_the_peer_is_heard(self) -> None:
        beat = paused()
        beat.resume(NOW + 1)
        beat.heard(NOW + INTERVAL - 1)
        assert due(beat) == (INTERVAL, Beat.PING)
        # That ping asks nothing: a peer that does not read answers none, and pings by itself.
        assert due(beat) == (2 * INTERVAL - 1, Beat.PING)
        assert due(beat) == (2 * INTERVAL - 1 + TIMEOUT, Beat.GONE)

    def test_who_takes_nothing_of_what_waits_is_gone(self) -> None:
        beat = paused()
        assert due(beat, is_stuck=True) == (INTERVAL, Beat.PING)
        assert due(beat, is_stuck=True) == (INTERVAL + TIMEOUT, Beat.GONE)

    def test_nobody_is_gone_for_whom_nothing_waits(self) -> None:
        beat = paused()
        assert due(beat, is_stuck=True) == (INTERVAL, Beat.PING)
        assert due(beat, is_stuck=False) == (INTERVAL + TIMEOUT, Beat.NOTHING)
        assert due(beat, is_stuck=True) == (2 * INTERVAL, Beat.PING)
        assert due(beat, is_stuck=True) == (3 * INTERVAL, Beat.PING)
        assert due(beat, is_stuck=True) == (INTERVAL + TIMEOUT + INTERVAL + TIMEOUT, Beat.GONE)

    def test_who_takes_a_little_of_what_waits_lives(self) -> None:
        beat = paused()
        pings: list[float] = []
        while len(pings) < 10:
            beat.wrote()
            when, what = due(beat, is_stuck=True)
            assert what is not Beat.GONE
            if what is Beat.PING:
                pings.append(when)
        assert pings == [turn * INTERVAL for turn in range(1, 11)]

    def test_who_stops_taking_is_gone_an_interval_and_the_timeout_later(self) -> None:
        beat = paused()
        beat.wrote()
        assert due(beat, is_stuck=True) == (INTERVAL, Beat.PING)  # it took something before
        assert due(beat, is_stuck=True) == (2 * INTERVAL, Beat.PING)
        assert due(beat, is_stuck=True) == (2 * INTERVAL + TIMEOUT, Beat.GONE)

    def test_what_was_taken_before_does_not_count(self) -> None:
        beat = keepalive()
        beat.wrote()
        beat.pause(NOW)
        assert due(beat, is_stuck=True) == (INTERVAL, Beat.PING)
        assert due(beat, is_stuck=True) == (INTERVAL + TIMEOUT, Beat.GONE)

    def test_what_arrives_all_the_same_is_a_sign_of_life(self) -> None:
        """What a driver had read already, when it was told to stop."""
        beat = paused()
        beat.heard(NOW + 10)
        assert due(beat, is_stuck=True) == (INTERVAL, Beat.PING)
        assert due(beat, is_stuck=True) == (10 + INTERVAL + TIMEOUT, Beat.GONE)

    def test_a_late_call_is_forgiven_once(self) -> None:
        """While we stood still, the transport could not give anything to the peer either."""
        beat = paused()
        assert due(beat, is_stuck=True, late=60) == (INTERVAL + 60, Beat.PING)
        assert due(beat, is_stuck=True) == (INTERVAL + 60 + TIMEOUT, Beat.GONE)
        beat = paused()
        assert due(beat, is_stuck=True) == (INTERVAL, Beat.PING)
        assert due(beat, is_stuck=True, late=LATE) == (INTERVAL + TIMEOUT + LATE, Beat.NOTHING)
        assert due(beat, is_stuck=True) == (2 * INTERVAL, Beat.PING)
        assert due(beat, is_stuck=True, late=LATE)[1] is Beat.GONE

    def test_who_has_taken_something_is_forgiven_again(self) -> None:
        beat = paused()
        for _ in range(5):
            assert due(beat, is_stuck=True, late=60)[1] is Beat.PING
            beat.wrote()
            assert due(beat, is_stuck=True)[1] is not Beat.GONE

    def test_a_short_timeout_and_a_long_one_keep_the_pings_an_interval_apart(self) -> None:
        for timeout in (1.0, 31.0, 33.0, 100.0):
            beat = Keepalive(INTERVAL, timeout, NOW)
            beat.pause(NOW)
            pings = []
            while (when := due(beat, is_stuck=True))[1] is not Beat.GONE:
                pings.append(when[0])
            assert when[0] == INTERVAL + timeout
            assert pings == [turn * INTERVAL for turn in range(1, len(pings) + 1)]
            assert len(pings) == -(-when[0] // INTERVAL) - 1

    def test_to_stop_twice_is_to_stop_once(self) -> None:
        beat = paused()
        assert due(beat, is_stuck=True) == (INTERVAL, Beat.PING)
        beat.pause(NOW + INTERVAL + 1)
        assert due(beat, is_stuck=True) == (INTERVAL + TIMEOUT, Beat.GONE)

    def test_to_go_on_is_to_begin_anew(self) -> None:
        """What the peer sent meanwhile is still to be read."""
        beat = paused()
        assert due(beat, is_stuck=True) == (INTERVAL, Beat.PING)
        beat.resume(NOW + INTERVAL + TIMEOUT)
        assert due(beat) == (2 * INTERVAL, Beat.PING)
        assert due(beat) == (INTERVAL + TIMEOUT + INTERVAL, Beat.PING)
        assert due(beat) == (INTERVAL + TIMEOUT + INTERVAL + TIMEOUT, Beat.GONE)

    def test_to_go_on_without_having_stopped_changes_nothing(self) -> None:
        beat = pinged()
        beat.resume(NOW + TIMEOUT - 1)
        assert due(beat) == (TIMEOUT, Beat.GONE)


TIMES = st.floats(0.1, 60.0)
SHARES = st.floats(0.0, 1.0)


@THOROUGH
@given(
    interval=TIMES,
    timeout=TIMES,
    start=st.floats(0.0, 1e6),
    turns=st.lists(
        st.tuples(
            st.sampled_from(["answer", "talk", "stand still", "stop reading"]), SHARES, SHARES
        ),
        max_size=30,
    ),
)
def test_a_peer_that_answers_each_ping_in_time_is_never_gone(
    interval: float, timeout: float, start: float, turns: list[tuple[str, float, float]]
) -> None:
    """While we read. While we do not, it takes what waits for it, and that is enough."""
    beat = Keepalive(interval, timeout, start)
    heard_at = start
    for what, share, other in turns:
        is_stuck = other < 0.5
        deadline = max(beat.next_deadline(), heard_at)  # which may pass while we read again
        between = heard_at + (deadline - heard_at) * share
        if what == "talk":
            heard_at = between
            assert beat.check(heard_at, is_stuck=is_stuck) is not Beat.GONE
        elif what == "stop reading":
            beat.pause(between)
            now = between
            for _ in range(round(5 * other)):
                beat.wrote()
                now = beat.next_deadline()
                assert beat.check(now, is_stuck=True) is not Beat.GONE
            heard_at = now + min(interval, timeout) * other
            beat.resume(heard_at)
            continue
        elif what == "stand still":
            assert beat.check(deadline, is_stuck=is_stuck) is Beat.PING
            # Its answer has come when we go on, but the timers are looked at before it is read.
            heard_at = beat.next_deadline() + LATE * (1 + 100 * share) + NEARLY
            assert beat.check(heard_at, is_stuck=is_stuck) is Beat.PING
        else:
            assert beat.check(deadline, is_stuck=is_stuck) is Beat.PING
            heard_at = deadline + timeout * share * (1 - NEARLY)
            while (following := beat.next_deadline()) <= heard_at:
                assert beat.check(following, is_stuck=is_stuck) is Beat.PING
        before = beat.next_deadline()
        beat.heard(heard_at)
        assert beat.next_deadline() >= before - NEARLY, "it is only put off"


@THOROUGH
@given(
    interval=TIMES,
    timeout=TIMES,
    start=st.floats(0.0, 1e6),
    heard=st.lists(SHARES, max_size=10),
    looks=st.lists(SHARES, max_size=10),
    is_stuck=st.booleans(),
    writes=st.booleans(),
)
def test_a_dead_peer_is_gone_in_time(
    interval: float,
    timeout: float,
    start: float,
    heard: list[float],
    looks: list[float],
    is_stuck: bool,
    writes: bool,
) -> None:
    """Whatever it said before, and whenever else somebody looks, if the calls come in time."""
    beat = Keepalive(interval, timeout, start)
    silent_since = start
    for share in heard:
        now = beat.next_deadline()
        beat.check(now, is_stuck=is_stuck)
        silent_since = now + timeout * share * (1 - NEARLY)
        beat.heard(silent_since)
    latest = silent_since + interval * 33 / 32 + timeout
    pings: list[float] = []
    while True:
        deadline = beat.next_deadline()
        assert deadline <= latest + NEARLY
        for share in looks:
            early = silent_since + (deadline - silent_since) * share * (1 - NEARLY)
            if early < deadline:
                assert beat.check(early, is_stuck=is_stuck) is Beat.NOTHING
        if writes:
            beat.wrote()
        if beat.check(deadline, is_stuck=is_stuck) is Beat.GONE:
            break
        assert not pings or deadline - pings[-1] == pytest.approx(interval)
        pings.append(deadline)
    assert (
        silent_since + interval - NEARLY <= pings[0] <= silent_since + interval * 33 / 32 + NEARLY
    )
    assert deadline - pings[0] == pytest.approx(timeout)
    assert deadline >= silent_since + interval + timeout - NEARLY


@THOROUGH
@given(
    interval=TIMES,
    timeout=TIMES,
    start=st.floats(0.0, 1e6),
    takes=st.lists(st.booleans(), max_size=30),
)
def test_while_we_do_not_read_only_who_takes_nothing_is_gone(
    interval: float, timeout: float, start: float, takes: list[bool]
) -> None:
    """And not before the interval and the timeout are over, and not much later."""
    beat = Keepalive(interval, timeout, start)
    beat.pause(start)
    last_ping = start
    alive = start
    for took in takes:
        now = beat.next_deadline()
        if took:
            beat.wrote()
            alive = now
        what = beat.check(now, is_stuck=True)
        if what is Beat.PING:
            assert now - last_ping == pytest.approx(interval)
            last_ping = now
        if what is Beat.GONE:
            assert now - alive == pytest.approx(interval + timeout)
            break
        assert now - alive < interval + timeout + NEARLY
