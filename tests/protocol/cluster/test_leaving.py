"""A node that is about to end hands on what it is home to, and nothing is lost."""

from collections.abc import Iterator
from typing import Any

import pytest

from kps.protocol.bus.history import History
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.client.events import ErrorReceived, Lost
from kps.protocol.cluster.cluster import LinkChange
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.link import ENDED
from kps.protocol.dialect.places import Start
from kps.protocol.dialect.requests import Demands
from kps.protocol.patterns import InGroup, Key
from kps.protocol.server.config import HubConfig
from kps.testing.cluster import MemoryCluster

NODES = ("n1", "n2", "n3")
NAMES = tuple(f"x{number}" for number in range(12))
"""Some have each node for a home."""


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(NODES, config=HubConfig(id="n", history=(History("h/**", size=50),)))


class Clients:
    """One client on each node, and a clock that all share."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self.by_node = {name: cluster[name].client(f"on-{name}") for name in NODES}
        cluster.run()

    @property
    def now(self) -> float:
        return self.cluster.clock.now

    def subscribe(self, node: str, key: Key, start: Start | None = None) -> Mailbox:
        box = self.by_node[node].session.subscribe(key, self.now, start)
        self.cluster.run()
        return box

    def publish(self, node: str, topic: str, payload: object) -> None:
        self.by_node[node].session.publish(topic, payload, self.now)
        self.cluster.run()


@pytest.fixture
def clients(cluster: MemoryCluster) -> Clients:
    return Clients(cluster)


def data(box: Mailbox) -> list[Any]:
    return [message.data for message in box.take_all()]


def histories(cluster: MemoryCluster) -> Iterator[Any]:
    for node in cluster.nodes.values():
        if node.is_running:
            yield node.cluster.histories


@pytest.mark.parametrize("leaving", NODES)
def test_a_node_that_leaves_is_home_to_nothing(
    cluster: MemoryCluster, clients: Clients, leaving: str
) -> None:
    cluster.leave(leaving)
    assert cluster[leaving].cluster.has_left
    for node in cluster.nodes.values():
        assert leaving not in node.cluster.nodes.homes
        assert node.cluster.agreement.is_sure


@pytest.mark.parametrize("leaving", NODES)
def test_topics_with_history_go_on_in_their_epochs(
    cluster: MemoryCluster, clients: Clients, leaving: str
) -> None:
    topics = [f"h/{name}" for name in NAMES]
    reader = next(name for name in NODES if name != leaving)
    boxes = {topic: clients.subscribe(reader, topic) for topic in topics}
    for topic in topics:
        clients.publish("n1", topic, 0)
    cluster.leave(leaving)
    for number, topic in enumerate(topics):
        clients.publish(NODES[number % 3], topic, 1)
    cluster.kill(leaving)
    cluster.run()
    for topic in topics:
        clients.publish(reader, topic, 2)
        got = boxes[topic].take_all()
        assert [message.data for message in got] == [0, 1, 2]
        assert [message.offset for message in got] == [1, 2, 3]
        assert len({message.position.epoch for message in got if message.position}) == 1
    owners = {topic: {one.owners.of(topic) for one in histories(cluster)} for topic in topics}
    assert all(len(found) == 1 and leaving not in found for found in owners.values())
    assert not any(isinstance(event, Lost) for event in clients.by_node[reader].events)


@pytest.mark.parametrize("leaving", NODES)
def test_what_comes_while_topics_are_handed_over_waits(
    cluster: MemoryCluster, clients: Clients, leaving: str
) -> None:
    """All nodes publish in the very moment, before anything has crossed a link."""
    topics = [f"h/{name}" for name in NAMES]
    for topic in topics:
        clients.publish("n1", topic, "before")
    cluster[leaving].cluster.leave(cluster.clock.now)
    handles = []
    for topic in topics:
        for name in NODES:
            session = clients.by_node[name].session
            session.publish(topic, name, clients.now)
            handles.append(session.asking.publish_with_ack(topic, f"{name}?", 5.0, clients.now))
    cluster.run()
    for topic in topics:
        kept = [data(clients.subscribe(name, topic, Start(last=50))) for name in NODES]
        assert kept[0] == kept[1] == kept[2]
        expected = ["before", *NODES, *(f"{name}?" for name in NODES)]
        assert sorted(kept[0]) == sorted(expected)
        for name in NODES:
            assert kept[0].index(name) < kept[0].index(f"{name}?")
    assert all(handle.finished for handle in handles)


@pytest.mark.parametrize("leaving", NODES)
def test_ids_stay_unique_and_are_found(
    cluster: MemoryCluster, clients: Clients, leaving: str
) -> None:
    holders = {name: cluster[NODES[number % 3]].client(name) for number, name in enumerate(NAMES)}
    boxes = {name: one.session.subscriptions.open_direct() for name, one in holders.items()}
    cluster.run()
    cluster.leave(leaving)
    sender = clients.by_node[next(name for name in NODES if name != leaving)]
    for name in NAMES:
        sender.session.publish_to_id(name, "hello", clients.now)
    cluster.run()
    assert all(data(boxes[name]) == ["hello"] for name in NAMES)
    for number, name in enumerate(NAMES):
        place = NODES[(number + 1) % 3]
        cluster[place].client(name)
        cluster.run()
        assert [one for one in NODES if name in cluster[one].hub.clients] == [place]


@pytest.mark.parametrize("leaving", NODES)
def test_a_group_goes_on(cluster: MemoryCluster, clients: Clients, leaving: str) -> None:
    groups = [InGroup("t", name) for name in NAMES]
    stays = [name for name in NODES if name != leaving]
    boxes = {(name, key): clients.subscribe(name, key) for name in stays for key in groups}
    cluster[leaving].cluster.leave(cluster.clock.now)
    session = clients.by_node[leaving].session
    session.publish("t", "at once", clients.now)
    handle = session.asking.publish_with_ack("t", "task", 20.0, clients.now, Demands())
    cluster.run()
    for key in groups:
        got = sorted(one for name in stays for one in data(boxes[name, key]))
        assert got == ["at once", "task"]
    assert handle is not None


@pytest.mark.parametrize("leaving", NODES)
@pytest.mark.parametrize("publisher", NODES)
def test_messages_for_a_group_on_their_way_to_a_node_that_leaves(
    cluster: MemoryCluster, clients: Clients, leaving: str, publisher: str
) -> None:
    """They were sent to it before the publisher's node knew that it leaves."""
    groups = [InGroup("t", name) for name in NAMES]
    stays = [name for name in NODES if name != leaving]
    boxes = {(name, key): clients.subscribe(name, key) for name in stays for key in groups}
    if publisher != leaving:
        cluster.stall(publisher, leaving)
    clients.by_node[publisher].session.publish("t", "on its way", clients.now)
    cluster.run()
    cluster[leaving].cluster.leave(cluster.clock.now)
    cluster.run()
    if publisher != leaving:
        cluster.mend(publisher, leaving)
    cluster.advance(2.0)
    for key in groups:
        assert [one for name in stays for one in data(boxes[name, key])] == ["on its way"]


def test_others_know_that_a_node_ends_in_order(cluster: MemoryCluster) -> None:
    for node in cluster.nodes.values():
        node.cluster.changes.clear()
    cluster.stop("n2")
    for name in ("n1", "n3"):
        assert cluster[name].cluster.changes == [LinkChange("n2", ENDED, 0)]


def test_all_may_leave(cluster: MemoryCluster, clients: Clients) -> None:
    box = clients.subscribe("n3", "t")
    for name in NODES:
        cluster.leave(name)
        assert cluster[name].cluster.has_left
    clients.publish("n1", "t", 1)
    assert data(box) == [1]


def test_a_node_that_comes_while_another_leaves_knows_that(
    cluster: MemoryCluster, clients: Clients
) -> None:
    cluster.kill("n3")
    cluster.run()
    cluster.leave("n2")
    cluster.start("n3")
    cluster.advance(2.0)
    assert cluster["n3"].cluster.nodes.homes == ("n1", "n3")
    assert cluster["n2"].cluster.nodes.homes == ("n1", "n3")


@pytest.mark.parametrize("leaving", NODES)
def test_ids_are_found_though_the_link_to_a_node_that_leaves_falls(
    cluster: MemoryCluster, clients: Clients, leaving: str
) -> None:
    one, other = [name for name in NODES if name != leaving]
    boxes = {}
    for name in NAMES:
        boxes[name] = cluster[one].client(name).session.subscriptions.open_direct()
    cluster.run()
    cluster.leave(leaving)
    for name in (one, other):
        cluster.cut(leaving, name)
        cluster.mend(leaving, name)
    cluster.advance(2.0)
    for name in NAMES:
        clients.by_node[other].session.publish_to_id(name, "hello", clients.now)
    cluster.run()
    assert all(data(box) == ["hello"] for box in boxes.values())
    for name in NAMES:
        cluster[other].client(name)
        cluster.run()
        assert [node for node in NODES if name in cluster[node].hub.clients] == [other]


# -- homes that do not know yet ---------------------------------------------------------------


def test_a_new_home_does_not_say_that_nobody_is_there(cluster: MemoryCluster) -> None:
    """A node that has just come is home to ids that others have not told it yet."""
    holders = {name: cluster["n1"].client(name) for name in NAMES}
    boxes = {name: one.session.subscriptions.open_direct() for name, one in holders.items()}
    sender = cluster["n2"].client("sender")
    cluster.run()
    cluster.kill("n3")
    cluster.run()
    cluster.start("n3")
    cluster.stall("n1", "n3")  # n2 sees the new home before that has heard of the ids
    cluster.advance(1.0)
    for name in NAMES:
        sender.session.publish_to_id(name, "hello", cluster.clock.now)
    cluster.run()
    cluster.mend("n1", "n3")
    cluster.advance(2.0)
    assert all(data(boxes[name]) == ["hello"] for name in NAMES)
    assert not any(isinstance(event, ErrorReceived) for event in sender.events)


# -- order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stopping", [False, True])
def test_a_node_that_stops_takes_no_clients_when_the_engine_is_back(is_stopping: bool) -> None:
    cluster = MemoryCluster(("n1",), cluster=ClusterConfig(serves_alone=False))
    node, now = cluster["n1"], cluster.clock.now
    there = node.client("there")
    cluster.run()
    node.cluster.has_engine(False, now)
    cluster.run()
    assert not there.session.ready
    if is_stopping:
        node.hub.shutdown(10.0, now)
    node.cluster.has_engine(True, now)
    again = node.client("again")
    cluster.run()
    assert again.session.ready is not is_stopping


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The payloads that all clients together get, in the order in which they come."""
    arrived: list[Any] = []
    put, put_all = Mailbox.put, Mailbox.put_all

    def note(self: Mailbox, message: Message) -> list[Message]:
        arrived.append(message.data)
        return put(self, message)

    def note_all(self: Mailbox, messages: list[Message], size: int) -> bool:
        arrived.extend(message.data for message in messages)
        return put_all(self, messages, size)

    monkeypatch.setattr(Mailbox, "put", note)
    monkeypatch.setattr(Mailbox, "put_all", note_all)
    return arrived


@pytest.mark.pure("it replaces a part of the core")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("home_is", ["slow", "away"])
def test_direct_messages_overtake_no_publications(
    cluster: MemoryCluster, arrived: list[Any], name: str, home_is: str
) -> None:
    """Whichever node is home to the id, and however slow the links to that are."""
    sender, receiver = cluster["n1"].client("sender"), cluster["n2"].client(name)
    receiver.session.subscriptions.open_direct()
    cluster.run()
    receiver.session.subscribe("t", cluster.clock.now)
    cluster.run()
    cluster.stall("n1", "n3")
    cluster.stall("n3", "n2")
    now = cluster.clock.now
    for number in range(0, 12, 3):
        sender.session.publish("t", number, now)
        sender.session.publish_to_id(name, number + 1, now)
        sender.session.asking.publish_to_id_with_ack(name, number + 2, 20.0, now)
    cluster.advance(0.3 if home_is == "slow" else 1.5)
    cluster.mend("n1", "n3")
    cluster.mend("n3", "n2")
    cluster.advance(2.0)
    assert arrived == list(range(12))


@pytest.mark.pure("it replaces a part of the core")
def test_messages_for_a_client_that_has_moved_find_it(
    cluster: MemoryCluster, arrived: list[Any]
) -> None:
    """The node of the sender still believes it to be on the node from where it has gone."""
    sender = cluster["n1"].client("sender")
    cluster["n2"].client("x").session.subscriptions.open_direct()
    cluster.run()
    sender.session.publish_to_id("x", "there", cluster.clock.now)
    cluster.run()
    for node in ("n3", "n1", "n2"):
        moved = cluster[node].client("x")
        moved.session.subscriptions.open_direct()
        cluster.run()
        sender.session.publish_to_id("x", node, cluster.clock.now)
        handle = sender.session.asking.publish_to_id_with_ack(
            "x", f"{node}?", 20.0, cluster.clock.now
        )
        cluster.run()
        assert not handle.finished  # the client has it, and says nothing yet
    assert arrived == ["there", "n3", "n3?", "n1", "n1?", "n2", "n2?"]
    moved.session.close(cluster.clock.now)
    cluster.run()
    sender.session.publish_to_id("x", "nobody", cluster.clock.now)
    gone = sender.session.asking.publish_to_id_with_ack("x", "nobody", 20.0, cluster.clock.now)
    cluster.run()
    assert gone.finished
    assert not gone.responses
    assert [one.code for one in sender.events if isinstance(one, ErrorReceived)] == [
        "no_such_client"
    ]
