"""Fixtures of the socket tests."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from tests.io.harness import DRIVERS, AnyDriver, Cable
from tests.ports import kept_address


@pytest.fixture(params=DRIVERS, ids="{}-server".format)
def servers(request: pytest.FixtureRequest) -> Iterator[AnyDriver]:
    """Makes servers that stop with the test."""
    driver = DRIVERS[request.param]()
    yield driver
    driver.close()


@pytest.fixture(params=DRIVERS, ids="{}-client".format)
def clients(request: pytest.FixtureRequest, servers: AnyDriver) -> Iterator[AnyDriver]:
    """Makes clients that close with the test, before the servers stop."""
    driver = DRIVERS[request.param]()
    yield driver
    driver.close()


@pytest.fixture
def address() -> str:
    """An address at which nothing listens, for servers that come and go there."""
    return kept_address()


@pytest.fixture
def server(servers: AnyDriver) -> Any:
    """A server on a port that the system picked."""
    return servers.server(id="server")


@pytest.fixture
def connect(clients: AnyDriver, server: Any) -> Callable[..., Any]:
    """Makes clients of ``server``: ``connect("alice")``."""

    def make(client_id: str, **options: Any) -> Any:
        return clients.client(server.address, id=client_id, **options)

    return make


@pytest.fixture
def cable(server: Any) -> Iterator[Cable]:
    """A connection to ``server`` that can be cut."""
    cable = Cable(server.address)
    yield cable
    cable.close()


@pytest.fixture(scope="session")
def secure() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts for a server on loopback and for clients that trust it."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client
