"""What the threaded driver needs of the world: time, waiting, chance, and a way to the server.

This is the seam for tests. A client or server makes its runtime by calling its class attribute
``_new_runtime``. A test that puts another one there runs the real client against an endpoint in
memory, at a time that it sets by hand: ``clock`` gives the time, ``wait`` waits for it,
``entropy`` and ``chance`` give what is random, and ``connect`` opens a transport (one end of a
``socket.socketpair``, say). When the time was set forward, the driver's ``wake`` has a thread that
waits for its socket look at the time.
"""

import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from kps.errors import InvalidState
from kps.protocol.dialect.address import Address


class Runtime:
    """Threads, sockets, and the system's clock and randomness."""

    entropy: Callable[[int], bytes] = staticmethod(os.urandom)
    """Returns so many unpredictable bytes."""
    chance: Callable[[], float] = staticmethod(random.random)
    """Returns a number in [0, 1)."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = not_started
        """Returns the time, in seconds. Raises before ``start``. Callers may keep it."""

    def start(self) -> None:
        """Let time pass from now on."""
        self.clock = time.monotonic

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait for a condition to be notified, or for a time to be over, or less."""
        condition.wait(timeout)

    def connect(
        self, address: Address, tls: ssl.SSLContext | None, timeout: float
    ) -> socket.socket:
        """Open a transport to a server. Raises :class:`OSError`, also when the time is over."""
        sock = socket.create_connection((address.host, address.port), timeout=timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock if tls is None else tls.wrap_socket(sock, server_hostname=address.host)
        except BaseException:
            sock.close()
            raise


def not_started() -> NoReturn:
    """The clock of what has not begun."""
    raise InvalidState("not started yet: use 'with', or the method that starts it")


def stopped() -> NoReturn:
    """The clock of a server that has stopped."""
    raise InvalidState("the server has stopped; make a new one")
