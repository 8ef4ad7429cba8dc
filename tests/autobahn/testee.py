"""What the Autobahn suite tests: a WebSocket echo at either end, on either driver.

Everything between the socket and the messages is KPS's own: the drivers' connections, and the
core's WebSocket of server and client. Only the owner of a connection, which otherwise is a bus,
is an echo here.

    python -m tests.autobahn.testee asyncio server
    python -m tests.autobahn.testee threads client PORT AGENT COUNT

The server says which port it has, and serves until it is ended. The client has the fuzzing server
on PORT run its first COUNT cases, and then write its report.
"""

import asyncio
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable

from kps.io_asyncio.connection import Connection as AsyncioConnection
from kps.io_asyncio.loop import run
from kps.io_sync.connection import Connection as ThreadConnection
from kps.io_sync.connection import clock
from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.client_handshake import KEY_SIZE, ClientWebSocket
from kps.protocol.wire.deflate import deflate
from kps.protocol.wire.endpoint import Endpoint
from kps.protocol.wire.frames import Masker, deflated_frame
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.outbox import Entry, Kind
from kps.protocol.wire.server_handshake import ServerWebSocket
from kps.protocol.wire.websocket import Output, State

HOST = "127.0.0.1"
LIMITS = ConnectionLimits(max_message=16 * 1024 * 1024)  # exactly the suite's largest message

_TEXT, _BINARY = 1, 2
_LENGTHS = {126: 2, 127: 8}


class _Kinds:
    """Tells which messages came as binary. To the bus they are as good as text; an echo must know.

    It reads the headers of frames beside the connection, which judges whether they are right.
    """

    def __init__(self) -> None:
        self.are_binary: deque[bool] = deque()
        """For each message that has begun."""
        self._unread = bytearray()
        self._is_open = False  # a WebSocket begins behind an HTTP request or response
        self._payload = 0  # bytes that are left of a frame

    def feed(self, data: bytes) -> None:
        self._unread += data
        if not self._is_open:
            _, end, behind = self._unread.partition(b"\r\n\r\n")
            if not end:
                return
            self._unread, self._is_open = behind, True
        while self._skip_payload() and self._read_header():
            pass

    def _skip_payload(self) -> bool:
        """Go on behind the payload of a frame; tell whether all of it is here."""
        here = min(self._payload, len(self._unread))
        del self._unread[:here]
        self._payload -= here
        return not self._payload

    def _read_header(self) -> bool:
        """Read the header of a frame; tell whether it is here."""
        unread = self._unread
        if len(unread) < 2:
            return False
        length, is_masked = unread[1] & 0x7F, unread[1] & 0x80
        begin = 2 + _LENGTHS.get(length, 0)
        end = begin + (4 if is_masked else 0)
        if len(unread) < end:
            return False
        if begin > 2:
            length = int.from_bytes(unread[2:begin])
        opcode = unread[0] & 0x0F
        if opcode in (_TEXT, _BINARY):  # else it goes on with a message, or is a control
            self.are_binary.append(opcode == _BINARY)
        del unread[:end]
        self._payload = length
        return True


class Echo:
    """An endpoint that sends every message back."""

    def __init__(self, connection: ServerWebSocket | ClientWebSocket) -> None:
        self._connection = connection
        self._kinds = _Kinds()

    def receive_data(self, data: bytes, now: float) -> None:
        connection = self._connection
        self._kinds.feed(data)
        connection.feed(data, now)
        if isinstance(connection, ServerWebSocket) and connection.state is State.REQUEST:
            connection.accept()
        while messages := connection.read(now):
            for message in messages:
                self._echo(message, now)

    def _echo(self, message: bytes, now: float) -> None:
        """Send a message back: deflated if this end may do so, as only servers of KPS do."""
        connection = self._connection
        if isinstance(connection, ServerWebSocket) and connection.deflates:
            frame = deflated_frame(deflate(message))
        else:
            frame = connection.outbox.text_frame(message)
        if self._kinds.are_binary.popleft():
            frame = bytes([frame[0] ^ (_TEXT ^ _BINARY)]) + frame[1:]
        connection.queue(Entry(frame, Kind.REPLY), now)

    def receive_eof(self, now: float, unwritten: int = 0) -> None:
        self._connection.receive_eof(now)

    def connection_lost(self, now: float, unwritten: int = 0) -> None:
        self._connection.connection_lost(now)

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        return self._connection.data_to_send(limit)

    @property
    def output(self) -> Output:
        return self._connection.output

    @property
    def wants_pause(self) -> bool:
        return self._connection.wants_pause

    def set_reading(self, is_reading: bool, now: float) -> None:
        self._connection.set_reading(is_reading, now)

    def next_deadline(self) -> float | None:
        return self._connection.next_deadline()

    def handle_timeout(self, now: float) -> None:
        self._connection.handle_timeout(now)


def server_echo(now: float) -> Echo:
    """The server's end of a new connection."""
    return Echo(
        ServerWebSocket(
            limits=LIMITS,
            path="/",
            respond=lambda request: HttpResponse.text(404, "only WebSockets here"),
            peer="",
            now=now,
            compresses=True,
        )
    )


def client_echo(port: int, target: str, now: float) -> Echo:
    """The client's end of a new connection."""
    return Echo(
        ClientWebSocket(
            host=f"{HOST}:{port}",
            target=target,
            headers=[],
            key=os.urandom(KEY_SIZE),
            text_frame=Masker(os.urandom).text_frame,
            limits=LIMITS,
            now=now,
            offers_compression=True,
        )
    )


# -- asyncio ------------------------------------------------------------------------------


class AsyncioOwner:
    """Has one connection written to at the end of the loop's turn, and keeps its deadline."""

    is_forked = False

    def __init__(self, loop: asyncio.AbstractEventLoop, echo: Echo) -> None:
        self.gone = asyncio.Event()
        self._loop = loop
        self._echo = echo
        self._connection: AsyncioConnection
        self._step_is_due = False
        self._timer: asyncio.TimerHandle | None = None

    def _attach(self, connection: AsyncioConnection, peer: str) -> Endpoint:
        self._connection = connection
        return self._echo

    def _detach(self, connection: AsyncioConnection) -> None:
        self.gone.set()

    def progress(self) -> None:
        if not self._step_is_due:
            self._step_is_due = True
            self._loop.call_soon(self._step)

    has_read = progress

    def _touch(self, connection: AsyncioConnection) -> None:
        """The step flushes it."""

    def _step(self) -> None:
        self._step_is_due = False
        self._connection.flush()
        if self._timer is not None:
            self._timer.cancel()
        due = self._echo.next_deadline()
        self._timer = None if due is None else self._loop.call_at(due, self._timed_out, due)

    def _timed_out(self, due: float) -> None:
        self._echo.handle_timeout(max(due, self._loop.time()))
        self.progress()


async def asyncio_server(ready: Callable[[int], None]) -> None:
    loop = asyncio.get_running_loop()

    def new_connection() -> AsyncioConnection:
        return AsyncioConnection(loop, AsyncioOwner(loop, server_echo(loop.time())))

    server = await loop.create_server(new_connection, HOST, 0)
    ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def asyncio_client(port: int, targets: list[str]) -> None:
    for target in targets:
        await visit(port, target)


async def visit(port: int, target: str) -> None:
    loop = asyncio.get_running_loop()
    owner = AsyncioOwner(loop, client_echo(port, target, loop.time()))
    await loop.create_connection(lambda: AsyncioConnection(loop, owner), HOST, port)
    await owner.gone.wait()


# -- threads ------------------------------------------------------------------------------


class ThreadOwner:
    """Lets the thread of one connection keep its deadline."""

    def __init__(self, echo: Echo) -> None:
        self._lock = threading.RLock()
        self._echo = echo

    def progress(self) -> None:
        """Nobody else is concerned."""

    has_read = run_inline = progress

    def next_deadline(self) -> float | None:
        return self._echo.next_deadline()

    about_to_wait = next_deadline

    def _handle_timeout(self, now: float) -> None:
        self._echo.handle_timeout(now)


def carry(sock: socket.socket, echo: Echo) -> None:
    """Run one connection to its end, in this thread."""
    ThreadConnection(sock, echo, ThreadOwner(echo)).run()


def threads_server(ready: Callable[[int], None]) -> None:
    with socket.create_server((HOST, 0)) as listener:
        ready(listener.getsockname()[1])
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=carry, args=(sock, server_echo(clock())), daemon=True).start()


def threads_client(port: int, targets: list[str]) -> None:
    for target in targets:
        carry(socket.create_connection((HOST, port)), client_echo(port, target, clock()))


def main() -> None:
    driver, role, *rest = sys.argv[1:]

    def ready(port: int) -> None:
        print(f"listening on {port}", flush=True)

    if role == "server":
        if driver == "asyncio":
            run(asyncio_server(ready))
        else:
            threads_server(ready)
        return
    port, agent, count = int(rest[0]), rest[1], int(rest[2])
    targets = [f"/runCase?case={number}&agent={agent}" for number in range(1, count + 1)]
    targets.append(f"/updateReports?agent={agent}")
    if driver == "asyncio":
        # Not uvloop, which the server has: most programs with a client bring their own loop.
        asyncio.run(asyncio_client(port, targets))
    else:
        threads_client(port, targets)


if __name__ == "__main__":
    main()
