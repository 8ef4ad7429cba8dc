"""The runtime of the threaded driver: time, waiting, randomness, and connecting.

This is the seam for tests. A client or server makes its runtime by calling its class attribute
``_new_runtime``. A test can put another class there, and run the real client against an endpoint
in memory, with a clock that it sets by hand: ``clock`` gives the time, ``wait`` waits for it,
``select`` waits for sockets, ``entropy`` and ``chance`` give randomness, and ``connect`` opens a
transport (for instance one end of a ``socket.socketpair``). After the test has advanced the
clock, it calls the driver's ``wake``, so that a thread that waits for its socket reads the clock.
"""

import os
import random
import selectors
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from kps.errors import InvalidState, ServerStopped
from kps.io_common.condition import Condition
from kps.io_common.forks import in_child
from kps.io_sync.connection import Ready, select
from kps.io_sync.dialing import dial
from kps.protocol.dialect.address import Address

if TYPE_CHECKING:
    import ssl  # at run time only where there is TLS


class Runtime:
    """Threads, sockets, and the system's clock and randomness."""

    entropy: Callable[[int], bytes] = staticmethod(os.urandom)
    """Returns ``n`` unpredictable bytes."""
    chance: Callable[[], float] = staticmethod(random.random)
    """Returns a number in [0, 1)."""
    select: Callable[[selectors.BaseSelector, float], Ready] = staticmethod(select)
    """Waits until sockets are ready, for up to so many seconds."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = not_started
        """Returns the time, in seconds. Raises before ``start``. Callers may keep it."""

        self.check: Callable[[], object] = _anywhere
        """Raises :class:`kps.InvalidState` where nothing may be called or waited for."""

    def start(self) -> None:
        """Start the clock."""
        self.clock = time.monotonic

    @property
    def lives(self) -> bool:
        """Whether this is the process that started it."""
        return self.check is not in_child

    def wait(self, condition: Condition, timeout: float | None) -> None:
        """Wait until a condition is notified, for up to ``timeout`` seconds."""
        condition.wait(timeout)

    def connect(
        self, address: Address, tls: "ssl.SSLContext | None", timeout: float
    ) -> socket.socket:
        """Open a transport to a server. Raises :class:`OSError`, also after the timeout."""
        ends = time.monotonic() + timeout
        sock = dial(address.host, address.port, timeout)
        try:
            sock.settimeout(max(0.001, ends - time.monotonic()))  # for the TLS handshake
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock if tls is None else tls.wrap_socket(sock, server_hostname=address.host)
        except BaseException:
            sock.close()
            raise


def _anywhere() -> None:
    """Allow everything: any thread may call."""


def not_started() -> NoReturn:
    """The clock before the start."""
    raise InvalidState(
        "not started yet: use 'with', or start() of a server, connect() of the class Client"
    )


def stopped() -> NoReturn:
    """Refuses calls after the stop."""
    raise ServerStopped("the server has stopped; make a new one")
