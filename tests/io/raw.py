"""A peer that says anything it likes on a TCP connection."""

import json
import socket
from typing import Any, Self

from tests.io.harness import PATIENCE

UPGRADE = (
    b"GET /ws/bus HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

FIN, TEXT, CONTINUATION, CLOSE, PING = 0x80, 0x1, 0x0, 0x8, 0x9


def masked(payload: bytes, first: int = FIN | TEXT) -> bytes:
    """A frame with a mask of zeros."""
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def message(action: str, **fields: Any) -> bytes:
    """A whole message of the protocol, in one frame."""
    return masked(json.dumps({"action": action, **fields}).encode())


class Raw:
    """A TCP connection to a server, at ``host:port``."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def upgrade(self) -> Self:
        """Do the opening handshake."""
        self.send(UPGRADE)
        assert self.status() == 101
        return self

    def register(self, client_id: str) -> None:
        """Do the opening handshake, and become a client."""
        self.upgrade()
        self.send(message("ping", **{"from": client_id}))
        assert self.message() == {"action": "pong", "id": client_id}

    def status(self) -> int:
        """The status of an HTTP answer, whose head is read."""
        status = int(self._file.readline().split()[1])
        while self._file.readline().strip():
            pass
        return status

    def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        first, size = self._file.read(2)
        if size >= 126:
            size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
        return first & 0x0F, self._file.read(size)

    def message(self) -> Any:
        """The next message; pings of the server are passed over."""
        while (got := self.frame())[0] == PING:
            pass
        assert got[0] == TEXT, got
        return json.loads(got[1])

    def error(self) -> str:
        """What the error says that comes next."""
        message = self.message()
        assert message["action"] == "error", message
        return str(message["error"])

    def close_code(self) -> int:
        """The code of the close frame that comes next; the connection ends after it."""
        opcode, payload = self.frame()
        assert opcode == CLOSE, (opcode, payload)
        assert self._file.read() == b""
        return int.from_bytes(payload[:2], "big")

    def rest(self) -> bytes:
        """Everything up to the end of the connection, which must come."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
