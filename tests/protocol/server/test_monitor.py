"""The server's figures: who gets them, when, and what they say."""

from typing import Any

from kps.protocol.server.config import HubConfig
from kps.protocol.server.monitor import STATS_TOPIC
from kps.testing.network import Network
from tests.protocol.helpers import Stage, contents


def figures(peer: Any) -> list[dict[str, Any]]:
    found = []
    for message in peer.take():
        if message.get("topic") == STATS_TOPIC and message["action"] == "publish":
            assert message["data"]["from"] == "server"
            found.append(message["data"]["data"])
    return found


class TestWhen:
    def test_at_once_and_every_second_while_somebody_watches(self) -> None:
        stage = Stage(is_monitored=True)
        peer = stage.peer("a")
        stage.advance(10)
        assert figures(peer) == []
        peer.ask({"action": "subscribe", "topic": STATS_TOPIC})
        stage.advance(0)
        assert len(figures(peer)) == 1
        stage.advance(3.5)
        assert len(figures(peer)) == 3
        peer.ask({"action": "unsubscribe", "topic": STATS_TOPIC})
        stage.advance(5)
        assert figures(peer) == []
        assert len(stage.hub.state.deadlines) == 2  # the peer's own, and that of the record
        peer.ask({"action": "subscribe", "topic": STATS_TOPIC})
        stage.advance(0)
        assert len(figures(peer)) == 1

    def test_a_second_one_changes_nothing(self) -> None:
        stage = Stage(is_monitored=True)
        peers = [stage.peer(name) for name in "ab"]
        for peer in peers:
            peer.ask({"action": "subscribe", "topic": STATS_TOPIC})
        stage.advance(2.5)
        assert [len(figures(peer)) for peer in peers] == [3, 3]

    def test_never_when_it_is_off(self) -> None:
        stage = Stage()
        peer = stage.peer("a")
        peer.ask({"action": "subscribe", "topic": STATS_TOPIC})
        stage.advance(5)
        assert figures(peer) == []

    def test_the_servers_own_program_may_watch(self) -> None:
        network = Network(HubConfig(id="server", is_monitored=True))
        mailbox = network.hub.local.subscribe(STATS_TOPIC)
        network.advance(1.5)
        assert [data["client_count"] for data in contents(mailbox)] == [0, 0]


def test_what_they_say() -> None:
    network = Network(HubConfig(id="hub", is_monitored=True, version="1.2.3"))
    alice, bob = network.client("alice"), network.client("bob")
    network.advance(10)
    now = network.clock.now
    for topic in ("news", "jobs"):
        bob.session.subscribe(topic, now)
    network.run()
    for number in range(3):
        alice.session.publish("news", number, now)
    alice.session.publish("nobody", 1, now)
    alice.session.publish_to_id("bob", 1, now)
    alice.session.publish_to_id("no such client", 1, now)
    alice.session.asking.publish_with_ack("jobs", 1, 5.0, now)
    network.run()
    mailbox = network.hub.local.subscribe(STATS_TOPIC)
    network.advance(0)
    (data,) = contents(mailbox)
    assert data["bytes_in"] > 700
    assert data["bytes_out"] > 500
    figures = {key: value for key, value in data.items() if not key.startswith("bytes")}
    client = {
        "identity": "",
        "address": "memory:0",
        "level": 2,
        "age": 10.0,
        "queue_messages": 0,
        "queue_bytes": 0,
        "dropped": 0,
    }
    assert figures == {
        "id": "hub",
        "version": "1.2.3",
        "uptime": 10.0,
        "client_count": 2,
        "topic_count": 3,
        "groups": 0,
        "history_topics": 0,
        "history_bytes": 0,
        "pending_acks": 1,
        "waiting_tasks": 0,
        "rosters": 0,
        "events": 3,
        "connections": 2,
        "lost": 0,
        "published": 5,
        "delivered": 4,
        "dropped": 0,
        "own_published": 0,
        "own_delivered": 0,
        "refused": 1,
        "clients": [
            client | {"id": "alice", "topics": 0, "received": 8, "delivered": 0},
            client | {"id": "bob", "topics": 2, "received": 3, "delivered": 5},
        ],
        "topics": [
            {"topic": "news", "subscribers": 1, "published": 3},
            {"topic": "jobs", "subscribers": 1, "published": 1},
            {"topic": STATS_TOPIC, "subscribers": 1, "published": 0},
        ],
    }


def test_a_crowd_is_told_in_part() -> None:
    network = Network(HubConfig(id="hub", is_monitored=True))
    for number in range(210):
        client = network.client(f"c{number}")
        client.session.subscribe(f"t{number}", network.clock.now)
    mailbox = network.hub.local.subscribe(STATS_TOPIC)
    network.advance(0)
    data = contents(mailbox)[-1]
    assert (data["client_count"], len(data["clients"])) == (210, 200)
    assert (data["topic_count"], len(data["topics"])) == (211, 200)
