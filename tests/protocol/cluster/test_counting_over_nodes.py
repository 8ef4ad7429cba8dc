"""What nodes count: each thing at one of them, so their figures add up to those of one server."""

from collections import Counter
from typing import Any

import pytest

from kps.protocol.bus.history import History
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.dialect.requests import Demands
from kps.protocol.patterns import InGroup, Pattern
from kps.protocol.server.config import HubConfig
from kps.protocol.server.metrics import COUNTER, METRICS, gather
from kps.testing.cluster import MemoryCluster
from kps.testing.network import MemoryClient, Network

NODES = ("n1", "n2", "n3")


class World:
    """Clients that do the same things on one server, or on three nodes."""

    def __init__(self, is_one: bool, config: HubConfig) -> None:
        self._whole: Network | MemoryCluster
        if is_one:
            self._whole = network = Network(config)
            self._at = dict.fromkeys(NODES, network)
        else:
            self._whole = cluster = MemoryCluster(NODES, config=config)
            self._at = {name: cluster[name] for name in NODES}
        self.clients: dict[str, MemoryClient] = {}

    @property
    def now(self) -> float:
        return self._whole.clock.now

    def run(self) -> None:
        self._whole.run()

    def advance(self, seconds: float) -> None:
        self._whole.advance(seconds)

    def client(self, name: str, node: str) -> MemoryClient:
        made = self.clients[name] = self._at[node].client(name)
        self.run()
        return made

    def subscribe(self, name: str, key: str | Pattern | InGroup) -> Mailbox:
        mailbox = self.clients[name].session.subscribe(key, self.now)
        self.run()
        return mailbox

    def settle(self, name: str, box: Mailbox, error: str | None = None) -> Message:
        message: Message = box.take_all()[0]
        self.clients[name].session.settle(message, error, self.now, "result")
        self.run()
        return message

    def ask(self, name: str, topic: str, *, timeout: float = 60.0, **demands: Any) -> Any:
        asking = self.clients[name].session.asking
        handle = asking.publish_with_ack(topic, 1, timeout, self.now, Demands(**demands))
        self.run()
        return handle

    def figures(self) -> dict[Any, float]:
        """Those of all nodes, added up."""
        total: Counter[Any] = Counter()
        for network in dict.fromkeys(self._at.values()):
            total.update(gather(network.hub, "memory"))
        return dict(total)


SAME = (
    "clients", "clients_registered", "received_messages", "published_messages",
    "delivered_messages", "dropped_messages", "refused_messages", "subscriptions", "acks_pending",
    "acks_awaited", "ack_requests", "ack_outcomes", "group_tasks", "group_attempts",
    "group_tasks_active", "group_tasks_waiting", "history_recoveries", "history_lost_messages",
)  # fmt: skip
"""Metrics whose sum over nodes is what one server tells."""


def same(world: World) -> dict[Any, float]:
    names = {f"kps_{name}" for name in SAME}
    return {key: figure for key, figure in world.figures().items() if key[0] in names}


@pytest.mark.parametrize("group", [f"g{number}" for number in range(4)])  # on several homes
@pytest.mark.parametrize("topic", ["t", "kept/0", "kept/1", "kept/2", "kept/3"])
def test_they_add_up_to_those_of_one_server(topic: str, group: str) -> None:
    config = HubConfig(id="n", history=(History("kept/**"),))
    worlds = [World(is_one, config) for is_one in (True, False)]
    for world in worlds:
        for number in range(6):
            world.client(f"c{number}", NODES[number % 3])
        boxes = {name: world.subscribe(name, topic) for name in ("c0", "c1", "c2", "c4")}
        world.subscribe("c5", Pattern("**"))
        jobs = {name: world.subscribe(name, InGroup("jobs", group)) for name in ("c1", "c2", "c3")}
        for name in ("c0", "c4"):
            publisher = world.clients[name].session
            for number in range(5):
                publisher.publish(topic, number, world.now)
            world.run()
            publisher.publish("jobs", 1, world.now)
            publisher.publish("nobody", 1, world.now)
            publisher.asking.publish_with_receipt(topic, 1, world.now)
            publisher.publish_to_id("c2", 1, world.now)
            publisher.publish_to_id("nobody", 1, world.now)
            world.run()
        for box in (*boxes.values(), *jobs.values()):
            box.take_all()
        # Acks of subscribers: handled, failed, disconnected, late, and absent.
        world.ask("c3", topic)
        world.ask("c0", topic, expected=("c3", "x"))
        for name, error in (("c0", None), ("c1", "no")):
            world.settle(name, boxes[name], error)
        world.ask("c2", topic, timeout=5.0)
        link = world.clients["c4"].link
        assert link is not None
        link.cut()
        world.run()
        # Tasks of groups: handled, failed after a retry, with a member, and waiting.
        for number in range(5):
            world.ask(f"c{number % 3}", "jobs", retries=number % 2)
        for _ in range(3):
            for name, box in jobs.items():
                for message in box.take_all()[:1]:
                    error = None if message.attempt > 1 else "no"
                    world.clients[name].session.settle(message, error, world.now, 1)
                    world.run()
        world.ask("c0", "nobody there", groups=("absent",))
        world.ask("c0", "jobs")
        handle = world.ask("c5", topic)
        world.clients["c5"].session.asking.cancel_ack(handle, world.now)
        world.run()
    one, nodes = map(same, worlds)
    assert nodes == one
    for world in worlds:
        world.advance(61.0)
    one, nodes = map(same, worlds)
    assert nodes == one
    assert one["kps_acks_pending",] == 0
    assert sum(value for key, value in one.items() if key[0] == "kps_ack_outcomes") > 10


def test_counters_of_nodes_never_go_back() -> None:
    world = World(False, HubConfig(id="n"))
    counters = {metric.name for metric in METRICS if metric.kind == COUNTER}
    before: dict[Any, float] = {}
    for number in range(6):
        world.client(f"c{number}", NODES[number % 3])
    jobs = {name: world.subscribe(name, InGroup("t", "g")) for name in ("c1", "c2")}
    boxes = {name: world.subscribe(name, "t") for name in ("c0", "c1", "c5")}
    for number in range(12):
        world.ask(f"c{number % 6}", "t")
        for name, box in [*jobs.items(), *boxes.items()]:
            for message in box.take_all()[number % 2 :]:
                world.clients[name].session.settle(message, None, world.now, 1)
            world.run()
            for node in NODES:
                now = gather(world._at[node].hub, "memory")
                for key, value in now.items():
                    if key[0] in counters:
                        assert value >= before.get((node, key), 0), (node, key)
                        before[node, key] = value


class TestSubscribers:
    def test_nodes_are_not_counted(self) -> None:
        cluster = MemoryCluster(NODES)
        for name in NODES:
            client = cluster[name].client(f"on-{name}")
            for key in ("t", Pattern("t*"), InGroup("t", "g"), InGroup("t", "h")):
                client.session.subscribe(key, cluster.clock.now)
        cluster["n2"].client("more").session.subscribe("t", cluster.clock.now)
        cluster["n1"].hub.local.subscribe("t")
        cluster.run()
        counted = {name: cluster[name].hub.count_subscribers("t") for name in NODES}
        assert counted == {"n1": (1, 3, 4), "n2": (0, 4, 4), "n3": (0, 3, 3)}
        subjects = cluster["n1"].hub.state.bus.subjects(10)
        assert [(str(key), count) for key, count, _ in subjects] == [("t", 4), ("t*", 1)]

    def test_those_of_others_only_are_nobody_here(self) -> None:
        cluster = MemoryCluster(NODES)
        cluster["n2"].client("a").session.subscribe("t", cluster.clock.now)
        cluster.run()
        assert cluster["n1"].hub.count_subscribers("t") == (0, 0, 0)
        assert cluster["n1"].hub.state.bus.subjects(10) == []
