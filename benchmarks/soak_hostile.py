"""The hostile process of the soak: floods, and readers that stop reading, at a bounded rate.

``soak.py`` starts it beside the others. It comes to one server after the other, does harm in one
of the ways below, and leaves. Whatever of that enters a server's figures is known from the
server's own answers (receipts and errors), so the books balance with it.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hostile.raw import (
    CONTINUATION,
    FIN,
    PING,
    SLICE,
    TEXT,
    Target,
    array,
    frame,
    message,
    ping,
    tell,
)
from soak_plan import Plan, Site

PAUSE = 0.3
"""Seconds between two visits: floods must not use up the machine."""
CHUNK = 32 * 1024
"""Characters of what slow readers do not read."""
CHUNKS = 250
"""More than a socket and a queue of the soak's servers take."""
SMALL = 4096
"""The receive buffer of a slow reader, in bytes."""


class Visitor:
    """One registered client, which waits for its answers."""

    def __init__(self, site: Site, name: str, counts: Counter[str], **options: int) -> None:
        self._counts = counts
        self._name = name
        self.socket = Target(site.address, 0).connect(source="127.0.0.1", **options)
        self._received = bytearray()
        self.say(Target(site.address, 0).upgrade + ping(name))
        while b"\r\n\r\n" not in self._received:
            self._read()
        del self._received[: self._received.index(b"\r\n\r\n") + 4]
        self.wait()

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wait(self) -> None:
        """Read everything that was caused by what was said, and count it."""
        self.say(frame(message("ping", from_=self._name, nonce="end")))
        while True:
            opcode, payload = self._frame()
            if opcode != TEXT:
                continue
            found = json.loads(payload)
            for each in found if isinstance(found, list) else [found]:
                if each.get("nonce") == "end":
                    return
                self._count(each)

    def leave(self) -> None:
        self.socket.close()

    def _count(self, fields: dict[str, Any]) -> None:
        if fields["action"] == "error":
            self._counts["refused"] += 1
        elif fields["action"] == "published":
            self._counts["delivered"] += fields["delivered"]
        elif fields["action"] == "publish":
            self._counts["read"] += len(fields.get("batch", [None]))

    def _frame(self) -> tuple[int, bytes]:
        head = self._take(2)
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            self._read()
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _read(self) -> None:
        if not (data := self.socket.recv(SLICE)):
            raise ConnectionResetError("the server ended the connection")
        self._received += data


class Hostile:
    """What comes to one server."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.counts: Counter[str] = Counter()
        self._visits = 0
        self._ways: list[Callable[[str], None]] = [
            self._publish_much,
            self._make_mistakes,
            self._ping,
            self._send_fragments,
            self._be_a_stranger,
            self._change_topics,
            self._stop_reading,
        ]

    def visit(self) -> None:
        """Do harm in one of the ways, each in its turn."""
        way = self._ways[self._visits % len(self._ways)]
        self._visits += 1
        way(f"hostile/{self._visits}")
        self.counts["visits"] += 1

    def _publish_much(self, name: str) -> None:
        """One message of thousands to two subscribers."""
        count = 2000
        readers = [Visitor(self.site, f"{name}/{n}", self.counts) for n in range(2)]
        for reader in readers:
            reader.say(frame(message("subscribe", topic=name)))
            reader.wait()
        publisher = Visitor(self.site, name, self.counts)
        publisher.say(array([message("publish", topic=name, receipt="")] * count))
        publisher.wait()
        self.counts["published"] += count
        for each in (*readers, publisher):
            each.wait()
            each.leave()

    def _make_mistakes(self, name: str) -> None:
        visitor = Visitor(self.site, name, self.counts)
        deep = b"[" * 500 + b"]" * 500
        visitor.say(frame(b"{") * 300)
        visitor.say(array([b"0"] * 1000))
        visitor.say(frame(b'{"action":"publish","topic":"t","data":' + deep + b"}") * 20)
        visitor.say(frame(message("shout", topic="t")) * 100)
        visitor.wait()
        visitor.leave()

    def _ping(self, name: str) -> None:
        visitor = Visitor(self.site, name, self.counts)
        visitor.say(frame(b"x" * 100, FIN | PING) * 3000)
        visitor.wait()
        visitor.leave()

    def _send_fragments(self, name: str) -> None:
        """A message that does not end, by one who leaves in the middle of it."""
        visitor = Visitor(self.site, name, self.counts)
        with suppress(OSError):  # a server need not take it
            visitor.say(frame(b"", TEXT) + frame(b"", CONTINUATION) * 10_000)
            visitor.say(frame(b"x", CONTINUATION) * 1000)
        visitor.leave()

    def _be_a_stranger(self, name: str) -> None:
        target = Target(self.site.address, 0)
        for data in (
            b"",
            target.upgrade[:40],
            target.upgrade + frame(b"x", FIN | PING) * 500,
            target.upgrade + bytes((FIN | TEXT, 0xFF)) + (2**40).to_bytes(8, "big") + bytes(4),
            b"\x16\x03\x01" + bytes(100),
        ):
            connection = target.connect(source="127.0.0.1")
            with suppress(OSError):
                connection.sendall(data)
            connection.close()

    def _change_topics(self, name: str) -> None:
        visitor = Visitor(self.site, name, self.counts)
        topics = [f"{name}/{number}" for number in range(300)]
        for action in ("subscribe", "unsubscribe"):
            visitor.say(b"".join(frame(message(action, topic=topic)) for topic in topics))
            visitor.wait()
        visitor.leave()

    def _stop_reading(self, name: str) -> None:
        """Have so much come that the server throws the reader out, or drops it."""
        reader = Visitor(self.site, f"{name}/reader", self.counts, receive_buffer=SMALL)
        reader.say(frame(message("subscribe", topic=name)))
        reader.wait()
        publisher = Visitor(self.site, name, self.counts)
        chunk = frame(message("publish", topic=name, receipt="", data="x" * CHUNK))
        for _ in range(CHUNKS):
            publisher.say(chunk)
        publisher.wait()
        publisher.leave()
        self.counts["published"] += CHUNKS
        self.counts["for slow"] += CHUNKS
        reader.leave()  # with everything that it did not read, which is a reset


def main() -> None:
    plan = Plan.from_json(sys.argv[2])
    signal.alarm(plan.life)
    ends = threading.Event()

    def listen() -> None:
        if sys.stdin.readline():
            ends.set()
        else:
            os._exit(1)  # who started this has gone

    threading.Thread(target=listen, daemon=True).start()
    crowd = [Hostile(site) for site in plan.sites]
    tell(ready=True)
    while not ends.is_set():
        for hostile in crowd:
            hostile.visit()
            time.sleep(random.uniform(0.5, 1.5) * PAUSE)
    for hostile in crowd:
        tell(policy=hostile.site.policy, hostile=hostile.counts)
    tell(done="books")


if __name__ == "__main__":
    main()
