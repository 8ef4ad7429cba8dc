"""Clients to be killed: ``python -m tests.faults.victim ADDRESS WHAT ID``.

``WHAT`` is ``messages`` or ``ack``. It says ``ready`` once it is where it should die, and does
nothing more.
"""

import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import kps
import kps.sync
from tests.io.raw import CONTINUATION, FIN, TEXT, Raw, masked, message

PARTS: dict[str, Callable[[bytes], bytes]] = {
    "head": lambda whole: whole[:3],
    "half": lambda whole: whole[: len(whole) // 2],
    "all-but-one": lambda whole: whole[:-1],
}
"""How much of a frame has been written."""


def stay() -> NoReturn:
    """Wait to be killed."""
    print("ready", flush=True)
    threading.Event().wait()
    raise AssertionError


def in_mid_message(address: str, client_id: str) -> NoReturn:
    """Write parts of messages for the topic ``by``, each on a connection of its own.

    Of a small and a large one each of ``PARTS``, and all fragments of one but the last byte.
    """
    connections: list[Raw] = []

    def register() -> Raw:
        raw = Raw(address)
        raw.register(f"{client_id}-{len(connections)}")
        connections.append(raw)
        return raw

    for size in (10, 200_000):
        whole = message("publish", topic="by", data="x" * size)
        for part in PARTS.values():
            register().send(part(whole))
    raw = register()
    raw.send(masked(b'{"action":"publish","topic":"by",', first=TEXT))
    raw.send(masked(b'"data":1', first=CONTINUATION))
    raw.send(masked(b"}", first=CONTINUATION | FIN)[:-1])
    stay()


def in_mid_ack(address: str, client_id: str) -> NoReturn:
    """Be asked on the topic ``work``, and do not answer."""
    asked = threading.Event()

    def hold(message: kps.Message) -> None:
        asked.set()
        threading.Event().wait()

    client = kps.sync.Client.connect(address, id=client_id)
    client.subscribe("work", hold)
    print("subscribed", flush=True)
    asked.wait()
    stay()


if __name__ == "__main__":
    server, what, name = sys.argv[1:]
    if what == "ack":
        in_mid_ack(server, name)
    in_mid_message(server, name)
