"""Places and descriptors that a server loses to those who are not there for anything."""

import itertools
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hostile.model import OPEN_INTERNET, Attack
from hostile.raw import FIN, PING, Crowd, Peer, Target, frame, message

PEERS = 150
STRANGERS = 20
"""What fills their sockets are very many tiny answers, which takes time."""
SMALL = 4096
"""The receive buffer of those who do not read, in bytes."""
CLOSE = ("--close-timeout", "2")
PART = 16_000
"""Bytes that the server has to write more at a time."""
ROUND = 0.02
FULL = 25
"""Rounds in which nothing more is taken of a socket that is full."""
FILLING = 15.0
"""Seconds that it may take."""


def full_sockets(
    *, registers: bool = True, count: int = PEERS, spread: int = 8
) -> Callable[[Crowd], None]:
    """Have the server write more than the socket takes, end the own side, and do not read.

    Each stops after its socket is full, one sooner than the other: what is left then is in the
    server's transport, and for some of them nothing is in the server's own queue.
    """

    def open_one(crowd: Crowd) -> tuple[Peer, bytes]:
        name = crowd.new_id()
        if registers:
            opening = crowd.target.opening(name) + frame(message("subscribe", topic=name))
            part = frame(message("publish", topic=name, data="x" * PART))
        else:
            opening, ping = crowd.target.upgrade, frame(b"x" * 125, FIN | PING)
            part = ping * (4 * PART // len(ping))
        return crowd.add(opening, reads=False, receive_buffer=SMALL), part

    def run(crowd: Crowd) -> None:
        crowd.begin()
        filling = dict(open_one(crowd) for _ in range(count))
        everybody = list(filling)
        idle = dict.fromkeys(everybody, 0)
        waiting: dict[int, int] = {}
        for peer, part in filling.items():
            crowd.write(peer, part)
        until = time.monotonic() + FILLING
        while filling and time.monotonic() < until:
            crowd.run(ROUND)
            before, waiting = waiting, unread(crowd.target)
            for number, peer in enumerate(everybody):
                if peer in filling and waiting.get(peer.port, 0) > before.get(peer.port, 0):
                    idle[peer] = 0
                    crowd.write(peer, filling[peer])
                elif idle[peer] < FULL:
                    idle[peer] += 1
                elif part := filling.pop(peer, b""):
                    crowd.write(peer, *[part] * (number % spread))
        crowd.run(1.0)
        for peer in everybody:
            with suppress(OSError):
                peer.socket.shutdown(socket.SHUT_WR)
        crowd.run()  # they are still there, and do nothing

    return run


def unread(target: Target) -> dict[int, int]:
    """The bytes in the system's buffers of the server's connections, by the port of the peer."""
    server = target.port
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == server:
            found[int(remote.rpartition(":")[2], 16)] = int(queues.partition(":")[0], 16)
    return found


def no_close_notify(crowd: Crowd) -> None:
    """TLS connections whose server has said all; they never say that they end."""
    crowd.begin()
    for _ in range(PEERS):
        with suppress(OSError):
            crowd.add(b"GET /healthz HTTP/1.1\r\nHost: target\r\n\r\n", reads=False)
    crowd.run()


def turned_away(crowd: Crowd) -> None:
    """One address opens 60 connections a second, most of which are over its limit."""
    crowd.begin()
    began = time.monotonic()
    for number in itertools.count():
        if number / 60 >= crowd.target.seconds:
            return
        crowd.run(max(0.0, began + number / 60 - time.monotonic()))
        with suppress(OSError):
            crowd.add(reads=False)


def delayed_and_gone(crowd: Crowd) -> None:
    """Clients that sent far too fast under the policy ``delay``, and have left."""
    crowd.begin()
    publish = frame(message("publish", topic="p", data="x" * 100))
    peers = [crowd.client(publish * 20_000, reads=False) for _ in range(20)]
    crowd.run(1.0)
    for peer in peers:
        crowd.drop(peer)
    crowd.run()


HELD = 10.0
"""Seconds after which all of them ought to be gone: several times ``close_timeout``."""

ATTACKS = [
    Attack(
        "full-sockets",
        f"{PEERS} clients fill their sockets, half-close, and do not read",
        full_sockets(),
        CLOSE,
        least_seconds=HELD,
    ),
    Attack(
        "full-sockets-stranger",
        f"{STRANGERS} connections without a token do the same with WebSocket pings",
        full_sockets(registers=False, count=STRANGERS),
        CLOSE,
        has_tokens=True,
        is_stranger=True,
        least_seconds=HELD + 5,
    ),
    Attack(
        "full-sockets-tls",
        f"{PEERS} clients fill their sockets over TLS, and do not read",
        full_sockets(spread=60),
        CLOSE,
        is_tls=True,
        least_seconds=HELD,
    ),
    Attack(
        "no-close-notify",
        f"{PEERS} TLS connections that do not answer the end",
        no_close_notify,
        CLOSE,
        is_tls=True,
        least_seconds=HELD,
    ),
    Attack(
        "turned-away",
        "60 connections a second from one address that may have 10",
        turned_away,
        ("--max-connections", "200", "--max-connections-per-address", "10"),
        least_seconds=HELD,
    ),
    Attack(
        "delayed-and-gone",
        "20 clients that are slowed down, and have left",
        delayed_and_gone,
        OPEN_INTERNET,
        least_seconds=HELD,
    ),
]
