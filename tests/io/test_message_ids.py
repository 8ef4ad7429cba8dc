"""Messages with ids, over real sockets, on both drivers (spec, 21)."""

from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

import kps
from tests.io.harness import AnyDriver, Cable, Inbox

Connect = Callable[..., Any]

WAYS: list[Callable[..., Any]] = [
    lambda it, **options: it.publish_with_receipt("t", 1, **options),
    lambda it, **options: it.request("t", 1, **options),
    lambda it, **options: it.publish_with_ack("t", 1, **options).wait()["bob"].result,
    lambda it, **options: it.request_to_id("bob", 1, **options),
    lambda it, **options: it.publish_to_id_with_ack("bob", 1, **options).wait()["bob"].result,
]


def test_a_repeat_is_answered_as_the_first_and_not_handled(connect: Connect) -> None:
    handled = Inbox()

    def work(message: Any) -> str:
        handled(message)
        return "done"

    alice, bob = connect("alice"), connect("bob", on_id=work)
    bob.subscribe("t", work)
    for number, way in enumerate(WAYS):
        answers = [way(alice, message_id=f"m{number}") for _ in range(3)]
        assert answers == [answers[0]] * 3
        assert answers[0] in (1, "done")
        handled.get()
    bob.flush()
    assert handled.is_empty()


def test_another_message_with_the_id_is_refused(connect: Connect) -> None:
    alice, bob = connect("alice"), connect("bob")
    bob.subscribe("t", Inbox())
    alice.publish_with_receipt("t", 1, message_id="m")
    with pytest.raises(kps.ServerError) as refused:
        alice.publish_with_receipt("t", 2, message_id="m")
    assert refused.value.code == "message_id_in_use"
    with pytest.raises(kps.ServerError) as refused:
        alice.publish_with_receipt("u", 1, message_id="m")
    assert refused.value.code == "message_id_in_use"
    with pytest.raises(kps.InvalidArgument, match="a message id"):
        alice.publish_with_receipt("t", 1, message_id=5)
    with pytest.raises(kps.ServerError, match="more than 256 characters"):
        alice.publish_with_receipt("t", 1, message_id="m" * 257)


def test_a_server_without_them(clients: AnyDriver, servers: AnyDriver) -> None:
    client = clients.client(servers.server(level=1).address)
    for way in WAYS:
        with pytest.raises(kps.Unsupported, match="does not have message_ids"):
            way(client, message_id="m")


def test_a_request_goes_on_over_a_broken_connection(
    clients: AnyDriver, connect: Connect, cable: Cable
) -> None:
    """The worker begins once, and its result comes on another connection."""
    begun, go_on = Inbox(), Event()

    def work(message: Any) -> str:
        begun(message)
        go_on.wait()
        return "done"

    connect("bob").subscribe("t", work)
    connected = Inbox()
    alice = clients.client(cable.address, id="alice", on_connect=connected)
    connected.get()
    ack = alice.publish_with_ack("t", 1, timeout=30, message_id="m")
    begun.get()
    cable.cut()
    connected.get()
    go_on.set()
    assert ack.wait()["bob"].result == "done"
    assert begun.is_empty()
