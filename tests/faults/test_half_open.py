"""Networks that carry nothing any more and do not say so."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import kps
from kps.protocol.wire.websocket import ClosedBy
from tests.faults import EARLY
from tests.faults.conftest import LIMITS
from tests.faults.processes import Serve
from tests.faults.proxy import BOTH, Proxy, Way
from tests.faults.test_killed_servers import in_thread
from tests.io.harness import PATIENCE, Inbox, eventually

Connect = Callable[..., Any]

INTERVAL = TIMEOUT = 0.5
OPTIONS = ("--heartbeat-interval", str(INTERVAL), "--heartbeat-timeout", str(TIMEOUT))
CLIENT_LIMITS = replace(LIMITS, heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT)

SOONEST = INTERVAL + TIMEOUT
LATEST = INTERVAL * 33 / 32 + TIMEOUT
"""Seconds of silence in which a dead peer is noticed, says ``kps.ServerLimits``."""

SLACK = 15.0
"""Seconds that a loaded machine may take in addition."""


class HalfOpen:
    """A client whose network dies, seen from both ends."""

    def __init__(self, server: Serve, proxy: Proxy, connect: Connect, *dead: Way) -> None:
        self.server = server
        self.downs, self.ups, self.inbox = Inbox(), Inbox(), Inbox()
        self.times: dict[str, float] = {}
        self.client = connect(
            proxy.address,
            "client",
            limits=CLIENT_LIMITS,
            on_connect=self.ups,
            on_disconnect=self._down,
        )
        self.ups.get()
        self.client.subscribe("t", self.inbox)
        self.begun = time.monotonic()
        self.client.flush()  # both have heard from each other since then
        proxy.swallow(*dead)
        self.silent = time.monotonic()

    def _down(self, event: kps.Disconnected) -> None:
        self.times["client"] = time.monotonic()
        self.downs(event)

    def ask(self, number: int) -> dict[str, Any]:
        """Publish, wait for the client's handling, and return what became of it.

        Over HTTP: heartbeats as short as these would also end the connection of another client,
        whenever a busy machine lets it or the server stand still.
        """
        connection = http.client.HTTPConnection(self.server.address, timeout=2 * PATIENCE)
        try:
            connection.request("POST", "/publish?topic=t&ack=300", json.dumps(number))
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        outcome: dict[str, Any] = answer.get("responses", {}).get("client", {})
        return outcome  # empty if nobody has subscribed

    def comes_back(self) -> None:
        """The fault was of that connection: the client makes another one, and gets messages."""
        assert self.ups.get().again
        eventually(lambda: self.ask(2).get("success", False), "the client's handling")
        assert self.inbox.data() == 2
        assert self.inbox.is_empty()


@pytest.fixture
def half_open(
    lasting: Callable[..., Serve], proxy_to: Callable[[str], Proxy], connect: Connect
) -> Callable[..., HalfOpen]:
    server = lasting(*OPTIONS)
    return lambda *dead: HalfOpen(server, proxy_to(server.address), connect, *dead)


def test_both_ends_notice_that_nothing_comes(half_open: Callable[..., HalfOpen]) -> None:
    dead = half_open(*BOTH)
    # The server tells who asks for the client's handling, at the moment in which it notices.
    assert dead.ask(1)["error"] == "disconnected"
    at_server = time.monotonic()
    event = dead.downs.get()
    assert (event.closed.code, event.closed.by) == (1006, ClosedBy.LOST)
    assert event.closed.reason == "no answer to the heartbeat"
    at_client = dead.times["client"]
    for end, noticed in (("server", at_server), ("client", at_client)):
        print(f"the {end} noticed after {noticed - dead.silent:.3f} s")
        assert noticed - dead.begun >= SOONEST - EARLY
        assert noticed - dead.silent <= LATEST + SLACK
    dead.comes_back()


def test_a_client_whose_bytes_get_lost_is_noticed_by_the_server(
    half_open: Callable[..., HalfOpen],
) -> None:
    dead = half_open(Way.UP)
    assert dead.ask(1)["error"] == "disconnected"
    at_server = time.monotonic()
    assert dead.inbox.data() == 1  # what the server says still arrives, until it gives up
    assert at_server - dead.begun >= SOONEST - EARLY
    assert at_server - dead.silent <= LATEST + SLACK
    # Then the client hears nothing more, and notices in its turn; or it is told.
    dead.downs.get()
    assert dead.times["client"] - dead.silent <= 2 * (LATEST + SLACK)
    assert dead.ups.get().again


def test_a_server_whose_bytes_get_lost_is_noticed_by_the_client(
    half_open: Callable[..., HalfOpen],
) -> None:
    dead = half_open(Way.DOWN)
    outcome = in_thread(lambda: dead.ask(1))
    event = dead.downs.get()
    assert event.closed.reason == "no answer to the heartbeat"
    assert dead.times["client"] - dead.begun >= SOONEST - EARLY
    assert dead.times["client"] - dead.silent <= LATEST + SLACK
    # It comes back under its id, while its former connection may still count as alive.
    assert outcome.get()["error"] == "disconnected"
    dead.comes_back()
    assert dead.server.await_clients(1)


def test_what_a_half_open_client_waits_for_ends_with_its_connection(
    half_open: Callable[..., HalfOpen],
) -> None:
    dead = half_open(*BOTH)
    outcome = in_thread(lambda: dead.client.publish_with_ack("t", 1, timeout=300).wait())
    error = outcome.get()
    noticed = time.monotonic()
    assert isinstance(error, kps.ConnectionLost)
    assert noticed - dead.begun >= SOONEST - EARLY
    assert noticed - dead.silent <= LATEST + SLACK


def test_silence_that_ends_in_time_ends_nothing(
    lasting: Callable[..., Serve], proxy_to: Callable[[str], Proxy], connect: Connect
) -> None:
    server = lasting("--heartbeat-interval", "0.2", "--heartbeat-timeout", "20")
    proxy = proxy_to(server.address)
    limits = replace(LIMITS, heartbeat_interval=0.2, heartbeat_timeout=20.0)
    inbox, downs = Inbox(), Inbox()
    client = connect(proxy.address, "client", limits=limits, on_disconnect=downs)
    client.subscribe("t", inbox)
    publisher = connect(server.address, "publisher")
    proxy.stall()
    before = dict(proxy.bytes)
    eventually(
        lambda: all(proxy.bytes[way] > before[way] for way in BOTH),
        "the question of both whether the other is alive",
    )
    publisher.publish("t", 1)
    publisher.flush()
    assert inbox.is_empty()
    proxy.go_on()
    assert inbox.data() == 1
    client.flush()
    assert downs.is_empty()
    assert proxy.connections == 1
