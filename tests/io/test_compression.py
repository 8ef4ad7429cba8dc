"""Compression over real sockets: all pairings of ours, and a foreign library."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as dial

import kps
from tests.io.harness import PATIENCE, AnyDriver, Inbox

TEXT = "words that come again and again in what is published; " * 2000
"""About 100 KB, which become a hundredth of that."""
SMALL = len(TEXT) // 10


@pytest.fixture
def server(servers: AnyDriver) -> Any:
    """A server that compresses."""
    return servers.server(compress=True, limits=kps.ServerLimits(max_message=10 * len(TEXT)))


@pytest.fixture
def sent_by(server: Any) -> Callable[[], int]:
    """Returns the bytes that the server has sent since the last call."""
    before = 0

    def count() -> int:
        nonlocal before
        now: int = server._hub.stats.bytes_out
        sent, before = now - before, now
        return sent

    return count


def test_our_clients_get_it_without_more(
    server: Any, connect: Callable[..., Any], sent_by: Callable[[], int]
) -> None:
    inboxes = [Inbox() for _ in range(3)]
    for n, inbox in enumerate(inboxes):
        connect(f"{n}").subscribe("t", inbox)
    publisher = connect("publisher")
    sent_by()
    publisher.publish("t", TEXT)
    assert [inbox.data() for inbox in inboxes] == [TEXT] * 3
    assert sent_by() < 3 * SMALL


def test_a_client_may_decline(
    server: Any, connect: Callable[..., Any], sent_by: Callable[[], int]
) -> None:
    inbox, other = Inbox(), Inbox()
    connect("declines", compress=False).subscribe("t", inbox)
    connect("does not").subscribe("t", other)
    sent_by()
    server.publish("t", TEXT)
    assert (inbox.data(), other.data()) == (TEXT, TEXT)
    assert len(TEXT) < sent_by() < len(TEXT) + SMALL


@pytest.fixture
def peer(server: Any) -> Iterator[ClientConnection]:
    """A registered client that is not ours, and deflates all that it sends."""
    with dial(server.url, compression="deflate", max_size=None) as peer:
        assert peer.protocol.extensions
        peer.send('{"action":"ping","from":"peer"}')
        assert json.loads(peer.recv(PATIENCE)) == {"action": "pong", "id": "peer"}
        peer.send('{"action":"subscribe","topic":"t"}')
        assert json.loads(peer.recv(PATIENCE)) == {"action": "subscribed", "topic": "t"}
        yield peer


def test_a_foreign_library(peer: ClientConnection, connect: Callable[..., Any]) -> None:
    inbox = Inbox()
    ours = connect("ours")
    ours.subscribe("t", inbox)
    message = json.dumps({"action": "publish", "topic": "t", "data": TEXT})
    for sent in (message, [message[:1000], message[1000:50_000], message[50_000:]]):
        peer.send(sent)
        assert inbox.data() == TEXT
        assert json.loads(peer.recv(PATIENCE))["data"] == {"data": TEXT, "from": "peer"}
        assert json.loads(peer.recv(PATIENCE))["action"] == "published"
    for n in range(100):
        ours.publish("t", {"n": n, "text": TEXT[:3000]})
    for n in range(100):
        received = json.loads(peer.recv(PATIENCE))["data"]
        assert received == {"data": {"n": n, "text": TEXT[:3000]}, "from": "ours"}


def test_nobody_compresses_by_default(servers: AnyDriver, clients: AnyDriver) -> None:
    plain = servers.server()
    inbox = Inbox()
    clients.client(plain.address).subscribe("t", inbox)
    before = plain._hub.stats.bytes_out
    plain.publish("t", TEXT)
    assert inbox.data() == TEXT
    assert plain._hub.stats.bytes_out - before > len(TEXT)
