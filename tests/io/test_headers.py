"""Headers of messages, over real sockets, on both drivers (spec, 19)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kps
from tests.io.harness import AnyDriver, Inbox

Connect = Callable[..., Any]

TRACE = {"traceparent": "00-1-2-01", "kind": "é"}

ON_A_TOPIC: list[Callable[..., Any]] = [
    lambda it, **options: it.publish("t", 1, **options),
    lambda it, **options: it.publish_with_ack("t", 1, **options).wait(),
    lambda it, **options: it.request("t", 1, **options),
]
TO_AN_ID: list[Callable[..., Any]] = [
    lambda it, to, **options: it.publish_to_id(to, 1, **options),
    lambda it, to, **options: it.publish_to_id_with_ack(to, 1, **options).wait(),
    lambda it, to, **options: it.request_to_id(to, 1, **options),
]


def with_receipt(client: Any, **options: Any) -> Any:
    return client.publish_with_receipt("t", 1, **options)


def test_they_come_with_every_message(connect: Connect, server: Any) -> None:
    """Whoever sends it: a client, or the server's program."""
    inbox, direct, shared = Inbox(), Inbox(), Inbox()
    alice, bob = connect("alice"), connect("bob", on_id=direct)
    bob.subscribe("t", inbox)
    bob.subscribe("t", shared, group="g")
    for sender in (alice, server):
        for send in [*ON_A_TOPIC, *([with_receipt] if sender is alice else [])]:
            send(sender, headers=TRACE)
            send(sender)
            for place in (inbox, shared):
                assert [place.get().headers for _ in range(2)] == [TRACE, {}]
        for send in TO_AN_ID:
            send(sender, "bob", headers=TRACE)
            send(sender, "bob")
            assert [direct.get().headers for _ in range(2)] == [TRACE, {}]


def test_the_servers_program_gets_them(connect: Connect, server: Any) -> None:
    inbox, direct = Inbox(), Inbox()
    alice = connect("alice")
    server.subscribe("t", inbox)
    server.on_id(direct)
    for sender in (alice, server):
        for send in ON_A_TOPIC:
            send(sender, headers=TRACE)
            assert inbox.get().headers == TRACE
        for send in TO_AN_ID:
            send(sender, "server", headers=TRACE)
            assert direct.get().headers == TRACE


@pytest.mark.parametrize("headers", ["", "a", 0, [], ["a"], {"a": 1}])
def test_what_is_no_dictionary_of_texts_is_refused(
    connect: Connect, server: Any, headers: Any
) -> None:
    """Even if it is empty."""
    alice = connect("alice")
    for it in (alice, server):
        for send in (*ON_A_TOPIC, *([with_receipt] if it is alice else [])):
            with pytest.raises(kps.InvalidArgument, match="headers is a dictionary of texts"):
                send(it, headers=headers)
        for send in TO_AN_ID:
            with pytest.raises(kps.InvalidArgument, match="headers is a dictionary of texts"):
                send(it, "alice", headers=headers)


def test_messages_of_the_past_have_them(
    clients: AnyDriver, servers: AnyDriver, tmp_path: Path
) -> None:
    """Also those that another server has kept in a file."""
    kept: dict[str, Any] = {"history": [kps.History("t")], "history_file": tmp_path / "kept.db"}
    server = servers.server(**kept)
    clients.client(server.address).publish_with_receipt("t", 1, headers=TRACE)
    server.publish("t", 2)
    server.stop()
    again = servers.server(**kept)
    client, inbox = clients.client(again.address), Inbox()
    client.subscribe("t", inbox, last=2)
    assert [inbox.get().headers for _ in range(2)] == [TRACE, {}]
    for it in (client, again):
        assert [message.headers for message in it.history("t").messages] == [TRACE, {}]


def test_clients_on_level_1(connect: Connect, clients: AnyDriver, servers: AnyDriver) -> None:
    """They get messages without headers, and send none."""
    inbox, direct = Inbox(), Inbox()
    new, old = connect("new"), connect("old", level=1, on_id=direct)
    old.subscribe("t", inbox)
    for send in (*ON_A_TOPIC, with_receipt):
        send(new, headers=TRACE)
        message = inbox.get()
        assert (message.data, message.sender, message.headers) == (1, "new", {})
    for send in TO_AN_ID:
        send(new, "old", headers=TRACE)
        assert direct.get().headers == {}
    of_old_server = clients.client(servers.server(level=1).address)
    for client in (old, of_old_server):
        for send in (*ON_A_TOPIC, with_receipt):
            with pytest.raises(kps.Unsupported, match="does not have headers"):
                send(client, headers=TRACE)
        for send in TO_AN_ID:
            with pytest.raises(kps.Unsupported, match="does not have headers"):
                send(client, "new", headers=TRACE)
    old.flush()
    assert inbox.is_empty()


def test_the_server_refuses_those_that_are_too_large(
    clients: AnyDriver, servers: AnyDriver
) -> None:
    server = servers.server(limits=kps.ServerLimits(max_headers=20))
    errors = Inbox()
    client = clients.client(server.address, on_error=errors)
    large = {"a": "x" * 20}
    client.publish("t", 1, headers=large)
    error = errors.get()
    assert (str(error), error.code) == ("the headers have more than 20 bytes", "bad_request")
    for send in (with_receipt, *ON_A_TOPIC[1:]):
        with pytest.raises(kps.ServerError, match="more than 20 bytes") as refused:
            send(client, headers=large)
        assert refused.value.code == "bad_request"
