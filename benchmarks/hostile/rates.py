"""More than the rate limits allow."""

import time
from collections.abc import Callable
from contextlib import suppress

from hostile.model import Attack
from hostile.raw import CONTINUATION, FIN, PING, TEXT, Crowd, Peer, frame

LIMITS = ("--message-rate", "50", "--byte-rate", "100000")


def short_connections(crowd: Crowd) -> None:
    """Connections that say much at once, leave, and come again: 100 at a time."""
    publish = frame(b'{"action":"publish","topic":"p"}') * 2000
    crowd.begin()
    until = time.monotonic() + crowd.target.seconds
    while time.monotonic() < until:
        peers: list[Peer] = []
        with suppress(OSError):
            peers += [crowd.client(publish) for _ in range(100)]
        crowd.run(0.2)  # what they sent is not lost with a reset
        for peer in peers:
            crowd.drop(peer)


def one_connection(before: bytes, data: bytes) -> Callable[[Crowd], None]:
    """One client at a time that sends what may not be counted."""

    def run(crowd: Crowd) -> None:
        crowd.begin()
        crowd.hold(1, lambda: crowd.client(before, again=data))

    return run


KINDS = {
    "control-frames": (frame(b"", FIN | PING), frame(b"x" * 125, FIN | PING) * 2000),
    "fragments": (frame(b"", TEXT), frame(b"", CONTINUATION) * 20_000),
}

ATTACKS = [
    Attack(
        "short-connections",
        "100 connections at a time from one address, far above the rates, ever new",
        short_connections,
        (*LIMITS, "--max-connections-per-address", "100"),
    ),
    *(
        Attack(
            f"{name}-{policy}",
            f"{name} without end under the policy {policy}",
            one_connection(*data),
            (*LIMITS, "--rate-policy", policy),
        )
        for name, data in KINDS.items()
        for policy in ("error", "close", "delay")
    ),
]
