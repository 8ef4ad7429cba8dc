"""Connects a socket to an endpoint of the core, in one thread, for server and client.

Only the thread that runs a connection touches its socket. The socket does not block: the thread
waits until it is readable or writable, or for :meth:`Connection.wake`. The thread holds the
core's lock only around calls into the core. So a peer that does not read cannot delay a thread
that needs the lock.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from kps.protocol.wire.endpoint import Endpoint
from kps.protocol.wire.websocket import Output

_KEEP = Output.KEEP
_CLOSE = Output.CLOSE
_ABORT = Output.ABORT

_CHUNK = 256 * 1024
LONGEST_SELECT = 24 * 3600.0
"""Seconds of one ``select`` at most: the system's call fails at numbers not far beyond."""

_READS_AT_ONCE = 16  # before the next write

# Seconds that a connection may hold the lock to handle one chunk. If a chunk takes longer, for
# instance because it is full of empty frames, the connection reads smaller ones, down to
# ``_LEAST_CHUNK``.
_TURN = 0.01
_LEAST_CHUNK = 16 * 1024

clock = time.monotonic
"""The clock of this driver."""

time_spent = time.thread_time
"""The processor time of this thread."""


class Owner(Protocol):
    """The client or server that owns connections."""

    @property
    def _lock(self) -> contextlib.AbstractContextManager[object]: ...

    def progress(self) -> None:
        """With the lock held: handle events and wake threads, after a call into the core."""

    def _deadline(self) -> float | None:
        """With the lock held: return the deadline that a connection's thread must keep, if any."""

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
        """Wake the waiting thread, or skip its next wait."""
        if not self._is_awake:
            self._is_awake = True
            try:
                self._sender.send(b"\0")
            except OSError:
                pass  # full, so the thread wakes up anyway; or closed
            except BaseException:  # out of a signal handler: the byte may not be sent
                self._is_awake = False
                raise

    def drain(self) -> None:
        """In the waiting thread: read the bytes of ``wake``, when the selector reports them."""
        with contextlib.suppress(OSError):
            self._receiver.recv(4096)

    def reset(self) -> bool:
        """In the waiting thread: tell whether it was woken, and allow the next ``wake``.

        This reads no bytes, because one may still arrive; ``drain`` does.
        """
        was_awake, self._is_awake = self._is_awake, False
        return was_awake

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()


def new_selector() -> selectors.BaseSelector:
    """Make a selector that needs no descriptor of its own, if the system has one."""
    poll: Callable[[], selectors.BaseSelector] | None = getattr(selectors, "PollSelector", None)
    return poll() if poll is not None else selectors.SelectSelector()


def _blocked_tls() -> tuple[type[OSError], ...]:
    import ssl  # as whoever made the socket has done

    return BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError


class Connection:
    """Carries bytes between a socket and an endpoint until the transport is gone."""

    def __init__(
        self,
        sock: socket.socket,
        endpoint: Endpoint,
        owner: Owner,
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
        self._is_tls = hasattr(sock, "do_handshake")  # an ``ssl.SSLSocket``
        self._blocked = _blocked_tls() if self._is_tls else (BlockingIOError,)
        self._thread_id = 0
        self._is_aborted = False

    def wake(self) -> None:
        """Make the thread check its endpoint and call ``progress``. Any thread may call this."""
        self._waker.wake()

    def wake_from_elsewhere(self) -> None:
        """As ``wake``; but the thread itself is about to check anyway, after it has the lock."""
        if threading.get_ident() != self._thread_id:
            self._waker.wake()

    def abort(self) -> None:
        """Drop the transport soon. Any thread may call this."""
        self._is_aborted = True
        self._waker.wake()

    def run(self) -> None:
        """Carry bytes in the calling thread until the connection ends."""
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
                    changed, events = wanted ^ events, wanted
                    if changed & selectors.EVENT_READ:
                        self._tell_reading(bool(wanted & selectors.EVENT_READ))
                        continue  # the reason to pause may be gone: only now we are told of that
                self._wait(selector)
        finally:
            with contextlib.suppress(OSError):
                self._socket.close()
            selector.close()
            with self._owner._lock:
                self._endpoint.connection_lost(self._clock(), len(self._unsent))
                self._owner.progress()
            self._waker.close()

    def _step(self) -> int | None:
        """Write what the socket takes; return the events to wait for, or ``None`` at the end."""
        endpoint = self._endpoint
        with self._owner._lock:
            if self._waker.reset():
                self._owner.progress()
            if not self._unsent:
                self._take_unsent()
            output = endpoint.output
            pauses = endpoint.wants_pause
        if output is _ABORT or self._is_aborted:
            return None
        is_blocked = self._write()
        if is_blocked is None:
            return None
        if not is_blocked:
            with self._owner._lock:
                self._take_unsent()
                output = endpoint.output
            if not self._unsent and output is not _KEEP and self._finish(output):
                return None
        reads = not self._is_at_eof and not (pauses and output is _KEEP)
        return (selectors.EVENT_READ if reads else 0) | (
            selectors.EVENT_WRITE if self._unsent else 0
        )

    def _tell_reading(self, is_reading: bool) -> None:
        with self._owner._lock:
            self._endpoint.set_reading(is_reading, self._clock())
            self._owner.progress()

    def _take_unsent(self) -> None:
        """With the lock held: take the next data to write, and wake callers that wait for room."""
        self._unsent = memoryview(self._endpoint.data_to_send())
        if self._unsent:
            self._owner.progress()

    def _wait(self, selector: selectors.BaseSelector) -> None:
        owner = self._owner
        with owner._lock:
            deadline = owner._deadline()
        timeout = LONGEST_SELECT
        if deadline is not None:
            timeout = min(max(0.0, deadline - self._clock()), timeout)
        for key, mask in selector.select(timeout):
            if key.fileobj is self._waker:
                self._waker.drain()
            elif mask & selectors.EVENT_READ:
                self._read()
        if deadline is not None and self._clock() >= deadline:
            with owner._lock:
                owner._handle_timeout(self._clock())
                owner.progress()

    def _read(self) -> None:
        for _ in range(_READS_AT_ONCE):
            try:
                data = self._socket.recv(self._chunk)
            except self._blocked:
                return
            except OSError:
                data = b""
            with self._owner._lock:
                begun = time_spent()
                if data:
                    self._endpoint.receive_data(data, self._clock())
                else:
                    self._is_at_eof = True
                    self._endpoint.receive_eof(self._clock(), len(self._unsent))
                self._owner.progress()
                pauses = self._endpoint.wants_pause
                self._adapt_chunk(len(data), time_spent() - begun)
            # TLS may buffer data that ``select`` does not see; a plain socket does not.
            if not data or pauses or not self._is_tls:
                return

    def _adapt_chunk(self, size: int, seconds: float) -> None:
        if seconds > _TURN:
            self._chunk = max(_LEAST_CHUNK, size // 2)
        else:
            self._chunk = min(_CHUNK, self._chunk * 2)

    def _write(self) -> bool | None:
        """Write; return whether the socket took only a part, or ``None`` if it is broken."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except self._blocked:
                return True
            except OSError:
                return None
            self._unsent = self._unsent[sent:]
        return False

    def _finish(self, output: Output) -> bool:
        """Close or half-close after the last byte; tell whether the connection has ended."""
        if output is _CLOSE or self._is_tls:
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
