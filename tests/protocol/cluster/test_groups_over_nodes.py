"""Groups whose members are on several nodes."""

from collections import Counter
from typing import Any

import pytest

from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.message import Message
from kps.protocol.cluster.frames import write_key
from kps.protocol.cluster.homes import home_of
from kps.protocol.dialect.outcome import GroupResponse
from kps.protocol.dialect.requests import Demands
from kps.protocol.patterns import InGroup
from kps.testing.cluster import MemoryCluster

NODES = ("n1", "n2", "n3")

GROUPS = [InGroup("jobs", f"g{number}") for number in range(200)]


def home(group: InGroup, nodes: tuple[str, ...]) -> str:
    return home_of("\0".join(write_key(group)), nodes)


class Workers:
    """A worker on each node, and a publisher on each."""

    def __init__(self, cluster: MemoryCluster, group: InGroup) -> None:
        self.cluster = cluster
        self.group = group
        self.publishers = {name: cluster[name].client(f"p-{name}") for name in cluster.nodes}
        self.workers = {f"w-{name}": cluster[name].client(f"w-{name}") for name in cluster.nodes}
        cluster.run()
        now = cluster.clock.now
        self.boxes = {
            name: client.session.subscribe(group, now) for name, client in self.workers.items()
        }
        cluster.run()

    def ask(self, node: str, payload: object, **demands: Any) -> AckHandle:
        session = self.publishers[node].session
        handle = session.asking.publish_with_ack(
            str(self.group.scope), payload, 60.0, self.cluster.clock.now, Demands(**demands)
        )
        self.cluster.run()
        return handle

    def publish(self, node: str, payload: object) -> None:
        self.publishers[node].session.publish(
            str(self.group.scope), payload, self.cluster.clock.now
        )
        self.cluster.run()

    def take(self) -> list[tuple[str, Message]]:
        """What the workers have, and who has it."""
        return [(name, one) for name, box in self.boxes.items() for one in box.take_all()]

    def settle(self, name: str, message: Message, error: str | None = None) -> None:
        session = self.workers[name].session
        session.settle(message, error, self.cluster.clock.now, f"{message.data} by {name}")
        self.cluster.run()


def outcome(handle: AckHandle) -> GroupResponse:
    assert handle.finished
    (response,) = handle.responses.values()
    assert isinstance(response, GroupResponse)
    return response


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(NODES)


@pytest.fixture(params=range(6))
def workers(cluster: MemoryCluster, request: pytest.FixtureRequest) -> Workers:
    return Workers(cluster, InGroup("jobs", f"g{request.param}"))  # with homes on several nodes


def test_each_message_goes_to_one_member(workers: Workers) -> None:
    for number in range(9):
        workers.publish(NODES[number % 3], number)
    taken = workers.take()
    assert sorted(message.data for _, message in taken) == list(range(9))
    assert set(Counter(name for name, _ in taken).values()) == {3}


def test_each_task_goes_to_the_member_with_the_least_to_do(workers: Workers) -> None:
    handles = [workers.ask(NODES[number % 3], number) for number in range(5)]
    taken = workers.take()
    assert sorted(name for name, _ in taken) == sorted(workers.workers)  # the others wait
    done = 0
    while taken:
        for name, message in taken:
            workers.settle(name, message)
            done += 1
        taken = workers.take()
    assert done == 5
    for number, handle in enumerate(handles):
        response = outcome(handle)
        assert (response.success, response.attempts) == (True, 1)
        assert response.result == f"{number} by {response.client_id}"


def test_what_a_worker_had_that_has_gone_goes_to_another_one(workers: Workers) -> None:
    handle = workers.ask("n1", "x")
    ((name, _),) = workers.take()
    link = workers.workers[name].link
    assert link is not None
    link.cut()
    workers.cluster.run()
    ((other, message),) = workers.take()
    assert message.attempt == 2
    workers.settle(other, message)
    response = outcome(handle)
    assert (response.client_id, response.attempts) == (other, 2)
    assert response.failures == ((name, "disconnected"),)


def test_what_a_node_had_that_has_died_goes_to_another_one(workers: Workers) -> None:
    first = workers.ask("n1", "y")
    ((busy, _),) = workers.take()
    # Whoever has the first task gets no second one, so what is asked there goes elsewhere.
    handle = workers.ask(busy.removeprefix("w-"), "x")
    ((name, _),) = workers.take()
    node = name.removeprefix("w-")
    assert name != busy
    assert not first.finished
    workers.cluster.kill(node)
    workers.cluster.run()
    ((other, message),) = workers.take()
    assert message.attempt == 2
    workers.settle(other, message)
    assert outcome(handle).attempts == 2


@pytest.mark.parametrize("which", [0, 1])
def test_when_the_home_dies_its_tasks_go_on_at_the_next_one(workers: Workers, which: int) -> None:
    cluster = workers.cluster
    homes = {name: cluster[name].cluster.nodes.home_of_group(workers.group) for name in NODES}
    publisher, home = [(name, one) for name, one in homes.items() if one is not None][which]
    handles = [workers.ask(publisher, number) for number in range(6)]
    cluster.kill(home.id)
    cluster.run()
    seen: Counter[object] = Counter()
    for _ in range(20):
        for name, message in workers.take():
            if name != f"w-{home.id}":
                seen[message.data] += 1
                workers.settle(name, message)
    assert all(outcome(handle).success for handle in handles)
    for handle in handles:  # who had it before may have begun with it, so it counts
        attempts = outcome(handle).attempts
        assert seen[int(str(outcome(handle).result).split()[0])] <= attempts


def test_a_node_that_comes_back_takes_its_part(workers: Workers) -> None:
    cluster = workers.cluster
    cluster.kill("n3")
    cluster.run()
    handles = [workers.ask("n1", number) for number in range(4)]
    cluster.start("n3")
    cluster.advance(2.0)
    again = cluster["n3"].client("again")
    workers.workers["again"] = again
    workers.boxes["again"] = again.session.subscribe(workers.group, cluster.clock.now)
    cluster.run()
    handles += [workers.ask("n2", number) for number in range(4, 8)]
    by: Counter[str] = Counter()
    for _ in range(20):
        for name, message in workers.take():
            by[name] += 1
            workers.settle(name, message)
    assert all(outcome(handle).success for handle in handles)
    assert sum(by.values()) == 8
    assert by["again"]


def test_a_member_is_free_once_the_home_before_the_present_one_is_gone() -> None:
    """The present home knew that the member had a task of the one before."""
    group = next(one for one in GROUPS if home(one, NODES[:2]) == "n1" and home(one, NODES) == "n3")
    cluster = MemoryCluster(NODES)
    cluster.kill("n3")
    worker, publisher = cluster["n2"].client("worker"), cluster["n2"].client("publisher")
    cluster.run()
    box = worker.session.subscribe(group, cluster.clock.now)
    cluster.run()

    def ask(number: int) -> AckHandle:
        now = cluster.clock.now
        handle = publisher.session.asking.publish_with_ack("jobs", number, 60.0, now, Demands())
        cluster.run()
        return handle

    def handle_all() -> None:
        for message in box.take_all():
            worker.session.settle(message, None, cluster.clock.now)
        cluster.run()

    handles = [ask(1)]
    cluster.start("n3")
    (guest,) = cluster["n3"].cluster.members._guests.values()
    assert guest.others == {group: 1}
    cluster.kill("n1")
    cluster.run()
    assert guest.others == {group: 0}
    for _ in range(2):  # also what the present home gives it again
        handle_all()
    handles.append(ask(2))
    handle_all()
    assert [outcome(handle).success for handle in handles] == [True, True]


def test_a_failure_is_tried_again_and_told(workers: Workers) -> None:
    handle = workers.ask("n1", "x", retries=1)
    ((first, message),) = workers.take()
    workers.settle(first, message, "no room")
    ((second, message),) = workers.take()
    assert second != first
    workers.settle(second, message, "no time")
    response = outcome(handle)
    assert (response.error, response.failures) == ("no time", ((first, "no room"),))


def test_messages_with_one_key_go_to_one_member(workers: Workers) -> None:
    takers = set()
    for number in range(6):
        handle = workers.ask(NODES[number % 3], number, message_key="k")
        ((name, message),) = workers.take()
        workers.settle(name, message)
        assert outcome(handle).success
        takers.add(name)
    assert len(takers) == 1


def test_without_members_a_request_is_told_so(cluster: MemoryCluster) -> None:
    workers = Workers(cluster, InGroup("jobs", "g"))
    for name, box in workers.boxes.items():
        workers.workers[name].session.unsubscribe(box, cluster.clock.now)
    cluster.run()
    handle = workers.ask("n1", 1, groups=("g",))
    assert outcome(handle).error == "no member"
    for node in cluster.nodes.values():
        assert not len(node.hub.state.bus)


def test_receipts_count_members(cluster: MemoryCluster) -> None:
    for number in range(4):
        workers = Workers(cluster, InGroup(f"t{number}", "g"))
        for name in NODES:
            receipt = workers.publishers[name].session.asking.publish_with_receipt(
                f"t{number}", 1, cluster.clock.now
            )
            cluster.run()
            assert receipt.receipt == 1
