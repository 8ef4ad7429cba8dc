"""Fixtures for pytest: ``kps_bus``, a bus in memory, and ``kps_server``, a real server.

pytest finds this by itself where KPS is installed. Nothing else of KPS is imported before a test
asks for a fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kps.io_sync.server import Server
    from kps.testing.memory_bus import MemoryBus


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    for fixture, what in (("kps_bus", "kps.testing.MemoryBus"), ("kps_server", "kps.sync.Server")):
        config.addinivalue_line(
            "markers", f"{fixture}(**options): options of {what} for the fixture {fixture}"
        )


@pytest.fixture
def kps_bus(request: pytest.FixtureRequest) -> "Iterator[MemoryBus]":
    """A ``kps.testing.MemoryBus`` that is active: clients made in the test connect to it.

    ``@pytest.mark.kps_bus(seed=3)`` gives it options.
    """
    from kps.testing.memory_bus import MemoryBus

    with MemoryBus(**_options(request, "kps_bus")) as bus:
        yield bus


@pytest.fixture
def kps_server(request: pytest.FixtureRequest) -> "Iterator[Server]":
    """A ``kps.sync.Server`` that listens on a free port of this machine: see its ``address``.

    ``@pytest.mark.kps_server(auth=…)`` gives it options. It is stopped behind the test.
    """
    from kps.io_sync.server import Server

    with Server(**{"address": "127.0.0.1:0", **_options(request, "kps_server")}) as server:
        yield server


def _options(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    marker = request.node.get_closest_marker(name)
    return {} if marker is None else dict(marker.kwargs)
