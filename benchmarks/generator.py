"""Deliveries of servers, driven and counted by plain sockets in one process."""

import os
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import numpy as np

from processes import Failed, cpu_seconds
from wires import PAYLOAD, Wire, connect, discard, exchange

BURST = 100
"""Messages on each topic that a publisher writes at once: on level 2 of KPS, one batch."""
IN_FLIGHT = 20_000
"""Messages under way at most, so that no server takes a subscriber for a slow one."""
DELIVERIES_IN_FLIGHT = 400_000
"""Deliveries under way at most, so that slow servers are not waited for too long."""

MARKER = b'"n":'
"""Is in each payload once, and in nothing else that a server writes, nor in frame headers."""
assert PAYLOAD.count(MARKER) == 1

_WORD = np.frombuffer(MARKER, np.uint32)[0]
_TAIL = len(MARKER) - 1


@dataclass(frozen=True)
class Party:
    """A publisher, and the subscribers to its topics. Each gets all messages on its topic."""

    address: str
    """The server that it publishes to."""
    subscribers: Sequence[tuple[str, str]]
    """The server and the topic of each."""
    reading: Wire | None = None
    """What the subscribers speak, if not the same as the publisher."""

    @property
    def topics(self) -> list[str]:
        return list(dict.fromkeys(topic for _, topic in self.subscribers))


@dataclass(frozen=True)
class Delivered:
    """What was delivered, and what it took. All times are in seconds."""

    deliveries: int
    seconds: float
    servers: float
    """Processor time of the servers' processes."""
    generator: float
    """That of this process."""

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.deliveries / self.seconds


class Subscriber:
    """Counts the messages in what one connection receives, wherever it is cut."""

    def __init__(self, connection: socket.socket, buffer: bytearray) -> None:
        self.connection = connection
        self.received = 0
        self._buffer = buffer
        self._tail = b""

    def receive(self) -> None:
        buffer, start = self._buffer, len(self._tail)
        buffer[:start] = self._tail
        count = self.connection.recv_into(memoryview(buffer)[start:])
        if not count:
            raise Failed(f"the server closed a connection after {self.received} messages")
        end = start + count
        # bytes.count takes three times as long, and the generator must not be the slower one.
        self.received += sum(
            int(np.count_nonzero(np.frombuffer(buffer, np.uint32, (end - at) // 4, at) == _WORD))
            for at in range(min(4, end - _TAIL))
        )
        self._tail = bytes(buffer[max(0, end - _TAIL) : end])


class Publisher:
    """Sends for some time, in a thread of its own, and never far ahead of the slowest reader."""

    def __init__(
        self,
        connection: socket.socket,
        burst: bytes,
        in_flight: int,
        seconds: float,
        audience: Sequence[Subscriber],
    ) -> None:
        self.sent = 0  # on each topic
        self.audience = audience
        self._connection = connection
        self._burst = burst
        self._seconds = seconds
        self._released = 0
        self._room = threading.Semaphore(max(1, in_flight // BURST))  # bursts that may be sent
        self.thread = threading.Thread(target=self._send, daemon=True)

    def is_done(self) -> bool:
        """Note how many messages everybody has; tell whether those are all that will come."""
        is_sending = self.thread.is_alive()
        slowest = min(subscriber.received for subscriber in self.audience)
        while self._released < slowest // BURST:
            self._released += 1
            self._room.release()
        return not is_sending and slowest >= self.sent

    def _send(self) -> None:
        end = time.perf_counter() + self._seconds
        with suppress(OSError):  # the connection was closed, which the receiver tells
            while time.perf_counter() < end and self._room.acquire(timeout=10):
                self._connection.sendall(self._burst)
                self.sent += BURST


def deliver(
    wire: Wire,
    parties: Sequence[Party],
    seconds: float,
    *,
    most: int = DELIVERIES_IN_FLIGHT,
    servers: Sequence[int] = (),
) -> Delivered:
    """Publish for some time; measure from the first message sent to the last one received.

    At most so many deliveries are under way. ``servers`` are the ids of the servers' processes.
    """
    in_flight = min(
        IN_FLIGHT // sum(len(party.topics) for party in parties),
        most // sum(len(party.subscribers) for party in parties),
    )
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        publishers = [_join(stack, selector, wire, party, in_flight, seconds) for party in parties]
        pids = (os.getpid(), *servers)
        before = [cpu_seconds(pid) for pid in pids]
        began = time.perf_counter()
        for publisher in publishers:
            publisher.thread.start()
        took = _receive_all(selector, publishers) - began
        own, *theirs = (cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True))
    for publisher in publishers:
        for subscriber in publisher.audience:
            if subscriber.received != publisher.sent:
                raise Failed(f"a subscriber got {subscriber.received} of {publisher.sent} messages")
    deliveries = sum(publisher.sent * len(publisher.audience) for publisher in publishers)
    return Delivered(deliveries, took, sum(theirs), own)


def _join(
    stack: ExitStack,
    selector: selectors.BaseSelector,
    wire: Wire,
    party: Party,
    in_flight: int,
    seconds: float,
) -> Publisher:
    """Connect the publisher, and subscribe its subscribers."""
    buffer = bytearray(1 << 18)
    audience: list[Subscriber] = []
    first = len(selector.get_map())
    for number, (address, topic) in enumerate(party.subscribers, first):
        reading = party.reading or wire
        connection = connect(reading, address, f"subscriber-{number}")
        stack.callback(_hang_up, connection)
        exchange(connection, *reading.subscribing(topic))
        connection.setblocking(False)
        audience.append(Subscriber(connection, buffer))
        selector.register(connection, selectors.EVENT_READ, audience[-1])
    connection = connect(wire, party.address, f"publisher-{first}")
    connection.settimeout(None)
    stack.callback(_hang_up, connection)
    threading.Thread(target=discard, args=(connection,), daemon=True).start()
    burst = b"".join(wire.publishing(topic, [PAYLOAD] * BURST) for topic in party.topics)
    return Publisher(connection, burst, in_flight, seconds, audience)


def _receive_all(selector: selectors.BaseSelector, publishers: Sequence[Publisher]) -> float:
    """Read until everybody has everything; return the time of the last message."""
    latest = time.perf_counter()
    while [publisher for publisher in publishers if not publisher.is_done()]:
        ready = selector.select(0.1)
        for key, _ in ready:
            key.data.receive()
        if ready:
            latest = time.perf_counter()
        elif time.perf_counter() - latest > 10:
            received = sum(one.received for each in publishers for one in each.audience)
            raise Failed(f"nothing came after {received} deliveries")
    return latest


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
