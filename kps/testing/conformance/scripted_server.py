"""A server that does what a vector says, and nothing else."""

import asyncio
import contextlib
import json
from asyncio import StreamReader, StreamWriter
from collections import deque
from typing import Any
from urllib.parse import parse_qs

from kps.protocol.wire.accepting import accept_token
from kps.testing.comparing import read_json
from kps.testing.conformance.frames import (
    CLOSE,
    NO_CODE,
    PING,
    PONG,
    TEXT,
    BadFrame,
    Message,
    Reader,
    close_frame,
    frame,
)
from kps.testing.conformance.news import News

PATH = "/ws/bus"

LONGEST_REQUEST = 2**16

_ONCE = ("authorization", "host", "sec-websocket-key", "sec-websocket-version", "upgrade")


class ScriptedServer:
    """Listens on a port of this machine, and lets connections wait until the vector takes them."""

    def __init__(self, news: News) -> None:
        self.waiting: deque[Visitor] = deque()
        """Connections whose requests have come."""
        self._news = news
        self._all: list[Visitor] = []
        self._listener: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; return ``host:port``."""
        self._listener = await asyncio.start_server(
            self.came, "127.0.0.1", 0, limit=LONGEST_REQUEST
        )
        host, port = self._listener.sockets[0].getsockname()
        return f"{host}:{port}"

    async def stop(self) -> None:
        """End all connections, and listen no more."""
        if self._listener is not None:
            self._listener.close()
        for visitor in self._all:
            visitor.drop()
        await asyncio.gather(*(visitor.gone() for visitor in self._all))

    async def came(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Take a connection: read its request, and let it wait for the vector."""
        visitor = Visitor(reader, writer, self._news)
        self._all.append(visitor)
        if await visitor.read_request():
            self.waiting.append(visitor)
            self._news.announce()


class Visitor:
    """One connection of the client, as the server sees it."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, news: News) -> None:
        self.inbox: list[Any] = []
        """Messages that the vector has not asked for."""
        self.has_ended = False
        """Whether the client has ended the connection, or answered its end."""
        self.code: int | None = None
        """The code of the client's close frame; ``None``: there was none."""
        self.fault = ""
        """What the client has done that no client may do."""
        self.takes_arrays = False
        """Whether the connection is on level 2."""
        self.max_message: int | None = None
        self._reader = reader
        self._writer = writer
        self._news = news
        self._frames = Reader(masked=True)
        self._target = ""
        self._headers: dict[str, list[str]] = {}
        self._pongs: set[bytes] = set()
        self._pings = 0
        self._has_closed = False
        self._reading: asyncio.Task[None] | None = None

    # -- the opening handshake ----------------------------------------------------------------

    async def read_request(self) -> bool:
        """Read the head of the request; return ``False`` if there is none."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            self._writer.close()
            return False
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        self._target = first
        for line in lines:
            name, _, value = line.partition(":")
            self._headers.setdefault(name.strip().lower(), []).append(value.strip())
        return True

    @property
    def tokens(self) -> set[str]:
        """The tokens in the request."""
        query = parse_qs(self._target.split(" ")[1].partition("?")[2])
        bearers = [one.removeprefix("Bearer ") for one in self._headers.get("authorization", ())]
        return {*bearers, *query.get("token", ())}

    def fault_of_request(self) -> str:
        """Return what is wrong with the request, or nothing."""
        headers = self._headers
        method, _, rest = self._target.partition(" ")
        target, _, version = rest.rpartition(" ")
        if (method, target.partition("?")[0], version) != ("GET", PATH, "HTTP/1.1"):
            return f"the request is {self._target!r}"
        for name in _ONCE:
            if len(headers.get(name, ())) != 1 and (name != "authorization" or name in headers):
                return f"the request has {len(headers.get(name, ()))} headers {name}"
        if headers["upgrade"][0].lower() != "websocket":
            return "the request has no Upgrade: websocket"
        if "upgrade" not in ",".join(headers.get("connection", ())).lower():
            return "the request has no Connection: Upgrade"
        if headers["sec-websocket-version"] != ["13"]:
            return "the request has no Sec-WebSocket-Version: 13"
        return ""

    def accept(self, *, is_right: bool = True) -> None:
        """Do the opening handshake, or one that no client may take for right."""
        key = self._headers["sec-websocket-key"][0] if is_right else ""
        token = accept_token(key.encode("latin-1"))
        self._write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n" % token
        )
        self._reading = asyncio.ensure_future(self._read())

    def refuse(self, status: int | None) -> None:
        """Answer the request with a status, or not at all."""
        if status is not None:
            self._write(
                b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
            )
        self._end()

    # -- what the server does ------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """Send a message, or an array of them."""
        if isinstance(message, dict) and message.get("action") == "pong":
            self.takes_arrays = message.get("proto") == 2
            limits = message.get("limits")
            self.max_message = limits.get("max_message") if isinstance(limits, dict) else None
        self.send_bytes(json.dumps(message, ensure_ascii=False).encode())

    def send_bytes(self, data: bytes, opcode: int = TEXT) -> None:
        """Send a message of any content."""
        self._write(frame(opcode, data))

    def send_raw(self, data: bytes) -> None:
        """Put bytes on the connection as they are."""
        self._write(data)

    def close(self, code: int) -> None:
        """Begin the closing handshake."""
        self._has_closed = True
        self._write(close_frame(code))

    def drop(self) -> None:
        """End the TCP connection, without a close frame."""
        self._end()

    async def ping(self, patience: float) -> bool:
        """Wait until the client has answered a WebSocket ping; return whether it did so in time."""
        if self.has_ended:
            return True
        self._pings += 1
        name = b"judge-%d" % self._pings
        self._write(frame(PING, name))
        return await self._news.until(lambda: name in self._pongs or self.has_ended, patience)

    async def gone(self) -> None:
        """Wait until nothing more is read."""
        if self._reading is not None:
            await self._reading

    # -- within ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while not self.has_ended and (data := await self._reader.read(2**16)):
                for message in self._frames.feed(data):
                    self._take(message)
                    if self.has_ended:
                        break
        except OSError:
            pass  # the client has reset the connection
        except BadFrame as error:
            self.fault = self.fault or f"the client has sent {error}"
        finally:
            self._end()

    def _take(self, message: Message) -> None:
        if message.opcode == PING:
            self._write(frame(PONG, message.payload))
        elif message.opcode == PONG:
            self._pongs.add(message.payload)
        elif message.opcode == CLOSE:
            self.code = message.code
            if not self._has_closed:
                answer = frame(CLOSE) if message.code == NO_CODE else close_frame(message.code)
                self._write(answer)
            self._end()
        elif message.opcode == TEXT:
            self._take_text(message.payload)
        else:
            self.fault = self.fault or "the client has sent a binary message"
        self._news.announce()

    def _take_text(self, payload: bytes) -> None:
        if self.max_message is not None and len(payload) > self.max_message:
            self.fault = self.fault or f"the client has sent a message of {len(payload)} bytes"
        try:
            loaded = read_json(payload.decode())
        except ValueError as error:
            self.fault = self.fault or f"the client has sent what is not JSON: {error}"
            return
        several = loaded if isinstance(loaded, list) and self.takes_arrays else [loaded]
        for one in several:
            if isinstance(one, dict):
                self.inbox.append(one)
            else:
                self.fault = self.fault or f"the client has sent no message: {one!r}"

    def _write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    def _end(self) -> None:
        self.has_ended = True
        with contextlib.suppress(OSError):
            self._writer.close()
        self._news.announce()
