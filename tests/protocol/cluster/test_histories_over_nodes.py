"""Topics with history on several nodes."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from kps.protocol.bus.history import History
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.client.events import Lost, Recovered
from kps.protocol.cluster.homes import home_of
from kps.protocol.dialect.places import Position, Start
from kps.protocol.patterns import Pattern
from kps.protocol.server.config import HubConfig
from kps.testing.cluster import MemoryCluster, NodeNetwork
from kps.testing.network import MemoryClient

NODES = ("n1", "n2", "n3")
TOPICS = tuple(f"h/{number}" for number in range(6))  # owned by several nodes


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(NODES, config=HubConfig(id="n", history=(History("h/**", size=5),)))


def client(cluster: MemoryCluster, node: str, name: str) -> MemoryClient:
    made = cluster[node].client(name)
    cluster.run()
    return made


def subscribe(
    cluster: MemoryCluster, one: MemoryClient, topic: str, start: Start | None = None
) -> Mailbox:
    mailbox = one.session.subscribe(topic, cluster.clock.now, start)
    cluster.run()
    return mailbox


def publish(cluster: MemoryCluster, one: MemoryClient, topic: str, payload: Any) -> None:
    one.session.publish(topic, payload, cluster.clock.now)
    cluster.run()


def owners_of(cluster: MemoryCluster, topic: str) -> set[str]:
    histories = [node.cluster.histories for node in cluster.nodes.values()]
    owners = [one.owners.of(topic) for one in histories if one is not None]
    assert all(owners)
    return {owner for owner in owners if owner is not None}


def state_of(node: NodeNetwork, topic: str) -> tuple[str, int]:
    logs = node.hub.state.logs
    assert logs is not None
    log = logs.log(topic)
    assert log is not None
    return log.epoch, log.top


def got(mailbox: Mailbox) -> list[tuple[Any, int | None]]:
    return [(message.data, message.offset) for message in mailbox.take_all()]


@pytest.mark.parametrize("topic", TOPICS)
def test_all_see_one_order_and_one_numbering(cluster: MemoryCluster, topic: str) -> None:
    clients = {name: client(cluster, name, f"c-{name}") for name in NODES}
    boxes = [subscribe(cluster, one, topic) for one in clients.values()]
    for number in range(6):
        publish(cluster, clients[NODES[number % 3]], topic, number)
    expected = [(number, number + 1) for number in range(6)]
    assert [got(box) for box in boxes] == [expected] * 3
    assert not any(isinstance(event, Lost) for one in clients.values() for event in one.events)


@pytest.mark.parametrize("rules", [(History("h/*"),), ()])
def test_a_node_with_other_rules_is_noted(
    cluster: MemoryCluster, rules: tuple[History, ...]
) -> None:
    assert not any(node.cluster.other_histories for node in cluster.nodes.values())
    cluster.kill("n2")
    other = cluster["n2"]
    other._config = replace(other._config, history=rules)
    cluster.start("n2")
    assert sorted(other.cluster.other_histories) == ["n1", "n3"]
    if rules:  # a node without any tells nothing
        assert cluster["n1"].cluster.other_histories == ["n2"]


def owned_by(first: str, second: str) -> str:
    """A topic whose home is the first node, and the second one without that."""
    others = [name for name in NODES if name != first]
    return next(
        topic
        for topic in map("h/{}".format, range(99))
        if home_of(topic, NODES) == first and home_of(topic, others) == second
    )


def test_what_an_owner_sent_before_it_handed_a_topic_over_may_come_late(
    cluster: MemoryCluster,
) -> None:
    topic = owned_by("n1", "n2")
    publisher, subscriber = client(cluster, "n2", "p"), client(cluster, "n3", "s")
    box = subscribe(cluster, subscriber, topic)
    publish(cluster, publisher, topic, 0)
    cluster.wires["n1", "n3"].is_stalled = True
    for number in (1, 2, 3):
        publish(cluster, publisher, topic, number)
    cluster.leave("n1")
    cluster.advance(1.5)
    publish(cluster, publisher, topic, 4)  # which comes before the three, and leaves a gap
    cluster.wires["n1", "n3"].is_stalled = False
    cluster.run()
    publish(cluster, publisher, topic, 5)
    assert got(box) == [(number, number + 1) for number in range(6)]
    assert not any(isinstance(event, Lost) for event in subscriber.events)


def test_a_message_overtakes_none_that_goes_by_way_of_the_former_owner(
    cluster: MemoryCluster,
) -> None:
    topic = owned_by("n1", "n2")
    publisher, subscriber = client(cluster, "n3", "p"), client(cluster, "n2", "s")
    box = subscribe(cluster, subscriber, topic)
    publish(cluster, publisher, topic, 0)
    cluster.wires["n2", "n3"].is_stalled = True  # so n3 does not know yet who owns the topic
    cluster.leave("n1")
    cluster.wires["n3", "n1"].is_stalled = True
    publish(cluster, publisher, topic, 1)  # which goes to n1
    cluster.wires["n2", "n3"].is_stalled = False
    cluster.run()
    publish(cluster, publisher, topic, 2)  # which would go to n2
    cluster.wires["n3", "n1"].is_stalled = False
    cluster.run()
    assert got(box) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("gone", ["n1", "n2"])
def test_what_is_held_goes_on_when_an_owner_is_gone(cluster: MemoryCluster, gone: str) -> None:
    topic = owned_by("n1", "n2")
    publisher, subscriber = client(cluster, "n3", "p"), client(cluster, "n3", "s")
    box = subscribe(cluster, subscriber, topic)
    publish(cluster, publisher, topic, 0)
    cluster.wires["n3", "n1"].is_stalled = True  # no fence comes back
    cluster.leave("n1")
    cluster.advance(1.5)
    publish(cluster, publisher, topic, 1)
    assert got(box) == [(0, 1)]
    cluster.kill(gone)
    cluster.advance(6.0)
    assert [data for data, _ in got(box)] == [1]


def test_nobody_follows_the_loser_of_a_contest(cluster: MemoryCluster) -> None:
    topic = "h/t"
    clients = {name: client(cluster, name, f"c-{name}") for name in NODES}
    for one, other in combinations(NODES, 2):
        cluster.cut(one, other)
    cluster.run()
    for number in range(4):
        publish(cluster, clients["n1"], topic, number)  # which has more than the others
    publish(cluster, clients["n2"], topic, "x")
    cluster.mend("n1", "n3")
    cluster.run()
    cluster.mend("n1", "n2")
    while "n1" not in cluster["n2"].cluster.nodes.others:
        cluster.run_within()
        cluster.deliver_next("n1", "n2")
        cluster.deliver_next("n2", "n1")
    cluster.wires["n1", "n2"].is_stalled = True  # so n2 does not know yet that it has lost
    cluster.mend("n2", "n3")
    cluster.run()
    cluster.wires["n1", "n2"].is_stalled = False
    cluster.run()
    boxes = [subscribe(cluster, one, topic) for one in clients.values()]
    for name in NODES:
        publish(cluster, clients[name], topic, f"from {name}")
    assert owners_of(cluster, topic) == {"n1"}
    assert [[data for data, _ in got(box)] for box in boxes] == [
        [f"from {name}" for name in NODES]
    ] * 3
    late = subscribe(cluster, client(cluster, "n3", "late"), topic, Start(last=50))
    assert [data for data, _ in got(late)] == [2, 3, *(f"from {name}" for name in NODES)]


def test_a_topic_that_no_node_takes_does_not_go_round(cluster: MemoryCluster) -> None:
    topic = owned_by("n1", "n2")
    publish(cluster, client(cluster, "n3", "p"), topic, 1)
    for name in ("n2", "n3"):
        histories = cluster[name].cluster.histories
        assert histories is not None
        histories.hold(for_good=True)  # as a node that ends, and has not said so
    cluster.leave("n1")  # which returns
    cluster.advance(0.1)
    assert owners_of(cluster, topic) == {"n1"}


@pytest.mark.parametrize("topic", TOPICS)
def test_who_comes_late_gets_the_past_on_any_node(cluster: MemoryCluster, topic: str) -> None:
    publisher = client(cluster, "n1", "publisher")
    for number in range(8):
        publish(cluster, publisher, topic, number)
    for name in NODES:
        late = client(cluster, name, f"late-{name}")
        box = subscribe(cluster, late, topic, Start(last=3))
        assert got(box) == [(5, 6), (6, 7), (7, 8)]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_client_resumes_on_another_node(cluster: MemoryCluster, topic: str) -> None:
    publisher = client(cluster, "n1", "publisher")
    first = client(cluster, "n2", "moves")
    box = subscribe(cluster, first, topic)
    publish(cluster, publisher, topic, 0)
    (message,) = box.take_all()
    place = message.position
    assert isinstance(place, Position)
    first.session.close(cluster.clock.now)
    cluster.run()
    publish(cluster, publisher, topic, 1)
    again = client(cluster, "n3", "moves")
    box = subscribe(cluster, again, topic, Start(place))
    assert got(box) == [(1, 2)]
    (recovered,) = [event for event in again.events if isinstance(event, Recovered)]
    assert recovered.messages == 1


@pytest.mark.parametrize("topic", TOPICS)
def test_a_client_that_has_missed_nothing_goes_on(cluster: MemoryCluster, topic: str) -> None:
    publisher = client(cluster, "n1", "publisher")
    first = client(cluster, "n2", "moves")
    box = subscribe(cluster, first, topic)
    publish(cluster, publisher, topic, 0)
    (message,) = box.take_all()
    assert isinstance(message.position, Position)
    first.session.close(cluster.clock.now)
    cluster.run()
    again = client(cluster, "n3", "moves")
    box = subscribe(cluster, again, topic, Start(message.position))
    publish(cluster, publisher, topic, 1)
    assert got(box) == [(1, 2)]
    empty = client(cluster, "n3", "empty")
    box = subscribe(cluster, empty, "h/nothing yet", Start(last=3))
    publish(cluster, publisher, "h/nothing yet", 2)
    assert got(box) == [(2, 1)]


@pytest.mark.parametrize("topic", TOPICS)
def test_what_is_kept_outlives_the_owner_and_nobody_is_told_that_nothing_is_missing(
    cluster: MemoryCluster, topic: str
) -> None:
    publishers = {name: client(cluster, name, f"p-{name}") for name in NODES}
    for number in range(3):
        publish(cluster, publishers["n1"], topic, number)
    position = None
    owners = owners_of(cluster, topic)
    (owner,) = owners
    others = [name for name in NODES if name != owner]
    box = subscribe(cluster, publishers[others[0]], topic, Start(last=1))
    (message,) = box.take_all()
    position = message.position
    cluster.kill(owner)
    cluster.run()
    publish(cluster, publishers[others[1]], topic, "after")
    assert [data for data, _ in got(box)] == ["after"]
    late = client(cluster, others[1], "late")
    assert [data for data, _ in got(subscribe(cluster, late, topic, Start(last=9)))] == [
        0, 1, 2, "after",
    ]  # fmt: skip
    back = client(cluster, others[1], "back")
    subscribe(cluster, back, topic, Start(position))
    assert not any(isinstance(event, Recovered) for event in back.events)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_node_that_comes_back_has_the_past(cluster: MemoryCluster, topic: str) -> None:
    publisher = client(cluster, "n1", "publisher")
    publish(cluster, publisher, topic, 0)
    cluster.kill("n3")
    cluster.run()
    publish(cluster, publisher, topic, 1)
    cluster.start("n3")
    cluster.advance(2.0)
    late = client(cluster, "n3", "late")
    box = subscribe(cluster, late, topic, Start(last=9))
    assert [data for data, _ in got(box)] == [0, 1]
    publish(cluster, publisher, topic, 2)
    assert [data for data, _ in got(box)] == [2]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_link_that_falls_loses_nothing_of_them(cluster: MemoryCluster, topic: str) -> None:
    publishers = {name: client(cluster, name, f"c-{name}") for name in NODES}
    publish(cluster, publishers["n1"], topic, "first")
    (owner,) = owners_of(cluster, topic)
    place = "n2" if owner != "n2" else "n3"
    reader = client(cluster, place, "reader")
    box = subscribe(cluster, reader, topic)
    publish(cluster, publishers["n1"], topic, 0)
    cluster.cut(place, owner)
    publish(cluster, publishers[owner], topic, 1)
    cluster.mend(place, owner)
    cluster.run()
    assert [data for data, _ in got(box)] == [0, 1]
    assert not any(isinstance(event, Lost) for event in reader.events)


@pytest.mark.parametrize("topic", TOPICS)
def test_after_a_split_one_owner_is_left(cluster: MemoryCluster, topic: str) -> None:
    clients = {name: client(cluster, name, f"c-{name}") for name in NODES}
    boxes = {name: subscribe(cluster, clients[name], topic) for name in NODES}
    publish(cluster, clients["n1"], topic, "before")
    cluster.cut("n1", "n2")
    cluster.cut("n1", "n3")
    publish(cluster, clients["n1"], topic, "one side")
    publish(cluster, clients["n2"], topic, "other side")
    cluster.mend("n1", "n2")
    cluster.mend("n1", "n3")
    cluster.run()
    assert len(owners_of(cluster, topic)) == 1
    for box in boxes.values():
        box.take_all()
    for name in NODES:
        publish(cluster, clients[name], topic, name)
    for box in boxes.values():
        assert [data for data, _ in got(box)] == list(NODES)
    assert len(set(map(state_of, cluster.nodes.values(), [topic] * 3))) == 1


@pytest.mark.parametrize("topic", TOPICS)
def test_acks_and_receipts(cluster: MemoryCluster, topic: str) -> None:
    clients = {name: client(cluster, name, f"c-{name}") for name in NODES}
    boxes = {name: subscribe(cluster, clients[name], topic) for name in NODES}
    session, now = clients["n1"].session, cluster.clock.now
    receipt = session.asking.publish_with_receipt(topic, 1, now)
    handle = session.asking.publish_with_ack(topic, 2, 5.0, now)
    cluster.run()
    assert receipt.receipt == 3
    for name, box in boxes.items():
        first, second = box.take_all()
        assert (first.offset, second.offset) == (1, 2)
        clients[name].session.settle(second, None, now, name)
    cluster.run()
    assert handle.finished
    assert {name: one.result for name, one in handle.responses.items()} == {
        f"c-{name}": name for name in NODES
    }


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("by_pattern", [False, True])
def test_what_comes_before_the_confirmation_comes_once_and_in_order(
    cluster: MemoryCluster, topic: str, by_pattern: bool
) -> None:
    """A node is slow to heed a subscription that asks for the past, while messages come."""
    publisher, reader = client(cluster, "n1", "publisher"), client(cluster, "n2", "reader")
    for number in range(3):
        publish(cluster, publisher, topic, number)
    cluster.stall("n2", "n3")
    key = Pattern("h/**") if by_pattern else topic
    box = reader.session.subscribe(key, cluster.clock.now, Start(last=2))
    cluster.run()
    assert not reader.session.is_confirmed(key)
    for number in (3, 4):
        publish(cluster, publisher, topic, number)
    cluster.mend("n2", "n3")
    cluster.run()
    publish(cluster, publisher, topic, 5)
    data = [data for data, _ in got(box)]
    assert data[-3:] == [3, 4, 5]
    assert data == sorted(set(data))
    assert not any(isinstance(event, Lost) for event in reader.events)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("who_goes", ["publisher", "node"])
def test_a_message_whose_ack_nobody_awaits_any_more_comes_all_the_same(
    cluster: MemoryCluster, topic: str, who_goes: str
) -> None:
    """It was numbered, so it is one of the topic."""
    publish(cluster, client(cluster, "n1", "first"), topic, 0)
    (owner,) = owners_of(cluster, topic)
    place, third = [name for name in NODES if name != owner]
    publisher, readers = client(cluster, place, "publisher"), {}
    for name in (place, third):
        readers[name] = subscribe(cluster, client(cluster, name, f"reader-{name}"), topic)
    cluster.stall(owner, place if who_goes == "publisher" else third)
    publisher.session.asking.publish_with_ack(topic, 1, 20.0, cluster.clock.now)
    cluster.run()
    if who_goes == "publisher":
        publisher.session.close(cluster.clock.now)
    else:
        cluster.kill(place)
        del readers[place]
    cluster.run()
    for other in (place, third):
        if cluster[other].is_running:
            cluster.mend(owner, other)
    cluster.run()
    publish(cluster, client(cluster, owner, "last"), topic, 2)
    for box in readers.values():
        assert [data for data, _ in got(box)] == [1, 2]
