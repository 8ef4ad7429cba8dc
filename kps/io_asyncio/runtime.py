"""The runtime of the asyncio driver: time, timers, randomness, and connecting.

This is the seam for tests. A client or server makes its runtime by calling its class attribute
``_new_runtime``. A test can put another class there, and run the real client against an endpoint
in memory, with a clock that it sets by hand: ``clock``, ``call_at`` and ``stopwatch`` give the
time, ``entropy`` and ``chance`` give randomness, and ``connect`` opens a transport (it calls the
protocol's ``connection_made`` with any object that has the methods of a transport).
"""

import asyncio
import os
import random
import ssl
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import NoReturn, Protocol

from kps.errors import InvalidState, ServerStopped, WrongThread
from kps.io_asyncio.dialing import dial
from kps.io_common.forks import in_child
from kps.protocol.dialect.address import Address


class Timer(Protocol):
    """A timer, as ``call_at`` returns it."""

    def cancel(self) -> None:
        """Cancel the call. May be called after it, and twice."""


class Runtime:
    """The running event loop, sockets, and the system's randomness."""

    entropy: Callable[[int], bytes] = staticmethod(os.urandom)
    """Returns ``n`` unpredictable bytes."""
    chance: Callable[[], float] = staticmethod(random.random)
    """Returns a number in [0, 1)."""
    stopwatch: Callable[[], float] = staticmethod(monotonic)
    """Returns the time by which shares of a turn are measured, in seconds. What happens depends on
    how fast the machine is, unless this stands still."""
    loop: asyncio.AbstractEventLoop
    """The event loop, set by ``start``."""

    def __init__(self) -> None:
        self.thread = 0
        """The thread in which the loop runs, as far as is known."""
        self.clock: Callable[[], float] = not_started
        """Returns the time, in seconds. Raises before ``start``. Callers may keep it."""
        self.check: Callable[[], object] = self._check
        """Raises :class:`kps.InvalidState` unless the caller runs on the event loop."""

    def start(self) -> None:
        """Attach to the running event loop. Raises :class:`kps.InvalidState` if none runs."""
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidState(
                "no event loop of asyncio runs here: start it within one, or use kps.sync"
            ) from None
        self.clock = self.loop.time
        self.thread = get_ident()

    def _check(self) -> None:
        if get_ident() == self.thread and self.loop.is_running():
            return  # a quarter of the time that asking for the running loop takes
        if asyncio._get_running_loop() is self.loop:
            self.thread = get_ident()  # the loop has moved to another one
            return
        if self.loop.is_closed():
            raise InvalidState("the event loop on which it was started has ended; make a new one")
        raise WrongThread(
            "an asyncio client or server is for the event loop on which it was started only; "
            "elsewhere use asyncio.run_coroutine_threadsafe, or kps.sync"
        )

    @property
    def lives(self) -> bool:
        """Whether this is the process that started it, and the loop has not ended."""
        return self.check is not in_child and not self.loop.is_closed()

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call a function on the loop at a time of the clock, or slightly earlier."""
        return self.loop.call_at(when, callback)

    async def connect(
        self,
        protocol: Callable[[], asyncio.Protocol],
        address: Address,
        tls: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        """Open a transport to a server. Raises :class:`OSError`, also after the timeout."""
        async with asyncio.timeout(timeout):
            sock = await dial(self.loop, address.host, address.port)
            try:
                await self.loop.create_connection(
                    protocol, sock=sock, ssl=tls, server_hostname=address.host if tls else None
                )
            except BaseException:
                sock.close()
                raise


def not_started() -> NoReturn:
    """The clock before the start."""
    raise InvalidState(
        "not started yet: use 'async with', or start() of a server, connect() of the class Client"
    )


def stopped() -> NoReturn:
    """Refuses calls after the stop."""
    raise ServerStopped("the server has stopped; make a new one")
