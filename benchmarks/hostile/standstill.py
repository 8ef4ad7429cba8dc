"""Little that is cheap to send, and takes the server long."""

import itertools
from collections.abc import Callable, Iterator

from hostile.model import OPEN_INTERNET, Attack
from hostile.raw import CONTINUATION, TEXT, Crowd, array, frame, message

MIB = 2**20

# -- a message of many frames ------------------------------------------------------------

CONNECTIONS = 250
EACH = 400_000
"""Bytes that each connection sends."""


def fragments(part: bytes, *, registers: bool) -> Callable[[Crowd], None]:
    """Many connections, each with one message that never ends."""
    piece = frame(part, CONTINUATION)
    data = frame(b"", TEXT) + piece * (EACH // len(piece))

    def run(crowd: Crowd) -> None:
        def open_one() -> None:
            opening = crowd.target.opening(crowd.new_id()) if registers else crowd.target.upgrade
            crowd.add(opening + data)

        crowd.begin()
        crowd.hold(CONNECTIONS, open_one)

    return run


# -- one message that reaches many -------------------------------------------------------

READERS_SUBSCRIBE = frame(message("subscribe", topic="t"))


def _many(one: Callable[[int], bytes], size: int = MIB - 100) -> bytes:
    """An array of as many messages as one frame holds."""

    def pieces() -> Iterator[bytes]:
        used = 0
        for number in itertools.count():
            piece = one(number)
            used += len(piece) + 1
            if used > size:
                return
            yield piece

    return array(pieces())


def _batch(_: int) -> bytes:
    return b'{"action":"publish","topic":"t","batch":[' + b",".join([b"0"] * 1000) + b"]}"


def _ack_and_cancel(number: int) -> bytes:
    ask = message("publish_with_ack", topic="t", ack_id=str(number))
    return ask + b"," + message("cancel_ack", ack_id=str(number))


FAN_OUT: dict[str, Callable[[int], bytes]] = {
    "publications": lambda _: b'{"action":"publish","topic":"t","receipt":""}',
    "batches": _batch,
    "ack-cancel": _ack_and_cancel,
}


def fan_out(what: str, readers: int) -> Callable[[Crowd], None]:
    """A whole message of tiny ones to many subscribers, who are the attacker's own and read."""

    def run(crowd: Crowd) -> None:
        for _ in range(readers):
            crowd.prepared(READERS_SUBSCRIBE)
        whole = _many(FAN_OUT[what])
        crowd.begin()
        crowd.client(again=whole)
        crowd.run(ended=lambda: crowd.client(again=whole))

    return run


# -- much that ends at once --------------------------------------------------------------

ASKERS, ASKS = 20, 10_000


def acks_end(crowd: Crowd) -> None:
    """Very many requests to one subscriber, who leaves."""
    leaver = crowd.prepared(frame(message("subscribe", topic="asked")))
    for _ in range(ASKERS):
        asks = (
            message("publish_with_ack", topic="asked", ack_id=str(number), timeout=300)
            for number in range(ASKS)
        )
        crowd.client(*(array(part) for part in _parts(asks, 500)))
        crowd.run(1.0)  # the subscriber reads meanwhile, and nobody is in a hurry
    crowd.run(3.0)
    crowd.begin()
    crowd.drop(leaver, reset=True)
    crowd.run()


def _parts(messages: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while part := list(itertools.islice(messages, size)):
        yield part


def _fan_out(what: str, readers: int, *, is_limited: bool = False) -> Attack:
    return Attack(
        f"{what}-{readers}" + ("-limited" if is_limited else ""),
        f"1 MiB of tiny {what} to {readers} subscribers"
        + (", under the limits for the open internet" if is_limited else ""),
        fan_out(what, readers),
        # The attacker's subscribers come from one address.
        (*OPEN_INTERNET, "--max-connections-per-address", "5000") if is_limited else (),
        # A message of 1 MiB takes so long to be read at 100 kB/s.
        least_seconds=15.0 if is_limited else 0.0,
    )


ATTACKS = [
    Attack(
        "fragments-stranger",
        f"{CONNECTIONS} connections without a token: an endless message of empty frames each",
        fragments(b"", registers=False),
        has_tokens=True,
        is_stranger=True,
    ),
    Attack(
        "fragments-empty",
        f"{CONNECTIONS} clients: an endless message of empty frames each",
        fragments(b"", registers=True),
        has_tokens=True,
    ),
    Attack(
        "fragments-one-byte",
        f"{CONNECTIONS} clients: an endless message of frames of one byte each",
        fragments(b" ", registers=True),
        has_tokens=True,
    ),
    _fan_out("publications", 200),
    _fan_out("publications", 1000),
    _fan_out("publications", 200, is_limited=True),
    _fan_out("batches", 200),
    _fan_out("ack-cancel", 200),
    Attack(
        "acks-end",
        f"{ASKERS * ASKS:,} open requests to one subscriber, who leaves",
        acks_end,
    ),
]
