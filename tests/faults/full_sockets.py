"""Peers that have a server write more than their sockets take, and read nothing of it."""

import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.io.harness import PATIENCE
from tests.io.raw import FIN, PING, UPGRADE, masked, message

PART = 16_000
"""Bytes that the server has to write more at a time."""
ROUND = 0.02
FULL = 40
"""Rounds in which nothing more is taken of a socket that is full."""


class Hoarder:
    """One of them. Registered, it publishes to itself; a stranger sends WebSocket pings."""

    def __init__(
        self, address: str, name: str = "", *, is_tls: bool = False, is_stranger: bool = False
    ) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((host, int(port)))
        self.port: int = self.socket.getsockname()[1]
        if is_tls:
            self.socket = _careless().wrap_socket(self.socket)
        self.socket.sendall(UPGRADE)
        if not is_stranger:
            self.socket.sendall(message("ping", **{"from": name}))
            self.socket.sendall(message("subscribe", topic=name))
            self._part = message("publish", topic=name, data="x" * PART)
        else:
            ping = masked(b"x" * 125, first=FIN | PING)
            self._part = ping * (4 * PART // len(ping))
        self.socket.settimeout(0.01)
        self.part_size = len(self._part)
        self._unsent = memoryview(b"")

    def ask(self, parts: int = 1) -> None:
        """Have the server write more, as far as it still reads."""
        self._unsent = self._unsent or memoryview(self._part * parts)
        with suppress(TimeoutError, ssl.SSLError, ConnectionError):
            self._unsent = self._unsent[self.socket.send(self._unsent) :]

    def half_close(self) -> None:
        """Say that nothing more will come, and go on not reading."""
        with suppress(OSError):  # the server has given up already
            socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fill(address: str, hoarders: Sequence[Hoarder]) -> None:
    """Fill all their sockets.

    Behind that, one asks for a bit more than the other, so that with some of them the server's own
    queue is empty, and the transport's is not.
    """
    first, *others = hoarders
    room = _fill(address, [first], parts=8)
    for hoarder in others:
        hoarder.ask(int(0.9 * room / hoarder.part_size))
    _fill(address, others)
    for number, hoarder in enumerate(others):
        if number % 8:
            hoarder.ask(number % 8)


def _fill(address: str, hoarders: Sequence[Hoarder], parts: int = 1) -> int:
    """Have them ask until nothing more is taken; return what the first one's socket holds."""
    idle = dict.fromkeys(hoarders, 0)
    waiting: dict[int, int] = {}
    end = time.monotonic() + PATIENCE
    while any(rounds < FULL for rounds in idle.values()) and time.monotonic() < end:
        before, waiting = waiting, unacknowledged(address)
        for hoarder, rounds in idle.items():
            is_full = waiting.get(hoarder.port, 0) <= before.get(hoarder.port, 0)
            idle[hoarder] = rounds + 1 if is_full else 0
            if rounds == 0:
                hoarder.ask(parts)
        time.sleep(ROUND)
    return waiting.get(hoarders[0].port, 0)


def unacknowledged(address: str) -> dict[int, int]:
    """What the system still holds of what a server wrote, in bytes, by the port of the peer."""
    own = int(address.rpartition(":")[2])
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == own:
            found[int(remote.rpartition(":")[2], 16)] = int(queues.partition(":")[0], 16)
    return found


def _careless() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
