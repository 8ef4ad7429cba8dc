"""``kps.testing``: what it promises to tests of other programs."""

import pytest

from kps.protocol.client.reconnect import Backoff
from kps.protocol.wire.websocket import ClosedBy
from kps.testing.network import ManualClock, Network, split


def test_the_clock_moves_when_it_is_told_to_and_never_back() -> None:
    clock = ManualClock(5.0)
    assert clock.advance(2.5) == clock.now == 7.5
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_split_keeps_every_byte() -> None:
    data = bytes(range(100))
    for sizes in ((), (1,), (3, 50, 7), (1000,)):
        assert b"".join(split(data, sizes)) == data
    assert list(split(b"abcdef", [1, 2])) == [b"a", b"bc", b"d", b"ef"]


def test_messages_pass_in_pieces() -> None:
    network = Network()
    alice, bob = network.client("alice"), network.client("bob")
    for client in (alice, bob):
        assert client.link is not None
        client.link.sizes = [1]
    mailbox = bob.session.subscribe("t", network.clock.now)
    network.run()
    alice.session.publish("t", "hello", network.clock.now)
    network.run()
    message = mailbox.take()
    assert message is not None
    assert (message.data, message.sender) == ("hello", "alice")


@pytest.mark.parametrize("fault", ["stalled", "swallows"])
def test_a_peer_that_is_silent_is_noticed_by_both_ends(fault: str) -> None:
    network = Network()
    client = network.client("a", reconnect=Backoff.every(1.0))
    assert client.link is not None
    setattr(client.link, fault, True)
    limits = network.limits
    network.advance(limits.heartbeat_interval + limits.heartbeat_timeout)
    assert client.links == 1
    assert not client.session.ready
    assert not network.hub.clients
    network.advance(2.0)
    assert client.links == 2
    assert client.session.ready


def test_what_was_swallowed_is_lost_and_what_was_stalled_is_not() -> None:
    for fault, arrives in (("stalled", True), ("swallows", False)):
        network = Network()
        alice, bob = network.client("alice"), network.client("bob")
        mailbox = bob.session.subscribe("t", network.clock.now)
        network.run()
        assert alice.link is not None
        setattr(alice.link, fault, True)
        alice.session.publish("t", 1, network.clock.now)
        network.run()
        assert not len(mailbox)
        setattr(alice.link, fault, False)
        network.run()
        assert bool(len(mailbox)) is arrives


def test_what_is_under_way_arrives_later_and_in_order() -> None:
    network = Network()
    alice, bob = network.client("alice"), network.client("bob")
    mailbox = bob.session.subscribe("t", network.clock.now)
    network.run()
    assert alice.link is not None
    delays = iter([3.0, 1.0, 0.0])
    alice.link.delay = lambda: next(delays, 0.0)
    for number in range(3):
        alice.session.publish("t", number, network.clock.now)
        network.run()
    assert alice.link.next_deadline() == network.clock.now + 3.0
    network.advance(2.9)
    assert not len(mailbox)
    network.advance(0.1)
    assert [message.data for message in mailbox.take_all()] == [0, 1, 2]
    assert alice.link.next_deadline() is None


def test_what_is_under_way_is_lost_with_the_link() -> None:
    network = Network()
    alice, bob = network.client("alice"), network.client("bob")
    mailbox = bob.session.subscribe("t", network.clock.now)
    network.run()
    assert alice.link is not None
    alice.link.delay = lambda: 1.0
    alice.session.publish("t", 1, network.clock.now)
    network.run()
    alice.link.cut()
    network.advance(2.0)
    assert not len(mailbox)


def test_a_cut_is_noticed_at_once_and_a_restart_forgets_everything() -> None:
    network = Network()
    client = network.client("a", reconnect=Backoff.every(1.0))
    client.session.subscribe("t", network.clock.now)
    network.run()
    first = network.hub
    assert client.link is not None
    client.link.cut()
    network.run()
    assert not first.clients
    network.restart()
    assert network.hub is not first
    network.reachable = False
    network.advance(3.0)
    assert not client.session.ready
    network.reachable = True
    network.advance(2.0)
    assert client.session.ready
    assert "t" in network.hub.state.bus
    (connection,) = network.hub.connections.values()
    client.session.close(network.clock.now)
    network.run()
    assert connection.closed is not None
    assert connection.closed.by is ClosedBy.PEER
    assert not network.hub.connections
