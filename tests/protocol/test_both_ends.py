"""Both ends at once, over a network that holds little and ends that pause: nobody waits for nobody.

Whatever one end does to protect itself (it stops reading, it waits for room) must not keep the
other end from what the first one waits for.
"""

import pytest

from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.client.events import Ended, ErrorReceived
from kps.protocol.client.reconnect import Backoff
from kps.protocol.limits import ClientLimits
from kps.protocol.server_limits import RatePolicy, ServerLimits
from kps.testing import Link, MemoryClient, Network
from tests.protocol.helpers import PONG, Stage, frame

RETRY = Backoff(first=1.0, factor=1.0, longest=1.0, jitter=0.0)


def narrow(client: MemoryClient) -> Link:
    """Let the network between a client and the server hold hardly anything."""
    assert client.link is not None
    client.link.capacity = 4096
    return client.link


class Worker:
    """A client that answers each request, ``at_once`` of them in a turn."""

    def __init__(self, network: Network, at_once: int) -> None:
        self.client = network.client("worker")
        narrow(self.client)
        self.mailbox: Mailbox = self.client.session.subscribe("jobs", network.clock.now)
        self._network = network
        self._at_once = at_once
        network.run()

    def turn(self) -> bool:
        """Answer some requests; tell whether there were any."""
        messages = self.mailbox.take_some(self._at_once)
        for message in messages:
            self.client.session.settle(message, None, self._network.clock.now, message.data)
        return bool(messages)


class TestManyRequestsToOneWorker:
    """The requests wait in the server's queue to the worker, the answers in the worker's."""

    @pytest.mark.parametrize(("count", "size"), [(600, 100_000), (12_000, 2000)])
    def test_all_are_answered(self, count: int, size: int) -> None:
        network = Network(limits=ServerLimits(max_pending_acks=count))
        worker = Worker(network, at_once=7)
        publisher = network.client("publisher")
        narrow(publisher)
        payload = "x" * size
        handles: list[AckHandle] = []
        while len(handles) < count or not all(handle.finished for handle in handles):
            now = network.clock.now
            while len(handles) < count and publisher.session.backlog < 1_000_000:
                handles.append(
                    publisher.session.asking.publish_with_ack("jobs", payload, 60.0, now)
                )
            before = sum(handle.finished for handle in handles)
            network.run()
            worked = worker.turn()
            network.run()
            moved = sum(handle.finished for handle in handles) > before
            assert worked or moved or len(handles) < count, "both ends wait for each other"
        outcomes = [handle.responses["worker"] for handle in handles]
        assert all(outcome.success and outcome.result == payload for outcome in outcomes)

    def test_two_that_send_each_other_direct_messages_both_get_through(self) -> None:
        network = Network()
        alice, bob = network.client("alice"), network.client("bob")
        inboxes = [client.session.subscriptions.open_direct() for client in (alice, bob)]
        for client in (alice, bob):
            narrow(client)
        now = network.clock.now
        for _ in range(300):
            alice.session.publish_to_id("bob", "x" * 10_000, now)
            bob.session.publish_to_id("alice", "x" * 10_000, now)
        received = [0, 0]
        for _ in range(10):
            network.run()
            received = [
                n + len(inbox.take_all()) for n, inbox in zip(received, inboxes, strict=True)
            ]
        assert received == [300, 300]


class TestNobodyDiesOfAPause:
    def test_a_client_on_a_slow_line_is_kept(self) -> None:
        """It reads and answers all the time, and gets 8 MB at 100 kB a second."""
        stage = Stage(limits=ServerLimits(heartbeat_interval=5.0, heartbeat_timeout=5.0))
        peer = stage.peer("slow")
        for _ in range(80):
            stage.hub.publish_to_id("slow", "x" * 100_000, stage.clock.now)
        for _ in range(90):
            stage.advance(1.0)
            peer.inbox.feed(peer.connection.data_to_send(100_000))
            if peer.inbox.pings:
                peer.inbox.pings = 0
                peer.feed(frame(opcode=PONG))
        assert peer.closed is None
        assert len(peer.inbox.take()) == 80

    def test_nor_one_whose_token_is_checked_for_long(self) -> None:
        stage = Stage(asks_token=True, limits=ServerLimits(heartbeat_interval=5.0))
        peer = stage.peer().upgrade()
        peer.send({"action": "ping", "from": "a", "token": "slow"})
        assert peer.connection.wants_pause
        peer.connection.set_reading(False, stage.clock.now)
        stage.advance(9.0)  # the time for registering is a bound of its own
        assert peer.closed is None

    def test_a_client_does_not_leave_while_its_own_program_is_behind(self) -> None:
        limits = ClientLimits(heartbeat_interval=1.0, heartbeat_timeout=1.0, mailbox_messages=3200)
        network = Network(
            limits=ServerLimits(heartbeat_interval=1.0, heartbeat_timeout=1.0),
            client_limits=limits,
        )
        slow, publisher = network.client("slow"), network.client("publisher")
        narrow(slow)
        mailbox = slow.session.subscribe("t", network.clock.now)
        network.run()
        for number in range(2000):
            publisher.session.publish("t", number, network.clock.now)
        received: list[object] = []
        for _ in range(60):
            network.advance(0.5)
            received += [message.data for message in mailbox.take_some(40)]
        assert slow.session.ready
        assert slow.links == 1
        assert received == list(range(2000))

    def test_a_peer_that_takes_nothing_of_what_waits_is_gone_in_the_end(self) -> None:
        limits = ServerLimits(heartbeat_interval=5.0, heartbeat_timeout=5.0, backlog_bytes=1000)
        stage = Stage(limits=limits)
        peer = stage.peer("deaf")
        peer.send(*[{"action": "get_ack_status", "ack_id": "x"}] * 100)
        assert peer.connection.wants_pause
        peer.connection.set_reading(False, stage.clock.now)
        stage.advance(9.0)
        assert "deaf" in stage.hub.clients
        stage.advance(11.0)
        assert "deaf" not in stage.hub.clients


class TestRefusalsOfAServerThatIsBusy:
    def network(self) -> Network:
        return Network(limits=ServerLimits(message_rate=50.0, rate_policy=RatePolicy.ERROR))

    def test_every_subscription_is_restored(self) -> None:
        network = self.network()
        client = network.client("a", reconnect=RETRY)
        now = network.clock.now
        mailboxes: dict[str, Mailbox] = {}
        for number in range(120):
            mailboxes[f"t{number}"] = client.session.subscribe(f"t{number}", now)
        network.advance(60.0)
        assert all(client.session.is_confirmed(topic) for topic in mailboxes)
        assert client.link is not None
        client.link.cut()
        network.advance(60.0)
        assert client.links == 2
        assert all(mailbox.error is None for mailbox in mailboxes.values())
        assert all(client.session.is_confirmed(topic) for topic in mailboxes)
        assert len(network.hub.state.bus) == 120

    def test_each_topic_is_reported_once_on_each_connection(self) -> None:
        network = self.network()
        client = network.client("a", reconnect=RETRY)
        for number in range(120):
            client.session.subscribe(f"t{number}", network.clock.now)
        network.advance(60.0)
        told = [event.topic for event in client.events if isinstance(event, ErrorReceived)]
        assert told
        assert len(told) == len(set(told))

    def test_a_refused_frame_shifts_no_later_answer(self) -> None:
        network = Network(limits=ServerLimits(byte_rate=5000.0, rate_policy=RatePolicy.ERROR))
        client = network.client("a")
        asking, now = client.session.asking, network.clock.now
        ack = asking.publish_with_ack("jobs", "x" * 6000, 5.0, now)
        receipt = asking.publish_with_receipt("t", "x" * 6000, now)
        refused = asking.barrier(now)
        mailbox = client.session.subscribe("news", now)
        network.run()
        for question in (ack, receipt, refused):
            assert getattr(question.error, "code", None) == "rate_limited"
        assert len(asking.pending) == 0
        network.advance(10.0)
        later = asking.barrier(network.clock.now)
        network.run()
        assert later.passed
        assert (mailbox.error, client.session.is_confirmed("news")) == (None, True)


def test_a_client_whose_first_message_is_too_long_does_not_try_for_ever() -> None:
    network = Network(limits=ServerLimits(max_message=512))
    client = network.client("x" * 600, reconnect=RETRY)
    assert isinstance(client.events[-1], Ended)
    assert "its id is too long" in str(client.events[-1].error)
    network.advance(100)
    assert client.links == 1
