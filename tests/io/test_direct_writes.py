"""Threads that call the core write to a connection's socket themselves, beside its own thread."""

import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, cast

import pytest

from kps.io_sync.connection import Connection
from kps.protocol.wire.websocket import Output
from tests.interrupting import Interrupt, Interruption, at_every_place
from tests.io.harness import PATIENCE, eventually


class Source:
    """An endpoint with data to write."""

    output = Output.KEEP
    wants_pause = False

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.unwritten: int | None = None
        """What the connection could not write, once it has ended."""
        self.within: Callable[[], None] | None = None
        """What comes in once as the connection takes data."""

    def data_to_send(self, limit: int = 1 << 20) -> bytes:
        within, self.within = self.within, None
        if within is not None:
            within()
        return self.chunks.popleft() if self.chunks else b""

    def receive_data(self, data: bytes, now: float) -> None: ...

    def receive_eof(self, now: float, unwritten: int = 0) -> None:
        self.output = Output.CLOSE

    def connection_lost(self, now: float, unwritten: int = 0) -> None:
        self.unwritten = unwritten

    def set_reading(self, is_reading: bool, now: float) -> None: ...


class Line:
    """A connection that runs in its thread, and the other end of its socket."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.source = Source()
        near, self.far = socket.socketpair()
        self.far.settimeout(PATIENCE)
        self.due = inf
        self.timed_out = threading.Event()
        self.connection = Connection(near, self.source, cast("Any", self))
        self.thread = threading.Thread(target=self.connection.run, daemon=True)
        self.thread.start()
        eventually(lambda: self.connection._is_reading and not self.is_woken)

    def send(self, chunk: bytes) -> int:
        """Queue a chunk, and write as a caller; return how much that has written."""
        with self._lock:
            self.source.chunks.append(chunk)
            return self.connection.flush()

    def receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.far.recv(size - len(data))
            assert part, "it has ended"
            data += part
        return bytes(data)

    @property
    def is_woken(self) -> bool:
        return self.connection._waker._is_awake

    # -- the owner of the connection -----------------------------------------------------------

    def progress(self) -> None: ...

    has_read = run_inline = progress

    def next_deadline(self) -> float | None:
        return None if self.due == inf else self.due

    about_to_wait = next_deadline

    def _handle_timeout(self, now: float) -> None:
        self.due = inf
        self.timed_out.set()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.connection.abort()
    line.far.close()
    line.thread.join(PATIENCE)
    assert not line.thread.is_alive()


def test_a_caller_writes_and_wakes_nobody(line: Line) -> None:
    assert line.send(b"one") == 3
    assert not line.is_woken
    assert line.receive(3) == b"one"


def test_what_the_socket_does_not_take_is_for_the_thread(line: Line) -> None:
    large = random.randbytes(4 * 1024 * 1024)
    assert line.send(large) == len(large)  # it has taken it, and written a part
    assert line.send(b"later") == 0
    assert line.connection._is_writing
    assert line.receive(len(large) + 5) == large + b"later"
    eventually(lambda: not line.connection._is_writing)
    assert line.send(b"at last") == 7
    assert line.receive(7) == b"at last"


def test_a_caller_leaves_the_rest_of_very_much_to_the_thread(line: Line) -> None:
    chunks = [random.randbytes(40_000) for _ in range(5)]
    with line._lock:
        line.source.chunks.extend(chunks)
        assert line.connection.flush() == 80_000
    assert line.receive(200_000) == b"".join(chunks)


def test_callers_and_the_thread_write_in_the_order_of_the_queue(line: Line) -> None:
    queued: list[bytes] = []
    chance = random.Random(1)

    def send(chunks: list[bytes], flushes: list[bool]) -> None:
        for chunk, flush in zip(chunks, flushes, strict=True):
            with line._lock:
                queued.append(chunk)
                line.source.chunks.append(chunk)
                if flush:
                    line.connection.flush()
                else:
                    line.connection.wake()

    size = 0
    callers = []
    for _ in range(4):
        chunks = [chance.randbytes(chance.choice([1, 100, 5_000, 100_000])) for _ in range(200)]
        size += sum(map(len, chunks))
        flushes = [chance.random() < 0.5 for _ in chunks]
        callers.append(threading.Thread(target=send, args=(chunks, flushes)))
    for caller in callers:
        caller.start()
    received = line.receive(size)
    for caller in callers:
        caller.join(PATIENCE)
    assert received == b"".join(queued)


def test_the_thread_writes_nothing_while_a_caller_does(line: Line) -> None:
    """The caller takes its data just when the thread has found that there is none."""
    connection, lock, sock = line.connection, line._lock, line.connection._socket
    is_writing, may_go_on = threading.Event(), threading.Event()
    sent: list[bytes] = []

    class Lock:
        def __enter__(self) -> None:
            if threading.current_thread() is line.thread:
                may_go_on.set()  # the caller still has the lock
            lock.acquire()

        def __exit__(self, *args: object) -> None:
            lock.release()
            if threading.current_thread() is line.thread and not is_writing.is_set():
                caller.start()
                assert is_writing.wait(PATIENCE)
                may_go_on.clear()

    class Slow:
        def send(self, data: bytes) -> int:
            sent.append(bytes(data))
            is_writing.set()
            assert may_go_on.wait(PATIENCE)
            return sock.send(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(sock, name)

    caller = threading.Thread(target=line.send, args=(b"caller",))
    connection._socket = cast("Any", Slow())
    line._lock = cast("Any", Lock())
    connection.wake()
    assert line.receive(6) == b"caller"
    caller.join(PATIENCE)
    assert sent == [b"caller"]
    connection._socket, line._lock = sock, lock


def test_a_signal_handler_within_a_write_comes_after_it(line: Line) -> None:
    sock = line.connection._socket

    class Interrupted:
        def send(self, data: bytes) -> int:
            line.connection._socket = sock
            line.send(b" handler")
            return sock.send(data)

    with line._lock:
        line.connection._socket = cast("Any", Interrupted())
        line.send(b"caller")
    assert line.receive(14) == b"caller handler"


def test_an_exception_out_of_a_signal_handler_loses_and_repeats_nothing(line: Line) -> None:
    large = random.randbytes(1024 * 1024)

    def run(interruption: Interruption) -> None:
        for chunk in (b"before", large):
            interruption.during(lambda chunk=chunk: line.send(chunk))  # type: ignore[misc]
            line.send(b"after")
            rest = line.receive(len(chunk) + 5)
            assert rest == chunk + b"after"

    assert at_every_place(run, "/kps/io_sync/connection.py") > 10


def test_what_is_lost_within_the_core_ends_the_connection(line: Line) -> None:
    """The stream has a hole."""

    def interrupt() -> None:
        line.source.chunks.clear()
        raise Interrupt

    line.source.within = interrupt
    with pytest.raises(Interrupt):
        line.send(b"lost")
    line.thread.join(PATIENCE)
    assert line.far.recv(1) == b""
    assert line.send(b"too late") == 0


def test_a_broken_socket_is_for_the_thread(line: Line) -> None:
    line.far.close()
    line.send(b"in vain")
    line.send(b"in vain")
    line.thread.join(PATIENCE)
    assert line.source.unwritten in (0, 7)
    assert line.send(b"in vain") == 0


def test_tls_is_for_the_thread(line: Line) -> None:
    """One thread at a time may use it, also for reading."""
    line.connection._is_tls = True
    assert line.send(b"secret") == 0
    assert line.receive(6) == b"secret"


@pytest.mark.parametrize("change", ["output", "wants_pause"])
def test_the_thread_sees_to_everything_else(line: Line, change: str) -> None:
    with line._lock:
        setattr(line.source, change, Output.CLOSE if change == "output" else True)
        assert line.send(b"last") == 4
        assert line.is_woken
    assert line.receive(4) == b"last"
    if change == "output":
        assert line.far.recv(1) == b""
    else:
        eventually(lambda: not line.connection._is_reading)
        assert line.send(b"not now") == 0  # it may go on to read, as soon as this is written
        assert line.receive(7) == b"not now"


def test_an_earlier_deadline_wakes_the_thread_and_a_later_one_does_not(line: Line) -> None:
    now = line.connection._clock()
    with line._lock:
        line.due = now + 1000
        line.send(b"a")
        assert line.is_woken
    eventually(lambda: line.connection._waits_until == now + 1000 and not line.is_woken)
    for later in (2000, 3000):
        with line._lock:
            line.due = now + later
            line.send(b"a")
            assert not line.is_woken
    with line._lock:
        line.due = now
        line.send(b"a")
    assert line.timed_out.wait(PATIENCE)
