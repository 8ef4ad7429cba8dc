"""What clients ask a cluster about itself: any node answers for all, and no one waits long."""

from typing import Any

import pytest

from kps.protocol.access.identity import Permissions
from kps.protocol.bus.history import History
from kps.protocol.client.session import ClientSession
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.dialect.requests import PresenceWish
from kps.protocol.patterns import InGroup, Pattern
from kps.protocol.server.config import HubConfig
from kps.protocol.server.journal import KEPT
from kps.testing.cluster import MemoryCluster
from tests.protocol.helpers import Fields

NODES = ("n1", "n2", "n3")
EVERYTHING = Permissions.open(disconnect=["**"])


class Court:
    """A cluster that is asked about itself on its first node."""

    def __init__(self, **config: Any) -> None:
        self.cluster = MemoryCluster(
            NODES, config=HubConfig(id="n", is_monitored=True, permissions=EVERYTHING, **config)
        )
        self.asker = self.client("n1", "asker")

    def client(self, node: str, client_id: str) -> ClientSession:
        session = self.cluster[node].client(client_id).session
        self.cluster.run()
        return session

    def subscribe(self, session: ClientSession, *keys: str | Pattern | InGroup) -> None:
        for key in keys:
            session.subscribe(key, self.cluster.clock.now)
        self.cluster.run()

    def outcome(self, name: str, wait: float = 0.1, **about: Any) -> AckResponse:
        handle = self.asker.asking.publish_with_ack(
            f"__kps/{name}", about, 5.0, self.cluster.clock.now
        )
        self.cluster.run()
        self.cluster.advance(wait)
        assert handle.error is None, handle.error
        (outcome,) = handle.outcomes.values()
        assert isinstance(outcome, AckResponse)
        return outcome

    def ask(self, name: str, wait: float = 0.1, **about: Any) -> Fields:
        outcome = self.outcome(name, wait, **about)
        assert outcome.success, outcome.error
        result: Fields | None = outcome.result
        assert result is not None
        return result


def ids(found: Fields) -> list[str]:
    return [one["id"] for one in found["clients"]]


def test_clients_of_all_nodes_in_one_order() -> None:
    court = Court()
    for number in range(12):
        court.client(NODES[number % 3], f"c{number}")
    found = court.ask("clients", limit=5)
    assert (found["found"], ids(found)) == (13, ["asker", "c0", "c1", "c2", "c3"])
    found = court.ask("clients", limit=5, descending=True, filter="c")
    assert (found["found"], ids(found)) == (12, ["c11", "c10", "c9", "c8", "c7"])
    by_age = court.ask("clients", sort="age", descending=True, limit=1)
    assert ids(by_age) == ["asker"]


def test_the_program_of_a_node_may_ask_as_well() -> None:
    court = Court()
    court.client("n3", "far")
    handle = court.cluster["n1"].hub.publish_with_ack(
        "__kps/clients", {}, 5.0, court.cluster.clock.now
    )
    court.cluster.run()
    (outcome,) = handle.outcomes.values()
    assert isinstance(outcome, AckResponse)
    assert outcome.result is not None
    assert ids(outcome.result) == ["asker", "far"]


def test_the_fastest_of_all_nodes() -> None:
    court = Court()
    sessions = [court.client(node, f"on-{node}") for node in NODES]
    court.ask("clients", sort="received_rate")
    for count, session in enumerate(sessions, 1):
        for _ in range(10 * count):
            session.publish("t", 1, court.cluster.clock.now)
            court.cluster.run()
    court.cluster.advance(2.0)
    found = court.ask("clients", sort="received_rate", descending=True, limit=2)
    assert ids(found) == ["on-n3", "on-n2"]
    assert found["clients"][0]["received_rate"] == pytest.approx(15, abs=1)


def test_topics_have_the_subscribers_of_all_nodes() -> None:
    court = Court(history=(History("news", size=5),))
    for node in NODES:
        session = court.client(node, f"on-{node}")
        court.subscribe(session, "news", Pattern("n**"), InGroup("news", "g"), f"only/{node}")
        wish, now = PresenceWish(observes=True), court.cluster.clock.now
        session.subscribe("seen", now, wish=wish, observer=print)
    court.cluster.run()
    for number in range(4):
        court.asker.publish("news", number, court.cluster.clock.now)
        court.cluster.run()
    found = court.ask("topics", sort="subscribers", descending=True)
    assert found["found"] == 6
    assert found["topics"][:3] == [
        {"topic": "news", "subscribers": 6, "published": 4, "groups": 1, "kept": 4},
        {"pattern": "n**", "subscribers": 3, "published": 4},
        {"topic": "seen", "subscribers": 3, "published": 0, "observers": 3},
    ]
    found = court.ask("topics", filter="ONLY", descending=True, limit=2)
    assert [one["topic"] for one in found["topics"]] == ["only/n3", "only/n2"]


def test_details_of_a_client_of_another_node() -> None:
    court = Court()
    court.subscribe(court.client("n3", "far"), "news", InGroup("jobs", "g"))
    told = court.ask("client", id="far")
    assert (told["node"], told["may_disconnect"]) == ("n3", True)
    assert told["subscriptions"] == [{"topic": "news"}, {"topic": "jobs", "group": "g"}]
    assert court.outcome("client", id="nobody").error == "no client has the id nobody"


def test_details_of_a_topic_of_all_nodes() -> None:
    court = Court(history=(History("news", size=3),))
    for node in NODES:
        session = court.client(node, f"on-{node}")
        court.subscribe(session, "news", InGroup("news", "g"), Pattern("n*"))
    for number in range(5):
        court.asker.publish("news", number, court.cluster.clock.now)
        court.cluster.run()
    told = court.ask("topic", topic="news")
    assert (told["subscribers"], told["published"]) == (6, 5)
    assert sorted(one["id"] for one in told["subscriptions"]) == sorted(
        2 * [f"on-{node}" for node in NODES]
    )
    assert told["groups"] == [{"group": "g", "members": 3, "waiting": 0}]
    assert told["patterns"] == [{"pattern": "n*", "subscribers": 3}]
    assert told["history"] == {"kept": 3, "first": 3, "last": 5, "size": 3}


def test_a_client_of_another_node_is_disconnected() -> None:
    court = Court()
    court.client("n2", "far")
    assert court.ask("disconnect", id="far", reason="enough") == {"id": "far"}
    assert "far" not in court.cluster["n2"].hub.clients
    events = court.ask("events")["events"]
    told = [(one["event"], one["node"]) for one in events if one.get("client") == "far"]
    assert told == [("connected", "n2"), ("dismissed", "n2"), ("left", "n2")]
    assert court.outcome("disconnect", id="far").error == "no client has the id far"


def test_the_record_adds_up() -> None:
    court = Court()
    for node in NODES:
        session = court.client(node, f"on-{node}")
        for number in range(2):
            session.publish("t", number, court.cluster.clock.now)
    court.cluster.run()
    court.cluster.advance(3.0)
    assert court.ask("record")["published"] == [6, 0, 0]


def test_events_of_all_nodes_each_once() -> None:
    court = Court()
    first = court.ask("events")
    assert set(first["seen"]) == set(NODES)
    links = [(one["node"], one["other"]) for one in first["events"] if one["event"] == "node_up"]
    assert len(links) == len(set(links)) == 6
    assert court.ask("events", since=first["seen"])["events"] == []
    court.client("n3", "new")
    (event,) = court.ask("events", since=first["seen"])["events"]
    assert (event["client"], event["node"]) == ("new", "n3")
    court.cluster.kill("n2")
    court.cluster.advance(1.0)
    told = court.ask("events", since=first["seen"])["events"]
    fallen = [one for one in told if one["event"] == "node_down"]
    assert {(one["node"], one["other"]) for one in fallen} == {("n1", "n2"), ("n3", "n2")}
    assert all(one["reason"] for one in fallen)


def test_floods_at_nodes_push_out_their_like_only() -> None:
    court = Court()
    for number in range(KEPT):
        for node in ("n1", "n2"):
            journal = court.cluster[node].hub.state.journal
            assert journal is not None
            error = InvalidMessage("no", "forbidden")
            journal.refused(f"c{number}", "", error, {"action": "publish"})
        court.cluster.advance(0.1)
    court.client("n3", "last")
    events = court.ask("events")["events"]
    refusals = [one for one in events if one["event"] == "refused"]
    assert len(refusals) == KEPT
    assert {one["node"] for one in refusals} == {"n1", "n2"}
    assert {one["client"] for one in refusals} == {f"c{n}" for n in range(KEPT // 2, KEPT)}
    others = [one for one in events if one not in refusals]
    assert [one["client"] for one in others if one["event"] == "connected"] == ["asker", "last"]
    assert [one["event"] for one in others].count("node_up") == 6
    assert [one["ago"] for one in events] == sorted([one["ago"] for one in events], reverse=True)
    for number in range(KEPT):
        for node in ("n1", "n2"):
            court.cluster[node].hub.state.note("node_up", other=f"x{number}")
    events = court.ask("events")["events"]
    assert len(events) == 2 * KEPT
    assert [one["client"] for one in events if one["event"] == "refused"] == [
        one["client"] for one in refusals
    ]


def test_a_flood_of_one_address_pushes_out_nothing_of_another_node() -> None:
    court = Court()
    error = InvalidMessage("no", "forbidden")
    for node, client_id, count in (("n3", "victim", 1), ("n1", "c", KEPT), ("n2", "d", KEPT)):
        journal = court.cluster[node].hub.state.journal
        assert journal is not None
        for number in range(count):
            journal.refused(f"{client_id}{number}", f"192.0.2.{node[1]}:1", error, {})
        court.cluster.advance(0.1)
    refusals = [one for one in court.ask("events")["events"] if one["event"] == "refused"]
    assert len(refusals) == KEPT
    assert "victim0" in {one["client"] for one in refusals}


def test_a_node_whose_answers_are_no_json_counts_as_silent() -> None:
    court = Court()
    answers = court.cluster["n2"].cluster._survey.answers
    for what in [one for one in answers if one.startswith("ask ")]:
        answers[what] = lambda reply, _: reply(b"nonsense")
    for _ in range(20):  # more than there may be searches at a time
        assert ids(court.ask("clients")) == ["asker"]


def test_a_node_that_says_nothing_is_waited_for_a_second() -> None:
    court = Court()
    court.client("n2", "near")
    court.client("n3", "far")
    court.cluster.stall("n1", "n3")
    found = court.ask("clients", wait=1.1)
    assert (found["found"], ids(found)) == (2, ["asker", "near"])
    court.cluster.mend("n1", "n3")
    court.cluster.run()
    assert court.ask("clients")["found"] == 3


def test_an_answer_for_a_link_that_has_fallen_is_not_sent() -> None:
    """A search takes a while, and whoever asked may have begun anew meanwhile."""
    court = Court()
    for number in range(700):
        court.cluster["n2"].client(f"c{number}")
    court.cluster.run()
    court.asker.asking.publish_with_ack("__kps/clients", {}, 5.0, court.cluster.clock.now)
    court.cluster.run()  # the other node is about to go on with it
    court.cluster.kill("n1")
    court.cluster.start("n1")
    court.cluster.advance(1.0)
    court.asker = court.client("n1", "again")
    assert court.ask("clients", limit=1)["found"] == 701
