"""Nodes that keep what there was beyond their end: what they go on with, and in which epoch."""

from typing import Any

import pytest

from kps.protocol.bus.history import History
from kps.protocol.bus.logs import BREAK
from kps.protocol.bus.message import Message
from kps.protocol.client.events import Recovered
from kps.protocol.dialect.places import Position, Start
from kps.protocol.server.config import HubConfig
from kps.testing.cluster import MemoryCluster
from kps.testing.network import MemoryClient

NODES = ("n1", "n2", "n3")
TOPICS = tuple(f"h/{number}" for number in range(6))  # owned by several nodes


def new_cluster(*stores: str, size: int = 50) -> MemoryCluster:
    config = HubConfig(id="n", history=(History("h/**", size=size),))
    return MemoryCluster(NODES, config=config, stores=stores)


class Program:
    """Publishes, and asks for the past, at any node; each time as another client."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self._clients = 0

    def publish(self, node: str, *payloads: Any, topics: tuple[str, ...] = TOPICS) -> None:
        client = self._client(node)
        for topic in topics:
            for payload in payloads:
                client.session.publish(topic, payload, self.cluster.clock.now)
        self._end(client)

    def past(self, node: str, topic: str) -> list[Message[Any]]:
        client = self._client(node)
        box = client.session.subscribe(topic, self.cluster.clock.now, Start(last=1000))
        self.cluster.run()
        found = box.take_all()
        self._end(client)
        return found

    def data(self, node: str, topic: str) -> list[Any]:
        return [message.data for message in self.past(node, topic)]

    def places(self, node: str) -> dict[str, Position]:
        found = {}
        for topic in TOPICS:
            position = self.past(node, topic)[-1].position
            assert isinstance(position, Position)
            found[topic] = position
        return found

    def is_recovered(self, node: str, topic: str, place: Position) -> bool:
        client = self._client(node)
        client.session.subscribe(topic, self.cluster.clock.now, Start(place))
        self.cluster.run()
        recovered = any(isinstance(event, Recovered) for event in client.events)
        self._end(client)
        return recovered

    def _client(self, node: str) -> MemoryClient:
        self._clients += 1
        client = self.cluster[node].client(f"c{self._clients}")
        self.cluster.run()
        return client

    def _end(self, client: MemoryClient) -> None:
        self.cluster.run()
        client.session.close(self.cluster.clock.now)
        self.cluster.run()


def check_agreed(cluster: MemoryCluster) -> None:
    """All nodes have the same copies, and know one owner of each topic."""
    running = [node for node in cluster.nodes.values() if node.is_running]
    for topic in TOPICS:
        found, owners = set(), set()
        for node in running:
            logs, histories = node.hub.state.logs, node.cluster.histories
            assert logs is not None
            assert histories is not None
            log = logs.log(topic)
            assert log is not None
            found.add((log.epoch, log.top, log.first))
            owners.add(histories.owners.of(topic))
        assert len(found) == len(owners) == 1, (topic, found, owners)


def stop_all_at_once(cluster: MemoryCluster) -> None:
    for name in NODES:
        cluster[name].cluster.leave(cluster.clock.now)
    cluster.run()
    for name in NODES:
        cluster.stop(name)


def stop_one_by_one(cluster: MemoryCluster) -> None:
    for name in NODES:
        cluster.stop(name)


@pytest.mark.parametrize("stop", [stop_all_at_once, stop_one_by_one])
def test_a_cluster_that_was_stopped_in_order_goes_on_in_its_epochs(stop: Any) -> None:
    cluster = new_cluster(*NODES)
    program = Program(cluster)
    program.publish("n1", 1, 2)
    program.publish("n2", 3)
    for _ in range(2):
        places = program.places("n3")
        stop(cluster)
        cluster.start(*NODES)
        check_agreed(cluster)
        program.publish("n2", 4)
        for topic in TOPICS:
            for name in NODES:
                assert program.is_recovered(name, topic, places[topic])
                assert program.data(name, topic)[:4] == [1, 2, 3, 4]


def test_a_node_starts_again_while_the_others_still_end() -> None:
    cluster = new_cluster(*NODES)
    program = Program(cluster)
    program.publish("n1", 1, 2)
    places = program.places("n1")
    for name in NODES:
        cluster[name].cluster.leave(cluster.clock.now)
    cluster.run()
    cluster.stop("n1")
    cluster.start("n1")
    cluster.stop("n2")
    cluster.start("n2")
    cluster.stop("n3")
    cluster.start("n3")
    check_agreed(cluster)
    for topic in TOPICS:
        assert program.data("n1", topic) == [1, 2]
        assert program.is_recovered("n1", topic, places[topic])


def test_the_last_one_alone_goes_on_and_the_others_follow_it() -> None:
    cluster = new_cluster(*NODES)
    program = Program(cluster)
    program.publish("n1", 1)
    cluster.stop("n1")
    program.publish("n2", 2)
    cluster.stop("n2")
    program.publish("n3", 3)
    places = program.places("n3")
    cluster.stop("n3")
    cluster.start("n1", "n2", "n3")
    check_agreed(cluster)
    for topic in TOPICS:
        assert program.data("n1", topic) == [1, 2, 3]
        assert program.is_recovered("n1", topic, places[topic])


def test_who_comes_later_with_all_wins_over_a_copy_on_which_nothing_was_published() -> None:
    cluster = new_cluster(*NODES)
    program = Program(cluster)
    program.publish("n1", 1)
    cluster.stop("n1")
    program.publish("n2", 2)
    cluster.stop("n2")
    places = program.places("n3")
    cluster.stop("n3")
    cluster.start("n1")
    for topic in TOPICS:
        assert program.data("n1", topic) == [1]
        assert not program.is_recovered("n1", topic, places[topic])
    cluster.start("n3")
    check_agreed(cluster)
    for topic in TOPICS:
        assert program.data("n1", topic) == [1, 2]
        assert program.is_recovered("n1", topic, places[topic])


def test_a_stale_store_does_not_replace_what_a_node_has_meanwhile() -> None:
    cluster = new_cluster(*NODES)
    program = Program(cluster)
    program.publish("n1", *range(20))
    places = program.places("n1")
    stop_one_by_one(cluster)  # the last one has all
    cluster.start("n1")
    program.publish("n1", "new")
    cluster.start("n2", "n3")
    check_agreed(cluster)
    for topic in TOPICS:
        for name in NODES:
            assert program.data(name, topic) == [*range(20), "new"]
            assert not program.is_recovered(name, topic, places[topic])


def test_a_node_that_was_away_for_long_follows() -> None:
    cluster = new_cluster("n1", size=5)
    program = Program(cluster)
    program.publish("n1", *range(100))
    cluster.kill("n1")
    cluster.run()
    program.publish("n2", "a")
    cluster.start("n1")
    check_agreed(cluster)
    for topic in TOPICS:
        assert program.data("n1", topic) == [96, 97, 98, 99, "a"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_node_that_was_killed_follows_those_that_keep_more(lost: int) -> None:
    """Nobody has published meanwhile, so nobody owns its topics."""
    cluster = new_cluster("n1")
    program = Program(cluster)
    program.publish("n1", 1, 2, 3)
    places = program.places("n1")
    cluster.kill("n1")
    cluster.run()
    for topic in TOPICS[: len(TOPICS) * lost]:
        cluster.stores["n1"].lose(topic)
    cluster.start("n1")
    check_agreed(cluster)
    program.publish("n1", 4)
    for topic in TOPICS:
        for name in NODES:
            assert program.data(name, topic) == [1, 2, 3, 4]
    recovered = {topic for topic in TOPICS if program.is_recovered("n1", topic, places[topic])}
    for topic in recovered:  # others owned these all the time
        assert program.past("n1", topic)[-1].offset == 4


def test_all_are_killed_and_no_offset_stands_for_two_messages() -> None:
    cluster = new_cluster(*NODES)
    program = Program(cluster)
    seen: dict[tuple[str, str, int], Any] = {}
    number = 0
    for round_ in range(4):
        for _ in range(3):
            number += 1
            program.publish(NODES[number % 3], number)
        places = program.places("n1")
        for topic in TOPICS:
            for message in program.past("n1", topic):
                position = message.position
                assert isinstance(position, Position)
                place = topic, position.epoch, position.offset
                assert seen.setdefault(place, message.data) == message.data
        for name in NODES:
            cluster.kill(name)
        for topic in TOPICS:
            cluster.stores["n1"].lose(topic)
            if round_ % 2:
                cluster.stores["n2"].lose(topic)
                cluster.stores["n3"].lose(topic)
        cluster.start(*NODES)
        check_agreed(cluster)
        for topic in TOPICS:
            assert not program.is_recovered("n2", topic, places[topic])
            assert program.data("n1", topic)[:2] == [1, 2]
            assert len(program.data("n1", topic)) >= 3


def test_a_copy_that_is_ahead_of_the_owner_begins_anew() -> None:
    """The owner's disk has not kept its promise."""
    cluster = new_cluster(*NODES)
    program = Program(cluster)
    for number in (1, 2, 3):
        program.publish("n1", number)
    stop_one_by_one(cluster)
    for topic in TOPICS:
        cluster.stores["n3"].lose(topic)
    cluster.start("n3")
    cluster.start("n1", "n2")
    program.publish("n1", 4)
    check_agreed(cluster)
    for topic in TOPICS:
        for name in NODES:
            assert program.data(name, topic) == [1, 2, 4]


def test_a_store_goes_to_nodes_that_have_none() -> None:
    cluster = new_cluster("n1")
    program = Program(cluster)
    program.publish("n2", 1, 2)
    for name in ("n2", "n3"):
        cluster.stop(name)
    places = program.places("n1")
    cluster.stop("n1")
    cluster.start(*NODES)
    check_agreed(cluster)
    for topic in TOPICS:
        assert program.data("n3", topic) == [1, 2]
        assert program.is_recovered("n3", topic, places[topic])


def test_what_comes_while_a_node_still_hears_the_others_waits() -> None:
    cluster = new_cluster("n1")
    program = Program(cluster)
    program.publish("n1", 1)
    for name in ("n2", "n3", "n1"):
        cluster.stop(name)
    node = cluster["n1"]
    node.reachable = node.is_running = True
    node.restart()
    cluster._open_store("n1")
    client = node.client("early")
    client.session.publish(TOPICS[0], 2, cluster.clock.now)
    cluster.run()
    logs, resumption = node.hub.state.logs, node.cluster.resumption
    assert logs is not None
    assert resumption is not None
    assert [log.top for log in logs.logs()] == [1] * len(TOPICS)
    resumption.own_whole(cluster.clock.now)
    assert resumption.is_over
    cluster.run()
    assert program.data("n1", TOPICS[0]) == [1, 2]


def test_copies_have_what_was_before_a_break() -> None:
    """A server alone, which was killed once, has left its store to a node."""
    cluster = new_cluster("n1")
    program = Program(cluster)
    program.publish("n1", 1, 2)
    for name in ("n2", "n3", "n1"):
        cluster.stop(name)
    store = cluster.stores["n1"]
    for topic in TOPICS:
        kept = store._topics[topic]
        first = kept.entries[0]
        behind = first._replace(number=first.number + 100, first=BREAK + 1, text=b"3")
        store.append(topic, kept.epoch, behind)
    cluster.start(*NODES)
    check_agreed(cluster)
    for topic in TOPICS:
        assert program.data("n2", topic) == [1, 2, 3]
