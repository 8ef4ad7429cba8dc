"""Carries an HTTP exchange over a connection, to our own port or by a server of ASGI."""

from collections.abc import Callable

from kps.protocol.server.state import ServerState
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.outbox import Outbox
from kps.protocol.wire.server_end import ServerEnd
from kps.protocol.wire.websocket import Closed, State


class SocketCarrier:
    """Carries one exchange, whose answer ends with the connection.

    ``changed`` is called with the former state, when a call may have changed it.
    """

    def __init__(
        self,
        state: ServerState,
        number: int,
        socket: ServerEnd,
        changed: Callable[[State], None],
    ) -> None:
        self._state = state
        self._number = number
        self._socket = socket
        self._changed = changed

    def read_body(self, receive: Callable[[bytes], None], end: Callable[[], None]) -> None:
        """Let the body come."""
        before = self._socket.state
        self._socket.read_body(receive, end, self._state.now)
        self._changed(before)

    def respond(self, response: HttpResponse) -> None:
        """Give the answer, and end the exchange."""
        before = self._socket.state
        self._socket.respond(response, self._state.now)
        self._changed(before)

    def stream(self, head: HttpResponse, outbox: Outbox) -> None:
        """Begin an answer whose bytes are those of an outbox."""
        before = self._socket.state
        self._socket.stream(head, outbox)
        self._changed(before)

    def touch(self) -> None:
        """Note that there is something in the outbox."""
        self._state.unflushed[self._number] = None

    def end_stream(self, closed: Closed) -> None:
        """End such an answer, behind what is in the outbox."""
        before = self._socket.state
        self._socket.end_stream(closed, self._state.now)
        self._changed(before)

    def abort(self) -> None:
        """Drop the connection."""
        before = self._socket.state
        self._socket.abort("it takes nothing, or a fault of the server", self._state.now)
        self.touch()
        self._changed(before)
