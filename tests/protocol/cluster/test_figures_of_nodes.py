"""Figures of all nodes: any node tells them, they are of now, and nobody waits for long."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any

import pytest

from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.cluster.cluster import Cluster
from kps.protocol.cluster.figures import _packed, _unpacked
from kps.protocol.patterns import InGroup, Pattern
from kps.protocol.server.config import HubConfig
from kps.protocol.server.metrics import Figures, gather
from kps.protocol.server.monitor import STATS_TOPIC
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.testing.cluster import MemoryCluster, NodeNetwork
from kps.testing.network import MemoryClient
from tests.protocol.helpers import Peer, request

NODES = ("n1", "n2", "n3")
HERE = "127.0.0.1:5000"


class Shown:
    """Shows the figures of a node as JSON: clients, by node."""

    def __init__(self, node: NodeNetwork) -> None:
        self._node = node

    def gather(self) -> Figures:
        return gather(self._node.hub, "memory")

    def answer(self, request: HttpRequest, by_node: Mapping[str, Figures]) -> HttpResponse:
        clients = {node: figures["kps_clients",] for node, figures in by_node.items()}
        return HttpResponse(200, json.dumps(clients).encode())


def new_cluster(**config: Any) -> MemoryCluster:
    return MemoryCluster(
        NODES, config=HubConfig(id="n", shows_metrics=True, **config), exporter=Shown
    )


@pytest.fixture
def cluster() -> MemoryCluster:
    made = new_cluster()
    for number, name in enumerate(NODES):
        for client in range(number + 1):
            made[name].client(f"{name}-{client}")
    made.run()
    return made


class Scrape(Peer):
    """A request for the figures to a node."""

    def __init__(self, cluster: MemoryCluster, node: str, *, is_operator: bool = False) -> None:
        super().__init__(cluster[node].hub, cluster.clock, HERE)
        if is_operator:
            hub, now = cluster[node].hub, cluster.clock.now
            self.connection = hub.connect("192.0.2.1:5", now, is_operator=True)
        self.cluster = cluster
        self.feed(request("/metrics"))
        cluster.run()

    @property
    def clients(self) -> dict[str, int] | None:
        """How many clients the nodes have that are in the answer, if there is one."""
        data = self.read()
        head, _, body = data.partition(b"\r\n\r\n")
        if not data:
            return None
        assert head.startswith(b"HTTP/1.1 200"), head
        found: dict[str, int] = json.loads(body)
        return found


class TestForOperators:
    @pytest.mark.parametrize("is_operator", [False, True])
    @pytest.mark.parametrize("node", NODES)
    def test_any_node_answers_for_all(
        self, cluster: MemoryCluster, node: str, is_operator: bool
    ) -> None:
        scrape = Scrape(cluster, node, is_operator=is_operator)
        assert scrape.clients == {"n1": 1, "n2": 2, "n3": 3}

    def test_they_are_of_now(self, cluster: MemoryCluster) -> None:
        assert Scrape(cluster, "n1").clients == {"n1": 1, "n2": 2, "n3": 3}
        cluster["n3"].client("another")
        cluster.run()
        assert Scrape(cluster, "n1").clients == {"n1": 1, "n2": 2, "n3": 4}

    def test_one_that_says_nothing_is_missing_after_a_second(self, cluster: MemoryCluster) -> None:
        cluster.stall("n1", "n3")
        scrape = Scrape(cluster, "n1")
        cluster.advance(0.9)
        assert scrape.clients is None
        assert scrape.connection.wants_pause
        cluster.advance(0.2)
        assert scrape.clients == {"n1": 1, "n2": 2}
        cluster.mend("n1", "n3")  # what it says now comes too late
        cluster.run()
        assert Scrape(cluster, "n1").clients == {"n1": 1, "n2": 2, "n3": 3}

    def test_nobody_waits_for_one_that_dies(self, cluster: MemoryCluster) -> None:
        cluster.stall("n1", "n3")
        scrape = Scrape(cluster, "n1")
        cluster.kill("n3")
        cluster.run()
        assert scrape.clients == {"n1": 1, "n2": 2}
        assert Scrape(cluster, "n1").clients == {"n1": 1, "n2": 2}

    def test_one_that_begins_again_is_there_again(self, cluster: MemoryCluster) -> None:
        cluster.kill("n3")
        cluster.start("n3")
        assert Scrape(cluster, "n1").clients == {"n1": 1, "n2": 2, "n3": 0}

    def test_a_node_alone_answers_at_once(self) -> None:
        alone = MemoryCluster(("n1",), config=HubConfig(id="n", shows_metrics=True), exporter=Shown)
        peer = Peer(alone["n1"].hub, alone.clock, HERE)
        peer.feed(request("/metrics"))
        assert b"200 OK" in peer.read()

    def test_who_hangs_up_meanwhile_does_no_harm(self, cluster: MemoryCluster) -> None:
        cluster.stall("n1", "n3")
        gone, ended, scrape = (Scrape(cluster, "n1") for _ in range(3))
        before = len(cluster["n1"].hub.connections)
        gone.connection.connection_lost(cluster.clock.now)
        ended.connection.receive_eof(cluster.clock.now)
        cluster.advance(1.1)
        assert scrape.clients == {"n1": 1, "n2": 2}
        assert gone.clients is None
        assert ended.clients is None
        assert len(cluster["n1"].hub.connections) == before - 1  # its driver has the other two

    def test_what_follows_the_request_is_not_read(self, cluster: MemoryCluster) -> None:
        cluster.stall("n1", "n3")
        scrape = Scrape(cluster, "n1")
        scrape.feed(request("/healthz"))
        assert scrape.connection.wants_pause
        cluster.advance(1.1)
        assert scrape.clients == {"n1": 1, "n2": 2}
        assert not scrape.read()

    def test_the_end_of_the_server_does_not_wait(self, cluster: MemoryCluster) -> None:
        cluster.stall("n1", "n3")
        scrape = Scrape(cluster, "n1")
        cluster["n1"].hub.shutdown(5.0, cluster.clock.now)
        assert scrape.read().startswith(b"HTTP/1.1 503")
        cluster.advance(1.1)
        assert not scrape.read()

    def test_it_is_asked_only_for_who_may_see_them(self) -> None:
        cluster = new_cluster(asks_token=True)
        hub, now = cluster["n1"].hub, cluster.clock.now
        for permissions, status in ((Permissions(), b"403"), (Permissions(console=True), b"200")):
            scrape = Peer(hub, cluster.clock, HERE)
            scrape.feed(request("/metrics?token=x"))
            cluster.run()
            assert not scrape.read()
            hub.judge(scrape.connection.number, Identity("ops", permissions), now)
            cluster.run()
            assert scrape.read().startswith(b"HTTP/1.1 " + status)

    def test_several_at_a_time(self, cluster: MemoryCluster) -> None:
        cluster.stall("n1", "n3")
        first = Scrape(cluster, "n1")
        cluster.advance(0.5)
        second = Scrape(cluster, "n1")
        cluster.advance(0.6)
        assert first.clients == {"n1": 1, "n2": 2}
        assert second.clients is None
        cluster.mend("n1", "n3")
        cluster.run()
        assert second.clients == {"n1": 1, "n2": 2, "n3": 3}

    def test_a_node_that_shows_nothing_is_missing_at_once(self) -> None:
        cluster = MemoryCluster(
            NODES,
            config=HubConfig(id="n", shows_metrics=True),
            exporter=Shown,
        )
        for name in ("n2", "n3"):
            cluster[name].cluster._survey.answers.clear()
        assert Scrape(cluster, "n1").clients == {"n1": 0}

    @pytest.mark.pure("it replaces a part of the core")
    @pytest.mark.parametrize("node", ["n1", "n2"])
    def test_a_fault_in_the_figures_of_a_node_ends_no_link(
        self, node: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither at the node that is asked, nor at the one that asks and has its own figures."""

        def fail(self: Shown) -> Figures:
            if self._node is cluster[node]:
                raise RuntimeError("a fault")
            return gather_all(self)

        def note(self: Cluster, where: str, error: Exception) -> None:
            faults.append((self.nodes.me, str(error)))

        gather_all, faults = Shown.gather, list[tuple[str, str]]()
        monkeypatch.setattr(Shown, "gather", fail)
        monkeypatch.setattr(Cluster, "_failed", note)
        cluster = new_cluster()
        for one in cluster.nodes.values():
            one.cluster.changes.clear()
        scrape = Scrape(cluster, "n1")
        assert scrape.clients == (None if node == "n1" else {"n1": 0, "n3": 0})
        assert not any(one.cluster.changes for one in cluster.nodes.values())
        assert faults == [(node, "a fault")]

    def test_figures_come_as_they_went(self) -> None:
        figures: Figures = {("a",): 1, ("b", "x", "ÿ\n"): 2.5, ("c",): inf}
        assert _unpacked(_packed(figures)) == figures


def test_health_tells_how_many_nodes_are_linked(cluster: MemoryCluster) -> None:
    def nodes() -> int:
        peer = Peer(cluster["n1"].hub, cluster.clock, HERE)
        peer.feed(request("/healthz"))
        found: int = json.loads(peer.read().partition(b"\r\n\r\n")[2])["nodes"]
        return found

    assert nodes() == 3
    cluster.kill("n2")
    assert nodes() == 2


class Watched:
    """A cluster whose figures a client watches on one node."""

    def __init__(self, *keys: str | Pattern, node: str = "n1") -> None:
        self.cluster = MemoryCluster(NODES, config=HubConfig(id="n", is_monitored=True))
        for number, name in enumerate(NODES):
            for client in range(number + 1):
                self.client(name, f"{name}-{client}")
        session = self.client(node, "console").session
        self.box = session.subscribe(keys[0] if keys else STATS_TOPIC, self.cluster.clock.now)

    def client(self, node: str, name: str) -> MemoryClient:
        made = self.cluster[node].client(name)
        self.cluster.run()
        return made

    def take(self, seconds: float = 1.0) -> dict[str, Any]:
        """The newest figures after some time."""
        self.cluster.advance(seconds)
        found: dict[str, Any] = self.box.take_all()[-1].data
        return found

    def states(self, figures: dict[str, Any]) -> dict[str, str]:
        return {node["id"]: node["state"] for node in figures["nodes"]}


class TestForThoseWhoWatch:
    def test_totals_and_nodes(self) -> None:
        watched = Watched()
        figures = watched.take(0.0)
        assert figures["id"] == "n1"
        assert (figures["client_count"], figures["connections"]) == (7, 7)
        assert len(figures["clients"]) == 7
        assert {one["id"] for one in figures["clients"]} >= {"console", "n3-2"}
        shown = [(one["id"], one["client_count"], one["links"]) for one in figures["nodes"]]
        assert shown == [("n1", 2, 2), ("n2", 2, 2), ("n3", 3, 2)]
        assert figures["bytes_in"] == sum(one["bytes_in"] for one in figures["nodes"]) > 0
        assert set(watched.states(figures).values()) == {"up"}

    def test_topics_of_all_nodes_each_once(self) -> None:
        watched = Watched()
        cluster = watched.cluster
        for name in ("n2", "n3"):
            session = watched.client(name, f"sub-{name}").session
            for key in ("t", f"only/{name}", Pattern("t**"), InGroup("t", "g")):
                session.subscribe(key, cluster.clock.now)
            cluster.run()
        for name in NODES:
            session = watched.client(name, f"pub-{name}").session
            session.publish("t", 1, cluster.clock.now)
        cluster.run()
        figures = watched.take(2.0)
        topics = {
            one.get("topic") or one["pattern"]: (one["subscribers"], one["published"])
            for one in figures["topics"]
        }
        assert figures["topic_count"] == len(topics) == 5
        del topics[STATS_TOPIC]
        assert topics == {"t": (4, 3), "only/n2": (1, 0), "only/n3": (1, 0), "t**": (2, 3)}
        own = figures["published"] - 3  # the figures themselves
        assert own > 0
        assert figures["delivered"] == 3 * 3 + own

    def test_lists_have_200_entries_in_all(self) -> None:
        watched = Watched()
        cluster = watched.cluster
        for number in range(210):
            session = watched.client(NODES[number % 3], f"c{number}").session
            session.subscribe(f"t{number}", cluster.clock.now)
        figures = watched.take(2.0)
        assert (figures["client_count"], len(figures["clients"])) == (217, 200)
        assert (figures["topic_count"], len(figures["topics"])) == (211, 200)
        assert {one["subscribers"] for one in figures["topics"]} == {1}
        assert len({one["id"] for one in figures["clients"]}) == 200

    def test_one_that_says_nothing_is_silent_then_down_and_up_again(self) -> None:
        watched = Watched()
        before = watched.take(0.0)
        watched.cluster.stall("n1", "n3")
        figures = watched.take(1.6)
        assert watched.states(figures) == {"n1": "up", "n2": "up", "n3": "silent"}
        assert figures["client_count"] == 4
        figures = watched.take(6.0)
        assert watched.states(figures) == {"n1": "up", "n2": "up", "n3": "down"}
        assert figures["connections"] == before["connections"]  # a total does not fall
        watched.cluster.mend("n1", "n3")
        figures = watched.take(3.0)
        assert set(watched.states(figures).values()) == {"up"}
        assert figures["client_count"] == before["client_count"]

    def test_they_come_every_second_although_one_says_nothing(self) -> None:
        watched = Watched()
        watched.cluster.stall("n1", "n3")
        watched.cluster.advance(4.6)
        assert len(watched.box.take_all()) == 5

    def test_totals_go_on_when_a_node_begins_again(self) -> None:
        watched = Watched()
        cluster = watched.cluster
        before = watched.take(0.0)
        cluster.kill("n3")
        during = watched.take(2.0)
        cluster.start("n3")
        watched.client("n3", "new")
        after = watched.take(2.0)
        assert [one["connections"] for one in (before, during, after)] == [7, 7, 8]
        (again,) = [one for one in after["nodes"] if one["id"] == "n3"]
        assert again["connections"] == 1
        assert after["bytes_in"] > during["bytes_in"] >= before["bytes_in"]

    def test_the_time_is_that_of_the_first_node(self) -> None:
        watched = Watched()
        cluster = watched.cluster
        cluster.advance(100.0)
        cluster.kill("n1")
        cluster.start("n1")
        session = watched.client("n1", "again").session
        watched.box = session.subscribe(STATS_TOPIC, cluster.clock.now)
        figures = watched.take(5.0)
        assert 105.0 <= figures["uptime"] < 106.0
        assert next(one for one in figures["nodes"] if one["id"] == "n1")["uptime"] < 6.0

    def test_nobody_is_asked_when_nobody_watches(self) -> None:
        watched = Watched()
        cluster = watched.cluster
        watched.take(1.0)
        asked: list[object] = []

        def note(tell: Callable[..., None], *about: object) -> None:
            asked.append(about)
            tell(*about)

        for node in cluster.nodes.values():
            answers = node.cluster._survey.answers
            answers["stats"] = partial(note, answers["stats"])
        watched.take(1.0)
        assert asked
        console = cluster["n1"].clients[-1].session
        console.unsubscribe(watched.box, cluster.clock.now)
        cluster.advance(1.5)
        asked.clear()
        cluster.advance(5.0)
        assert not asked
