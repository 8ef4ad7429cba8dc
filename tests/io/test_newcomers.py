"""What is said to who makes the mistakes of a first day: what happened, where, what to do."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
import trustme

import kps
import kps.sync
from kps.io_sync import within_loop
from tests.io.harness import AnyDriver, eventually


def refused(call: Callable[[], object]) -> str:
    """Return the text of the error that a call raises."""
    with pytest.raises(kps.KPSError) as raised:
        call()
    return str(raised.value)


def test_a_wrong_path(server: Any, clients: AnyDriver) -> None:
    url = f"ws://{server.address}/bus?token=secret"
    said = f"cannot connect to {server.address}/bus: there is no bus at the path /bus: "
    assert refused(lambda: clients.client(url)) == said + "refused with HTTP status 404"


def test_a_wrong_token(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(auth=lambda token: None)
    said = f"cannot connect to {server.address}: the server wants another token: "
    wrong = refused(lambda: clients.client(server.address, token="wrong"))
    assert wrong == said + "refused with HTTP status 401"


def test_no_tls_for_a_server_with_it(servers: AnyDriver, clients: AnyDriver, tmp_path: Any) -> None:
    cert = tmp_path / "cert.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(cert))
    server = servers.server(tls_cert=cert)
    said = refused(lambda: clients.client(f"ws://{server.address}", reconnect=False))
    assert said.endswith("if it speaks TLS, its address begins with wss://")


def test_a_server_that_says_nothing(clients: AnyDriver) -> None:
    limits = kps.ClientLimits(handshake_timeout=0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = "{}:{}".format(*silent.getsockname())
        said = refused(lambda: clients.client(address, reconnect=False, limits=limits))
    assert said == f"cannot connect to {address}: the opening handshake took too long"


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("8000", "a port goes behind it, as in localhost:8000"),
        ("tcp://localhost:9313", "it takes host:port or ws://host:port"),
    ],
)
def test_an_address_that_is_none(address: str, hint: str) -> None:
    assert refused(lambda: kps.Client(address)) == f"not a server address: {address!r}; " + (
        f"a host is a name, or four numbers as in 127.0.0.1; {hint}" if address == "8000" else hint
    )


@pytest.mark.parametrize(
    ("make", "name", "hint"),
    [
        (kps.Client, "tokn", "a client has no option 'tokn'; did you mean token?"),
        (kps.sync.Client, "client_id", "a client has no option 'client_id'; see help(kps.Client)"),
        (kps.Server, "orgins", "a server has no option 'orgins'; did you mean origins?"),
    ],
)
def test_an_option_that_there_is_not(make: Any, name: str, hint: str) -> None:
    assert refused(lambda: make("localhost:9313", **{name: 1})) == hint


def without() -> None:
    """Takes no message."""


def with_two(topic: str, message: object) -> None:
    """Takes too much."""


class Program:
    def without(self) -> None:
        """Takes no message."""

    def with_one(self, message: object) -> None:
        """Fits."""

    def with_two(self, topic: str, message: object) -> None:
        """Takes too much."""


@pytest.mark.parametrize(
    ("callback", "fault"),
    [
        (without, "too many positional arguments"),
        (with_two, "missing a required argument"),
        (Program().without, "too many positional arguments"),
        (Program().with_two, "missing a required argument"),
    ],
)
def test_a_callback_for_other_arguments(
    connect: Callable[..., Any], callback: Any, fault: str
) -> None:
    client = connect("ann")
    said = refused(lambda: client.subscribe("t", callback))
    assert said.startswith("a callback is called with one argument; <")
    assert f"does not fit: {fault}" in said
    assert client.subscribe("t", lambda message, more=None: None) is not None
    assert client.subscribe("t", Program().with_one) is not None
    assert client.subscribe("t", print) is not None  # which takes any number


def test_hooks_for_other_arguments() -> None:
    for name, hook, times in (
        ("on_close", lambda reason: None, "no argument"),
        ("on_frame", lambda frame: None, "two arguments"),
        ("on_connect", lambda: None, "one argument"),
    ):
        options: Any = {name: hook}
        said = refused(lambda options=options: kps.Client("a:1", **options))  # type: ignore[misc]
        assert said.startswith(f"{name} is called with {times}; ")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({1, 2}, "a value of the type set; make a list of it"),
        ({"a": b"x"}, "a value of the type bytes; see kps.pack_bytes"),
        ({1: 2}, "a key that is not a text"),
        (object(), "a value of the type object"),
        (2**70, "integer exceeds 64-bit range"),
    ],
)
def test_what_is_no_json(connect: Callable[..., Any], data: object, what: str) -> None:
    said = refused(lambda: connect("ann").publish("t", data))
    assert said == f"cannot be written as JSON: {what}"


def test_a_taken_port(servers: AnyDriver, server: Any) -> None:
    said = f"cannot listen on {server.address}: address already in use; "
    said += "end the program that listens there, or take another port"
    assert refused(lambda: servers.server(address=server.address)) == said


def test_a_taken_id(connect: Callable[..., Any]) -> None:
    first = connect("ann")
    connect("ann")
    eventually(lambda: not first.is_connected)
    said = "the connection ended: another connection took this id 'ann'; "
    said += "each client needs an id of its own, or none"
    assert said in refused(lambda: first.publish("t", 1))


def test_a_blocking_client_within_a_loop(
    servers: AnyDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(within_loop, "_has_warned", False)
    caplog.set_level(logging.WARNING, logger="kps")
    address = servers.server().address

    async def mistake() -> None:
        for _ in range(2):
            kps.sync.Client.connect(address).close()

    kps.sync.Client.connect(address).close()
    assert not within_loop._has_warned
    asyncio.run(mistake())

    def lines() -> list[logging.LogRecord]:
        return [one for one in caplog.records if getattr(one, "event", "") == "loop_blocked"]

    eventually(lambda: bool(lines()))
    (line,) = lines()
    assert line.getMessage().endswith("in coroutines use kps.Client")
