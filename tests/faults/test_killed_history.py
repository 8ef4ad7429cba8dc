"""A server with a file for history that is killed while messages come, and comes back with it."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kps
from kps.protocol.bus.logs import BREAK
from tests.faults.processes import Serve
from tests.faults.proxy import Proxy
from tests.faults.test_killed_servers import in_thread
from tests.io.harness import Inbox, eventually

TOPIC = "numbers"


class Counting:
    """Publishes one number after the other, and waits for each receipt."""

    def __init__(self, client: Any, first: int = 0, enough: int = 1_000_000) -> None:
        self.next = first
        self._enough = enough
        self._client = client
        self.outcome = in_thread(self._publish)

    def _publish(self) -> None:
        while self.next < self._enough:
            self.next += 1
            self._client.publish_with_receipt(TOPIC, self.next - 1)


class Listener:
    """A subscriber, and what it was told of its absence."""

    def __init__(self, connect: Callable[..., Any], address: str, name: str) -> None:
        self.inbox, self.recovered, self.lost = Inbox(), Inbox(), Inbox()
        hooks = {"on_recovered": self.recovered, "on_lost": self.lost}
        self.client = connect(address, name, **hooks)
        self.client.subscribe(TOPIC, self.inbox)
        self.got: list[kps.Message] = []

    def listen_to(self, number: int) -> None:
        """Take messages until this one comes."""
        while not self.got or self.got[-1].data != number:
            self.got.append(self.inbox.get())


def numbers_in(file: Path) -> set[int]:
    """What is on the disk, of a server that goes on writing."""
    copy = file.with_name("copy.db")
    try:
        for end in ("", "-wal"):
            shutil.copy(f"{file}{end}", f"{copy}{end}")
        connection = sqlite3.connect(copy)
        try:
            rows = connection.execute("SELECT text FROM entries").fetchall()
        finally:
            connection.close()
    except (sqlite3.Error, OSError):  # it was written to while it was copied
        return set()
    return {int(number) for (text,) in rows for number in text.split(b",")}


def places(messages: list[kps.Message]) -> list[tuple[kps.Position | None, int]]:
    return [(message.position, message.data) for message in messages]


def test_what_is_in_the_file_comes_back_and_what_is_not_is_told(
    serve: Callable[..., Serve],
    connect: Callable[..., Any],
    proxy_to: Callable[[str], Proxy],
    tmp_path: Path,
) -> None:
    file = tmp_path / "history.db"
    server = serve("--history", f"{TOPIC}=1000000", "--history-file", str(file))
    proxy = proxy_to(server.address)
    present = Listener(connect, server.address, "present")
    absent = Listener(connect, proxy.address, "absent")
    publisher = connect(server.address, "publisher")
    counting = Counting(publisher)
    absent.listen_to(20)
    proxy.refuses = True
    proxy.cut()

    # What is published is on the disk soon, without anything more being done. That counts the
    # number under way, which the absent one may have got before the publisher had its receipt.
    safe = set(range(counting.next))
    eventually(lambda: safe <= numbers_in(file), "the writing")
    server.kill()
    assert isinstance(counting.outcome.get(), (kps.ConnectionLost, kps.NotConnected))
    server = server.again()
    kept = connect(server.address, "reader").history(TOPIC, limit=1_000_000).messages
    assert safe <= {message.data for message in kept}
    proxy.refuses = False

    # Whoever was there before gets all that is kept, and knows that there may have been more.
    eventually(lambda: publisher.is_connected, "the publisher's return")
    counting = Counting(publisher, counting.next, counting.next + 100)
    assert counting.outcome.get() is None
    last = counting.next - 1
    for listener in (present, absent):
        listener.listen_to(last)
        assert listener.lost.get().messages is None
        assert listener.recovered.is_empty()
    now = connect(server.address, "reader 2").history(TOPIC, limit=1_000_000).messages
    assert places(now)[: len(kept)] == places(kept)
    assert [message.data for message in now[len(kept) :]] == list(range(last - 99, last + 1))
    assert now[len(kept)].offset == BREAK + 1
    assert places(absent.got) == places(now)

    # The other one has got some that are lost. No place is that of two messages.
    known = dict(places(now))
    assert len(known) == len(now)
    assert all(known.get(place, data) == data for place, data in places(present.got))
    assert [one for one in places(present.got) if one[0] in known] == places(now)
    offsets = [message.offset or 0 for message in present.got]
    assert offsets == sorted(set(offsets))

    # An end in order loses nothing, and nobody is told so.
    assert server.stop() == 0
    server = server.again()
    eventually(lambda: publisher.is_connected, "the publisher's return")
    publisher.publish_with_receipt(TOPIC, last + 1)
    for listener in (present, absent):
        listener.listen_to(last + 1)
        assert listener.got[-1].offset == BREAK + 101
        assert listener.lost.is_empty()
        assert len(listener.got) == len({message.position for message in listener.got})
