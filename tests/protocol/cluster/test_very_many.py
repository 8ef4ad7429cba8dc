"""What a node does for one of very many things does not grow with their number."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kps.protocol.bus.ack_request import AckRequest, Addressee
from kps.protocol.cluster.asker import Asker, FiguresOfOthers
from kps.protocol.dialect.requests import Demands
from kps.testing.cluster import MemoryCluster
from tests.fuzz.work import Calls


def calls_of(step: Callable[[], object]) -> int:
    """Return how many functions a call calls."""
    counter = Calls()
    with counter.counted():
        step()
    return counter.calls


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


class TestIds:
    def test_a_claim_does_not_look_at_the_others_that_wait(self, cluster: MemoryCluster) -> None:
        for other in ("n2", "n3"):
            cluster.stall("n1", other)
        names = cluster["n1"].cluster.names
        ids = [one for one in map(str, range(2000)) if names._nodes.home(one) is not None]
        first = calls_of(lambda: names.claim(1, ids[0], ""))
        for number, client_id in enumerate(ids[1:-1], 2):
            names.claim(number, client_id, "")
        last = calls_of(lambda: names.claim(9999, ids[-1], ""))
        assert len(names._claims) == len(ids) > 1000
        assert last <= first + 5

    def test_claims_that_wait_end_one_after_the_other(self, cluster: MemoryCluster) -> None:
        """Each waits for as long, from when it was made."""
        for other in ("n2", "n3"):
            cluster.stall("n1", other)
        clients = []
        for number in range(8):
            clients.append(cluster["n1"].client(f"c{number}"))
            cluster.advance(0.1)
        waiting = [one for one in clients if not one.session.ready]
        assert len(waiting) >= 2
        ended = []
        for _ in range(12):
            cluster.advance(0.1)
            ended += [one for one in waiting if one.session.ready and one not in ended]
        assert ended == waiting

    def test_a_new_node_costs_no_more_among_many(self) -> None:
        costs = []
        for count in (2, 12):
            cluster = MemoryCluster(tuple(f"n{number}" for number in range(1, count + 1)))
            names = cluster["n1"].cluster.names
            for number in range(100):
                names.registry.registered("n2", number, f"id-{number}", "", number + 1)
            costs.append(calls_of(lambda names=names: list(names.registry.move_to("n2"))))  # type: ignore[misc]
            assert 0 < len(names.registry._entries) < 100
        few, many = costs
        assert many == few

    def test_ids_stay_at_their_home_if_the_new_node_is_gone_again(
        self, cluster: MemoryCluster
    ) -> None:
        names = cluster["n1"].cluster.names
        ids = [one for one in map(str, range(100)) if names._nodes.home(one) is None]
        for one in ids:
            names.registry.registered("n2", 1, one, "", 1)
        assert list(names.registry.move_to("n4"))
        assert all(names.registry.holder(one) == "n2" for one in ids)


class _Unread(dict[Addressee, str]):
    """The receivers that a request awaits, which nobody may go through."""

    def items(self) -> Any:
        raise AssertionError("somebody has gone through all receivers")


class _Compared(str):
    """An id that knows how often it was compared."""

    __slots__ = ("times",)

    times: int

    def __eq__(self, other: object) -> bool:
        self.times += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def _compared(texts: Iterable[str]) -> list[_Compared]:
    compared = [_Compared(text) for text in texts]
    for one in compared:
        one.times = 0
    return compared


class TestAcks:
    def test_outcomes_that_nobody_awaits_cost_little(self, cluster: MemoryCluster) -> None:
        """A node tells them all the same if there was no room to note its clients."""
        handle, request = self._ask(cluster)
        asks, node = cluster["n1"].cluster._asks, cluster["n1"].cluster.nodes.others["n2"]
        request.awaited = _Unread(request.awaited)
        asks.outcome(node, request.id, "somebody", None, "handled", b"")
        assert not handle.responses

    def test_expected_receivers_are_not_compared_with_each_that_is_there(
        self, cluster: MemoryCluster
    ) -> None:
        _, request = self._ask(cluster)
        asks, node = cluster["n1"].cluster._asks, cluster["n1"].cluster.nodes.others["n2"]
        expected = _compared(["on-n2-7", "x", "y"])
        asks._expected[request.id] = list(expected)
        there = [f"on-n2-{number}" for number in range(1000)]
        asks.asked(node, request.id, there, "n2")
        assert all(one.times <= 2 for one in expected)

    @pytest.mark.pure("it replaces a part of the core")
    def test_a_link_that_falls_ends_no_request_of_its_next_life(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Although what has fallen with it is told in slices."""
        monkeypatch.setattr("kps.protocol.bus.slices.AT_ONCE", 2)
        cluster = MemoryCluster(("n1", "n2"))
        now = cluster.clock.now
        names = [f"c{number}" for number in range(8)]
        clients = [cluster["n2"].client(name) for name in names]
        publisher = cluster["n1"].client("publisher")
        cluster.run()
        boxes = [client.session.subscribe("t", now) for client in clients]
        cluster.run()
        asking = publisher.session.asking
        before = asking.publish_with_ack("t", 1, 60.0, now, Demands())
        cluster.run()
        cluster.cut("n1", "n2")
        cluster.mend("n1", "n2")
        cluster.run()
        assert not before.finished
        after = asking.publish_with_ack("t", 2, 60.0, now, Demands())
        cluster.advance(1.0)
        assert before.finished
        assert {one.error for one in before.responses.values()} == {"disconnected"}
        for client, box in zip(clients, boxes, strict=True):
            for message in box.take_all():
                client.session.settle(message, None, cluster.clock.now)
        cluster.run()
        assert after.finished
        assert {name: one.error for name, one in after.responses.items()} == dict.fromkeys(names)

    def test_a_request_that_goes_by_an_owner_does_not_look_at_the_others(
        self, cluster: MemoryCluster
    ) -> None:
        owner, asks = cluster["n1"].cluster.nodes.others["n2"], cluster["n1"].cluster._asks
        acks, publisher = cluster["n1"].hub.state.acks, Asker(owner, "", FiguresOfOthers())
        requests = [
            acks.open(publisher, str(number), [owner], deadline=60.0, tells_timeouts=False)
            for number in range(2000)
        ]

        def pass_on(request: AckRequest) -> None:
            asks.goes_by(request.id, owner)
            asks.expect(request, ["somebody"])

        first = calls_of(lambda: pass_on(requests[0]))
        for request in requests[1:-1]:
            pass_on(request)
        assert calls_of(lambda: pass_on(requests[-1])) == first
        for number in range(2000):
            acks.cancel(publisher, str(number))
        assert not asks._by_owner
        assert not asks._expected

    def _ask(self, cluster: MemoryCluster) -> tuple[Any, Any]:
        """Ask the clients of two other nodes, which have not said whom that concerns."""
        for name in ("n2", "n3"):
            client = cluster[name].client(f"on-{name}")
            client.session.subscribe("t", cluster.clock.now)
        asker = cluster["n1"].client("asker")
        cluster.run()
        for name in ("n2", "n3"):
            cluster.stall("n1", name)
        handle = asker.session.asking.publish_with_ack(
            "t", 1, 5.0, cluster.clock.now, demands=Demands()
        )
        cluster.run()
        (request,) = cluster["n1"].hub.state.acks._by_id.values()
        assert len(request.awaited) == 2
        return handle, request
