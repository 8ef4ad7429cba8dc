"""ServerLimits on real sockets: what the drivers have to do with them."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as dial

import kps
from tests.io.harness import PATIENCE, AnyDriver, Inbox

Connect = Callable[..., Any]


def test_who_sends_too_fast_is_read_more_slowly(servers: AnyDriver, clients: AnyDriver) -> None:
    limits = kps.ServerLimits(message_rate=200.0, rate_burst=0.1)
    server = servers.server(limits=limits)
    inbox = Inbox()
    listener = clients.client(server.address)
    listener.subscribe("t", inbox)
    talker = clients.client(server.address, level=1)
    started = time.monotonic()
    for number in range(120):
        talker.publish("t", number)
        talker.flush()  # so that they do not come all at once, which nothing would delay
    assert inbox.take(120) == list(range(120))
    # Each flush is a message too. Twenty may come at once, the others at 200 a second.
    assert time.monotonic() - started >= (2 * 120 - 20) / 200 - 0.1
    assert talker.is_connected


def test_the_others_do_not_wait(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(limits=kps.ServerLimits(message_rate=50.0))
    inbox = Inbox()
    listener, other = clients.client(server.address), clients.client(server.address)
    # Which cannot get rid of it all when it is closed.
    flooder = clients.client(server.address, limits=kps.ClientLimits(close_timeout=0.1))
    listener.subscribe("t", inbox)
    for _ in range(5000):  # a hundred seconds' worth
        flooder.publish("flood", "x" * 100)
    for number in range(5):
        other.publish("t", number)
        assert inbox.data() == number


def test_who_sends_too_fast_is_refused(servers: AnyDriver, clients: AnyDriver) -> None:
    # Ten at once; and the next ones so late that they do not come while the test runs.
    limits = kps.ServerLimits(message_rate=0.1, rate_burst=100.0, rate_policy=kps.RatePolicy.ERROR)
    server = servers.server(limits=limits)
    errors = Inbox()
    client = clients.client(server.address, on_error=errors)
    for number in range(30):
        client.publish("t", number)
    assert errors.get().code == "rate_limited"
    assert client.is_connected


def test_connections_in_all(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(limits=kps.ServerLimits(max_connections=2))
    first, _ = clients.client(server.address), clients.client(server.address)
    with pytest.raises(kps.ConnectFailed, match="503") as caught:
        clients.client(server.address, reconnect=False)
    assert caught.value.status == 503
    first.close()
    deadline = time.monotonic() + PATIENCE
    while True:  # until the server has noticed that both have gone
        try:
            clients.client(server.address, reconnect=False)
        except kps.ConnectFailed:
            assert time.monotonic() < deadline
        else:
            break


def test_connections_from_one_address(servers: AnyDriver, clients: AnyDriver) -> None:
    limits = kps.ServerLimits(max_connections_per_address=1)
    server = servers.server("0.0.0.0:0", limits=limits, proxies=["127.0.0.9"])
    port = server.address.rpartition(":")[2]
    address = f"127.0.0.1:{port}"
    _ = clients.client(address)
    with pytest.raises(kps.ConnectFailed, match="503"):
        clients.client(address, reconnect=False)
    # A proxy may come as often as it likes, for different clients.
    for client in ("192.0.2.1", "192.0.2.2"):
        with socket.create_connection(("127.0.0.1", int(port)), source_address=("127.0.0.9", 0)):
            pass
        with (
            socket.create_connection(
                ("127.0.0.1", int(port)), PATIENCE, source_address=("127.0.0.9", 0)
            ) as sock,
            dial(
                f"ws://{address}/ws/bus",
                sock=sock,
                additional_headers={"X-Forwarded-For": client},
            ) as peer,
        ):
            peer.send('{"action":"ping","from":"x"}')
            assert json.loads(peer.recv(PATIENCE))["action"] == "pong"


def test_who_never_registers_is_closed(servers: AnyDriver) -> None:
    server = servers.server(limits=kps.ServerLimits(register_timeout=0.2))
    with dial(server.url) as peer:
        with pytest.raises(ConnectionClosed):
            peer.recv(PATIENCE)
        assert peer.close_code == 1008


def test_a_rate_that_is_over_ends_a_pause_on_an_idle_server(
    servers: AnyDriver, clients: AnyDriver
) -> None:
    """Nothing else happens that would make the driver look at the connection."""
    server = servers.server(limits=kps.ServerLimits(message_rate=20.0, rate_burst=0.05))
    with dial(server.url) as peer:
        peer.send('{"action":"ping","from":"x"}')
        for _ in range(10):
            peer.send('{"action":"ping","from":"x"}')
        for _ in range(11):
            assert json.loads(peer.recv(PATIENCE))["action"] == "pong"
        peer.send('{"action":"ping","from":"x"}')
        assert json.loads(peer.recv(PATIENCE))["action"] == "pong"
