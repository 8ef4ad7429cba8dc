"""As much as the server takes of what is dear to read, or to answer."""

from collections.abc import Callable

from hostile.model import Attack
from hostile.raw import FIN, PING, Crowd, array, frame, message
from kps.protocol.server_limits import ServerLimits

MIB = 2**20
ROOM = MIB - 1000
"""Bytes of JSON in one frame."""
BRACKETS = ServerLimits().max_brackets - 10
"""Brackets that it may have."""


def _filled(piece: bytes, head: bytes = b'{"action":"publish","topic":"f","data":[') -> bytes:
    """One publication whose payload is a long array: of pieces as long as it may, then zeros."""
    room, brackets = len(piece) + 1, piece.count(b"[") + piece.count(b"{")
    count = min(ROOM // room, BRACKETS // brackets) if brackets else ROOM // room
    pieces = [piece] * count + [b"0"] * ((ROOM - count * room) // 2)
    return frame(head + b",".join(pieces) + b"]}")


def _chain(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def _renames(_: Crowd) -> bytes:
    return b"".join(frame(message("ping", from_=f"renamed-{n % 5000}")) for n in range(10_000))


def _topics(_: Crowd) -> bytes:
    names = (f"topic-{number}" for number in range(5_000))
    return b"".join(
        frame(message("subscribe", topic=name)) + frame(message("unsubscribe", topic=name))
        for name in names
    )


FLOODS: dict[str, tuple[str, Callable[[Crowd], bytes]]] = {
    "deep": ("payloads of 1 MiB, as deep as is allowed", lambda _: _filled(_chain(120))),
    "too-deep": ("payloads of 1 MiB that are too deep", lambda _: _filled(_chain(900))),
    "brackets": (
        "payloads of 1 MiB of brackets",
        lambda _: frame(
            b'{"action":"publish","topic":"f","data":[' + b"[]," * (ROOM // 3) + b"0]}"
        ),
    ),
    "zeros": ("arrays of zeros in place of messages", lambda _: array([b"0"] * 65_000)),
    "zero-payloads": ("payloads of 1 MiB, arrays of zeros", lambda _: _filled(b"0")),
    "numbers": ("payloads of 1 MiB of numbers that grow", lambda _: _filled(b"1e15")),
    "long-numbers": (
        "payloads of 1 MiB of very long digits",
        lambda _: _filled(b"7." + b"3" * 700),
    ),
    "keys": (
        "payloads of 1 MiB of objects with a key",
        lambda _: _filled(b'{"a":{}}'),
    ),
    "renames": ("pings with ever new ids", _renames),
    "ws-pings": ("WebSocket pings", lambda _: frame(b"x" * 5, FIN | PING) * 20_000),
    "topics": ("subscriptions that come and go", _topics),
    "garbage": ("frames that are not JSON", lambda _: frame(b"{") * 30_000),
    "errors-array": (
        "arrays of messages with unknown actions",
        lambda _: array([b'{"action":"x"}'] * 60_000),
    ),
}


def flood(make: Callable[[Crowd], bytes], connections: int) -> Callable[[Crowd], None]:
    """Send it again and again on each connection, and read what is answered."""

    def run(crowd: Crowd) -> None:
        data = make(crowd)
        crowd.begin()
        crowd.hold(connections, lambda: crowd.client(again=data))

    return run


ATTACKS = [
    Attack(
        f"{name}-{connections}",
        f"{what}; {connections} connection{'s' * (connections > 1)}",
        flood(make, connections),
    )
    for name, (what, make) in FLOODS.items()
    for connections in (1, 20)
]
