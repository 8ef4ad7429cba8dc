"""A client to be killed: ``python -m tests.faults.victim ADDRESS ID WHAT``.

It says ``ready`` once it is where it should die, and does nothing more.
"""

import sys
import threading
from typing import NoReturn

import kps
import kps.sync
from tests.faults.raw import CONTINUATION, FIN, TEXT, Raw, frame, message

PARTS = {
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


def in_mid_message(address: str, client_id: str, what: str) -> NoReturn:
    """Write a part of a message for the topic ``by``: ``PART`` of a ``small`` or ``large`` one,
    or all fragments of one but the last."""
    raw = Raw(address)
    raw.register(client_id)
    part, _, size = what.rpartition(" ")
    whole = message("publish", topic="by", data="x" * (200_000 if size == "large" else 10))
    if part == "fragments":
        raw.send(frame(b'{"action":"publish","topic":"by",', first=TEXT))
        raw.send(frame(b'"data":1', first=CONTINUATION))
        raw.send(frame(b"}", first=CONTINUATION | FIN)[:-1])
    else:
        raw.send(PARTS[part](whole))
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
    server, name, deed = sys.argv[1:]
    if deed == "ack":
        in_mid_ack(server, name)
    in_mid_message(server, name, deed)
