"""Connects a socket to an endpoint of the core, in one thread, for server and client.

The thread that runs a connection reads its socket, closes it, and waits until it is readable or
writable, or for :meth:`Connection.wake`. The socket does not block, so a peer that does not read
cannot delay a thread that needs the core's lock.

Any thread may write, one at a time: ``_is_writing`` tells that somebody does, and changes only
with the lock held. A thread that has called the core writes with :meth:`Connection.flush`, and
holds the lock meanwhile; so the connection's own thread need not wake up. What the socket does
not take at once is left to the connection's thread, which writes it, and whatever came meanwhile,
without the lock. TLS is left to it altogether, because one thread at a time may use it.
"""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from math import inf
from threading import get_ident
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
_WRITTEN_AT_ONCE = 64 * 1024  # bytes, with the lock held

# Bytes that are read at once, and more if that many came. The memory for more would come from the
# system for each read, and go back to it.
_USUAL_CHUNK = 64 * 1024

# Seconds that a connection may hold the lock to handle one chunk. If a chunk takes longer, for
# instance because it is full of empty frames, the connection reads smaller ones, down to
# ``_LEAST_CHUNK``.
_TURN = 0.01
_LEAST_CHUNK = 16 * 1024

clock = time.monotonic
"""The clock of this driver."""

time_spent = time.thread_time
"""The processor time of this thread."""


Ready = list[tuple[selectors.SelectorKey, int]]
"""What a selector reports: sockets, and for which events they are ready."""


def select(selector: selectors.BaseSelector, timeout: float) -> Ready:
    """Wait until sockets are ready, for up to ``timeout`` seconds."""
    return selector.select(timeout)


class Owner(Protocol):
    """The client or server that owns connections."""

    @property
    def _lock(self) -> contextlib.AbstractContextManager[object]: ...

    def progress(self) -> None:
        """With the lock held: handle events and wake threads, after a call into the core."""

    def has_read(self) -> None:
        """With the lock held: do the same after a read, and write to other connections."""

    def run_inline(self) -> None:
        """Without the lock: call the program's inline callbacks."""

    def about_to_wait(self) -> float | None:
        """With the lock held: do what is due before the thread waits; return its deadline."""

    def next_deadline(self) -> float | None:
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
        select: Callable[[selectors.BaseSelector, float], Ready] = select,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._endpoint = endpoint
        self._owner = owner
        self._clock = clock
        self._select = select
        self._waker = Waker()
        self._data = b""  # what was taken to be written
        self._sent: list[int] = []  # the parts of it that the socket has taken
        self._is_writing = False
        self._is_reading = False
        self._waits_until = inf
        self._chunk = _USUAL_CHUNK
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
        if get_ident() != self._thread_id:
            self._waker.wake()

    def flush(self) -> int:
        """With the lock held: write what is pending and the socket takes; return how many bytes.

        The thread does everything else that is to be done.
        """
        if get_ident() == self._thread_id:
            return 0  # it is about to do so
        if self._is_writing or self._is_tls or not self._is_reading:
            self._waker.wake()
            return 0
        endpoint = self._endpoint
        self._is_writing = True  # also for a signal handler within this
        written = 0
        while written < _WRITTEN_AT_ONCE:
            try:
                data = endpoint.data_to_send(_WRITTEN_AT_ONCE)
            except BaseException:  # out of a signal handler: what was taken is lost
                self.abort()
                raise
            self._data, self._sent = data, []
            if not data:
                self._is_writing = False
                break
            try:
                self._write()
            except OSError:
                break  # the thread will meet it again
            except BaseException:
                self._waker.wake()
                raise
            written += len(data)
            if self._left():
                break
        due = self._owner.next_deadline()
        if (
            self._is_writing
            or endpoint.wants_pause
            or endpoint.output is not _KEEP
            or (due is not None and due < self._waits_until)
        ):
            self._waker.wake()
        return written

    def abort(self) -> None:
        """Drop the transport soon. Any thread may call this."""
        self._is_aborted = True
        self._waker.wake()

    def run(self) -> None:
        """Carry bytes in the calling thread until the connection ends."""
        self._thread_id = get_ident()
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
            with self._owner._lock:
                self._is_writing = True  # for good
            with contextlib.suppress(OSError):
                self._socket.close()
            selector.close()
            with self._owner._lock:
                self._endpoint.connection_lost(self._clock(), self._left())
                self._owner.progress()
            self._waker.close()

    def _step(self) -> int | None:
        """Write what the socket takes; return the events to wait for, or ``None`` at the end."""
        endpoint, owner = self._endpoint, self._owner
        with owner._lock:
            if self._waker.reset():
                owner.progress()
            if not self._left():
                self._take()
            writes = self._is_writing  # if not, other threads may write from here on
            output = endpoint.output
            pauses = endpoint.wants_pause
        if output is _ABORT or self._is_aborted:
            return None
        if writes:
            try:
                while self._left() and self._write():
                    pass
            except OSError:
                return None
            if not self._left():
                with owner._lock:
                    self._take()
                    writes = self._is_writing
                    output = endpoint.output
        if not writes and output is not _KEEP and self._finish(output):
            return None
        reads = not self._is_at_eof and not (pauses and output is _KEEP)
        return (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)

    def _tell_reading(self, is_reading: bool) -> None:
        with self._owner._lock:
            self._is_reading = is_reading
            self._endpoint.set_reading(is_reading, self._clock())
            self._owner.progress()

    def _left(self) -> int:
        """Return how many bytes were taken and are still to be written."""
        return len(self._data) - sum(self._sent)

    def _take(self) -> None:
        """In the thread, with the lock held: take what to write next, if there is anything."""
        self._data, self._sent = self._endpoint.data_to_send(_CHUNK), []
        self._is_writing = bool(self._data)
        if self._data:
            self._owner.progress()  # callers may wait for room

    def _write(self) -> bool:
        """Write what is left of what was taken; tell whether the socket takes anything now.

        Raises :class:`OSError` if the connection is broken.
        """
        left = self._left()
        part = self._data if left == len(self._data) else memoryview(self._data)[-left:]
        try:
            # No exception out of a signal handler comes in between the write and the note of it:
            # this is one call.
            self._sent.extend(map(self._socket.send, (part,)))
        except self._blocked:
            return False
        return True

    def _wait(self, selector: selectors.BaseSelector) -> None:
        owner = self._owner
        with owner._lock:
            deadline = self._next_deadline()
            timeout = min(max(0.0, deadline - self._clock()), LONGEST_SELECT)
        for key, mask in self._select(selector, timeout):
            if key.fileobj is self._waker:
                self._waker.drain()
            elif mask & selectors.EVENT_READ:
                self._read()
        if deadline < inf and self._clock() >= deadline:
            with owner._lock:
                owner._handle_timeout(self._clock())
                owner.progress()

    def _next_deadline(self) -> float:
        """With the lock held: return the time at which the thread wakes up at the latest.

        When a deadline moves away, the thread still wakes up at its time. Each question has a
        deadline, and goes away long before it: the next one need not wake the thread.
        """
        due = self._owner.about_to_wait()
        if due is None:
            due = inf
        if not self._clock() < self._waits_until < due:
            self._waits_until = due
        return self._waits_until

    def _read(self) -> None:
        for _ in range(_READS_AT_ONCE):
            try:
                data = self._socket.recv(self._chunk)
            except self._blocked:
                return
            except OSError:
                data = b""
            with self._owner._lock:
                begun = time_spent() if len(data) >= _LEAST_CHUNK else 0.0
                if data:
                    self._endpoint.receive_data(data, self._clock())
                else:
                    self._is_at_eof = True
                    self._endpoint.receive_eof(self._clock(), self._left())
                self._owner.has_read()
                pauses = self._endpoint.wants_pause
                self._adapt_chunk(len(data), begun)
            self._owner.run_inline()
            # TLS may buffer data that ``select`` does not see; a plain socket does not.
            if not data or pauses or not self._is_tls:
                return

    def _adapt_chunk(self, size: int, begun: float) -> None:
        if size >= _LEAST_CHUNK and time_spent() - begun > _TURN:
            self._chunk = max(_LEAST_CHUNK, size // 2)
        elif size == self._chunk:
            self._chunk = min(_CHUNK, size * 2)
        elif size < _USUAL_CHUNK:
            self._chunk = min(self._chunk, _USUAL_CHUNK)

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
