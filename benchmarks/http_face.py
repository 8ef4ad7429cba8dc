"""What requests over HTTP cost: publications, each with a connection, and event streams.

The streams are measured beside WebSockets. A server runs in a process of its own, and raw sockets
read, so that both kinds of readers cost the same here. Run ``python benchmarks/http_face.py``.
"""

import argparse
import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import kps.sync

Address = tuple[str, int]

_READERS = 200
_MARK = b'"number":'
"""What each message has once."""
_UPGRADE = (
    b"GET /ws/bus HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@contextmanager
def server() -> Iterator[Address]:
    """Run a server in a process of its own."""
    command = [sys.executable, "-m", "kps", "serve", "--address", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            host, _, port = process.stdout.readline().split("/")[2].rpartition(":")
            yield host, int(port)
        finally:
            process.terminate()


def posts(address: Address, seconds: float) -> float:
    """Publish one after the other, as ``curl`` would; return how many there were in a second."""
    body = json.dumps({"n": 1}).encode()
    head = b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        with socket.create_connection(address) as sock:
            sock.sendall(head + body)
            answer = b""
            while part := sock.recv(4096):
                answer += part
        assert answer.startswith(b"HTTP/1.1 204 ")
        count += 1
    return count / (time.perf_counter() - begun)


def stream(address: Address) -> socket.socket:
    """Begin to read an event stream."""
    sock = socket.create_connection(address)
    sock.sendall(b"GET /sse?topic=t HTTP/1.1\r\nHost: x\r\n\r\n")
    while not sock.recv(4096).endswith(b"retry: 3000\n\n"):
        pass
    return sock


def web_socket(address: Address) -> socket.socket:
    """Subscribe over a WebSocket, on level 2."""
    sock = socket.create_connection(address)
    sock.sendall(_UPGRADE)
    for fields in ({"action": "ping", "proto": 2}, {"action": "subscribe", "topic": "t"}):
        message = json.dumps(fields).encode()
        sock.sendall(bytes([0x81, 0x80 | len(message)]) + bytes(4) + message)
    got = b""
    while b'"subscribed"' not in got:
        got += sock.recv(4096)
    return sock


def deliveries(
    address: Address, connect: Callable[[Address], socket.socket], messages: int
) -> float:
    """Publish to many readers; return the deliveries in a second, up to the last one."""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(_READERS):
            sock = stack.enter_context(connect(address))
            selector.register(sock, selectors.EVENT_READ, [b""])
        client = stack.enter_context(kps.sync.Client("{}:{}".format(*address)))
        left = messages * _READERS
        begun = time.perf_counter()
        for number in range(messages):
            client.publish("t", {"number": number, "text": "a" * 100})
        while left:
            for key, _ in selector.select(10):
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(262_144)
                assert data, "the server has ended a connection"
                data = key.data[0] + data
                left -= data.count(_MARK)
                key.data[0] = data[-len(_MARK) + 1 :]  # the mark may be cut there
        return messages * _READERS / (time.perf_counter() - begun)


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="default: %(default)s")
    parser.add_argument("--messages", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    options = parser.parse_args()
    with server() as address:
        for _ in range(options.rounds):
            print(f"POST /publish: {posts(address, options.seconds):,.0f} a second")
            for name, connect in (("event streams", stream), ("WebSockets", web_socket)):
                rate = deliveries(address, connect, options.messages)
                print(f"1 to {_READERS} {name}: {rate:,.0f} deliveries a second")


if __name__ == "__main__":
    main()
