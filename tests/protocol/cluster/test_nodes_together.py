"""What clients of several nodes notice of each other."""

from collections.abc import Callable

import pytest

from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.history import History
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.client.events import Ended, ErrorReceived
from kps.protocol.client.reconnect import Backoff
from kps.protocol.cluster.cluster import Cluster
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.homes import home_of
from kps.protocol.dialect.outcome import Receipt
from kps.protocol.dialect.requests import Demands, PresenceWish
from kps.protocol.patterns import Pattern
from kps.protocol.server.config import HubConfig
from kps.testing.cluster import MemoryCluster
from kps.testing.network import MemoryClient

SOON = Backoff(first=0.1, factor=1.0, longest=0.1, jitter=0.0)
NODES = ("n1", "n2", "n3")


def data(mailbox: Mailbox) -> list[object]:
    return [message.data for message in mailbox.take_all()]


def errors(client: MemoryClient) -> list[str]:
    return [event.code for event in client.events if isinstance(event, ErrorReceived)]


class Pair:
    """A client on each node."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self.clients = {name: cluster[name].client(f"on-{name}") for name in cluster.nodes}
        cluster.run()

    def publish(self, node: str, topic: str, payload: object) -> None:
        self.clients[node].session.publish(topic, payload, self.cluster.clock.now)
        self.cluster.run()

    def subscribe(self, node: str, topic: str | Pattern) -> Mailbox:
        mailbox = self.clients[node].session.subscribe(topic, self.cluster.clock.now)
        self.cluster.run()
        return mailbox


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(NODES)


@pytest.fixture
def pair(cluster: MemoryCluster) -> Pair:
    return Pair(cluster)


def test_all_know_each_other(cluster: MemoryCluster) -> None:
    for name in NODES:
        assert set(cluster[name].cluster.nodes.others) == set(NODES) - {name}


def test_publications_reach_the_subscribers_of_all_nodes_in_order(pair: Pair) -> None:
    boxes = [pair.subscribe(name, "t") for name in NODES]
    every = pair.subscribe("n2", Pattern("**"))
    for number in range(5):
        pair.publish("n1", "t", number)
    assert [data(box) for box in (*boxes, every)] == [list(range(5))] * 4


def test_a_subscription_is_confirmed_when_all_nodes_heed_it(pair: Pair) -> None:
    cluster = pair.cluster
    cluster.stall("n1", "n3")
    box = pair.clients["n1"].session.subscribe("t", cluster.clock.now)
    cluster.run()
    assert not pair.clients["n1"].session.is_confirmed("t")
    pair.publish("n2", "t", "at once")
    assert data(box) == ["at once"]
    cluster.mend("n1", "n3")
    cluster.run()
    assert pair.clients["n1"].session.is_confirmed("t")


def test_nobody_waits_for_long_for_a_node_that_does_not_answer(pair: Pair) -> None:
    cluster = pair.cluster
    cluster.stall("n1", "n3")
    late = pair.subscribe("n1", "t")
    cluster.advance(1.1)
    assert pair.clients["n1"].session.is_confirmed("t")
    assert cluster["n1"].hub.state.tally.unconfirmed == 1
    assert late.unconfirmed == ["n3"]
    cluster.mend("n1", "n3")
    again = pair.subscribe("n1", "other")
    assert not again.unconfirmed


def test_answers_of_a_node_that_is_cut_off_say_so(pair: Pair) -> None:
    cluster = pair.cluster
    box, session = pair.subscribe("n1", "t"), pair.clients["n1"].session

    def ask() -> tuple[Receipt | None, AckHandle, AckHandle]:
        now = cluster.clock.now
        receipt = session.asking.publish_with_receipt("t", 1, now)
        handle = session.asking.publish_with_ack("t", 2, 5.0, now)
        own = cluster["n1"].hub.publish_with_ack("t", 3, 5.0, now)
        cluster.run()
        for message in box.take_all():
            session.settle(message, None, now)
        cluster.run()
        return receipt.receipt, handle, own

    cluster["n1"].cluster.has_engine(False, cluster.clock.now)
    receipt, *acks = ask()
    assert (receipt, receipt is not None and receipt.degraded) == (1, True)
    assert [ack.is_degraded for ack in acks] == [True, True]
    cluster["n1"].cluster.has_engine(True, cluster.clock.now)
    receipt, *acks = ask()
    assert (receipt, receipt is not None and receipt.degraded) == (1, False)
    assert [(ack.finished, ack.is_degraded) for ack in acks] == [(True, False)] * 2


def test_what_nobody_wants_goes_nowhere(pair: Pair) -> None:
    cluster = pair.cluster
    box = pair.subscribe("n2", "t")
    pair.clients["n2"].session.unsubscribe(box, cluster.clock.now)
    cluster.run()
    assert not cluster["n1"].hub.state.bus.subscribers("t")


def test_receipts_count_the_subscribers_of_all_nodes(pair: Pair) -> None:
    cluster = pair.cluster
    for name in NODES:
        pair.subscribe(name, "t")
    session = pair.clients["n1"].session
    receipt = session.asking.publish_with_receipt("t", 1, cluster.clock.now)
    cluster.run()
    assert receipt.receipt == 3


class TestDirectMessages:
    def test_they_reach_a_client_on_any_node(self, pair: Pair) -> None:
        boxes = {name: pair.clients[name].session.subscriptions.open_direct() for name in NODES}
        for source in NODES:
            for target in NODES:
                pair.clients[source].session.publish_to_id(
                    f"on-{target}", source, pair.cluster.clock.now
                )
        pair.cluster.run()
        for name in NODES:
            assert sorted(map(str, data(boxes[name]))) == list(NODES)

    def test_nobody(self, pair: Pair) -> None:
        for name in NODES:
            for number in range(3):  # with homes on several nodes
                client = pair.clients[name]
                client.session.publish_to_id(f"nobody-{number}", 1, pair.cluster.clock.now)
        pair.cluster.run()
        for name in NODES:
            assert errors(pair.clients[name]) == ["no_such_client"] * 3

    def test_acks(self, pair: Pair) -> None:
        cluster = pair.cluster
        for target in NODES:
            session = pair.clients[target].session
            inbox = session.subscriptions.open_direct()
            for source in NODES:
                handle = pair.clients[source].session.asking.publish_to_id_with_ack(
                    f"on-{target}", 1, 5.0, cluster.clock.now
                )
                cluster.run()
                (message,) = inbox.take_all()
                session.settle(message, None, cluster.clock.now, source)
                cluster.run()
                assert handle.finished
                outcome = handle.responses[f"on-{target}"]
                assert (outcome.success, outcome.result) == (True, source)

    def test_an_ack_of_nobody(self, pair: Pair) -> None:
        for name in NODES:
            for number in range(3):
                handle = pair.clients[name].session.asking.publish_to_id_with_ack(
                    f"nobody-{number}", 1, 5.0, pair.cluster.clock.now
                )
                pair.cluster.run()
                assert handle.finished
                assert not handle.responses


class TestAcks:
    def test_each_subscriber_has_its_outcome(self, pair: Pair) -> None:
        cluster = pair.cluster
        boxes = {name: pair.subscribe(name, "t") for name in NODES}
        handle = pair.clients["n1"].session.asking.publish_with_ack("t", 1, 5.0, cluster.clock.now)
        cluster.run()
        for name, box in boxes.items():
            (message,) = box.take_all()
            failure = "no" if name == "n2" else None
            pair.clients[name].session.settle(message, failure, cluster.clock.now, name)
        cluster.run()
        assert handle.finished
        told = {name: (one.success, one.error) for name, one in handle.responses.items()}
        assert told == {
            "on-n1": (True, None),
            "on-n2": (False, "no"),
            "on-n3": (True, None),
        }

    def test_a_node_that_dies_is_told_at_once(self, pair: Pair) -> None:
        cluster = pair.cluster
        boxes = {name: pair.subscribe(name, "t") for name in NODES}
        handle = pair.clients["n1"].session.asking.publish_with_ack("t", 1, 50.0, cluster.clock.now)
        cluster.run()
        cluster.kill("n3")
        for name in ("n1", "n2"):
            (message,) = boxes[name].take_all()
            pair.clients[name].session.settle(message, None, cluster.clock.now)
        cluster.run()
        assert handle.finished
        assert handle.responses["on-n3"].error == "disconnected"

    def test_a_node_that_dies_before_it_has_said_whom_it_asks(self, pair: Pair) -> None:
        cluster = pair.cluster
        pair.subscribe("n3", "t")
        cluster.stall("n1", "n3")
        handle = pair.clients["n1"].session.asking.publish_with_ack("t", 1, 50.0, cluster.clock.now)
        cluster.advance(6.0)
        assert handle.finished
        assert {name: one.error for name, one in handle.responses.items()} == {"n3": "disconnected"}

    def test_who_is_expected_on_another_node_is_not_absent(self, pair: Pair) -> None:
        cluster = pair.cluster
        box = pair.subscribe("n2", "t")
        handle = pair.clients["n1"].session.asking.publish_with_ack(
            "t", 1, 5.0, cluster.clock.now, demands=Demands(("on-n2", "on-n3", "x"))
        )
        cluster.run()
        assert {name: one.error for name, one in handle.responses.items()} == {
            "on-n3": "absent",
            "x": "absent",
        }
        pair.clients["n2"].session.settle(box.take_all()[0], None, cluster.clock.now)
        cluster.run()
        assert handle.finished


class TestIds:
    def test_the_last_one_wins_on_whichever_node(self, cluster: MemoryCluster) -> None:
        for before in NODES:
            for after in NODES:
                name = f"{before}-{after}"
                first, second = cluster[before].client(name), None
                cluster.run()
                second = cluster[after].client(name)
                cluster.run()
                assert second.session.ready
                assert not first.session.ready
                (ended,) = [one for one in first.events if isinstance(one, Ended)]
                assert "took this id" in str(ended.error)

    @pytest.mark.parametrize("is_known", [True, False])
    def test_late_verdicts_are_about_clients_that_have_gone(
        self, cluster: MemoryCluster, is_known: bool
    ) -> None:
        """The home has decided in time, but its verdicts on one node's claims come late."""
        name = next(one for one in map("id-{}".format, range(99)) if home_of(one, NODES) == "n3")
        late = cluster.wires["n3", "n1"]
        clients: list[MemoryClient] = []
        for at in ("n1", "n2", "n1"):
            late.is_stalled = bool(clients) or not is_known
            clients.append(cluster[at].client(name))
            cluster.advance(1.1)
        late.is_stalled = False
        cluster.advance(1.1)
        assert [client.session.ready for client in clients] == [False, False, True]
        assert cluster["n3"].cluster.names.registry.holder(name) == "n1"
        clients[-1].session.close(cluster.clock.now)
        cluster.run()
        assert cluster["n3"].cluster.names.registry.holder(name) is None

    def test_an_id_is_free_again_when_its_client_has_left(self, cluster: MemoryCluster) -> None:
        client = cluster["n1"].client("a")
        cluster.run()
        client.session.close(cluster.clock.now)
        cluster.run()
        for node in cluster.nodes.values():
            assert node.cluster.names.registry.holder("a") is None

    def test_a_node_takes_its_name_from_a_client(self, cluster: MemoryCluster) -> None:
        cluster.kill("n2")
        cluster.advance(6.0)
        client = cluster["n1"].client("n2")
        cluster.run()
        assert client.session.ready
        cluster.start("n2")
        assert not client.session.ready

    def test_after_a_split_one_is_left(self, cluster: MemoryCluster) -> None:
        cluster.cut("n1", "n2")
        cluster.cut("n1", "n3")
        clients = [cluster[name].client(f"c{n}") for n in range(20) for name in ("n1", "n2")]
        cluster.run()
        assert all(client.session.ready for client in clients)
        cluster.mend("n1", "n2")
        cluster.mend("n1", "n3")
        cluster.run()
        for one, other in zip(clients[::2], clients[1::2], strict=True):
            assert one.session.ready != other.session.ready

    def test_a_home_that_does_not_answer_refuses_nobody(self, cluster: MemoryCluster) -> None:
        cluster.stall("n1", "n2")
        cluster.stall("n1", "n3")
        clients = [cluster["n1"].client(f"c{n}") for n in range(9)]
        cluster.advance(1.1)
        assert all(client.session.ready for client in clients)
        assert cluster["n1"].hub.state.tally.unconfirmed
        cluster.mend("n1", "n2")
        cluster.mend("n1", "n3")
        other = cluster["n2"].client("c3")
        cluster.run()
        assert other.session.ready != clients[3].session.ready
        again = cluster["n3"].client("c3")
        cluster.run()
        assert again.session.ready
        assert not other.session.ready
        assert not clients[3].session.ready

    def test_a_home_that_does_not_answer_gives_nobody_the_id_of_another_identity(
        self, cluster: MemoryCluster
    ) -> None:
        cluster.stall("n1", "n2")
        cluster.stall("n1", "n3")
        names = cluster["n1"].cluster.names
        for number in range(9):
            names._state.owners.take(f"c{number}", "alice")
            names.claim(1000 + number, f"c{number}", "mallory")
        cluster.advance(1.1)
        assert not names._held
        assert not names._claims

    def test_nobody_gets_the_id_of_a_node(self, cluster: MemoryCluster) -> None:
        client = cluster["n1"].client("n2")
        cluster.run()
        assert not client.session.ready


class TestFaults:
    def test_silence_is_death_and_life_begins_anew(self, pair: Pair) -> None:
        cluster = pair.cluster
        box = pair.subscribe("n2", "t")
        cluster.swallow("n1", "n2")
        cluster.advance(5.5)
        assert set(cluster["n1"].cluster.nodes.others) == {"n3"}
        pair.publish("n1", "t", "lost")
        cluster.mend("n1", "n2")
        cluster.advance(2.0)
        assert set(cluster["n1"].cluster.nodes.others) == {"n2", "n3"}
        pair.publish("n1", "t", "back")
        assert data(box) == ["back"]

    def test_a_gap_is_noticed(self, pair: Pair) -> None:
        cluster = pair.cluster
        box = pair.subscribe("n2", "t")
        cluster.swallow("n1", "n2")
        pair.publish("n1", "t", "lost")
        cluster.mend("n1", "n2")
        pair.publish("n1", "t", "shows the gap")
        cluster.run()
        assert set(cluster["n1"].cluster.nodes.others) == {"n2", "n3"}
        pair.publish("n1", "t", "after")
        assert data(box) == ["after"]

    def test_a_node_starts_again(self, pair: Pair) -> None:
        cluster = pair.cluster
        box = pair.subscribe("n2", "t")
        cluster.kill("n1")
        cluster.advance(1.0)
        cluster.start("n1")
        again = cluster["n1"].client("again")
        cluster.run()
        again.session.publish("t", 1, cluster.clock.now)
        cluster.run()
        assert data(box) == [1]


class TestTooSlow:
    """While a node is told something, too much waits for it. The others are told all the same."""

    def fill(self, cluster: MemoryCluster, step: Callable[[int], object]) -> None:
        """Take steps at the first node, of which the second one is not told."""
        cluster.run()
        node = cluster["n1"].cluster
        for number in range(400):
            step(number)
            node.take_unflushed()
            for other in set(node.nodes.others) - {"n2"}:
                cluster.wires["n1", other].chunks += node.take(other, cluster.clock.now)
        reasons = [change.reason for change in node.changes if change.node == "n2"]
        assert "too much waits for the node" in reasons
        cluster.run()
        cluster.advance(2.0)
        assert set(node.nodes.others) == {"n2", "n3"}

    @pytest.fixture
    def cluster(self) -> MemoryCluster:
        config = HubConfig(id="n", history=(History("h/**", size=1000),))
        return MemoryCluster(NODES, config=config, cluster=ClusterConfig(max_queue=4000))

    def test_topics(self, cluster: MemoryCluster) -> None:
        local = cluster["n1"].hub.local
        boxes: list[Mailbox] = []

        def step(number: int) -> None:
            if number % 4 == 3:
                local.unsubscribe(boxes.pop())
            else:
                boxes.append(local.subscribe(f"t{number}"))

        self.fill(cluster, step)
        wanted = {box.key for box in boxes}
        for name in ("n2", "n3"):
            assert set(cluster[name].cluster.nodes.others["n1"].topics) == wanted

    def test_history(self, cluster: MemoryCluster) -> None:
        node = cluster["n1"]
        topic = next(one for one in map("h/{}".format, range(99)) if home_of(one, NODES) == "n1")
        self.fill(cluster, lambda number: node.hub.publish(topic, number, cluster.clock.now))
        for one in cluster.nodes.values():
            assert one.hub.state.logs is not None
            log = one.hub.state.logs.log(topic)
            assert log is not None
            assert (log.top, log.kept) == (400, 400)

    @pytest.mark.parametrize("most", range(4000, 4100, 10))  # so that it is another frame
    def test_presence(self, most: int) -> None:
        cluster = MemoryCluster(NODES, cluster=ClusterConfig(max_queue=most))
        node = cluster["n1"]
        for name in ("n2", "n3"):
            observer = cluster[name].client(f"observer-{name}").session
            cluster.run()
            wish = PresenceWish(observes=True)
            observer.subscribe("t", cluster.clock.now, wish=wish, observer=print)
        cluster.run()
        session = node.client("a").session
        cluster.run()
        connection = next(iter(node.hub.connections.values()))
        assert session.ready

        def step(number: int) -> None:
            if number % 2:
                node.hub.state.bus.unsubscribe(connection.session, "t")
            else:
                node.hub.state.bus.subscribe(connection.session, "t")

        self.fill(cluster, step)
        for name in ("n2", "n3"):
            members = cluster[name].cluster._presence._elsewhere["t"]
            assert all(place[0] != "n1" for place in members)


@pytest.mark.parametrize("key", ["__kps/stats", Pattern("__kps/**")])
def test_each_node_publishes_figures_for_those_who_watch_there(key: str | Pattern) -> None:
    cluster = MemoryCluster(NODES, config=HubConfig(id="n", is_monitored=True))
    session = cluster["n1"].client("console").session
    cluster.run()
    box = session.subscribe(key, cluster.clock.now)
    other = cluster["n2"].client("other").session.subscribe(key, cluster.clock.now)
    cluster.run()
    for _ in range(5):
        cluster.advance(1.0)
    shown = [message.data["id"] for message in box.take_all()]
    assert shown
    assert set(shown) == {"n1"}
    assert {message.data["id"] for message in other.take_all()} == {"n2"}


@pytest.mark.pure("it replaces a part of the core")
def test_an_old_greeting_makes_no_link_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has recorded what an earlier run of a node sent, and sends it again."""
    recorded: list[bytes] = []
    receive = Cluster.receive

    def record(self: Cluster, node: str, chunk: bytes, now: float) -> None:
        if node == "n2" and self.nodes.me == "n1":
            recorded.append(chunk)
        receive(self, node, chunk, now)

    monkeypatch.setattr(Cluster, "receive", record)
    cluster = MemoryCluster(("n1", "n2"))
    cluster.kill("n2")
    cluster.run()
    cluster.start("n2")
    cluster.advance(1.0)
    node = cluster["n1"].cluster
    node.changes.clear()
    for chunk in list(recorded):
        receive(node, "n2", chunk, cluster.clock.now)
        cluster.run()
    cluster.advance(3.0)
    assert not node.changes
    assert set(node.nodes.others) == {"n2"}
