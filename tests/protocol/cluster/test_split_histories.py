"""What subscribers of a topic with history hear when a cluster has been in two parts."""

import pytest

from kps.protocol.bus.history import History
from kps.protocol.client.events import Lost
from kps.protocol.server.config import HubConfig
from kps.testing.cluster import MemoryCluster


class Split:
    """Two nodes, each with a subscriber of one topic. One of the nodes owns it."""

    def __init__(self) -> None:
        config = HubConfig(id="n", history=(History("t", size=100),))
        self.cluster = MemoryCluster(("n1", "n2"), config=config)
        self.clients = {node: self.cluster[node].client(f"at-{node}") for node in ("n1", "n2")}
        self.cluster.run()
        now = self.cluster.clock.now
        self.boxes = {node: one.session.subscribe("t", now) for node, one in self.clients.items()}
        self.cluster.run()
        self.publish("n1", "before")
        self.owner = self.find_owner()
        self.other = "n1" if self.owner == "n2" else "n2"
        assert self.heard(self.owner) == self.heard(self.other) == (["before"], 0)

    def find_owner(self) -> str:
        histories = self.cluster["n1"].cluster.histories
        assert histories is not None
        owner = histories.owners.of("t")
        assert owner is not None
        return owner

    def publish(self, node: str, *payloads: str) -> None:
        for payload in payloads:
            self.cluster[node].hub.publish("t", payload, self.cluster.clock.now)
            self.cluster.run()

    def cut(self) -> None:
        self.cluster.cut("n1", "n2")
        self.cluster.run()

    def mend(self) -> None:
        self.cluster.mend("n1", "n2")
        self.cluster.advance(10.0)

    def heard(self, node: str) -> tuple[list[object], int]:
        """What came since the last call, and how often something was said to be lost."""
        data = [message.data for message in self.boxes[node].take_all()]
        events = self.clients[node].events
        lost = [event for event in events if isinstance(event, Lost)]
        events.clear()
        assert all(event.messages is None for event in lost)
        return data, len(lost)


def test_what_only_the_owner_has_numbered_comes_when_they_meet() -> None:
    split = Split()
    split.cut()
    split.publish(split.owner, "a", "b")
    assert split.heard(split.owner) == (["a", "b"], 0)
    split.mend()
    split.publish("n1", "after")
    assert split.heard(split.other) == (["a", "b", "after"], 0)
    assert split.heard(split.owner) == (["after"], 0)


def test_who_goes_on_without_the_owner_hears_of_it() -> None:
    split = Split()
    split.cut()
    split.publish(split.other, "x")
    assert split.heard(split.other) == (["x"], 1)


@pytest.mark.parametrize(("at_owner", "at_other"), [(4, 1), (0, 3), (2, 3)])
def test_the_side_whose_log_gives_way_hears_of_it(at_owner: int, at_other: int) -> None:
    split = Split()
    split.cut()
    split.publish(split.owner, *["a"] * at_owner)
    split.publish(split.other, *["x"] * at_other)
    split.mend()
    loser = split.other if at_owner > at_other else split.owner
    assert (split.find_owner() == split.owner) is (at_owner > at_other)
    split.heard(loser)
    split.publish("n1", "after")
    assert split.heard(loser) == (["after"], 1)
