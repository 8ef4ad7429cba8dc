"""Callbacks and hooks that never return, or raise."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import kps
from tests.faults.conftest import LIMITS, QUICK
from tests.faults.processes import Process
from tests.faults.proxy import Proxy
from tests.io.harness import DRIVERS, PATIENCE, AnyDriver, AsyncioDriver, Inbox, eventually
from tests.io.raw import UPGRADE, Raw, message

Connect = Callable[..., Any]

SLACK = 15.0
"""Seconds that a loaded machine may take in addition."""


class Hang:
    """A callback that returns when the test is over."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.released = threading.Event()

    def __call__(self, *_: Any) -> None:
        self.called.set()
        self.released.wait()

    def wait(self) -> None:
        assert self.called.wait(PATIENCE)


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.released.set()


@pytest.fixture
def servers(kind: str, hang: Hang) -> Iterator[AnyDriver]:
    """Makes servers in this process."""
    driver = DRIVERS[kind]()
    yield driver
    hang.released.set()
    driver.close()


@pytest.fixture
def clients(
    kind: str, servers: AnyDriver, hang: Hang, proxy_to: Callable[[str], Proxy]
) -> Iterator[AnyDriver]:
    """Makes clients of the server's kind, whose own callbacks are what matters."""
    driver = DRIVERS[kind]()
    yield driver
    hang.released.set()
    driver.close()


def seconds(function: Callable[[], Any]) -> float:
    """How long a call takes."""
    begun = time.monotonic()
    function()
    return time.monotonic() - begun


# -- callbacks that hang -----------------------------------------------------------------


@pytest.mark.slow
def test_a_callback_that_hangs_holds_up_nothing_but_its_subscription(
    servers: AnyDriver,
    clients: AnyDriver,
    connect: Connect,
    proxy_to: Callable[[str], Proxy],
    hang: Hang,
) -> None:
    limits = replace(LIMITS, heartbeat_interval=0.3, heartbeat_timeout=2.0)
    server = servers.server(
        limits=kps.ServerLimits(heartbeat_interval=0.3, heartbeat_timeout=2.0, close_timeout=0.3)
    )
    proxy = proxy_to(server.address)
    downs = Inbox()
    client = connect(proxy.address, "client", limits=limits, on_disconnect=downs)
    client.subscribe("hangs", hang)
    if isinstance(clients, AsyncioDriver):
        inbox = Inbox()
        client.subscribe("works", inbox)
        take = inbox.data
    else:  # whose callbacks share one thread
        subscription = client.subscribe("works", timeout=PATIENCE)
        take = lambda: next(subscription).data  # noqa: E731
    publisher = connect(server.address, "publisher")
    ack = publisher.publish_with_ack("hangs", 1, timeout=300)
    hang.wait()
    for number in range(10):
        publisher.publish("works", number)
        assert take() == number
    client.publish("works", "from itself")
    assert take() == "from itself"
    client.flush()
    # Longer than a peer may be silent, and nothing but heartbeats passes.
    time.sleep(2 * (0.3 * 33 / 32 + 2.0))
    assert downs.is_empty()
    assert proxy.connections == 1
    client.flush()
    assert ack.status() == {"client": False}
    assert seconds(client.close) < LIMITS.close_timeout + SLACK
    assert ack.wait()["client"].error in ("disconnected", "cancelled")
    with pytest.raises(kps.ClientClosed):
        client.publish("works", 1)


@pytest.mark.parametrize("name", ["on_id", "on_connect", "on_disconnect", "on_error", "on_frame"])
def test_closing_does_not_wait_for_ever_for_a_callback(
    servers: AnyDriver, connect: Connect, hang: Hang, name: str
) -> None:
    server = servers.server()
    client = connect(server.address, "client", level=1, **{name: hang})
    other = connect(server.address, "other")
    if name == "on_id":
        other.publish_to_id("client", 1)
    elif name == "on_error":
        client.publish_to_id("nobody", 1)
    elif name == "on_disconnect":
        assert seconds(client.close) < LIMITS.close_timeout + SLACK
    hang.wait()
    if name != "on_disconnect":
        client.flush()
    assert seconds(client.close) < LIMITS.close_timeout + SLACK
    eventually(lambda: server.count_clients() == 1, "the client's leaving")
    other.flush()


def test_closing_does_not_wait_for_a_coroutine_that_hangs(
    servers: AnyDriver, clients: AnyDriver, connect: Connect
) -> None:
    if not isinstance(clients, AsyncioDriver):
        pytest.skip("the blocking client runs no coroutines")
    called = Inbox()

    async def hang(item: Any) -> None:
        called(item)
        await asyncio.Event().wait()

    server = servers.server()
    client = connect(server.address, "client", on_connect=hang)
    assert called.get().client_id == "client"
    client.subscribe("t", hang)
    other = connect(server.address, "other")
    ack = other.publish_with_ack("t", 1, timeout=300)
    assert called.data() == 1
    client.flush()
    assert seconds(client.close) < LIMITS.close_timeout + SLACK
    assert not ack.wait()["client"].success


def test_a_server_goes_on_while_its_own_callback_hangs(
    servers: AnyDriver, connect: Connect, hang: Hang
) -> None:
    server = servers.server(id="server", on_id=hang)
    alice, bob = connect(server.address, "alice"), connect(server.address, "bob")
    inbox, own = Inbox(), Inbox()
    bob.subscribe("t", inbox)
    waiting = alice.publish_to_id_with_ack("server", 1, timeout=300)
    hang.wait()
    late = alice.publish_to_id_with_ack("server", 2, timeout=0.2)
    assert late.wait()["server"].error == "timeout"
    for number in range(10):
        alice.publish("t", number)
        assert inbox.data() == number
    if isinstance(servers, AsyncioDriver):  # where callbacks do not share one thread
        server.subscribe("t", own)
        alice.publish("t", "to both")
        assert own.data() == "to both"
    carol = connect(server.address, "carol")
    carol.flush()
    assert waiting.status() == {"server": False}
    assert seconds(lambda: server.stop(grace=0.5)) < 2 * 0.5 + 1.0 + SLACK
    eventually(lambda: not alice.is_connected, "the end")
    with pytest.raises(kps.ConnectionLost):
        waiting.wait()


def test_a_hook_that_hangs_keeps_out_only_who_it_decides_on(
    servers: AnyDriver, connect: Connect, hang: Hang
) -> None:
    def decide(request: kps.HttpRequest) -> bool:
        if request.query == "hang":
            hang()
        return True

    server = servers.server(on_upgrade=decide, limits=kps.ServerLimits(handshake_timeout=0.5))
    with contextlib.ExitStack() as stack:
        # A machine that stands still may let the time for the request run out before the hook is
        # asked; then there is another request.
        for _ in range(10):
            raw = stack.enter_context(Raw(server.address))
            raw.send(UPGRADE.replace(b"/ws/bus", b"/ws/bus?hang"))
            if hang.called.wait(1.0):
                break
        hang.wait()
        client = connect(server.address, "client")
        client.flush()
        if isinstance(servers, AsyncioDriver):  # on threads it waits in that of the connection
            assert raw.status() == 503
            raw.rest()
        client.flush()
    assert seconds(lambda: server.stop(grace=0.5)) < 0.5 + 1.0 + SLACK


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_program_ends_although_its_callbacks_hang(
    processes: Callable[..., Process], driver: str
) -> None:
    # Two threads write, and print would write the end of its line apart.
    blocking = (
        "import os, sys, threading, kps, kps.sync\n"
        "hang = lambda *_: (os.write(1, b'called\\n'), threading.Event().wait())\n"
        "server = kps.sync.Server('127.0.0.1:0', id='server', on_id=hang)\n"
        "server.start()\n"
        "limits = kps.ClientLimits(close_timeout=0.5)\n"
        "client = kps.sync.Client.connect(server.address, limits=limits)\n"
        "client.subscribe('t', hang)\n"
        "client.publish('t', 1)\n"
        "client.publish_to_id('server', 1)\n"
        "sys.stdin.readline()\n"
        "client.close()\n"
        "server.stop(grace=0.5)\n"
        "print('end', flush=True)\n"
    )
    on_the_loop = (
        "import asyncio, os, sys, threading, kps, kps.io_asyncio.threads\n"
        "kps.io_asyncio.threads._PATIENCE = 0.5\n"
        "hang = lambda *_: (os.write(1, b'called\\n'), threading.Event().wait())\n"
        "async def main():\n"
        "    server = kps.Server('127.0.0.1:0', id='server', on_id=hang)\n"
        "    await server.start()\n"
        "    client = await kps.Client.connect(server.address)\n"
        "    await client.subscribe('t', hang)\n"
        "    await client.publish('t', 1)\n"
        "    await client.publish_to_id('server', 1)\n"
        "    await asyncio.to_thread(sys.stdin.readline)\n"
        "    await client.close()\n"
        "    await server.stop(grace=0.5)\n"
        "asyncio.run(main())\n"
        "print('end', flush=True)\n"
    )
    process = processes("-c", blocking if driver == "threads" else on_the_loop)
    process.expect("called")
    process.expect("called")
    begun = time.monotonic()
    process.tell("end")
    process.expect("end")
    assert process.end() == 0, process.errors()
    print(f"{driver}: ended after {time.monotonic() - begun:.1f} s")
    assert time.monotonic() - begun < 4 * 0.5 + SLACK


# -- callbacks that raise ----------------------------------------------------------------


class Fault(Exception):
    """What the callbacks here raise."""


def failing(*_: Any) -> None:
    raise Fault


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What has been logged about them."""
    return [
        record.getMessage()
        for record in list(caplog.records)
        if record.levelno >= logging.ERROR and record.exc_info and record.exc_info[0] is Fault
    ]


def test_callbacks_of_a_client_that_raise_are_logged_and_end_nothing(
    servers: AnyDriver, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = servers.server(id="server")
    names = ("on_connect", "on_disconnect", "on_error", "on_frame", "on_close", "on_id")
    client = connect(server.address, "client", **dict.fromkeys(names, failing))
    other = connect(server.address, "other")
    client.subscribe("t", failing)
    response = other.publish_with_ack("t", 1).wait()["client"]
    assert (response.success, response.error) == (False, "Fault")
    response = other.publish_to_id_with_ack("client", 1).wait()["client"]
    assert (response.success, response.error) == (False, "Fault")
    client.publish_to_id("nobody", 1)
    client.flush()
    works = Inbox()
    client.subscribe("u", works)
    other.publish("u", 1)
    assert works.data() == 1

    def others() -> list[str]:
        return [line for line in faults(caplog) if line.startswith("a callback failed")]

    # Closing waits for a moment only, and drops the notices that nobody has had the time for.
    eventually(lambda: len(others()) >= 5, "the lines of the notices")
    client.close()
    logged = faults(caplog)
    assert "a callback for topic 't' failed" in logged
    assert "a callback for messages without a topic failed" in logged
    other.flush()
    assert server.count_clients() == 1


def test_hooks_of_a_server_that_raise_are_logged_and_end_nothing(
    servers: AnyDriver, clients: AnyDriver, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(request: kps.HttpRequest) -> bool:
        if request.query == "fail":
            raise Fault
        return True

    server = servers.server(id="server", on_upgrade=decide, on_id=failing, on_server_data=failing)
    client = connect(server.address, "client")
    with pytest.raises(kps.ConnectFailed) as refusal:
        clients.client(f"ws://{server.address}/ws/bus?fail", reconnect=False)
    assert refusal.value.status == 500
    assert any("the hook that decides on" in line for line in faults(caplog))

    response = client.publish_to_id_with_ack("server", 1).wait()["server"]
    assert (response.success, response.error) == (False, "Fault")
    server.subscribe("t", failing)
    response = client.publish_with_ack("t", 1).wait()["server"]
    assert (response.success, response.error) == (False, "Fault")
    before = len(faults(caplog))
    with Raw(server.address) as raw:
        raw.register("another-server")
        raw.send(message("server-to-server", to=server.address, data={"data": 1}))
        eventually(lambda: len(faults(caplog)) > before, "the fault of on_server_data")
        raw.send(message("ping", **{"from": "another-server"}))
        assert raw.message()["action"] == "pong"
    client.flush()
    connect(server.address, "late").flush()


def test_a_500_is_not_for_good(servers: AnyDriver, clients: AnyDriver) -> None:
    """A hook may fail for want of something that comes back."""
    calls = 0

    def fails_once(request: kps.HttpRequest) -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Fault
        return True

    server = servers.server(on_upgrade=fails_once)
    client = clients.client(server.address, id="client", reconnect=QUICK)
    client.flush()
    assert calls == 2
