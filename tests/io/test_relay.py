"""Messages from server to server."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import kps
from tests.io.harness import PATIENCE, AnyDriver, Cable, Inbox, eventually

Secure = tuple[ssl.SSLContext, ssl.SSLContext]


RELAYING = kps.Permissions(relay=["**"])


@pytest.fixture
def server(servers: AnyDriver) -> Any:
    """A server whose clients may send messages to others."""
    return servers.server(id="server", permissions=RELAYING)


@pytest.fixture
def other(servers: AnyDriver) -> tuple[Any, Inbox, Inbox]:
    """A second server, what its program gets from servers, and what its topic gets."""
    data, topic = Inbox(), Inbox()
    server = servers.server(id="other", on_server_data=data)
    server.subscribe("t", topic)
    return server, data, topic


def test_a_client_reaches_another_server(
    connect: Callable[..., Any], server: Any, other: tuple[Any, Inbox, Inbox]
) -> None:
    target, data, topic = other
    frames = Inbox()
    client = connect("client", on_frame=lambda fields, client: frames(fields))
    origin = f"client---ws://{server.address}/ws/bus"
    for address in (target.address, f"{target.address}/ws/bus"):
        client.publish_to_server(address, {"topic": "t", "data": [1]})
        message = topic.get()
        assert (message.data, message.sender) == ([1], origin)
        message = data.get()
        assert (message.data, message.sender) == ({"topic": "t", "data": [1]}, origin)
        while (fields := frames.get())["action"] != "server_message_sent":
            pass
        assert fields["to"] == address
    client.publish_to_server(target.address, "no topic in this")
    assert data.data() == "no topic in this"


def test_order_is_kept(connect: Callable[..., Any], other: tuple[Any, Inbox, Inbox]) -> None:
    target, _, topic = other
    client = connect("client")
    for number in range(100):
        client.publish_to_server(target.address, {"topic": "t", "data": number})
    assert topic.take(100) == list(range(100))


def test_a_server_reaches_another_server(server: Any, other: tuple[Any, Inbox, Inbox]) -> None:
    target, data, _ = other
    server.publish_to_server(target.address, {"a": 1})
    message = data.get()
    assert (message.data, message.sender) == ({"a": 1}, f"ws://{server.address}/ws/bus")


def test_a_server_behind_a_proxy_is_named_after_two_colons(server: Any, servers: AnyDriver) -> None:
    data = Inbox()
    hidden = servers.server(names=["hidden.example"], path="/inner", on_server_data=data)
    proxy = Cable(hidden.address)
    server.publish_to_server(f"{proxy.address}::hidden.example/inner", 1)
    assert data.data() == 1
    server.publish_to_server(f"{proxy.address}/inner", 2)  # reached under the proxy's own name
    assert data.data() == 2
    with pytest.raises(kps.ConnectFailed, match="addressed to another server"):
        server.publish_to_server(f"{proxy.address}::other.example/inner", 3)
    assert data.is_empty()
    proxy.close()


def test_secure_servers(servers: AnyDriver, clients: AnyDriver, secure: Secure) -> None:
    server_context, client_context = secure
    data, errors = Inbox(), Inbox()
    target = servers.server(ssl=server_context, on_server_data=data)
    server = servers.server(relay_ssl=client_context, permissions=RELAYING)
    client = clients.client(server.address, id="c", on_error=errors)
    client.publish_to_server(target.address, 1, secure=True)
    message = data.get()
    assert (message.data, message.sender) == (1, f"c---ws://{server.address}/ws/bus")
    distrustful = servers.server()
    with pytest.raises(kps.ConnectFailed, match=r"(?i)certificate"):
        distrustful.publish_to_server(target.address, 1, secure=True)
    assert data.is_empty()


def test_a_dead_server_is_reported_to_the_sender(connect: Callable[..., Any], address: str) -> None:
    errors = Inbox()
    client = connect("client", on_error=errors)
    client.publish_to_server(address, 1)
    assert str(errors.get()) == (
        f"failed to relay to server: cannot connect to {address}: connection refused"
    )
    client.publish_to_server("bad address", 1)
    assert str(errors.get()).startswith("failed to relay to server: not a server address")


def test_a_server_that_is_silent_blocks_nobody(servers: AnyDriver, clients: AnyDriver) -> None:
    patient = servers.server(relay_timeout=10 * PATIENCE, permissions=RELAYING)
    server = servers.server(relay_timeout=0.5, permissions=RELAYING)
    errors, inbox = Inbox(), Inbox()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        client = clients.client(patient.address, on_error=errors)
        client.subscribe("t", inbox)
        client.publish_to_server(address, 1)
        client.publish("t", "meanwhile")
        assert inbox.data() == "meanwhile"
        assert errors.is_empty()
        client = clients.client(server.address, on_error=errors)
        started = time.monotonic()
        client.publish_to_server(address, 1)
        assert "failed to relay to server" in str(errors.get())
        assert time.monotonic() - started >= 0.4  # the time that it is given


def test_who_waits_for_a_silent_server_is_told_when_this_one_stops(
    servers: AnyDriver,
) -> None:
    server = servers.server(relay_timeout=2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        outcome = Inbox()

        def send() -> None:
            try:
                server.publish_to_server(address, 1)
            except kps.ConnectFailed as error:
                outcome(error)

        sender = threading.Thread(target=send)
        sender.start()
        silent.accept()[0].close()  # the link has begun
        server.stop()
        assert "failed to relay to server" in str(outcome.get())
        sender.join()


def test_no_more_is_under_way_than_has_room(servers: AnyDriver, clients: AnyDriver) -> None:
    limits = kps.ServerLimits(relay_messages=3, relay_links_per_client=2)

    def auth(token: str) -> kps.Identity:
        return kps.Identity(token, RELAYING)

    server = servers.server(relay_timeout=60.0, auth=auth, limits=limits)
    errors, other_errors = Inbox(), Inbox()
    client = clients.client(server.address, on_error=errors, token="alice")
    other = clients.client(server.address, on_error=other_errors, token="bob")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for path in (1, 2, 1, 1, 1):  # the link takes no message before it is registered
            client.publish_to_server(f"{address}/{path}", 1)
        assert str(errors.get()) == (
            "failed to relay to server: too many messages wait for that server"
        )
        client.publish_to_server(f"{address}/3", 1)
        assert str(errors.get()) == (
            "failed to relay to server: messages of this client to too many servers are under way"
        )
        again = clients.client(server.address, on_error=errors, token="alice")
        again.publish_to_server(f"{address}/3", 1)
        assert "too many servers" in str(errors.get()), "another connection of the same client"
        other.publish_to_server(f"{address}/3", 1)
        other.flush()
        assert other_errors.is_empty()


def test_a_failed_link_gives_back_what_waited_for_it(
    servers: AnyDriver, clients: AnyDriver
) -> None:
    server = servers.server(relay_timeout=10 * PATIENCE, permissions=RELAYING)
    errors = Inbox()
    client = clients.client(server.address, on_error=errors)
    queues = server._relays.queues
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for _ in range(10):
            client.publish_to_server(address, "x" * 10_000)
        client.flush()
        assert queues.size > 100_000
        silent.settimeout(PATIENCE)
        silent.accept()[0].close()
        for _ in range(10):
            errors.get()
        eventually(lambda: (queues.size, len(queues)) == (0, 0), "the link ends")


def test_the_token_goes_only_where_a_permission_says(
    servers: AnyDriver, clients: AnyDriver
) -> None:
    tokens = Inbox()

    def look(request: Any) -> bool:
        tokens(dict(request.headers).get("authorization"))
        return True

    target = servers.server(on_upgrade=look)
    shows = {target.address: "Bearer secret", f"ws://{target.address}": "Bearer secret", "**": None}
    for pattern, shown in shows.items():
        server = servers.server(relay_token="secret", permissions=kps.Permissions(relay=[pattern]))
        clients.client(server.address).publish_to_server(target.address, 1)
        assert tokens.get() == shown


def test_only_to_servers_that_are_allowed(
    servers: AnyDriver, clients: AnyDriver, other: tuple[Any, Inbox, Inbox]
) -> None:
    target, data, _ = other
    elsewhere = servers.server()
    server = servers.server(permissions=kps.Permissions(relay=[target.address]))
    errors = Inbox()
    client = clients.client(server.address, on_error=errors)
    client.publish_to_server(elsewhere.address, 1)
    assert errors.get().code == "forbidden"
    client.publish_to_server(target.address, 2)
    assert data.data() == 2


def test_the_first_server_shows_its_token(servers: AnyDriver) -> None:
    data = Inbox()

    def auth(token: str) -> kps.Identity | None:
        return kps.Identity("first", kps.Permissions(peer=True)) if token == "secret" else None

    target = servers.server(auth=auth, on_server_data=data)
    servers.server(relay_token="secret").publish_to_server(target.address, 1)
    assert data.data() == 1
    with pytest.raises(kps.ConnectFailed, match="401"):
        servers.server(relay_token="other").publish_to_server(target.address, 2)
    with pytest.raises(kps.ConnectFailed, match="a token is needed"):
        servers.server().publish_to_server(target.address, 3)
    assert data.is_empty()
