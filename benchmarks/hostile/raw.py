"""Bytes that a hostile client writes, and many connections that one thread serves.

Nothing of this uses the client of KPS: an attacker waits for no answer that it does not need.
"""

import itertools
import json
import re
import selectors
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

FIN, TEXT, CONTINUATION, PING = 0x80, 0x1, 0x0, 0x9
PATIENCE = 60.0
"""Seconds that an attacker waits for an answer while it prepares."""
SLICE = 256 * 1024
"""Bytes that one connection writes or reads in its turn."""
SOURCE = "127.0.1.1"
"""The address that all attackers come from; the honest clients have others."""


def frame(payload: bytes, first: int = FIN | TEXT) -> bytes:
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
    """One message of the protocol, as JSON."""
    fields = {name.rstrip("_"): value for name, value in fields.items()}
    return json.dumps({"action": action} | fields, separators=(",", ":")).encode()


def array(messages: Iterable[bytes]) -> bytes:
    """Many messages in one frame."""
    return frame(b"[" + b",".join(messages) + b"]")


def ping(client_id: str) -> bytes:
    """The frame that registers a client on level 2."""
    return frame(message("ping", from_=client_id, proto=2))


@dataclass(frozen=True)
class Target:
    """The server that is attacked, and for how long."""

    address: str
    seconds: float
    token: str = ""
    """What identifies the attacker, if it has permission to be there."""
    is_tls: bool = False

    @property
    def port(self) -> int:
        """The port of the server."""
        return int(self.address.rpartition(":")[2])

    @property
    def upgrade(self) -> bytes:
        """The opening request."""
        token = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        return (
            "GET /ws/bus HTTP/1.1\r\nHost: target\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"{token}Sec-WebSocket-Version: 13\r\n\r\n"
        ).encode()

    def opening(self, client_id: str) -> bytes:
        """What registers a client: nobody has to wait between the request and its ping."""
        return self.upgrade + ping(client_id)

    def connect(self, *, source: str = SOURCE, receive_buffer: int = 0) -> socket.socket:
        """Open a TCP or TLS connection. Raises :class:`OSError`."""
        host = self.address.rpartition(":")[0]
        connection = socket.socket()
        try:
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.bind((source, 0))
            connection.settimeout(PATIENCE)
            connection.connect((host, self.port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.is_tls:
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                return context.wrap_socket(connection)
        except OSError:
            connection.close()
            raise
        return connection


class Peer:
    """One connection: what it has yet to write, and whether it reads."""

    def __init__(self, connection: socket.socket, data: Iterator[bytes], *, reads: bool) -> None:
        self.socket = connection
        self.port: int = connection.getsockname()[1]
        self.reads = reads
        self.sent = self.received = 0
        self.unsent = memoryview(b"")
        self._data = data
        self.is_done = False
        """Whether everything is written."""
        connection.setblocking(False)

    def write(self) -> None:
        """Write as much as is taken."""
        if not self.unsent:
            following = next(self._data, b"")
            self.is_done = not following
            self.unsent = memoryview(following)
        with suppress(BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            size = self.socket.send(self.unsent[:SLICE])
            self.sent += size
            self.unsent = self.unsent[size:]

    def read(self) -> bool:
        """Read something, and forget it; tell whether the connection is still there."""
        with suppress(BlockingIOError, ssl.SSLWantReadError):
            size = len(self.socket.recv(SLICE))
            self.received += size
            return size > 0
        return True

    def add(self, data: Iterable[bytes]) -> None:
        """Write this behind all else."""
        self._data = itertools.chain(self._data, data)
        self.is_done = False


class Crowd:
    """The connections of one attacker."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.sent = self.received = self.opened = self.ended = 0
        self._selector = selectors.DefaultSelector()
        self._numbers = itertools.count()
        self._peers: dict[socket.socket, Peer] = {}

    def new_id(self) -> str:
        """An id that no other of these clients has."""
        return f"hostile/{next(self._numbers)}"

    def add(self, *data: bytes, again: bytes = b"", reads: bool = True, **options: Any) -> Peer:
        """Open a connection that writes ``data``, and then ``again`` without end."""
        endless = itertools.repeat(again) if again else ()
        connection = self.target.connect(**options)
        peer = Peer(connection, itertools.chain(data, endless), reads=reads)
        self._peers[connection] = peer
        self._selector.register(connection, _events(peer), peer)
        self.opened += 1
        return peer

    def client(self, *data: bytes, again: bytes = b"", reads: bool = True, **options: Any) -> Peer:
        """The same, of a registered client."""
        opening = self.target.opening(self.new_id())
        return self.add(opening, *data, again=again, reads=reads, **options)

    def prepared(
        self, *data: bytes, client_id: str = "", reads: bool = True, **options: Any
    ) -> Peer:
        """A registered client for which the server has handled ``data``: it answered a ping."""
        client_id = client_id or self.new_id()
        connection = self.target.connect(**options)
        end = frame(message("ping", from_=client_id, nonce="prepared"))
        connection.sendall(self.target.opening(client_id) + b"".join(data) + end)
        received = b""
        while b'"nonce":"prepared"' not in received:
            got = connection.recv(SLICE)
            if not got:
                raise ConnectionResetError(f"closed while preparing, after {received[-200:]!r}")
            received = received[-100:] + got
        peer = Peer(connection, iter(()), reads=reads)
        peer.is_done = True
        self._peers[connection] = peer
        self._selector.register(connection, _events(peer) or selectors.EVENT_READ, peer)
        if not reads:
            self._selector.unregister(connection)
        self.opened += 1
        return peer

    def write(self, peer: Peer, *data: bytes, again: bytes = b"") -> None:
        """Write this on a connection, if it is still there."""
        if peer.socket not in self._peers:
            return
        peer.add(itertools.chain(data, itertools.repeat(again) if again else ()))
        if peer.socket in self._selector.get_map():
            self._selector.modify(peer.socket, _events(peer), peer)
        else:
            self._selector.register(peer.socket, _events(peer), peer)

    def drop(self, peer: Peer, *, reset: bool = False) -> None:
        """End a connection, in silence or by a reset."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(peer.socket)
        if reset:
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.socket.close()
        if self._peers.pop(peer.socket, None):
            self.sent += peer.sent
            self.received += peer.received

    def find(self, peer: Peer, pattern: bytes, times: int) -> list[bytes]:
        """Read until something like this has come so often; return what it was."""
        peer.socket.settimeout(PATIENCE)
        received = b""
        while len(found := re.findall(pattern, received)) < times:
            received += peer.socket.recv(SLICE)
        peer.socket.setblocking(False)
        return found

    def begin(self) -> None:
        """Tell that everything is prepared, and wait until the attack may begin."""
        tell(ready=True)
        sys.stdin.readline()

    def run(self, seconds: float | None = None, ended: Callable[[], object] | None = None) -> None:
        """Write and read on all connections; call ``ended`` for each that the server ends."""
        until = time.monotonic() + (self.target.seconds if seconds is None else seconds)
        while (left := until - time.monotonic()) > 0:
            for key, mask in self._selector.select(min(left, 0.1)):
                peer: Peer = key.data
                if not self._serve(peer, mask):
                    self.drop(peer)
                    self.ended += 1
                    if ended is not None:
                        with suppress(OSError):
                            ended()
                if time.monotonic() > until:
                    return

    def hold(self, count: int, open_one: Callable[[], object]) -> None:
        """Keep so many connections open until the time is over, each made by ``open_one``."""
        until = time.monotonic() + self.target.seconds
        while time.monotonic() < until:
            with suppress(OSError):
                while len(self._peers) < count and time.monotonic() < until:
                    open_one()
            self.run(min(0.1, max(0.0, until - time.monotonic())))

    def report(self) -> dict[str, Any]:
        """What was written and read, and how many connections there were."""
        return {
            "sent": self.sent + sum(peer.sent for peer in self._peers.values()),
            "received": self.received + sum(peer.received for peer in self._peers.values()),
            "opened": self.opened,
            "ended_by_server": self.ended,
        }

    def _serve(self, peer: Peer, mask: int) -> bool:
        try:
            if mask & selectors.EVENT_READ and not peer.read():
                return False
            if mask & selectors.EVENT_WRITE:
                peer.write()
                if peer.is_done:
                    self._settle(peer)
        except OSError:
            return False
        return True

    def _settle(self, peer: Peer) -> None:
        """Wait for nothing more than the peer does."""
        if peer.reads:
            self._selector.modify(peer.socket, selectors.EVENT_READ, peer)
        else:
            self._selector.unregister(peer.socket)


def _events(peer: Peer) -> int:
    events = selectors.EVENT_READ if peer.reads else 0
    return events if peer.is_done else events | selectors.EVENT_WRITE


def tell(**findings: Any) -> None:
    """Tell who started this process."""
    print(json.dumps(findings), flush=True)
