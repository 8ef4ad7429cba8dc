"""The link between two nodes: what arrives, arrives whole, once and in order, or the link falls."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.frames import Assembler, Frame, Kind, compose, read_key, write_key
from kps.protocol.cluster.homes import home_of
from kps.protocol.cluster.link import ENDED, Link
from kps.protocol.dialect.envelope import write
from kps.protocol.patterns import InGroup, Key, Pattern

CONFIG = ClusterConfig()


class End:
    """One end, and what it was told. Each time up is a list of what came in it."""

    def __init__(self, me: str, other: str, config: ClusterConfig = CONFIG, seed: int = 0) -> None:
        random = Random(f"{me}{seed}")
        self.link = Link(me, other, config, self, lambda: random.getrandbits(64) or 1)
        self.times: list[list[Any]] = []
        self.sent: list[list[Any]] = []
        self.reasons: list[str] = []
        self.forged = 0

    def rose(self, link: Link) -> None:
        self.times.append([])
        self.sent.append([])

    def fell(self, link: Link, reason: str) -> None:
        self.reasons.append(reason)

    def got_forged(self, link: Link) -> None:
        self.forged += 1

    def received(self, link: Link, frame: Frame) -> None:
        self.times[-1].append(frame.values[0])

    def has_output(self, link: Link) -> None:
        """The test looks itself."""

    def send(self, number: int, size: int = 0) -> None:
        if self.link.is_up:
            self.sent[-1].append(number)
            self.link.send(compose(Kind.PUBLISH, [number], b"x" * size))


class Both:
    """Two ends, and what is under way between them."""

    def __init__(self, config: ClusterConfig = CONFIG, other: ClusterConfig | None = None) -> None:
        self.now = 0.0
        self.config = config
        self.ends = End("a", "b", config), End("b", "a", other or config)
        self.wires: tuple[list[bytes], list[bytes]] = ([], [])
        for end in self.ends:
            end.link.open(self.now)

    def take(self, number: int) -> None:
        self.wires[number].extend(self.ends[number].link.take(self.now))

    def deliver(self, number: int, most: int = 1_000_000) -> None:
        wire = self.wires[number]
        for _ in range(min(most, len(wire))):
            self.ends[1 - number].link.receive(wire.pop(0), self.now)

    def settle(self) -> None:
        for _ in range(20):
            for number in (0, 1):
                self.take(number)
                self.deliver(number)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for end in self.ends:
            due = end.link.next_deadline()
            if due is not None and due <= self.now:
                end.link.handle_timeout(self.now)


def test_both_ends_rise() -> None:
    both = Both()
    both.settle()
    assert all(end.link.is_up for end in both.ends)


def test_what_is_sent_arrives_in_order() -> None:
    both = Both(ClusterConfig(max_chunk=64))
    both.settle()
    for number in range(50):
        both.ends[0].send(number, size=number * 7)
    both.settle()
    assert both.ends[1].times == [list(range(50))]


def test_a_signature_that_is_wrong_is_told_once_and_changes_nothing() -> None:
    both = Both(ClusterConfig(secret=b"one"), ClusterConfig(secret=b"two"))
    both.settle()
    assert not any(end.link.is_up for end in both.ends)
    both.pass_time(both.config.heartbeat)
    both.settle()
    assert [end.forged for end in both.ends] == [1, 1]


def test_another_cluster_is_a_stranger() -> None:
    both = Both(ClusterConfig(name="one"), ClusterConfig(name="two"))
    both.settle()
    assert not any(end.link.is_up for end in both.ends)


@pytest.mark.pure("it replaces a part of the core")
def test_a_node_of_a_later_version_says_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def greeting(said: list[Any]) -> bytes:
        return write([*said[:3], 2, {"what": "is new"}] if said[1] == "a" else said)

    monkeypatch.setattr("kps.protocol.cluster.link.write", greeting)
    both = Both()
    both.settle()
    later, ours = (end.link for end in both.ends)
    assert (ours.is_up, ours.version, later.version) == (True, 2, 1)


def test_after_a_fault_a_link_rests_for_a_heartbeat() -> None:
    both = Both()
    both.settle()
    one, _ = both.ends
    one.link.rest("a fault in this node", both.now)
    both.pass_time(both.config.heartbeat * 0.9)
    both.settle()
    assert not one.link.is_up
    both.pass_time(both.config.heartbeat * 0.2)
    both.settle()
    assert all(end.link.is_up for end in both.ends)
    assert one.reasons == ["a fault in this node"]


def test_a_changed_chunk_is_refused() -> None:
    both = Both(ClusterConfig(secret=b"secret"))
    both.settle()
    both.ends[0].send(1)
    both.take(0)
    both.wires[0][-1] = both.wires[0][-1][:-1] + b"\0"
    both.deliver(0)
    assert both.ends[1].times == [[]]
    assert both.ends[1].forged == 1


def test_a_farewell_comes_behind_all_that_was_sent() -> None:
    both = Both(ClusterConfig(max_chunk=64))
    both.settle()
    leaving, other = both.ends
    for number in range(20):
        leaving.send(number, size=50)
    leaving.link.say_farewell(both.now)
    both.take(0)
    farewell = both.wires[0][-1]
    both.deliver(0)
    assert other.times == [list(range(20))]
    assert other.reasons == [ENDED]
    assert not other.link.is_up
    leaving.link.close()
    leaving.link.open(both.now)  # it begins again
    both.settle()
    assert all(end.link.is_up for end in both.ends)
    other.link.receive(farewell, both.now)  # a recording
    assert other.link.is_up


def test_who_has_heard_nothing_says_no_farewell() -> None:
    both = Both()
    both.take(0)
    both.ends[0].link.say_farewell(both.now)
    assert not both.ends[0].link.take(both.now)


def test_nothing_is_sent_behind_a_farewell() -> None:
    both = Both(ClusterConfig(max_queue=1000))
    both.settle()
    both.ends[0].link.say_farewell(both.now)
    for number in range(20):
        both.ends[0].send(number, size=100)  # or too much would wait, and the farewell be lost
    both.settle()
    assert both.ends[1].times == [[]]
    assert both.ends[1].reasons == [ENDED]


@pytest.mark.parametrize("taken", range(6))
def test_a_farewell_while_a_link_rises(taken: int) -> None:
    """The other end may be up already, and this one may not rise behind its farewell."""
    both = Both()
    leaving, other = both.ends
    for step in range(taken):  # chunk by chunk, from both sides in turn
        both.take(step % 2)
        both.deliver(step % 2, 1)
    was_up = leaving.link.is_up
    leaving.link.say_farewell(both.now)
    both.settle()
    assert not other.link.is_up
    assert leaving.link.is_up == was_up
    both.pass_time(both.config.heartbeat)
    both.settle()
    assert not other.link.is_up


def test_too_much_that_waits_lets_the_link_fall() -> None:
    both = Both(ClusterConfig(max_queue=1000))
    both.settle()
    for number in range(20):
        both.ends[0].send(number, size=100)
    assert both.ends[0].reasons == ["too much waits for the node"]
    both.settle()
    assert all(end.link.is_up for end in both.ends)
    both.ends[0].send(99)
    both.settle()
    assert both.ends[1].times[-1] == [99]


def test_what_a_node_is_told_at_first_may_be_more() -> None:
    """Otherwise the link would fall whenever it rises, and never be of use."""

    class Full(End):
        def rose(self, link: Link) -> None:
            super().rose(link)
            for number in range(20):
                self.send(number, size=100)

    both = Both(ClusterConfig(max_queue=1000))
    both.ends = Full("a", "b", both.config), both.ends[1]
    both.ends[0].link.open(both.now)
    both.settle()
    assert all(end.link.is_up for end in both.ends)
    assert both.ends[1].times == [list(range(20))]
    for number in range(8):
        both.ends[0].send(number, size=100)
    assert both.ends[0].link.is_up
    for number in range(8):
        both.ends[0].send(number, size=100)
    assert both.ends[0].reasons == ["too much waits for the node"]


def test_silence_is_noticed_and_a_heartbeat_is_no_silence() -> None:
    both = Both()
    both.settle()
    for _ in range(20):
        both.pass_time(1.0)
        both.settle()
    assert all(end.link.is_up for end in both.ends)
    for _ in range(6):
        both.pass_time(1.0)
        for number in (0, 1):
            both.take(number)
            both.wires[number].clear()
    assert [end.reasons for end in both.ends] == [["the node is silent"]] * 2


def test_a_node_that_stood_still_itself_does_not_take_the_other_one_for_silent() -> None:
    both = Both()
    both.settle()
    for _ in range(3):
        both.pass_time(100.0)  # and only then it reads what came meanwhile
        both.settle()
    assert [end.reasons for end in both.ends] == [[], []]
    silent = both.now
    while not both.ends[0].reasons:
        due = both.ends[0].link.next_deadline()
        assert due is not None
        both.pass_time(due - both.now)
    assert both.now - silent == both.config.patience


STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 1), st.integers(0, 300)),
    st.tuples(st.just("send"), st.integers(0, 1), st.integers(0, 300)),
    st.tuples(st.just("take"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("deliver"), st.integers(0, 1), st.integers(1, 3)),
    st.tuples(st.just("deliver"), st.integers(0, 1), st.just(100)),
    st.tuples(st.just("lose"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("repeat"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("close"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("time"), st.just(0), st.integers(1, 6)),
)


@given(st.lists(STEPS, max_size=80))
def test_whatever_happens_to_the_chunks(steps: list[tuple[str, int, int]]) -> None:
    both = Both(ClusterConfig(max_chunk=100))
    for number, (step, which, amount) in enumerate(steps):
        wire = both.wires[which]
        match step:
            case "send":
                both.ends[which].send(number, amount)
            case "take":
                both.take(which)
            case "deliver":
                both.deliver(which, amount)
            case "lose":
                del wire[:1]
            case "repeat":
                wire[:0] = wire[:1]
            case "close":
                both.ends[which].link.close()
                both.ends[which].link.open(both.now)
            case "time":
                both.pass_time(float(amount))
    for which in (0, 1):  # each time up, a beginning of one time of the other end has come
        mine, theirs = both.ends[which], both.ends[1 - which]
        for got in mine.times:
            assert not got or any(sent[: len(got)] == got for sent in theirs.sent)
    for _ in range(8):
        both.pass_time(1.0)
        both.settle()
    assert all(end.link.is_up for end in both.ends)
    both.ends[0].send(-1)
    both.ends[1].send(-2)
    both.settle()
    assert both.ends[1].times[-1][-1] == -1
    assert both.ends[0].times[-1][-1] == -2


@given(st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=200))), st.integers(1, 50))
def test_frames_come_out_as_they_went_in(frames: list[tuple[str, bytes]], size: int) -> None:
    data = b"".join(compose(Kind.PUBLISH, [text], payload) for text, payload in frames)
    assembler, got = Assembler(), []
    for begin in range(0, len(data), size):
        got += [(one.values[0], one.payload) for one in assembler.feed(data[begin : begin + size])]
    assert got == frames


@given(st.one_of(st.text(min_size=1), st.builds(Pattern, st.text(min_size=1))), st.text())
def test_keys_come_out_as_they_went_in(scope: str | Pattern, group: str) -> None:
    keys: list[Key] = [scope]
    if group:
        keys.append(InGroup(scope, group))
    for key in keys:
        assert read_key(write_key(key)) == key


@given(st.sets(st.text(max_size=4), min_size=2, max_size=6))
def test_a_node_that_goes_moves_its_own_names_only(nodes: set[str]) -> None:
    names = [f"name {number}" for number in range(50)]
    gone = sorted(nodes)[0]
    for name in names:
        before = home_of(name, nodes)
        if before != gone:
            assert home_of(name, nodes - {gone}) == before
