"""What the asyncio driver needs of the world: time, timers, chance, and a way to the server.

This is the seam for tests. A client or server makes its runtime by calling its class attribute
``_new_runtime``. A test that puts another one there runs the real client against an endpoint in
memory, at a time that it sets by hand: ``clock`` and ``call_at`` give the time, ``entropy`` and
``chance`` what is random, and ``connect`` opens a transport (it calls the protocol's
``connection_made`` with whatever has the methods of a transport).
"""

import asyncio
import os
import random
import ssl
from collections.abc import Callable
from typing import NoReturn, Protocol

from kps.errors import InvalidState
from kps.protocol.dialect.address import Address


class Timer(Protocol):
    """What ``call_at`` returns."""

    def cancel(self) -> None:
        """Do not call. May come too late, and twice."""


class Runtime:
    """The running event loop, sockets, and the system's randomness."""

    entropy: Callable[[int], bytes] = staticmethod(os.urandom)
    """Returns so many unpredictable bytes."""
    chance: Callable[[], float] = staticmethod(random.random)
    """Returns a number in [0, 1)."""
    loop: asyncio.AbstractEventLoop
    """The event loop, from ``start`` on."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = not_started
        """Returns the time, in seconds. Raises before ``start``. Callers may keep it."""

    def start(self) -> None:
        """Belong to the running event loop from now on."""
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call something on the loop at a time of the clock, or a little earlier."""
        return self.loop.call_at(when, callback)

    async def connect(
        self,
        protocol: Callable[[], asyncio.Protocol],
        address: Address,
        tls: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        """Open a transport to a server. Raises :class:`OSError`, also when the time is over."""
        async with asyncio.timeout(timeout):
            await self.loop.create_connection(protocol, address.host, address.port, ssl=tls)


def not_started() -> NoReturn:
    """The clock of what has not begun."""
    raise InvalidState("not started yet: use 'async with', or the method that starts it")


def stopped() -> NoReturn:
    """The clock of a server that has stopped."""
    raise InvalidState("the server has stopped; make a new one")
