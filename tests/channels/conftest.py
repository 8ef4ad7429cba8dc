"""Fixtures of the tests of the channel layer."""

from collections.abc import Iterator

import pytest

import kps.sync


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    """A server on a port that the system picked."""
    with kps.sync.Server("127.0.0.1:0") as server:
        yield server
