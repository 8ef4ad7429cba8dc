"""Where connections come in, and wait until a worker takes them."""

import contextlib
import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from kps.io_common.logger import write
from kps.io_common.system_errors import describe
from kps.protocol.dialect.address import host_and_port

_AT_ONCE = 64  # connections that are accepted in one turn


class Door:
    """Listening sockets, and up to ``most`` connections of theirs that no worker has taken yet.

    ``came`` is called after each that has come.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listeners: Sequence[socket.socket],
        most: int,
        came: Callable[[], None] = lambda: None,
    ) -> None:
        self.waiting: deque[tuple[socket.socket, str]] = deque()
        """Connections, and where they come from."""
        self._selector = selector
        self._listeners = listeners
        self._most = most
        self._came = came
        self._is_full = False  # whether it accepts no more until workers take what waits
        self._is_closed = False
        for listener in listeners:
            listener.setblocking(False)
            selector.register(listener, selectors.EVENT_READ, self._accept)

    def _accept(self, listener: socket.socket) -> None:
        if self._is_full:
            return  # because of another listener that was ready in the same turn
        for _ in range(_AT_ONCE):
            if len(self.waiting) >= self._most:
                self._is_full = True
                for full in self._listeners:
                    self._selector.unregister(full)
                return
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                text = "cannot accept a connection: %(error)s"
                write(logging.WARNING, "accept_failed", text, error=describe(error))
                time.sleep(0.05)
                return
            self.waiting.append((sock, host_and_port(*address[:2])))
            self._came()

    def pass_first(self, take: Callable[[socket.socket, str], bool]) -> bool:
        """Pass the first connection on; tell whether it was taken."""
        is_taken = take(*self.waiting[0])
        if is_taken:
            self.waiting.popleft()[0].close()
        return is_taken

    def accept_again(self) -> None:
        """Accept again what had no room, if there is room."""
        if self._is_full and not self._is_closed and len(self.waiting) < self._most:
            self._is_full = False
            for listener in self._listeners:
                self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Stop listening, and close what waits."""
        self._is_closed = True
        for listener in self._listeners:
            with contextlib.suppress(KeyError):
                self._selector.unregister(listener)
            listener.close()
        for sock, _ in self.waiting:
            sock.close()
        self.waiting.clear()
