"""Fixtures of the tests that attack KPS."""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any

import pytest

import kps
from kps.protocol.limits import ClientLimits
from tests.faults.processes import KINDS, Process, Serve
from tests.faults.proxy import Proxy
from tests.io.harness import DRIVERS, AnyDriver, Blocking, Inbox

LIMITS = ClientLimits(close_timeout=0.3)
"""Of the clients here, whose closing often finds nobody at the other end."""

Check = Callable[[], list[float]]

QUICK = kps.Backoff(first=0.01, longest=0.2)


def publish_all(client: Any, topic: str, payloads: Iterable[Any]) -> None:
    """Publish many payloads as a program does: without a way to another thread for each."""
    if not isinstance(client, Blocking):
        for payload in payloads:
            client.publish(topic, payload)
        return

    async def publish() -> None:
        for payload in payloads:
            await client._target.publish(topic, payload)

    client._thread.call(publish)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the server, which is a process."""
    return str(request.param)


@pytest.fixture
def serve(kind: str) -> Iterator[Callable[..., Serve]]:
    """Starts a server that the test may kill: ``serve("--option", "value", prelude="…")``."""
    started: list[Serve] = []

    def start(*options: str, prelude: str = "", kind: str = kind) -> Serve:
        server = Serve(kind, *options, prelude=prelude)
        started.append(server)
        assert server.is_up, server.errors()
        return server

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def lasting_servers() -> Iterator[dict[tuple[str, ...], Serve]]:
    """Servers that outlive tests, by kind and options."""
    servers: dict[tuple[str, ...], Serve] = {}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture
def lasting(kind: str, lasting_servers: dict[tuple[str, ...], Serve]) -> Callable[..., Serve]:
    """A server with these options that other tests use as well, and that nobody kills."""

    def find(*options: str) -> Serve:
        key = kind, *options
        if key not in lasting_servers:
            lasting_servers[key] = Serve(kind, *options)
        server = lasting_servers[key]
        assert server.is_up, server.errors()
        server.await_clients(0)  # those of the test before have gone
        return server

    return find


@pytest.fixture
def processes() -> Iterator[Callable[..., Process]]:
    """Starts other processes: ``processes("-m", "module", …)``."""
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture
def proxy_to() -> Iterator[Callable[[str], Proxy]]:
    """Makes proxies in front of an address."""
    proxies: list[Proxy] = []

    def make(target: str) -> Proxy:
        proxies.append(Proxy(target))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def clients(
    kind: str,
    serve: Callable[..., Serve],
    processes: Callable[..., Process],
    proxy_to: Callable[[str], Proxy],
) -> Iterator[AnyDriver]:
    """Makes clients, which close before anything else of the test ends.

    They are of the server's kind: what one end does about a fault does not depend on the kind
    of the other, and all pairings are tested elsewhere.
    """
    driver = DRIVERS[kind]()
    yield driver
    driver.close()


@pytest.fixture
def connect(clients: AnyDriver) -> Callable[..., Any]:
    """Makes clients that come back quickly: ``connect(address, "alice")``."""

    def make(address: str, client_id: str, **options: Any) -> Any:
        options = {"reconnect": QUICK, "limits": LIMITS} | options
        return clients.client(address, id=client_id, **options)

    return make


@pytest.fixture
def bystanders(connect: Callable[..., Any]) -> Iterator[Callable[[str], Check]]:
    """Two clients of a server, who must not notice anything: ``check = bystanders(address)``.

    The call checks that messages pass between them, and returns the seconds that each took.
    """
    checks: list[Check] = []
    pair: list[Any] = []

    def make(address: str) -> Check:
        inbox = Inbox()
        listener, talker = connect(address, "listener"), connect(address, "talker")
        pair.extend((listener, talker))
        listener.subscribe("by", inbox)
        sent = 0

        def check() -> list[float]:
            nonlocal sent
            took = []
            for _ in range(5):
                begun = monotonic()
                talker.publish("by", sent)
                assert inbox.data() == sent
                took.append(monotonic() - begun)
                sent += 1
            return took

        check()
        checks.append(check)
        return check

    yield make
    for check in checks:
        check()
    assert all(client.is_connected for client in pair)
