"""The thread of a server that accepts connections and keeps all their deadlines."""

import logging
import selectors
import socket
import threading
import time
from contextlib import AbstractContextManager
from typing import Protocol

from kps.io_common.listening import Listeners
from kps.io_common.system_errors import describe
from kps.io_sync.connection import LONGEST_SELECT, Waker, new_selector
from kps.io_sync.log import write
from kps.io_sync.runtime import Runtime
from kps.protocol.dialect.address import host_and_port
from kps.protocol.server.connection import WebSocketConnection

_PAUSE = 0.05  # seconds, when there are no descriptors left
_PATIENCE = 30.0  # seconds for the thread to close the sockets that listen, on a busy machine


class Owner(Protocol):
    """The server that accepts."""

    runtime: Runtime

    @property
    def lock(self) -> AbstractContextManager[object]: ...

    @property
    def accepts(self) -> bool:
        """With the lock held: whether the server still accepts connections."""

    def tend(self, now: float) -> float | None:
        """With the lock held: do what is due; return the next deadline, or ``None`` at the end."""

    def admit(self, peer: str, *, is_operator: bool) -> WebSocketConnection | None:
        """Begin a session; return ``None`` if the hub drops it at once."""

    def serve(self, sock: socket.socket, session: WebSocketConnection, is_operator: bool) -> None:
        """Serve one connection until it ends, in its own thread."""

    def give_up(self, session: WebSocketConnection) -> None:
        """End a session that got no thread."""


class Acceptor:
    """Accepts connections until the server stops, and lives until the last one is gone."""

    def __init__(self, owner: Owner, listeners: Listeners) -> None:
        self._owner = owner
        self._listeners = [*listeners.bus, *listeners.operators]
        self._operators = listeners.operators
        self._waker = Waker()
        self._waits_until: float | None = None
        self._is_given_up = False
        self._is_deaf = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kps-accept", daemon=True)

    def start(self) -> None:
        """With the lock held: start the thread.

        Raises :class:`RuntimeError` if the system has no more. Whatever it raises, ``give_up``.
        """
        self._thread.start()

    def give_up(self) -> None:
        """With the lock held since before ``start``: accept nothing, because the start failed."""
        self._is_given_up = True
        if not self._thread.is_alive():
            self._waker.close()
            self._is_deaf.set()

    def wake(self) -> None:
        """Make the thread call ``tend``. Any thread may call this."""
        self._waker.wake()

    def wake_by(self, due: float) -> None:
        """With the lock held: make the thread call ``tend`` at ``due`` or earlier."""
        if self._waits_until is None or due < self._waits_until:
            self._waker.wake()

    def join(self, timeout: float) -> None:
        """Wait until nothing listens, and then up to ``timeout`` seconds for the thread to end.

        It outlives a connection that does not end. But another server may listen on the address
        as soon as this one has stopped, however late the thread gets to it.
        """
        self._is_deaf.wait(_PATIENCE)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._accept_all()
        finally:
            for listener in self._listeners:  # after a fault; otherwise there are none left
                listener.close()
            self._is_deaf.set()

    def _accept_all(self) -> None:
        owner, clock = self._owner, self._owner.runtime.clock
        selector = new_selector()
        selector.register(self._waker, selectors.EVENT_READ)
        with owner.lock:
            if self._is_given_up:
                self._listeners = []  # who started it closes them
            for listener in self._listeners:
                listener.setblocking(False)  # the client may be gone before ``accept``
                selector.register(listener, selectors.EVENT_READ)
        while not self._is_given_up:
            with owner.lock:
                self._waker.reset()
                wait_until = self._waits_until = self._tend(clock())
                if not owner.accepts:
                    self._stop_listening(selector)
            if wait_until is None:
                break
            for key, _ in selector.select(min(max(0.0, wait_until - clock()), LONGEST_SELECT)):
                if isinstance(key.fileobj, socket.socket):
                    self._accept(key.fileobj)
                else:
                    self._waker.drain()
        selector.close()
        self._waker.close()

    def _tend(self, now: float) -> float | None:
        """Let the owner do what is due. This thread alone does, so it must survive a fault."""
        try:
            return self._owner.tend(now)
        except Exception as error:
            write(logging.ERROR, "server_fault", "a fault of the server", failure=error)
            return now + _PAUSE

    def _stop_listening(self, selector: selectors.BaseSelector) -> None:
        while self._listeners:
            listener = self._listeners.pop()
            selector.unregister(listener)
            listener.close()
        self._is_deaf.set()

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # the client is gone, or no descriptors are left
            text = "cannot accept a connection: %(reason)s"
            write(logging.WARNING, "accept_failed", text, reason=describe(error))
            time.sleep(_PAUSE)  # the connection stays pending, so ``select`` returns at once
            return
        is_operator = listener in self._operators
        session = self._owner.admit(host_and_port(peer[0], peer[1]), is_operator=is_operator)
        if session is None:
            sock.close()
            return
        sock.setblocking(True)
        thread = threading.Thread(
            target=self._owner.serve,
            args=(sock, session, is_operator),
            name="kps-connection",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            text = "cannot serve a connection: %(reason)s"
            write(logging.WARNING, "connection_failed", text, reason=error)
            sock.close()
            self._owner.give_up(session)
