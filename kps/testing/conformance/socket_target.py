"""A server behind a socket, for :func:`kps.testing.run_vector`."""

import base64
import contextlib
import itertools
import json
import os
import socket
import time
from typing import TYPE_CHECKING

from kps.io_common.system_errors import describe
from kps.protocol.dialect.address import Address
from kps.testing.conformance.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    BadFrame,
    Message,
    Reader,
    close_frame,
    frame,
)
from kps.testing.vectors import VectorFailure, messages_in

if TYPE_CHECKING:
    import ssl

_LOST = 1006
_LONGEST_HEAD = 2**16


class Unreachable(Exception):
    """There is no server, or it does not let us in."""


class SocketTarget:
    """Connects to a server as the clients of a vector."""

    def __init__(
        self,
        address: Address,
        *,
        tls: "ssl.SSLContext | None" = None,
        token: str | None = None,
        patience: float = 10.0,
    ) -> None:
        self.address = address.host_header
        self._address = address
        self._tls = tls
        self._token = token
        self._patience = patience
        self._clients: dict[str, _Client] = {}
        self._marks = itertools.count()
        self._last = ""

    def open(self, client: str) -> None:
        """Connect. Raises :class:`Unreachable`."""
        opened = _Client(self._address, self._tls, self._patience)
        try:
            opened.shake_hands(self._token)
        except BaseException:
            opened.drop()
            raise
        self._clients[client] = opened

    def send_text(self, client: str, text: str) -> None:
        self._turn_of(client).send(frame(TEXT, text.encode(), masked=True))

    def send_binary(self, client: str, data: bytes) -> None:
        self._turn_of(client).send(frame(BINARY, data, masked=True))

    def send_raw(self, client: str, data: bytes) -> None:
        self._turn_of(client).send(data)

    def close(self, client: str) -> None:
        self._clients.pop(client).close()

    def drop(self, client: str) -> None:
        self._clients.pop(client).drop()

    def receive(self, client: str, count: int) -> list[str | int]:
        # The first round makes sure that everything sent was handled, the second one that
        # what this led to for other clients has arrived.
        for _ in range(2):
            for each in self._clients.values():
                each.drain(f"mark-{next(self._marks)}")
        asked = self._clients[client]
        ends = time.monotonic() + self._patience
        while len(asked.inbox) < count and not asked.is_over and time.monotonic() < ends:
            asked.take(ends - time.monotonic())
        received = list(asked.inbox)
        asked.inbox.clear()
        return received

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def end(self) -> None:
        """Close all connections, as a vector leaves them."""
        for client in self._clients.values():
            with contextlib.suppress(VectorFailure):  # the vector is over
                client.close()
        self._clients.clear()

    def _turn_of(self, client: str) -> "_Client":
        """Return the client that sends next, once what another one sent has been handled."""
        if self._last != client and self._last in self._clients:
            self._clients[self._last].drain(f"mark-{next(self._marks)}")
        self._last = client
        return self._clients[client]


class _Client:
    """One connection, with what has come and was not yet asked for."""

    def __init__(self, address: Address, tls: "ssl.SSLContext | None", patience: float) -> None:
        self.inbox: list[str | int] = []
        self.is_over = False
        self._address = address
        self._patience = patience
        self._reader = Reader(masked=False)
        self._has_closed = False
        try:
            self._socket = socket.create_connection((address.host, address.port), patience)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=address.host)
        except OSError as error:
            raise Unreachable(f"cannot connect to {address.url}: {describe(error)}") from None

    def shake_hands(self, token: str | None) -> None:
        """Do the opening handshake. Raises :class:`Unreachable`."""
        fields = [
            f"GET {self._address.target} HTTP/1.1",
            f"Host: {self._address.host_header}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            *([] if token is None else [f"Authorization: Bearer {token}"]),
        ]
        answer = b""
        try:
            self._socket.sendall(("\r\n".join(fields) + "\r\n\r\n").encode())
            while b"\r\n\r\n" not in answer and len(answer) < _LONGEST_HEAD:
                data = self._socket.recv(2**16)
                if not data:
                    break
                answer += data
        except OSError as error:
            raise Unreachable(f"no answer from {self._address.url}: {error}") from None
        head, _, rest = answer.partition(b"\r\n\r\n")
        first = head.partition(b"\r\n")[0].decode("latin-1")
        if first.split(" ")[1:2] != ["101"]:
            said = first or "it ends the connection"
            raise Unreachable(f"{self._address.url} does not let us in: {said}")
        self._feed(rest)

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # then the close code says what happened
            self._socket.settimeout(self._patience)
            self._socket.sendall(data)

    def take(self, seconds: float) -> None:
        """Wait for something to come, or for the end of the connection."""
        try:
            self._socket.settimeout(max(0.001, seconds))
            data = self._socket.recv(2**16)
        except TimeoutError:
            return
        except OSError:
            data = b""
        if data:
            self._feed(data)
        elif not self.is_over:
            self._over(_LOST)

    def drain(self, mark: str) -> None:
        """Take all that the server sends until it has handled what was sent before.

        An action that does not exist is answered in every state, and changes nothing.
        """
        if not self.is_over:
            self.send(frame(TEXT, json.dumps({"action": mark}).encode(), masked=True))
        ends = time.monotonic() + self._patience
        while not self.is_over:
            if time.monotonic() > ends:
                raise VectorFailure("the server does not answer an action that it does not know")
            known = len(self.inbox)
            self.take(ends - time.monotonic())
            # More may have come with the answer, also behind it: other messages (on level 2 in one
            # array), or the end of the connection.
            for position in range(known, len(self.inbox)):
                if f'"unknown action: {mark}"' in str(self.inbox[position]):
                    del self.inbox[position]
                    return

    def close(self) -> None:
        """Close in an orderly way, and wait for the end of it."""
        try:
            if not self.is_over:
                self._has_closed = True
                self.send(close_frame(1000, masked=True))
                ends = time.monotonic() + self._patience
                while not self.is_over and time.monotonic() < ends:
                    self.take(ends - time.monotonic())
        finally:
            self.drop()

    def drop(self) -> None:
        """End the TCP connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _feed(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                self._handle(message)
        except BadFrame as error:
            raise VectorFailure(f"the server has sent {error}") from None

    def _handle(self, message: Message) -> None:
        if self.is_over:
            raise VectorFailure("the server has sent something behind its close frame")
        if message.opcode == TEXT:
            try:
                self.inbox += messages_in(message.payload.decode())
            except ValueError:
                self.inbox.append(message.payload.decode(errors="replace"))
        elif message.opcode == PING:
            self.send(frame(PONG, message.payload, masked=True))
        elif message.opcode == CLOSE:
            if not self._has_closed:
                self.send(close_frame(1000, masked=True))
            self._over(message.code)
        elif message.opcode == BINARY:
            raise VectorFailure("the server has sent a binary message")

    def _over(self, code: int) -> None:
        self.is_over = True
        self.inbox.append(code)
