"""Who is subscribed, told to observers on any node."""

from typing import Any

import pytest

from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.client.events import PresenceChanged
from kps.protocol.dialect.requests import PresenceWish
from kps.testing.cluster import MemoryCluster
from kps.testing.network import MemoryClient

NODES = ("n1", "n2", "n3")
TICK = 0.2


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(NODES)


async def nothing(_: Any) -> None:
    """Hear of changes, which the test reads itself."""


def observe(cluster: MemoryCluster, client: MemoryClient) -> Mailbox:
    wish = PresenceWish(observes=True)
    mailbox = client.session.subscribe("t", cluster.clock.now, wish=wish, observer=nothing)
    cluster.run()
    return mailbox


def told(client: MemoryClient) -> list[Any]:
    events = [event.presence for event in client.events if isinstance(event, PresenceChanged)]
    client.events.clear()
    return events


def join(
    cluster: MemoryCluster, node: str, client_id: str, info: bytes | None = None
) -> MemoryClient:
    client = cluster[node].client(client_id)
    cluster.run()
    client.session.subscribe("t", cluster.clock.now, wish=PresenceWish(info))
    cluster.run()
    return client


def test_the_first_list_has_the_members_of_all_nodes(cluster: MemoryCluster) -> None:
    for name in NODES:
        join(cluster, name, f"m-{name}", b'{"on":"%b"}' % name.encode())
    observer = cluster["n1"].client("observer")
    cluster.run()
    observe(cluster, observer)
    (first,) = told(observer)
    assert first.count == 4
    assert first.members == {
        "observer": None,
        **{f"m-{name}": {"on": name} for name in NODES},
    }


def test_who_comes_and_goes_on_other_nodes(cluster: MemoryCluster) -> None:
    observer = cluster["n1"].client("observer")
    cluster.run()
    observe(cluster, observer)
    told(observer)
    client = join(cluster, "n2", "m", b'{"a":1}')
    cluster.advance(TICK)
    (change,) = told(observer)
    assert dict(change.joined) == {"m": {"a": 1}}
    client.session.close(cluster.clock.now)
    cluster.advance(TICK)
    (change,) = told(observer)
    assert dict(change.left) == {"m": "closed"}


def test_who_moves_to_another_node_in_time_has_not_left(cluster: MemoryCluster) -> None:
    observer = cluster["n1"].client("observer")
    cluster.run()
    observe(cluster, observer)
    client = join(cluster, "n2", "m", b'{"a":1}')
    cluster.advance(TICK)
    told(observer)
    assert client.link is not None
    client.link.cut()
    cluster.advance(TICK)
    join(cluster, "n3", "m", b'{"a":1}')
    cluster.advance(60.0)
    assert not told(observer)


def test_the_clients_of_a_node_that_dies_leave_after_their_grace(cluster: MemoryCluster) -> None:
    observer = cluster["n1"].client("observer")
    cluster.run()
    observe(cluster, observer)
    join(cluster, "n2", "m")
    cluster.advance(TICK)
    told(observer)
    cluster.kill("n2")
    cluster.advance(60.0)
    (change,) = told(observer)
    assert dict(change.left) == {"m": "lost"}


def test_a_look_without_a_subscription(cluster: MemoryCluster) -> None:
    for name in NODES:
        join(cluster, name, f"m-{name}")
    client = cluster["n2"].client("looker")
    cluster.run()
    look = client.session.members.ask("t", cluster.clock.now)
    cluster.run()
    assert look.presence is not None
    assert sorted(look.presence.members or ()) == [f"m-{name}" for name in NODES]
    for node in cluster.nodes.values():  # nobody watches any more
        assert not node.cluster._presence._watchers


def test_a_new_id_and_a_new_info(cluster: MemoryCluster) -> None:
    observer = cluster["n1"].client("observer")
    cluster.run()
    observe(cluster, observer)
    client = join(cluster, "n2", "m", b'{"a":1}')
    cluster.advance(TICK)
    told(observer)
    client.session.subscribe("t", cluster.clock.now, wish=PresenceWish(b'{"a":2}'))
    cluster.advance(TICK)
    (change,) = told(observer)
    assert dict(change.updated or change.joined) == {"m": {"a": 2}}
