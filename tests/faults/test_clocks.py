"""Clocks that jump: the time of day, which is not used, and the time itself, after a sleep."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kps
from kps.protocol.wire.websocket import Output
from kps.testing.network import MemoryClient, Network
from tests.faults import EARLY
from tests.faults.conftest import LIMITS, QUICK
from tests.faults.processes import KINDS, Serve
from tests.faults.proxy import BOTH, Proxy
from tests.io.harness import DRIVERS, Inbox, eventually
from tests.io.raw import Raw

HOUR = 3600.0
SLACK = 15.0
"""Seconds that a loaded machine may take in addition."""

INTERVAL, TIMEOUT, REGISTER = 0.5, 1.0, 0.5
PATIENT = 20.0
"""Seconds in which heartbeats are answered, however busy the machine is."""

WILD = f"""
import itertools, time
real, turns = time.time, itertools.count()
time.time = lambda: real() + (6 if next(turns) % 2 else -6) * {HOUR}
time.time_ns = lambda: int(time.time() * 1e9)
"""
"""Makes the time of day jump by hours whenever anybody looks at it."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_time_of_day_does_not_matter(
    kind: str,
    serve: Callable[..., Serve],
    proxy_to: Callable[[str], Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(
        *("--heartbeat-interval", str(INTERVAL), "--heartbeat-timeout", str(PATIENT)),
        *("--register-timeout", str(REGISTER)),
        prelude=WILD,
    )
    proxy = proxy_to(server.address)
    real, turns = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + (6 if next(turns) % 2 else -6) * HOUR)
    shown = [time.time() for _ in range(100)]  # others may look at it in between
    assert max(shown) - min(shown) > 11 * HOUR
    clients = DRIVERS[kind]()
    try:
        _live_with_it(server, proxy, clients)
    finally:
        clients.close()


def _live_with_it(server: Serve, proxy: Proxy, clients: Any) -> None:
    limits = replace(LIMITS, heartbeat_interval=INTERVAL, heartbeat_timeout=PATIENT)
    options = {"limits": limits, "reconnect": QUICK}
    ups, downs, release = Inbox(), Inbox(), Inbox()
    client = clients.client(proxy.address, id="client", on_disconnect=downs, **options)
    other = clients.client(server.address, id="other", **options)
    other.subscribe("t", lambda message: release.get())

    # Who does not register is given the time that it should have.
    begun = time.monotonic()
    with Raw(server.address) as raw:
        raw.upgrade()
        assert raw.close_code() == 1008
    assert REGISTER - EARLY <= time.monotonic() - begun < REGISTER + SLACK
    # And so is who has been asked.
    begun = time.monotonic()
    outcome = client.publish_with_ack("t", 1, timeout=0.5).wait()["other"]
    assert outcome.error == "timeout"
    assert 0.5 - EARLY <= time.monotonic() - begun < 0.5 + SLACK
    release(None)
    # Heartbeats are sent and answered.
    before = dict(proxy.bytes)
    eventually(lambda: all(proxy.bytes[way] >= before[way] + 2 for way in BOTH), "heartbeats")
    assert downs.is_empty()
    # One that is not answered has its consequence, in time.
    options["limits"] = replace(limits, heartbeat_timeout=TIMEOUT)
    lost = Inbox()
    strict = clients.client(
        proxy.address, id="strict", on_connect=ups, on_disconnect=lost, **options
    )
    assert not ups.get().again
    begun = time.monotonic()
    strict.flush()
    proxy.swallow()
    event = lost.get()
    assert event.closed.reason == "no answer to the heartbeat"
    assert time.monotonic() - begun >= INTERVAL + TIMEOUT - EARLY
    assert time.monotonic() - begun < INTERVAL + 2 * TIMEOUT + SLACK
    assert 0 < event.retry_in <= QUICK.longest
    assert ups.get().again
    strict.flush()


# -- a system that slept for an hour -----------------------------------------------------


def jump(network: Network, seconds: float) -> None:
    """Let time pass in which nobody did anything, and then let everybody notice at once."""
    network.clock.advance(seconds)
    network.hub.handle_timeout(network.clock.now)
    for client in network.clients:
        client.session.handle_timeout(network.clock.now)
    network.run()


def test_connections_survive_an_hour_of_sleep() -> None:
    network = Network()
    clients = [network.client(f"c{number}", reconnect=QUICK) for number in range(5)]
    mailbox = clients[0].session.subscribe("t", network.clock.now)
    network.run()
    for _ in range(3):
        jump(network, HOUR)
        clients[1].session.publish("t", "after", network.clock.now)
        network.run()
        message = mailbox.take()
        assert message is not None
        assert message.data == "after"
    assert [client.links for client in clients] == [1] * 5
    network.advance(HOUR)
    assert [client.links for client in clients] == [1] * 5


def test_what_was_due_meanwhile_is_done_at_once() -> None:
    network = Network()
    asker, asked = network.client("asker"), network.client("asked")
    asked.session.subscribe("t", network.clock.now)
    waits = network.client("waits", reconnect=kps.Backoff.every(60.0))
    network.run()
    handle = asker.session.asking.publish_with_ack("t", 1, 5.0, network.clock.now)
    network.run()
    silent = network.hub.connect("silent:1", network.clock.now)
    assert waits.link is not None
    waits.link.cut()
    network.run()
    jump(network, HOUR)
    assert handle.finished
    assert waits.links == 2
    assert waits.session.ready
    assert silent.data_to_send().startswith(b"HTTP/1.1 408 ")
    network.advance(network.limits.close_timeout)
    assert silent.output is Output.ABORT


def test_a_peer_that_died_during_the_sleep_is_noticed_after_it() -> None:
    network = Network()
    client = network.client("client", reconnect=QUICK)
    assert client.link is not None
    client.link.swallows = True
    jump(network, HOUR)
    assert client.session.ready  # it has not been asked yet
    assert "client" in network.hub.clients
    network.advance(network.limits.heartbeat_timeout)
    network.advance(1.0)
    assert client.links == 2
    assert client.session.ready
    assert len(network.hub.connections) == 1


def test_who_falls_asleep_in_the_middle_of_a_heartbeat_comes_back() -> None:
    network = Network()
    client = network.client("client", reconnect=QUICK)
    assert client.link is not None
    client.link.stalled = True
    network.advance(network.limits.heartbeat_interval * 33 / 32 + 1.0)  # both have asked
    jump(network, HOUR)
    network.advance(1.0)
    assert client.session.ready
    assert "client" in network.hub.clients
    assert len(network.hub.connections) == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["jump", "advance", "publish", "ask", "cut", "swallow", "stall", "go"]),
            st.integers(0, 2),
            st.floats(0.001, 100_000.0),
        ),
        max_size=30,
    )
)
def test_whatever_jumps_nothing_raises_and_all_come_back(
    steps: list[tuple[str, int, float]],
) -> None:
    network = Network()
    clients = [network.client(f"c{number}", reconnect=QUICK) for number in range(3)]
    mailboxes = [client.session.subscribe("t", network.clock.now) for client in clients]
    network.run()
    for verb, number, seconds in steps:
        client = clients[number]
        match verb:
            case "jump":
                jump(network, seconds)
            case "advance":
                network.advance(min(seconds, 100.0))
            case _:
                _do(verb, client, network)
        network.run()
    for client in clients:
        assert client.link is not None
        client.link.stalled = False
    network.run()
    network.advance(2 * (network.limits.heartbeat_interval + network.limits.heartbeat_timeout) + 9)
    assert all(client.session.ready for client in clients)
    assert len(network.hub.connections) == 3
    for mailbox in mailboxes:
        while mailbox.take() is not None:
            pass
    clients[0].session.publish("t", "after", network.clock.now)
    network.run()
    for mailbox in mailboxes:
        message = mailbox.take()
        assert message is not None
        assert message.data == "after"
        assert mailbox.take() is None


def _do(verb: str, client: MemoryClient, network: Network) -> None:
    link, now = client.link, network.clock.now
    assert link is not None
    if verb == "cut":
        link.cut()
    elif verb == "swallow":
        link.swallows = True
    elif verb == "stall":
        link.stalled = True
    elif verb == "go":
        link.stalled = False
    elif client.session.ready and verb == "publish":
        client.session.publish("t", 1, now)
    elif client.session.ready:
        client.session.asking.publish_with_ack("t", 1, 5.0, now)
