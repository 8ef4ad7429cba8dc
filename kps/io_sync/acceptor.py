"""The thread of a server that accepts connections, and keeps the deadlines of all of them."""

import selectors
import socket
import threading
import time
from contextlib import AbstractContextManager
from typing import Protocol

from kps.io_common.logs import logger
from kps.io_common.system_errors import describe
from kps.io_sync.connection import Waker, new_selector
from kps.io_sync.runtime import Runtime
from kps.protocol.dialect.address import host_and_port

_PAUSE = 0.05  # seconds, when there are no descriptors left


class Owner(Protocol):
    """The server that accepts."""

    runtime: Runtime

    @property
    def lock(self) -> AbstractContextManager[object]: ...

    @property
    def accepts(self) -> bool:
        """With the lock held: whether connections are still accepted."""

    def tend(self, now: float) -> float | None:
        """With the lock held: do what is due; return when more is, or ``None`` at the end."""

    def serve(self, sock: socket.socket, peer: str) -> None:
        """In a thread of its own: serve one connection, to its end."""


class Acceptor:
    """Accepts until the server ends, and lives until the last connection has gone."""

    def __init__(self, owner: Owner, listeners: list[socket.socket]) -> None:
        self._owner = owner
        self._listeners = listeners
        self._waker = Waker()
        self._waits_until: float | None = None
        self._thread = threading.Thread(target=self._run, name="kps-accept", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Have the thread look. From any thread."""
        self._waker.wake()

    def wake_by(self, due: float) -> None:
        """With the lock held: have the thread look at a time, or earlier."""
        if self._waits_until is None or due < self._waits_until:
            self._waker.wake()

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread, for so long."""
        self._thread.join(timeout)

    def _run(self) -> None:
        owner, clock = self._owner, self._owner.runtime.clock
        selector = new_selector()
        selector.register(self._waker, selectors.EVENT_READ)
        for listener in self._listeners:
            listener.setblocking(False)  # what is to be accepted may be gone by then
            selector.register(listener, selectors.EVENT_READ)
        while True:
            with owner.lock:
                self._waker.reset()
                wait_until = self._waits_until = owner.tend(clock())
                if not owner.accepts:
                    self._stop_listening(selector)
            if wait_until is None:
                break
            for key, _ in selector.select(max(0.0, wait_until - clock())):
                if isinstance(key.fileobj, socket.socket):
                    self._accept(key.fileobj)
                else:
                    self._waker.drain()
        selector.close()
        self._waker.close()

    def _stop_listening(self, selector: selectors.BaseSelector) -> None:
        while self._listeners:
            listener = self._listeners.pop()
            selector.unregister(listener)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # it went away again, or there are no descriptors left
            logger.warning("cannot accept a connection: %s", describe(error))
            time.sleep(_PAUSE)  # it is still there to be accepted, and would be at once
            return
        sock.setblocking(True)
        thread = threading.Thread(
            target=self._owner.serve,
            args=(sock, host_and_port(peer[0], peer[1])),
            name="kps-connection",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            logger.warning("cannot serve a connection: %s", error)
            sock.close()
