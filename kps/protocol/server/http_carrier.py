"""Carries an HTTP exchange over a connection, to our own port or by a server of ASGI."""

from collections.abc import Callable

from kps.protocol.server.over_socket import OverSocket
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.outbox import Outbox
from kps.protocol.wire.websocket import Closed


class SocketCarrier(OverSocket):
    """Carries one exchange, whose answer ends with the connection."""

    __slots__ = ()

    def read_body(self, receive: Callable[[bytes], None], end: Callable[[], None]) -> None:
        """Let the body come."""
        self._act(self._socket.read_body, receive, end, self._state.now)

    def respond(self, response: HttpResponse) -> None:
        """Give the answer, and end the exchange."""
        self._act(self._socket.respond, response, self._state.now)

    def stream(self, head: HttpResponse, outbox: Outbox) -> None:
        """Begin an answer whose bytes are those of an outbox."""
        self._act(self._socket.stream, head, outbox)

    def touch(self) -> None:
        """Note that there is something in the outbox."""
        self._state.unflushed[self._number] = None

    def end_stream(self, closed: Closed) -> None:
        """End such an answer, behind what is in the outbox."""
        self._act(self._socket.end_stream, closed, self._state.now)

    def abort(self) -> None:
        """Drop the connection."""
        self.touch()
        reason = "it takes nothing, or a fault of the server"
        self._act(self._socket.abort, reason, self._state.now)
