"""Connects a transport of asyncio to an endpoint of the core, for server and client."""

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Protocol, cast

from kps.io_common.forks import keep_from_children
from kps.protocol.dialect.address import host_and_port
from kps.protocol.wire.endpoint import Endpoint
from kps.protocol.wire.websocket import Output

_KEEP = Output.KEEP
_CLOSE = Output.CLOSE
_ABORT = Output.ABORT

# The transport's high-water mark. All data beyond it stays in the core's queue, which counts
# it and applies the overflow policy.
_TRANSPORT_BUFFER = 64 * 1024

# Seconds that one connection may take of a turn of the loop. uvloop reads up to 32 times per
# turn, which can be millions of empty frames.
_TURN = 0.01

# Seconds of a read that a step may follow at once.
_SHORT = 0.0005


class Owner(Protocol):
    """The client or server that owns connections."""

    is_forked: bool

    def _attach(self, connection: "Connection", peer: str) -> Endpoint:
        """Return the endpoint for a new transport to ``peer``."""

    def _detach(self, connection: "Connection") -> None:
        """Remove a connection whose transport is gone."""

    def has_read(self) -> None:
        """Take a step after a read, now or at the end of the turn."""

    def progress(self) -> None:
        """Take a step at the end of the turn."""

    def _touch(self, connection: "Connection") -> None:
        """Flush a connection in the next step, because its transport is ready now."""


class Connection(asyncio.Protocol):
    """Carries bytes between a transport and an endpoint, and decides nothing."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_endpoint",
        "_is_gone",
        "_is_half_closed",
        "_is_reading",
        "_is_resting",
        "_is_tls",
        "_is_writable",
        "_loop",
        "_owner",
        "_stopwatch",
        "_transport",
        "_unwritten",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: Owner,
        clock: Callable[[], float] | None = None,
        stopwatch: Callable[[], float] = monotonic,
    ) -> None:
        self._loop = loop
        self._clock = clock or loop.time
        self._stopwatch = stopwatch
        self._owner = owner
        self._endpoint: Endpoint
        self._transport: asyncio.Transport
        self._is_writable = True
        self._is_reading = True
        self._is_resting = False
        self._is_half_closed = False
        self._is_tls = False
        self._unwritten = 0
        """Bytes that the transport had not written when we dropped it."""
        self._is_gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_TRANSPORT_BUFFER)
        self._is_tls = transport.get_extra_info("ssl_object") is not None
        try:
            self._endpoint = self._owner._attach(self, self.peer_of(transport))
        except BaseException:
            self._is_gone = True  # nobody cares for this transport
            self._transport.abort()
            raise
        keep_from_children(self)
        self._owner.progress()

    def peer_of(self, transport: asyncio.BaseTransport) -> str:
        """Return the address of the client, ``host:port``."""
        return _name(transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        begun = self._stopwatch()
        try:
            self._endpoint.receive_data(data, self._clock())
        except BaseException:  # out of a signal handler, for instance: the stream has a hole
            self.abort()
            raise
        took = self._stopwatch() - begun
        if took > _TURN:
            self._is_resting = True  # let other connections have their turn
            self._loop.call_soon(self._rested)
            self._loop.call_soon(self._rested)  # a signal handler may raise out of the first call
        # At once, because uvloop may read many times in one turn.
        if not self._is_reading or self._is_resting or self._endpoint.wants_pause:
            self._update_reading()
        if took < _SHORT:
            self._owner.has_read()
        else:
            self._owner.progress()

    def eof_received(self) -> bool:
        if self._owner.is_forked:
            return self._leave()
        self._endpoint.receive_eof(self._clock(), self._transport.get_write_buffer_size())
        self._owner.progress()
        return not self._is_tls  # keep writing the queue; TLS does not allow that

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self._is_writable = False
        try:
            self._endpoint.connection_lost(self._clock(), self._unwritten)
        except BaseException:  # out of a signal handler, for instance; the loop does not call again
            self._endpoint.connection_lost(self._clock(), self._unwritten)
            raise
        finally:
            self._owner._detach(self)
            self._owner.progress()

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        if not self._owner.is_forked:
            self._owner._touch(self)  # not at once: very many may resume in one turn
            self._owner.progress()

    def abort(self) -> None:
        """Drop the transport now."""
        # When it is called again, the transport has already dropped them.
        self._unwritten = max(self._unwritten, self._transport.get_write_buffer_size())
        self._transport.abort()

    def drop(self) -> None:
        """Drop the transport now, and count on no further call of the loop."""
        self.abort()
        self.connection_lost(None)

    def fileno(self) -> int:
        """Return the descriptor of the socket, or -1 when there is none any more."""
        sock = None if self._is_gone else self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def flush(self) -> int:
        """Write pending data while the transport takes it; then close or resume as needed.

        Return the bytes that it wrote.
        """
        endpoint = self._endpoint
        written = 0
        transport = self._transport
        if transport.is_closing():
            if endpoint.output is _ABORT:  # a closing transport waits for its peer
                self.abort()
                self._loop.call_soon(self.connection_lost, None)  # the loop may have done, in vain
            return 0
        try:
            while self._is_writable and (data := endpoint.data_to_send()):
                transport.write(data)
                written += len(data)
        except BaseException:  # out of a signal handler: what was taken is lost
            self.abort()
            raise
        output = endpoint.output
        if output is not _KEEP:
            if output is _ABORT:
                self.abort()
            elif self._is_writable:
                self._finish(output)
        if not self._is_reading:
            self._update_reading()
        return written

    def _leave(self) -> bool:
        """In a forked child: end the child's copy of the transport, whose socket is dead."""
        for _ in range(2):  # the first may fail, as the loop's list has no such socket
            with contextlib.suppress(OSError):
                self._transport.abort()
        return False

    def _rested(self) -> None:
        self._is_resting = False
        if not (self._owner.is_forked or self._transport.is_closing()):
            self._update_reading()

    def _update_reading(self) -> None:
        if self._is_reading == (self._is_resting or self._endpoint.wants_pause):
            self._is_reading = not self._is_reading
            if self._is_reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
            self._endpoint.set_reading(self._is_reading, self._clock())

    def _finish(self, output: Output) -> None:
        transport = self._transport
        if not self._is_reading:
            self._is_reading = True
            transport.resume_reading()  # to see the peer's end of file
        if output is _CLOSE or not transport.can_write_eof():
            transport.close()
        elif not self._is_half_closed:
            self._is_half_closed = True
            try:
                transport.write_eof()
            except OSError:  # the peer has already closed its socket
                self.abort()


class OperatorConnection(Connection):
    """A connection to the port for operators."""

    __slots__ = ()


def _name(peer: object) -> str:
    """Return ``host:port`` of a socket's peer."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        return host_and_port(str(peer[0]), peer[1])
    return str(peer or "")
