"""Requests over HTTP come to any node: what they publish and ask, and streams that move."""

from typing import Any

import pytest

from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.bus.history import History
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.cluster.homes import home_of
from kps.protocol.server.config import HubConfig
from kps.protocol.server_limits import ServerLimits
from kps.testing.cluster import MemoryCluster
from kps.testing.network import MemoryClient
from tests.protocol.server.http_face import Asker, Headers, Reader, post, stream

NODES = ("n1", "n2", "n3")
TOPICS = tuple(f"h/{number}" for number in range(6))  # owned by several nodes
KEY = ("Idempotency-Key", "k")


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(NODES, config=HubConfig(id="n", history=(History("h/**", size=5),)))


def ask(
    cluster: MemoryCluster, node: str, target: str, body: bytes = b"1", headers: Headers = ()
) -> Asker:
    """Make a request to a node, and let the nodes talk."""
    asker = post(cluster[node], target, body, headers)
    cluster.run()
    return asker


def listen(cluster: MemoryCluster, node: str, target: str, last_id: str = "") -> Reader:
    """Begin to read a stream of a node, and let the nodes talk."""
    reader = stream(cluster[node], target, last_id)
    cluster.run()
    return reader


def hang_up(cluster: MemoryCluster, one: Asker) -> None:
    one.connection.receive_eof(cluster.clock.now)
    one.connection.connection_lost(cluster.clock.now)
    cluster.run()


def worker(
    cluster: MemoryCluster, node: str, name: str, topic: str
) -> tuple[MemoryClient, Mailbox]:
    """A client of a node, and what comes to it on a topic."""
    client = cluster[node].client(name)
    mailbox = client.session.subscribe(topic, cluster.clock.now)
    cluster.run()
    return client, mailbox


def answer(
    cluster: MemoryCluster,
    worker: tuple[MemoryClient, Mailbox],
    result: Any = None,
    error: str | None = None,
) -> Any:
    """Answer the message that has come; return its payload."""
    client, mailbox = worker
    (message,) = mailbox.take_all()
    client.session.settle(message, error, cluster.clock.now, result)
    cluster.run()
    return message.data


class TestPublishing:
    @pytest.mark.parametrize("topic", ["t", *TOPICS])
    @pytest.mark.parametrize("node", NODES)
    def test_it_reaches_the_streams_and_clients_of_all_nodes(
        self, cluster: MemoryCluster, node: str, topic: str
    ) -> None:
        readers = [listen(cluster, name, f"/sse?topic={topic}") for name in NODES]
        readers.append(listen(cluster, "n2", "/sse?pattern=**"))
        _, mailbox = worker(cluster, "n3", "bob", topic)
        assert ask(cluster, node, f"/publish?topic={topic}", b"0").reply == (204, None)
        reply = ask(cluster, node, f"/publish?topic={topic}&receipt=1", b'{"a":1}').reply
        assert reply == (200, {"delivered": 5})
        assert [reader.messages() for reader in readers] == [[0, {"a": 1}]] * 4
        assert [message.data for message in mailbox.take_all()] == [0, {"a": 1}]

    def test_a_direct_message(self, cluster: MemoryCluster) -> None:
        reader = listen(cluster, "n3", "/sse?topic=t&id=eve")
        for node in NODES:
            assert ask(cluster, node, "/publish?to=eve", b"5").reply == (204, None)
        told = [(event.kind, event.data) for event in reader.events()]
        assert told == [("direct", {"from": "http:", "data": 5})] * 3

    def test_nobody_has_the_id(self, cluster: MemoryCluster) -> None:
        for node in NODES:
            for name in NODES:  # ids with each of the nodes as their home
                client_id = next(one for one in map(str, range(99)) if home_of(one, NODES) == name)
                status, refusal = ask(cluster, node, f"/publish?to={client_id}").reply
                assert (status, refusal["code"]) == (404, "no_such_client")

    def test_nobody_has_it_any_more(self, cluster: MemoryCluster) -> None:
        """A node remembers where a client was to which it has sent something."""
        reader = listen(cluster, "n3", "/sse?topic=t&id=eve")
        for node in NODES:
            assert ask(cluster, node, "/publish?to=eve").reply == (204, None)
        hang_up(cluster, reader)
        for node in NODES:
            assert ask(cluster, node, "/publish?to=eve").reply[0] == 404

    def test_a_home_that_says_nothing_is_not_waited_for_long(self, cluster: MemoryCluster) -> None:
        client_id = next(one for one in map(str, range(99)) if home_of(one, NODES) == "n2")
        cluster.stall("n1", "n2")
        asker = ask(cluster, "n1", f"/publish?to={client_id}")
        assert not asker.has_reply
        cluster.advance(1.5)
        assert asker.reply == (204, None)

    def test_acks_name_who_handled_it(self, cluster: MemoryCluster) -> None:
        alice, bob = (worker(cluster, f"n{number}", f"c{number}", "t") for number in (2, 3))
        asker = ask(cluster, "n1", "/publish?topic=t&ack=5")
        answer(cluster, alice, "done")
        assert not asker.has_reply
        answer(cluster, bob, error="no disk")
        status, told = asker.reply
        assert (status, told["complete"]) == (200, True)
        assert told["responses"] == {
            "c2": {"success": True, "result": "done"},
            "c3": {"success": False, "error": "no disk"},
        }

    def test_a_node_that_is_cut_off_says_so(self, cluster: MemoryCluster) -> None:
        cluster["n1"].cluster.has_engine(False, cluster.clock.now)
        reply = ask(cluster, "n1", "/publish?topic=t&receipt=1").reply
        assert reply == (200, {"delivered": 0, "degraded": True})


class TestAsking:
    @pytest.mark.parametrize("node", NODES)
    def test_a_client_of_another_node_answers(self, cluster: MemoryCluster, node: str) -> None:
        bob = worker(cluster, "n2", "bob", "sum")
        asker = ask(cluster, node, "/request?topic=sum", b"[1,2]")
        assert not asker.has_reply
        assert answer(cluster, bob, 3) == [1, 2]
        assert asker.reply == (200, 3)

    def test_it_fails_there(self, cluster: MemoryCluster) -> None:
        bob = worker(cluster, "n2", "bob", "sum")
        asker = ask(cluster, "n1", "/request?topic=sum")
        answer(cluster, bob, error="no number")
        status, refusal = asker.reply
        assert (status, refusal["errors"]) == (502, {"bob": "no number"})

    def test_nobody_answers_in_time(self, cluster: MemoryCluster) -> None:
        worker(cluster, "n2", "bob", "sum")
        asker = ask(cluster, "n1", "/request?topic=sum&timeout=2")
        cluster.advance(2.5)
        assert asker.reply[0] == 504

    def test_nobody_takes_it(self, cluster: MemoryCluster) -> None:
        for target in ("/request?topic=sum", "/request?to=bob"):
            assert ask(cluster, "n1", target).reply[0] == 404

    def test_its_node_is_gone(self, cluster: MemoryCluster) -> None:
        worker(cluster, "n2", "bob", "sum")
        asker = ask(cluster, "n1", "/request?topic=sum")
        cluster.kill("n2")
        cluster.run()
        status, refusal = asker.reply
        assert (status, refusal["errors"]) == (502, {"bob": "disconnected"})


class TestOnce:
    """Who sends a message again may come to another node with it."""

    @pytest.mark.parametrize("node", NODES)
    @pytest.mark.parametrize("topic", ["t", "h/1"])
    def test_a_publication(self, cluster: MemoryCluster, topic: str, node: str) -> None:
        reader = listen(cluster, "n3", f"/sse?topic={topic}")
        for at in ("n1", node, node, "n3"):
            reply = ask(cluster, at, f"/publish?topic={topic}&receipt=1", b"7", [KEY]).reply
            assert reply == (200, {"delivered": 1})
        assert ask(cluster, node, f"/publish?topic={topic}", b"7", [KEY]).reply == (204, None)
        assert reader.messages() == [7]

    def test_another_payload(self, cluster: MemoryCluster) -> None:
        reader = listen(cluster, "n3", "/sse?topic=t")
        assert ask(cluster, "n1", "/publish?topic=t", b"1", [KEY]).reply == (204, None)
        status, refusal = ask(cluster, "n2", "/publish?topic=t", b"2", [KEY]).reply
        assert (status, refusal["code"]) == (409, "message_id_in_use")
        assert reader.messages() == [1]

    def test_what_nobody_got_is_handled_later(self, cluster: MemoryCluster) -> None:
        assert ask(cluster, "n1", "/publish?topic=t", b"1", [KEY]).reply == (204, None)
        reader = listen(cluster, "n3", "/sse?topic=t")
        assert ask(cluster, "n2", "/publish?topic=t", b"1", [KEY]).reply == (204, None)
        assert reader.messages() == [1]

    def test_the_result_of_a_request(self, cluster: MemoryCluster) -> None:
        bob = worker(cluster, "n3", "bob", "pay")
        lost = ask(cluster, "n1", "/request?topic=pay", b"7", [KEY])
        hang_up(cluster, lost)
        status, refusal = ask(cluster, "n2", "/request?topic=pay", b"7", [KEY]).reply
        assert (status, refusal["code"]) == (409, "message_id_in_use")  # it is under way
        again = ask(cluster, "n1", "/request?topic=pay", b"7", [KEY])  # where it was
        assert not again.has_reply
        answer(cluster, bob, "paid")
        assert again.reply == (200, "paid")
        for node in NODES:
            assert ask(cluster, node, "/request?topic=pay", b"7", [KEY]).reply == (200, "paid")
        assert bob[1].take_all() == []

    def test_permissions_are_those_of_now(self) -> None:
        cluster = MemoryCluster(NODES)
        listen(cluster, "n3", "/sse?topic=t")
        assert ask(cluster, "n1", "/publish?topic=t", b"1", [KEY]).reply == (204, None)
        cluster["n2"].hub.state.anybody = Identity("", Permissions(publish=()))
        status, refusal = ask(cluster, "n2", "/publish?topic=t", b"1", [KEY]).reply
        assert (status, refusal["code"]) == (403, "forbidden")

    def test_two_at_once_are_not_both_handled(self, cluster: MemoryCluster) -> None:
        reader = listen(cluster, "n3", "/sse?topic=t")
        askers = [post(cluster[node], "/publish?topic=t", b"1", [KEY]) for node in ("n1", "n2")]
        askers.append(post(cluster["n1"], "/publish?topic=t", b"1", [KEY]))
        cluster.run()
        assert [asker.reply[0] for asker in askers] == [409] * 3
        for node in NODES:  # those who were refused may come again
            assert ask(cluster, node, "/publish?topic=t", b"1", [KEY]).reply == (204, None)
        assert reader.messages() == [1]

    def test_a_node_that_says_nothing_is_not_waited_for_long(self, cluster: MemoryCluster) -> None:
        reader = listen(cluster, "n1", "/sse?topic=t")
        cluster.stall("n1", "n2")
        asker = ask(cluster, "n1", "/publish?topic=t", b"1", [KEY])
        assert not asker.has_reply
        cluster.advance(1.5)
        assert asker.reply == (204, None)
        assert reader.messages() == [1]

    def test_one_whose_client_has_gone_meanwhile_is_not_handled(
        self, cluster: MemoryCluster
    ) -> None:
        reader = listen(cluster, "n1", "/sse?topic=t")
        hang_up(cluster, post(cluster["n1"], "/publish?topic=t", b"1", [KEY]))
        assert reader.messages() == []
        assert ask(cluster, "n2", "/publish?topic=t", b"1", [KEY]).reply == (204, None)
        assert reader.messages() == [1]

    def test_a_node_without_room_for_it_refuses_it(self) -> None:
        limits = ServerLimits(message_id_bytes=20_000)
        cluster = MemoryCluster(NODES, limits=limits)
        listen(cluster, "n3", "/sse?topic=t")
        codes = []
        for number in range(9):
            headers = [("Idempotency-Key", str(number))]
            for node in ("n1", "n2"):
                codes.append(ask(cluster, node, "/publish?topic=t", b"1", headers).reply[0])
        assert codes[:2] == [204, 204]
        assert codes[-2:] == [429, 429]


def told(reader: Reader) -> list[tuple[str, Any]]:
    """The events that have come: messages by their payloads."""
    return [(event.kind, event.data.get("data", event.data)) for event in reader.events()]


class TestStreamsThatGoOn:
    @pytest.mark.parametrize("topic", TOPICS)
    def test_one_of_a_topic_goes_on_at_any_node(self, cluster: MemoryCluster, topic: str) -> None:
        publish, number, last_id, got = f"/publish?topic={topic}", 0, "", []
        for at in ("n1", "n2", "n3", "n3", "n2", "n1"):
            reader = listen(cluster, at, f"/sse?topic={topic}", last_id)
            ask(cluster, NODES[number % 3], publish, b"%d" % number)
            got += told(reader)
            last_id = reader.events_reader.last_id
            hang_up(cluster, reader)
            ask(cluster, NODES[number % 2], publish, b"%d" % (number + 1))
            number += 2
        assert got == [("message", one) for one in range(11)]

    def test_one_that_has_missed_nothing(self, cluster: MemoryCluster) -> None:
        ask(cluster, "n1", "/publish?topic=h/1", b"1")
        reader = listen(cluster, "n2", "/sse?topic=h/1&last=1")
        assert told(reader) == [("message", 1)]
        assert told(listen(cluster, "n3", "/sse?topic=h/1", reader.events_reader.last_id)) == []

    def test_one_is_told_what_is_not_kept_any_more(self, cluster: MemoryCluster) -> None:
        ask(cluster, "n1", "/publish?topic=h/1", b"0")
        reader = listen(cluster, "n2", "/sse?topic=h/1&last=1")
        assert told(reader) == [("message", 0)]
        hang_up(cluster, reader)
        for number in range(1, 8):
            ask(cluster, "n1", "/publish?topic=h/1", b"%d" % number)
        events = told(listen(cluster, "n3", "/sse?topic=h/1", reader.events_reader.last_id))
        gap = ("gap", {"topic": "h/1", "lost": 2})
        assert events == [gap, *(("message", one) for one in range(3, 8))]

    def test_one_of_several_topics(self, cluster: MemoryCluster) -> None:
        target = "/sse?" + "&".join(f"topic={topic}" for topic in TOPICS)
        reader = listen(cluster, "n2", target)
        for topic in TOPICS:
            ask(cluster, "n1", f"/publish?topic={topic}", b"1")
        assert told(reader) == [("message", 1)] * 6
        hang_up(cluster, reader)
        for topic in TOPICS:
            ask(cluster, "n2", f"/publish?topic={topic}", b"2")
        events = told(listen(cluster, "n3", target, reader.events_reader.last_id))
        assert events == [("message", 2)] * 6

    def test_one_of_a_pattern_begins_anew_at_another_node(self, cluster: MemoryCluster) -> None:
        reader = listen(cluster, "n2", "/sse?pattern=h/*")
        for topic in TOPICS:
            ask(cluster, "n1", f"/publish?topic={topic}", b"1")
        assert told(reader) == [("message", 1)] * 6
        hang_up(cluster, reader)
        last_id = reader.events_reader.last_id
        ask(cluster, "n1", "/publish?topic=h/1", b"2")
        assert told(listen(cluster, "n2", "/sse?pattern=h/*", last_id)) == [("message", 2)]
        gap, *events = told(listen(cluster, "n3", "/sse?pattern=h/*", last_id))
        assert gap == ("gap", {"pattern": "h/*", "lost": None})
        assert sorted(events) == [("message", 1)] * 6 + [("message", 2)]

    def test_one_whose_node_has_ended_in_order(self, cluster: MemoryCluster) -> None:
        last_ids = {}
        for topic in TOPICS:
            reader = listen(cluster, "n2", f"/sse?topic={topic}")
            ask(cluster, "n1", f"/publish?topic={topic}", b"1")
            assert told(reader) == [("message", 1)]
            last_ids[topic] = reader.events_reader.last_id
        cluster.stop("n2")
        for topic, last_id in last_ids.items():
            ask(cluster, "n1", f"/publish?topic={topic}", b"2")
            reader = listen(cluster, "n3", f"/sse?topic={topic}", last_id)
            assert told(reader) == [("message", 2)]

    def test_one_is_told_if_the_owner_of_its_topic_was_killed(self, cluster: MemoryCluster) -> None:
        topic = next(one for one in TOPICS if home_of(one, NODES) == "n1")
        reader = listen(cluster, "n2", f"/sse?topic={topic}")
        ask(cluster, "n1", f"/publish?topic={topic}", b"1")
        assert told(reader) == [("message", 1)]
        cluster.kill("n1")
        cluster.run()
        ask(cluster, "n2", f"/publish?topic={topic}", b"2")
        events = told(listen(cluster, "n3", f"/sse?topic={topic}", reader.events_reader.last_id))
        gap = ("gap", {"topic": topic, "lost": None})
        assert events == [gap, ("message", 1), ("message", 2)]

    def test_one_begins_although_a_node_says_nothing(self, cluster: MemoryCluster) -> None:
        cluster.stall("n1", "n2")
        reader = listen(cluster, "n1", "/sse?topic=t")
        assert not reader.has_reply
        cluster.advance(1.5)
        ask(cluster, "n3", "/publish?topic=t", b"1")
        assert reader.messages() == [1]

    def test_its_id_is_that_of_one_client(self, cluster: MemoryCluster) -> None:
        first = listen(cluster, "n1", "/sse?topic=t&id=eve")
        second = listen(cluster, "n2", "/sse?topic=t&id=eve")
        (end,) = first.events()
        assert (end.kind, end.data["code"]) == ("end", 4001)
        ask(cluster, "n3", "/publish?to=eve", b"5")
        assert [event.kind for event in second.events()] == ["direct"]
