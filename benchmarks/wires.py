"""The protocols as bytes, for the generators that need to be faster than a client library."""

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress

from kps.protocol.wire.frames import Masker
from processes import Failed

PAYLOAD = b'{"n":1234567,"text":"' + b"x" * 43 + b'"}'

_masked: Callable[[bytes], bytes] = Masker(os.urandom).text_frame


class Wire(ABC):
    """What a client of one protocol writes, and how it knows the answers."""

    @abstractmethod
    def opening(self, name: str) -> Sequence[tuple[bytes, bytes]]:
        """What to send, and what the answer contains once it is complete; step by step."""

    def subscribing(self, topic: str) -> tuple[bytes, bytes]:
        """The same for a subscription."""
        raise NotImplementedError

    def publishing(self, topic: str, payloads: Sequence[bytes]) -> bytes:
        """Many messages, as they are written at once."""
        raise NotImplementedError

    def answer(self, received: bytes) -> bytes:
        """What a client that is otherwise idle has to answer."""
        return b""


class KpsWire(Wire):
    """KPS: on level 1 each message is a frame; on level 2 one frame carries a batch."""

    def __init__(self, level: int = 2) -> None:
        self._level = level

    def opening(self, name: str) -> Sequence[tuple[bytes, bytes]]:
        proto = b',"proto":2' if self._level == 2 else b""
        ping = b'{"action":"ping","from":"' + name.encode() + b'"' + proto + b"}"
        # uvicorn drops what comes together with the request.
        return [(_upgrade("/ws/bus"), b"\r\n\r\n"), (_masked(ping), b'"action":"pong"')]

    def subscribing(self, topic: str) -> tuple[bytes, bytes]:
        message = b'{"action":"subscribe","topic":"' + topic.encode() + b'"}'
        return _masked(message), b'"subscribed"'

    def observing(self, topic: str) -> bytes:
        """What subscribes and asks to be told of the members (level 2)."""
        return _masked(b'{"action":"subscribe","topic":"' + topic.encode() + b'","presence":true}')

    def unsubscribing(self, topic: str) -> bytes:
        """What ends a subscription."""
        return _masked(b'{"action":"unsubscribe","topic":"' + topic.encode() + b'"}')

    def publishing(self, topic: str, payloads: Sequence[bytes]) -> bytes:
        head = b'{"action":"publish","topic":"' + topic.encode() + b'",'
        if self._level == 2:
            return _masked(head + b'"batch":[' + b",".join(payloads) + b"]}")
        return b"".join(
            _masked(head + b'"data":' + payload + b',"from":"publisher"}') for payload in payloads
        )

    def answer(self, received: bytes) -> bytes:
        return _pongs(received)


class EventStreamWire(Wire):
    """What reads a topic of KPS over plain HTTP."""

    def opening(self, name: str) -> Sequence[tuple[bytes, bytes]]:
        return []

    def subscribing(self, topic: str) -> tuple[bytes, bytes]:
        return b"GET /sse?topic=" + topic.encode() + b" HTTP/1.1\r\nHost: bench\r\n\r\n", b"retry: "


class NatsWire(Wire):
    """The protocol of NATS."""

    def opening(self, name: str) -> Sequence[tuple[bytes, bytes]]:
        return [(b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n', b"PONG\r\n")]

    def subscribing(self, topic: str) -> tuple[bytes, bytes]:
        return b"SUB " + topic.encode() + b" 1\r\nPING\r\n", b"PONG\r\n"

    def publishing(self, topic: str, payloads: Sequence[bytes]) -> bytes:
        return b"".join(
            b"PUB %s %d\r\n%s\r\n" % (topic.encode(), len(payload), payload) for payload in payloads
        )

    def answer(self, received: bytes) -> bytes:
        return b"PONG\r\n" * received.count(b"PING\r\n")


class SocketioWire(Wire):
    """Socket.IO over a WebSocket, with the events of the relay of this folder."""

    def opening(self, name: str) -> Sequence[tuple[bytes, bytes]]:
        request = _upgrade("/socket.io/?EIO=4&transport=websocket")
        return [(request, b'"sid"'), (_masked(b"40"), b"40{")]

    def subscribing(self, topic: str) -> tuple[bytes, bytes]:
        return _masked(b'421["join","' + topic.encode() + b'"]'), b"431[true]"

    def publishing(self, topic: str, payloads: Sequence[bytes]) -> bytes:
        head = b'42["publish","' + topic.encode() + b'",'
        return b"".join(_masked(head + payload + b"]") for payload in payloads)

    def answer(self, received: bytes) -> bytes:
        # It has heartbeats of its own, above those of the WebSocket.
        return _pongs(received) + _masked(b"3") * received.count(b"\x81\x012")


class RelayWire(Wire):
    """The relays of this folder: a text frame for each message."""

    def opening(self, name: str) -> Sequence[tuple[bytes, bytes]]:
        return [(_upgrade("/"), b"\r\n\r\n")]

    def subscribing(self, topic: str) -> tuple[bytes, bytes]:
        return _masked(b"+" + topic.encode()), topic.encode()

    def publishing(self, topic: str, payloads: Sequence[bytes]) -> bytes:
        return b"".join(_masked(topic.encode() + b"\n" + payload) for payload in payloads)

    def answer(self, received: bytes) -> bytes:
        return _pongs(received)


class RedisWire(Wire):
    """RESP, the protocol of Redis."""

    def opening(self, name: str) -> Sequence[tuple[bytes, bytes]]:
        return [(b"PING\r\n", b"PONG\r\n")]

    def subscribing(self, topic: str) -> tuple[bytes, bytes]:
        return b"SUBSCRIBE " + topic.encode() + b"\r\n", b":1\r\n"

    def publishing(self, topic: str, payloads: Sequence[bytes]) -> bytes:
        head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n" % (len(topic), topic.encode())
        return b"".join(head + b"$%d\r\n%s\r\n" % (len(payload), payload) for payload in payloads)


class MqttWire(Wire):
    """MQTT 3.1.1. It publishes with a quality of service, and subscribes with 0."""

    def __init__(self, qos: int = 0) -> None:
        self._qos = qos

    def opening(self, name: str) -> Sequence[tuple[bytes, bytes]]:
        # A clean session, and no keep-alive.
        connect = _mqtt(0x10, _counted(b"MQTT") + b"\x04\x02\x00\x00" + _counted(name.encode()))
        return [(connect, b"\x20\x02\x00\x00")]

    def subscribing(self, topic: str) -> tuple[bytes, bytes]:
        number = b"\x00\x01"
        request = _mqtt(0x82, number + _counted(topic.encode()) + b"\x00")
        return request, b"\x90\x03" + number + b"\x00"

    def publishing(self, topic: str, payloads: Sequence[bytes]) -> bytes:
        head = _counted(topic.encode())
        if not self._qos:
            return b"".join(_mqtt(0x30, head + payload) for payload in payloads)
        # The numbers come again: the server has answered the earlier ones, or will as they came.
        return b"".join(
            _mqtt(0x32, head + number.to_bytes(2) + payload)
            for number, payload in enumerate(payloads, 1)
        )


def connect(wire: Wire, address: str, name: str) -> socket.socket:
    """Open a connection, and wait until the server knows it."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for step in wire.opening(name):
        exchange(connection, *step)
    return connection


def exchange(connection: socket.socket, request: bytes, expected: bytes) -> None:
    """Send, and read until the answer is there."""
    connection.sendall(request)
    received = b""
    while expected not in received:
        data = connection.recv(4096)
        if not data:
            raise Failed(f"the server closed the connection after {received[-80:]!r}")
        received += data


def discard(connection: socket.socket) -> None:
    """Read until the end, and forget it."""
    with suppress(OSError):
        while connection.recv(1 << 18):
            pass


def _mqtt(kind: int, body: bytes) -> bytes:
    """One packet of MQTT: its size is written in groups of seven bits, the lowest first."""
    size, rest = bytearray(), len(body)
    while rest > 0x7F:
        size.append(0x80 | rest & 0x7F)
        rest >>= 7
    size.append(rest)
    return bytes((kind,)) + size + body


def _counted(text: bytes) -> bytes:
    """A text of MQTT, behind its length."""
    return len(text).to_bytes(2, "big") + text


def _pongs(received: bytes) -> bytes:
    """The answers to WebSocket pings, among other frames that are as short as they are."""
    answers = b""
    position = 0
    while position + 2 <= len(received):
        first, size = received[position : position + 2]
        payload = received[position + 2 : position + 2 + size]
        position += 2 + size
        if first == 0x89:
            answers += bytes((0x8A, 0x80 | size)) + bytes(4) + payload  # a mask of zeros
    return answers


def _upgrade(target: str) -> bytes:
    return (
        b"GET " + target.encode() + b" HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
