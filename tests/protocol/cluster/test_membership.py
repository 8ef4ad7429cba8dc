"""Which nodes hear each other over an engine, and who gives way if two have one id."""

from typing import NamedTuple

from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.membership import Life, Membership
from kps.testing.cluster import MemoryCluster

CONFIG = ClusterConfig(secret=b"only the nodes know it")


class Told(NamedTuple):
    """One that announces itself, and the cluster of which it would be a node."""

    membership: Membership
    cluster: MemoryCluster

    def hear(self, *announcements: bytes) -> None:
        for one in announcements:
            self.membership.hear(one, self.cluster.clock.now)


def node(name: str, began: float, token: int, config: ClusterConfig = CONFIG) -> Told:
    cluster = MemoryCluster((name,))
    membership = Membership(cluster[name].cluster, config, Life(began, token))
    membership.open(cluster.clock.now)
    return Told(membership, cluster)


def exchange(*nodes: Told) -> list[bytes]:
    """Let all hear all, until nobody has anything to say; return what was said."""
    said: list[bytes] = []
    while new := [chunk for one in nodes for chunk in one.membership.take()]:
        said += new
        for one in nodes:
            one.hear(*new)
    return said


def test_nodes_meet_and_forget_those_that_are_silent() -> None:
    one, other = node("n1", 1.0, 1), node("n2", 2.0, 2)
    exchange(one, other)
    assert one.membership.missing == ["n2"]  # there is no link in this test
    for _ in range(7):
        one.cluster.clock.advance(1.0)
        one.membership.handle_timeout(one.cluster.clock.now)
    assert not one.membership.missing


def test_a_node_that_comes_back_in_a_moment_has_an_answer_at_once() -> None:
    one, other = node("n1", 1.0, 1), node("n2", 2.0, 2)
    exchange(one, other)
    again = node("n2", 3.0, 3)
    exchange(one, again)
    assert again.membership.missing == ["n1"]
    again.membership.close(again.cluster.clock.now)  # it loses the engine, which others do not see
    again.membership.open(again.cluster.clock.now)
    assert not again.membership.missing
    exchange(one, again)
    assert again.membership.missing == ["n1"]
    exchange(one, again)
    again.membership.handle_timeout(again.cluster.clock.advance(1.0))
    assert len(exchange(one, again)) == 1  # nobody answers what is not new


def test_who_has_said_farewell_meets_nobody() -> None:
    one, other = node("n1", 1.0, 1), node("n2", 2.0, 2)
    one.membership.say_farewell(one.cluster.clock.now)
    assert len(exchange(one, other)) == 1  # of the other one
    one.membership.handle_timeout(one.cluster.clock.advance(1.0))
    assert (one.membership.missing, other.membership.missing) == ([], [])
    assert one.membership.next_deadline() is None


def test_a_name_without_a_subject_is_none() -> None:
    one, other = node("n1", 1.0, 1), node("n" * 1001, 2.0, 2)
    exchange(one, other)
    assert not one.membership.missing


def test_of_two_with_one_id_the_one_that_serves_stays_whatever_the_clocks_say() -> None:
    old, new = node("n1", began=1000.0, token=1), node("n1", began=5.0, token=2)
    old.membership.is_serving = True
    exchange(old, new)
    assert (old.membership.rival, new.membership.rival) == (False, True)


def test_of_two_that_begin_together_the_first_one_stays() -> None:
    first, second = node("n1", 1.0, 9), node("n1", 1.0, 10)
    exchange(first, second)
    assert (first.membership.rival, second.membership.rival) == (False, True)


def test_a_recording_of_an_earlier_run_is_no_rival() -> None:
    earlier, rival = node("n1", 1.0, 1), node("n1", 0.5, 2)
    earlier.membership.is_serving = rival.membership.is_serving = True
    recorded = exchange(earlier, rival)
    now = node("n1", 100.0, 3)
    now.membership.is_serving = True
    now.hear(*recorded, *recorded)
    assert not now.membership.rival
    assert len(now.membership.take()) < 2 + 2 * len(recorded)


def test_what_is_signed_with_another_secret_is_unreadable() -> None:
    one = node("n1", 1.0, 1)
    other = node("n2", 1.0, 2, ClusterConfig(secret=b"another one of these"))
    exchange(one, other)
    assert one.membership.unreadable
    assert not one.membership.missing
    one.hear(b"", b"x" * 100, b"[]" * 20)
    assert one.membership.unreadable == 4


def test_a_chunk_that_is_not_of_the_node_in_whose_name_it_comes_is_noted_once() -> None:
    cluster = MemoryCluster(("n1", "n2"), cluster=ClusterConfig(secret=b"the secret of both"))
    for _ in range(3):
        cluster["n1"].cluster.receive("n2", bytes(100), cluster.clock.now)
    assert cluster["n1"].cluster.forged == ["n2"]
    assert "n2" in cluster["n1"].cluster.nodes.others
