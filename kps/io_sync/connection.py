"""One socket and what its bytes go to, in one thread. The same for server and client.

The thread that runs a connection is the only one that touches its socket, and it never
waits for it: the socket does not block, and the thread waits for it to become readable or
writable, or for :meth:`Connection.wake`. The lock of the core is held around calls into the
core only. So nobody who holds the lock can be held up by a peer that does not read.
"""

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Protocol

from kps.protocol.wire.endpoint import Endpoint
from kps.protocol.wire.websocket import Output

_CHUNK = 256 * 1024
_READS_AT_ONCE = 16  # then it is the turn of what waits to be written

# Seconds of work that what one connection has read may take while it holds the lock. Whose bytes
# cost more, as those of frames without content do, is read from in smaller chunks, down to the
# least.
_TURN = 0.01
_LEAST_CHUNK = 16 * 1024

clock = time.monotonic
"""The time that this driver gives to the core."""

time_spent = time.thread_time
"""The time that this thread has worked, and not waited for others."""


class Owner(Protocol):
    """The client or server that connections belong to."""

    @property
    def _lock(self) -> contextlib.AbstractContextManager[object]: ...

    def _progress(self) -> None:
        """With the lock held: see to what follows from a call into the core."""

    def _deadline(self) -> float | None:
        """With the lock held: when a connection's thread must look at the time, if ever."""

    def _handle_timeout(self, now: float) -> None:
        """With the lock held: do what is due."""


class Waker:
    """Ends another thread's wait for sockets."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._is_awake = False

    def fileno(self) -> int:
        return self._receiver.fileno()

    def wake(self) -> None:
        """Wake the waiting thread, or keep it from its next wait."""
        if not self._is_awake:
            self._is_awake = True
            with contextlib.suppress(OSError):  # full, so it wakes up anyway; or closed
                self._sender.send(b"\0")

    def drain(self) -> None:
        """In the waiting thread, when its selector says so: end being readable."""
        with contextlib.suppress(OSError):
            self._receiver.recv(4096)

    def reset(self) -> bool:
        """In the waiting thread: tell whether it was woken, and see to what that was for.

        What is read is read by ``drain`` alone: a byte may arrive after this.
        """
        was_awake, self._is_awake = self._is_awake, False
        return was_awake

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()


def new_selector() -> selectors.BaseSelector:
    """A selector that costs no descriptor of its own, where there is one."""
    poll: Callable[[], selectors.BaseSelector] | None = getattr(selectors, "PollSelector", None)
    return poll() if poll is not None else selectors.SelectSelector()


class Connection:
    """Carries bytes between a socket and an endpoint until the transport is gone."""

    def __init__(
        self,
        sock: socket.socket,
        endpoint: Endpoint,
        owner: Owner,
        before_step: Callable[[], None] | None = None,
        clock: Callable[[], float] = clock,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._endpoint = endpoint
        self._owner = owner
        self._clock = clock
        self._waker = Waker()
        self._unsent = memoryview(b"")
        self._chunk = _CHUNK
        self._is_half_closed = False
        self._is_at_eof = False
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._thread_id = 0
        self._before_step = before_step
        self._is_aborted = False

    def wake(self) -> None:
        """Have the thread look at its endpoint. For any thread."""
        if threading.get_ident() != self._thread_id:  # that one is about to look anyway
            self._waker.wake()

    def abort(self) -> None:
        """Drop the transport soon. For any thread."""
        self._is_aborted = True
        self._waker.wake()

    def run(self) -> None:
        """Carry bytes, in the calling thread, until the connection is over."""
        self._thread_id = threading.get_ident()
        selector = new_selector()
        selector.register(self._waker, selectors.EVENT_READ)
        events = 0
        try:
            while True:
                wanted = self._step()
                if wanted is None:
                    return
                if wanted != events:
                    self._select_for(selector, events, wanted)
                    if (wanted ^ events) & selectors.EVENT_READ:
                        self._tell_reading(bool(wanted & selectors.EVENT_READ))
                    events = wanted
                self._wait(selector)
        finally:
            with contextlib.suppress(OSError):
                self._socket.close()
            selector.close()
            with self._owner._lock:
                self._endpoint.connection_lost(self._clock())
                self._owner._progress()
            self._waker.close()

    def _step(self) -> int | None:
        """Read and write what is possible; return what to wait for, or ``None`` at the end."""
        endpoint = self._endpoint
        if self._before_step is not None:
            self._before_step()
        with self._owner._lock:
            if self._waker.reset():
                self._owner._progress()
            if not self._unsent:
                self._take_unsent()
            output = endpoint.output
            pauses = endpoint.wants_pause
        if output is Output.ABORT or self._is_aborted:
            return None
        is_blocked = self._write()
        if is_blocked is None:
            return None
        if not is_blocked:
            with self._owner._lock:
                self._take_unsent()
                output = endpoint.output
            if not self._unsent and output is not Output.KEEP and self._finish(output):
                return None
        reads = not self._is_at_eof and not (pauses and output is Output.KEEP)
        return (selectors.EVENT_READ if reads else 0) | (
            selectors.EVENT_WRITE if self._unsent else 0
        )

    def _tell_reading(self, is_reading: bool) -> None:
        with self._owner._lock:
            self._endpoint.set_reading(is_reading, self._clock())
            self._owner._progress()

    def _take_unsent(self) -> None:
        """With the lock held: take what to write next; whoever waits for room has it now."""
        self._unsent = memoryview(self._endpoint.data_to_send())
        if self._unsent:
            self._owner._progress()

    def _wait(self, selector: selectors.BaseSelector) -> None:
        owner = self._owner
        with owner._lock:
            deadline = owner._deadline()
        timeout = None if deadline is None else max(0.0, deadline - self._clock())
        for key, mask in selector.select(timeout):
            if key.fileobj is self._waker:
                self._waker.drain()
            elif mask & selectors.EVENT_READ:
                self._read()
        if deadline is not None and self._clock() >= deadline:
            with owner._lock:
                owner._handle_timeout(self._clock())
                owner._progress()

    def _read(self) -> None:
        for _ in range(_READS_AT_ONCE):
            try:
                data = self._socket.recv(self._chunk)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                data = b""
            with self._owner._lock:
                begun = time_spent()
                if data:
                    self._endpoint.receive_data(data, self._clock())
                else:
                    self._is_at_eof = True
                    self._endpoint.receive_eof(self._clock())
                self._owner._progress()
                pauses = self._endpoint.wants_pause
                self._see_to_chunk(len(data), time_spent() - begun)
            # TLS may hold more than the socket shows; of a plain one select tells.
            if not data or pauses or not self._is_tls:
                return

    def _see_to_chunk(self, size: int, seconds: float) -> None:
        if seconds > _TURN:
            self._chunk = max(_LEAST_CHUNK, size // 2)
        else:
            self._chunk = min(_CHUNK, self._chunk * 2)

    def _write(self) -> bool | None:
        """Write what is there; tell whether the socket took less, or ``None`` if it is broken."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            except OSError:
                return None
            self._unsent = self._unsent[sent:]
        return False

    def _finish(self, output: Output) -> bool:
        """Do what comes after the last byte; tell whether the connection is over."""
        if output is Output.CLOSE or self._is_tls:
            return True
        if not self._is_half_closed:
            self._is_half_closed = True
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                return True
        return False

    def _select_for(self, selector: selectors.BaseSelector, before: int, wanted: int) -> None:
        if not before:
            selector.register(self._socket, wanted)
        elif not wanted:
            selector.unregister(self._socket)
        else:
            selector.modify(self._socket, wanted)
