"""What waits for other nodes goes on after a while, whatever becomes of the others."""

from collections.abc import Callable

import pytest

from kps.protocol.cluster.nodes import Node
from kps.protocol.cluster.places import Places
from kps.protocol.cluster.waiting import Waiting
from kps.protocol.server.events import SessionFailed
from kps.protocol.timers import Deadlines
from kps.testing.cluster import MemoryCluster, NodeNetwork


def boom() -> None:
    raise RuntimeError("a fault")


def home(node: NodeNetwork, client_id: str) -> str:
    found = node.cluster.nodes.home(client_id)
    return node.cluster.nodes.me if found is None else found.id


def test_items_wait_in_order_until_they_are_taken_or_overdue() -> None:
    times, given_up = [0.0], list[str]()
    deadlines = Deadlines()
    waiting: Waiting[str] = Waiting(deadlines, lambda: times[-1], 1.0, given_up.append)
    first, second, *_ = (waiting.add(one) for one in "abc")
    times.append(0.5)
    waiting.add("d")
    assert (waiting.first(), waiting.get(second)) == ("a", "b")
    assert (waiting.take(second), waiting.take(second), waiting.take_first()) == ("b", None, "a")
    assert waiting.get(first) is None
    assert [item for _, item in waiting] == ["c", "d"]
    deadlines.handle_timeout(1.0)
    assert (given_up, len(waiting), deadlines.next_deadline()) == (["c"], 1, 1.5)


def test_a_fault_in_one_keeps_no_others_waiting() -> None:
    """Neither on the node of a client, nor on anything else that is waited for so long."""
    cluster = MemoryCluster(("n1", "n2"))
    node, done = cluster["n1"], list[str]()
    place = next(one for one in map(str, range(99)) if home(node, one) == "n2")
    cluster.stall("n1", "n2")
    node.cluster.agreement.is_sure = False
    waits: list[Callable[[Callable[[], object]], object]] = [
        lambda ready: node.cluster.names.places.when_known(place, lambda _: ready()),
        lambda ready: node.cluster.agreement.when_sure(ready),
        lambda ready: node.cluster.interest.when_all_answer(ready),
    ]
    for number, wait in enumerate(waits):
        for ready in (boom, lambda number=number: done.append(f"{number}")):
            wait(ready)
    cluster.clock.now += 2.0
    for _ in range(10):
        node.hub.handle_timeout(cluster.clock.now)
    faults = [one for one in node.hub.events() if isinstance(one, SessionFailed)]
    assert (len(faults), sorted(done)) == (3, ["0", "1", "2"])


@pytest.mark.pure("it replaces a part of the core")
def test_only_what_the_node_was_asked_that_has_gone_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = MemoryCluster()
    node, done = cluster["n1"], list[str]()
    places = node.cluster.names.places
    ids = [one for one in map(str, range(200)) if home(node, one) == "n2"][:5]
    ids += [one for one in map(str, range(200)) if home(node, one) == "n3"][:5]
    for other in ("n2", "n3"):
        cluster.wires[other, "n1"].is_stalled = True
    for client_id in ids:
        assert not places.when_known(client_id, lambda _, it=client_id: done.append(it))  # type: ignore[misc]
    cluster.run()
    asked: list[str] = []
    where = Places.where

    def note(self: Places, node: Node, client_id: str) -> None:
        asked.append(client_id)
        where(self, node, client_id)

    monkeypatch.setattr(Places, "where", note)
    cluster.cut("n1", "n2")
    cluster.run()
    assert set(asked) == {one for one in ids[:5] if home(node, one) == "n3"}
    cluster.mend("n1", "n3")
    cluster.advance(3.0)
    assert sorted(done) == sorted(ids)
