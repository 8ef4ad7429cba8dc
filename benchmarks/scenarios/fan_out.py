"""Deliveries a second of the servers alone, driven by plain sockets."""

import selectors
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import numpy as np

from model import Case, Figure, Sample, Scale, Scenario
from peers import (
    KPS,
    KPS_LEVEL_1,
    KPS_THREADS,
    KPS_THREADS_LEVEL_1,
    MOSQUITTO,
    NATS,
    PICOWS,
    REDIS,
    Peer,
    Server,
)
from processes import Failed
from scenarios.flow import worker
from wires import PAYLOAD, connect, discard, exchange

BURST = 100
"""Messages that the publisher writes at once: on level 2 of KPS, one batch."""
IN_FLIGHT = 20_000
"""Messages under way at most, so that no server takes a subscriber for a slow one."""
DELIVERIES_IN_FLIGHT = 400_000
"""Deliveries under way at most, so that slow servers are not waited for too long."""

MARKER = b'"n":'
"""Is in each payload once, and in nothing else that a server writes, nor in frame headers."""
assert PAYLOAD.count(MARKER) == 1

RATE = Figure("deliveries/s")
FLOODED = Figure("beside a flood, deliveries/s", has_ratio=False)
KEPT = Figure("kept", "%", has_ratio=False)
_WORD = np.frombuffer(MARKER, np.uint32)[0]
_TAIL = len(MARKER) - 1


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
        self, connection: socket.socket, burst: bytes, in_flight: int, seconds: float
    ) -> None:
        self.sent = 0
        self._connection = connection
        self._burst = burst
        self._seconds = seconds
        self._released = 0
        self._room = threading.Semaphore(in_flight // BURST)  # bursts that may be sent
        self.thread = threading.Thread(target=self._send, daemon=True)

    def release(self, received: int) -> None:
        """Note how many messages everybody has."""
        while self._released < received // BURST:
            self._released += 1
            self._room.release()

    def _send(self) -> None:
        end = time.perf_counter() + self._seconds
        with suppress(OSError):  # the connection was closed, which the receiver tells
            while time.perf_counter() < end and self._room.acquire(timeout=10):
                self._connection.sendall(self._burst)
                self.sent += BURST


def measure(server: Server, peer: Peer, subscribers: int, seconds: float) -> Sample:
    """From the first message sent to the last one received."""
    buffer = bytearray(1 << 18)
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        audience: list[Subscriber] = []
        for number in range(subscribers):
            connection = connect(peer.wire, server.address, f"subscriber-{number}")
            stack.callback(_hang_up, connection)
            exchange(connection, *peer.wire.subscribing("bench"))
            connection.setblocking(False)
            audience.append(Subscriber(connection, buffer))
            selector.register(connection, selectors.EVENT_READ, audience[-1])
        connection = connect(peer.wire, server.address, "publisher")
        connection.settimeout(None)
        stack.callback(_hang_up, connection)
        threading.Thread(target=discard, args=(connection,), daemon=True).start()
        burst = peer.wire.publishing("bench", [PAYLOAD] * BURST)
        in_flight = min(IN_FLIGHT, DELIVERIES_IN_FLIGHT // subscribers)
        publisher = Publisher(connection, burst, in_flight, seconds)
        began = time.perf_counter()
        publisher.thread.start()
        took = _receive_all(selector, audience, publisher) - began
    for subscriber in audience:
        if subscriber.received != publisher.sent:
            raise Failed(f"a subscriber got {subscriber.received} of {publisher.sent} messages")
    return {RATE.title: publisher.sent * subscribers / took}


def _receive_all(
    selector: selectors.BaseSelector, audience: Sequence[Subscriber], publisher: Publisher
) -> float:
    """Read until everybody has everything; return the time of the last message."""
    latest = time.perf_counter()
    slowest = 0
    while publisher.thread.is_alive() or slowest < publisher.sent:
        ready = selector.select(0.1)
        for key, _ in ready:
            key.data.receive()
        if ready:
            latest = time.perf_counter()
        elif time.perf_counter() - latest > 10:
            raise Failed(f"nothing came after {slowest} of {publisher.sent} messages")
        slowest = min(subscriber.received for subscriber in audience)
        publisher.release(slowest)
    return latest


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _case(peer: Peer, subscribers: int) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure(server, peer, subscribers, scale.seconds)

    return Case(peer.name, run, peer)


def _flooded(peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        alone = measure(server, peer, 1, scale.seconds)[RATE.title]
        with worker("flood", peer.name, server.address) as process:
            process.report()
            flooded = measure(server, peer, 1, scale.seconds)[RATE.title]
        return {RATE.title: alone, FLOODED.title: flooded, KEPT.title: 100 * flooded / alone}

    return Case(peer.name, run, peer)


def _scenario(name: str, subscribers: int, text: str, most_rounds: int | None = None) -> Scenario:
    peers = (
        KPS, KPS_LEVEL_1, KPS_THREADS, KPS_THREADS_LEVEL_1, NATS, REDIS, MOSQUITTO, PICOWS
    )  # fmt: skip
    to = "1 subscriber" if subscribers == 1 else f"{subscribers} subscribers"
    return Scenario(
        name=name,
        title=f"The server alone: 1 publisher, {to}",
        text=text,
        figures=(RATE,),
        cases=[_case(peer, subscribers) for peer in peers],
        reference=NATS.name,
        most_rounds=most_rounds,
    )


SCENARIOS: Sequence[Scenario] = (
    _scenario(
        "fan_out_1",
        1,
        "One generator process with plain sockets, so the figure is the server's, as long as the "
        "generator is not slower. For a second the publisher writes 100 messages at once: on level "
        "2 of KPS one batch, as its client library does; on level 1 a frame for each message; for "
        "NATS a PUB, for Redis a PUBLISH, for MQTT a packet, for the relay a frame for each. Every "
        "message is counted at every subscriber. At most 20,000 messages and 400,000 deliveries "
        "are under way.",
    ),
    _scenario("fan_out_50", 50, "The same with 50 subscribers.", most_rounds=3),
    _scenario("fan_out_200", 200, "The same with 200 subscribers."),
    Scenario(
        name="flooded",
        title="The server alone: 1 publisher, 1 subscriber, and a flood",
        text="First as with 1 subscriber; then while another client, in a process of its own, "
        "publishes to nobody in the same way, as fast as the server reads. Two publishers that "
        "share one server fairly have half of it each. A server with threads may use the second "
        "core, which the generator needs too.",
        figures=(RATE, FLOODED, KEPT),
        cases=[_flooded(peer) for peer in (KPS, KPS_THREADS, NATS, REDIS)],
        reference=NATS.name,
        most_rounds=3,
    ),
)
