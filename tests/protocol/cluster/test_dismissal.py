"""The program of a node disconnects clients, wherever in the cluster they are."""

from kps.testing.cluster import MemoryCluster
from kps.testing.network import MemoryClient


class Bench:
    """Three nodes, of which the program of the first disconnects a client at another one."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster(("n1", "n2", "n3"))
        self.client: MemoryClient = self.cluster["n2"].client("y")
        self.cluster.run()
        self.outcome: list[bool] = []

    def dismiss(self, client_id: str, node: str = "n1") -> None:
        directory = self.cluster[node].hub.directory
        directory.dismiss(client_id, "logged out", self.cluster.clock.now, self.outcome.append)

    def is_there(self) -> bool:
        return "y" in self.cluster["n2"].hub.clients


def test_a_client_of_another_node_is_disconnected() -> None:
    bench = Bench()
    bench.dismiss("y")
    assert (bench.outcome, bench.is_there()) == ([], True)
    bench.cluster.run()
    assert (bench.outcome, bench.is_there()) == ([True], False)


def test_a_client_of_this_node_is_disconnected_at_once() -> None:
    bench = Bench()
    bench.dismiss("y", "n2")
    assert bench.outcome == [True]
    bench.cluster.run()
    assert not bench.is_there()


def test_nobody_has_the_id() -> None:
    bench = Bench()
    bench.dismiss("nobody")
    bench.cluster.run()
    assert (bench.outcome, bench.is_there()) == ([False], True)


def test_a_node_that_says_nothing_is_not_waited_for_long() -> None:
    bench = Bench()
    for wire in bench.cluster.wires.values():
        wire.is_stalled = True
    bench.dismiss("y")
    bench.cluster.advance(0.9)
    assert bench.outcome == []
    bench.cluster.advance(0.2)
    assert (bench.outcome, bench.is_there()) == ([False], True)
