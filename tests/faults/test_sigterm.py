"""A server that is told to stop while everybody talks."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import kps
from kps.protocol.wire.websocket import ClosedBy
from tests.faults.conftest import publish_all
from tests.faults.processes import Serve
from tests.faults.proxy import Proxy, Way
from tests.io.harness import Blocking, Inbox, eventually

Connect = Callable[..., Any]

GRACE = 10.0
"""Seconds that a server gives its clients to take what is queued for them."""

SLACK = 5.0
"""Seconds that a loaded machine may take in addition."""


class Reader:
    """Takes everything that comes for a client, up to the end of its connection."""

    def __init__(self, client: Any, topic: str) -> None:
        self.received: list[Any] = []
        self.error: Exception | None = None
        self._messages = client.subscribe(topic)
        self._client = client
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> dict[str, list[int]]:
        """Wait for the end; return the numbers of each sender."""
        self._thread.join(GRACE + SLACK)
        assert not self._thread.is_alive(), "the messages do not end"
        assert isinstance(self.error, kps.ConnectionLost)
        assert self.error.code == 1001
        by_sender: dict[str, list[int]] = {}
        for sender, number in self.received:
            by_sender.setdefault(sender, []).append(number)
        return by_sender

    def _run(self) -> None:
        try:
            if isinstance(self._client, Blocking):  # in its loop, and not one by one from here
                loop = self._client._thread.loop
                asyncio.run_coroutine_threadsafe(self._read(), loop).result()
            for message in self._messages:
                self.received.append((message.sender, message.data))
        except Exception as error:
            self.error = error

    async def _read(self) -> None:
        async for message in self._messages._target:
            self.received.append((message.sender, message.data))


class Writer:
    """Publishes 0, 1, 2 … until it is told that this is no longer possible."""

    def __init__(self, connect: Connect, address: str, name: str, *, receipts: bool) -> None:
        self.name = name
        self.downs = Inbox()
        self.client = connect(address, name, on_disconnect=self.downs)
        self.count = 0
        """Numbers that ``publish`` has taken."""
        self.confirmed: list[int] = []
        self.error: Exception | None = None
        work = self._with_receipts if receipts else self._pour
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> kps.Disconnected:
        """Wait for the end; return what it was told."""
        self._thread.join(GRACE + SLACK)
        assert not self._thread.is_alive(), "the writer was not told"
        event: kps.Disconnected = self.downs.get()
        assert (event.closed.code, event.closed.by) == (1001, ClosedBy.PEER)
        return event

    def _run(self, work: Callable[[], None]) -> None:
        try:
            while True:
                work()
        except Exception as error:
            self.error = error

    def _with_receipts(self) -> None:
        number = self.count
        self.count += 1
        assert self.client.publish_with_receipt("t", number) == READERS
        self.confirmed.append(number)

    def _pour(self) -> None:
        publish_all(self.client, "t", (self._next() for _ in range(200)))
        self.client.flush()

    def _next(self) -> int:
        self.count += 1
        return self.count - 1


READERS = 3


def test_what_the_server_accepted_arrives_and_the_rest_is_told(
    serve: Callable[..., Serve], connect: Connect
) -> None:
    server = serve()
    readers = [
        Reader(connect(server.address, f"reader-{number}", reconnect=False), "t")
        for number in range(READERS)
    ]
    server.await_clients(READERS)
    writers = [
        Writer(connect, server.address, f"asks-{number}", receipts=True) for number in range(3)
    ]
    pouring = [
        Writer(connect, server.address, f"pours-{number}", receipts=False) for number in range(2)
    ]
    for writer in writers + pouring:
        writer.start()
    eventually(lambda: all(len(writer.confirmed) > 50 for writer in writers), "traffic")
    eventually(lambda: all(len(reader.received) > 5000 for reader in readers), "traffic")

    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.end(GRACE + SLACK) == 0
    print(f"ended {time.monotonic() - begun:.2f} s after the signal, with ", end="")
    events = {writer.name: writer.finish() for writer in writers + pouring}
    got = [reader.finish() for reader in readers]
    print(f"{len(readers[0].received)} messages delivered to each reader")

    # All readers got the same of each writer: the beginning, without a gap.
    for writer in writers + pouring:
        numbers = got[0][writer.name]
        assert numbers == list(range(len(numbers)))
        assert all(other[writer.name] == numbers for other in got)
    for writer in writers:
        # What was confirmed is among it, and beyond that at most the one under way.
        assert len(writer.confirmed) <= len(got[0][writer.name]) <= len(writer.confirmed) + 1
        assert isinstance(writer.error, (kps.ConnectionLost, kps.NotConnected))
    for writer in pouring:
        assert isinstance(writer.error, (kps.ConnectionLost, kps.NotConnected))
        # What it is told was not sent did not arrive, whatever became of what was.
        dropped = events[writer.name].dropped
        assert dropped == writer.client.dropped
        assert len(got[0][writer.name]) <= writer.count - dropped


def test_who_does_not_read_is_not_waited_for_longer_than_a_second_signal_allows(
    serve: Callable[..., Serve], connect: Connect, proxy_to: Callable[[str], Proxy]
) -> None:
    server = serve()
    proxy = proxy_to(server.address)
    reader = Reader(connect(server.address, "reads", reconnect=False), "t")
    connect(proxy.address, "does not read").subscribe("t", Inbox())
    server.await_clients(2)
    publisher = connect(server.address, "publisher")
    proxy.stall(Way.DOWN)
    blob = "x" * 10_000
    publish_all(publisher, "t", [blob] * 3000)  # more than a network holds
    publisher.flush()

    server.signal(signal.SIGTERM)
    reader.finish()
    assert [data for _, data in reader.received] == [blob] * 3000
    assert server.is_alive  # it still tries to get rid of what the other does not take
    server.signal(signal.SIGTERM)
    begun = time.monotonic()
    assert server.end(GRACE + SLACK) == 0
    print(f"ended {time.monotonic() - begun:.2f} s after the second signal")
    assert time.monotonic() - begun < GRACE - SLACK
