"""Places and descriptors that a server loses to those who are not there for anything."""

import itertools
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from hostile.model import OPEN_INTERNET, Attack
from hostile.raw import FIN, PING, Crowd, Peer, frame, message

PEERS = 150
SMALL = 4096
"""The receive buffer of those who do not read, in bytes."""
STEP = 40_000
"""By how much more each of them has the server write than the one before: some meet the amount
that fills the socket and the transport, and leaves nothing in the server's own queue."""
CLOSE = ("--close-timeout", "2")
PART = 16_000


def full_sockets(*, registers: bool) -> Callable[[Crowd], None]:
    """Have the server write more than the socket takes, end the own side, and do not read."""
    pings = frame(b"x" * 125, FIN | PING)

    def run(crowd: Crowd) -> None:
        crowd.begin()
        peers: list[Peer] = []
        for number in range(PEERS):
            with suppress(OSError):
                amount = STEP * (number + 1)
                if registers:
                    name = crowd.new_id()
                    subscribe = frame(message("subscribe", topic=name))
                    own = frame(message("publish", topic=name, data="x" * PART))
                    data = crowd.target.opening(name) + subscribe + own * (amount // PART)
                else:
                    data = crowd.target.upgrade + pings * (amount // len(pings))
                peers.append(crowd.add(data, reads=False, receive_buffer=SMALL))
        for _ in range(20):
            crowd.run(0.1)
        for peer in peers:
            with suppress(OSError):
                peer.socket.shutdown(socket.SHUT_WR)
        crowd.run()  # they are still there, and do nothing

    return run


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
        full_sockets(registers=True),
        CLOSE,
        least_seconds=HELD,
    ),
    Attack(
        "full-sockets-stranger",
        f"{PEERS} connections without a token do the same with WebSocket pings",
        full_sockets(registers=False),
        (*CLOSE, "--register-timeout", "2"),
        has_tokens=True,
        is_stranger=True,
        least_seconds=HELD,
    ),
    Attack(
        "full-sockets-tls",
        f"{PEERS} clients fill their sockets over TLS, and do not read",
        full_sockets(registers=True),
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
