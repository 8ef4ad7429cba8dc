"""Which buses in memory are active: new clients ask here where they belong.

A client makes its runtime by its class attribute ``_new_runtime``. While any bus is active, that
is a function of this module, in the client classes of both drivers.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from kps.io_asyncio.client import Client
from kps.io_asyncio.runtime import Runtime
from kps.io_sync.client import Client as BlockingClient
from kps.io_sync.runtime import Runtime as BlockingRuntime
from kps.protocol.dialect.address import Address


class Host(Protocol):
    """A bus in memory, as new clients see it."""

    def takes(self, address: Address) -> bool:
        """Whether clients of that address belong to it."""

    def new_runtime(self, client: Client) -> Runtime:
        """Make the runtime of an asyncio client."""

    def new_blocking_runtime(self, client: BlockingClient) -> BlockingRuntime:
        """Make the runtime of a blocking client."""


_SEAM = "_new_runtime"

_lock = threading.Lock()
_active: list[Host] = []


def install(host: Host) -> None:
    """Let new clients belong to a bus; to the latest one that takes their address."""
    with _lock:
        if not _active:
            for cls, new_runtime in _SUBSTITUTES.items():
                setattr(cls, _SEAM, new_runtime)
        _active.append(host)


def uninstall(host: Host) -> None:
    """End that. With the last bus, everything is as it was."""
    with _lock:
        _active.remove(host)
        if not _active:
            for cls in _SUBSTITUTES:
                delattr(cls, _SEAM)  # it has that of its base class again


def _host_of(address: Address) -> Host | None:
    return next((host for host in reversed(_active) if host.takes(address)), None)


def _new_runtime(client: Client) -> Runtime:
    host = _host_of(client._settings.address)
    return Runtime() if host is None else host.new_runtime(client)


def _new_blocking_runtime(client: BlockingClient) -> BlockingRuntime:
    host = _host_of(client._settings.address)
    return BlockingRuntime() if host is None else host.new_blocking_runtime(client)


_SUBSTITUTES: dict[type, Callable[..., Any]] = {
    Client: _new_runtime,
    BlockingClient: _new_blocking_runtime,
}
