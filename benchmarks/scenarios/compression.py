"""What compression saves and costs: bytes, the server's processor time, and memory."""

import random
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack

import orjson

from kps.protocol.wire.deflate import deflate
from kps.protocol.wire.frames import deflated_frame, read_header, text_frame
from model import Case, Figure, Sample, Scale, Scenario
from peers import Peer, Server, kps_serve
from processes import Failed, cpu_seconds, resident
from wires import KpsWire, connect, exchange

SIZES = (200, 2_000, 20_000)
SUBSCRIBERS = (1, 10, 50, 200)
DELIVERIES = 4_000
"""Of each number of subscribers."""
DOCUMENTS = 16
"""Payloads of a size, which are published in turn."""
CONNECTIONS = 2_000

_OFFER = b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
_NAMES = ("Amara Diallo", "Ben Okafor", "Chiara Ricci", "Dilan Yilmaz", "Eva Novak")
_STATES = ("open", "filled", "cancelled", "expired")

BYTES = Figure("bytes of a delivery", has_ratio=False, more_is_better=False, has_range=False)
MEMORY = Figure(f"memory for each of {CONNECTIONS:,}", "KiB", has_ratio=False, more_is_better=False)


def _time(subscribers: int) -> Figure:
    return Figure(f"time for one of {subscribers}", "µs", has_ratio=False, more_is_better=False)


class OfferingWire(KpsWire):
    """A client that offers compression, as browsers do."""

    def opening(self, name: str) -> Sequence[tuple[bytes, bytes]]:
        (request, answer), *more = super().opening(name)
        return [(request.replace(b"\r\n\r\n", _OFFER, 1), answer), *more]


WIRE = OfferingWire()
OFF = kps_serve("kps serve")
ON = kps_serve("kps serve --compress", "--compress")


def documents(size: int) -> list[bytes]:
    """Payloads as an API has them: records of orders, cut to that size."""
    chance = random.Random(size)

    def order(number: int) -> dict[str, object]:
        return {
            "id": f"{chance.getrandbits(64):016x}",
            "customer": chance.choice(_NAMES),
            "state": chance.choice(_STATES),
            "price": round(chance.uniform(1, 5000), 2),
            "amount": chance.randrange(1, 400),
            "created": f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}T12:00:00Z",
        }

    found = []
    for _ in range(DOCUMENTS):
        orders: list[dict[str, object]] = []
        while len(orjson.dumps(orders)) < size - 150:
            orders.append(order(len(orders)))
        rest = size - len(orjson.dumps(orders)) - len(b',""')
        found.append(orjson.dumps([*orders, "x" * rest]))
    assert {len(one) for one in found} == {size}
    return found


def receive(connection: socket.socket) -> int:
    """Read one frame; return its bytes."""
    data = connection.recv(1 << 18)
    while (header := read_header(data, 0)) is None or len(data) < header.start + header.length:
        more = connection.recv(1 << 18)
        if not more:
            raise Failed("the server closed a connection")
        data += more
    assert len(data) == header.start + header.length, "one publication is under way at a time"
    return len(data)


def measure(server: Server, size: int, counts: Sequence[int], deliveries: int) -> Sample:
    """Publish one message at a time, and wait until all have it."""
    pid = server.process.pid
    sample: Sample = {}
    frames = [WIRE.publishing("bench", [one]) for one in documents(size)]
    for count in counts:
        with ExitStack() as stack:
            audience = [
                stack.enter_context(connect(WIRE, server.address, f"subscriber-{number}"))
                for number in range(count)
            ]
            for subscriber in audience:
                exchange(subscriber, *WIRE.subscribing("bench"))
            publisher = stack.enter_context(connect(WIRE, server.address, "publisher"))
            received, used = 0, 0.0
            rounds = max(DOCUMENTS, deliveries // count)
            for number in range(-DOCUMENTS, rounds):
                if number == 0:
                    received, used = 0, cpu_seconds(pid)
                publisher.sendall(frames[number % DOCUMENTS])
                received += sum(map(receive, audience))
            used = cpu_seconds(pid) - used
        sample[_time(count).title] = used / rounds / count * 1e6
        sample[BYTES.title] = received / rounds / count
    return sample


def measure_memory(peer: Peer, connections: int) -> Sample:
    """Memory of a server, once each client has sent and got something long, compressed or not."""
    (payload, *_) = documents(20_000)
    with peer.start() as server, ExitStack() as stack:
        publisher = stack.enter_context(connect(WIRE, server.address, "publisher"))
        publish = WIRE.publishing("bench", [payload])
        message = b'{"action":"publish","topic":"other","data":' + payload + b"}"
        frame = deflated_frame(deflate(message)) if peer is ON else text_frame(message)
        publisher.sendall(publish)  # what is imported or made once is there
        exchange(publisher, *WIRE.subscribing("bench"))
        publisher.sendall(publish)
        receive(publisher)
        pid = server.process.pid
        before = resident(pid)
        audience = []
        for number in range(connections):
            client = stack.enter_context(connect(WIRE, server.address, f"client-{number}"))
            exchange(client, *WIRE.subscribing("bench"))
            audience.append(client)
            client.sendall(_masked(frame))
        publisher.sendall(publish)
        for client in (publisher, *audience):
            receive(client)
        time.sleep(1)  # what is freed late is freed
        return {MEMORY.title: (resident(pid) - before) / 1024 / connections}


def _masked(frame: bytes) -> bytes:
    """A frame as a client sends it: masked, here with zeros."""
    header = read_header(frame, 0)
    assert header is not None
    head = bytearray(frame[: header.start])
    head[1] |= 0x80
    return bytes(head) + bytes(4) + frame[header.start :]


def _case(size: int, peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        counts = SUBSCRIBERS[:2] if scale.quick else SUBSCRIBERS
        return measure(server, size, counts, scale.count(DELIVERIES, 100))

    return Case(f"{size:,} bytes, {'on' if peer is ON else 'off'}", run, peer)


def _memory_case(peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        return measure_memory(peer, scale.count(CONNECTIONS, 50))

    return Case(peer.name, run)


SCENARIOS = (
    Scenario(
        "compression",
        "Compression",
        "`kps serve` without and with `--compress`; all clients offer it. A client publishes JSON "
        "of a size, one message at a time, and waits until all subscribers have it. What a "
        "delivery takes on the wire, and of the server's processor time, by the number of "
        "subscribers. Below 1 KiB nothing is compressed.",
        (BYTES, *map(_time, SUBSCRIBERS)),
        [_case(size, peer) for size in SIZES for peer in (OFF, ON)],
    ),
    Scenario(
        "compression_idle",
        "Memory with compression",
        "Memory of the server for each idle connection, with one subscription, after it has sent a "
        "publication of 20 KB and got one. With `--compress` both were compressed.",
        (MEMORY,),
        [_memory_case(peer) for peer in (OFF, ON)],
    ),
)
