"""The client's end of a WebSocket, with its opening handshake."""

from collections.abc import Callable

from wsproto.connection import ConnectionType
from wsproto.events import (
    AcceptConnection,
    RejectConnection,
    Request,
)
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.outbox import control
from kps.protocol.wire.websocket import Closed, ClosedBy, WebSocket


class ClientWebSocket(WebSocket):
    """The client's end of a WebSocket connection, from its request on."""

    __slots__ = ("_handshake", "_head", "refused")

    def __init__(
        self,
        *,
        host: str,
        target: str,
        headers: list[tuple[str, str]],
        text_frame: Callable[[bytes], bytes],
        limits: ConnectionLimits,
        now: float,
    ) -> None:
        super().__init__(is_client=True, text_frame=text_frame, limits=limits, now=now)
        self.refused: int | None = None
        """The HTTP status of the server's refusal, if it refused."""
        self._head = b""
        self._handshake = H11Handshake(ConnectionType.CLIENT)
        request = Request(
            host=host,
            target=target,
            extra_headers=[(name.encode(), value.encode()) for name, value in headers],
        )
        self.outbox.push(control(self._handshake.send(request)))

    def _receive_handshake(self, data: bytes, now: float) -> None:
        received = self._head + data
        # Search exactly this many bytes, so that the result does not depend on how TCP cut them.
        room = self.limits.max_head
        head, separator, rest = received[:room].partition(b"\r\n\r\n")
        if not separator:
            self._head = received
            if len(received) >= room:
                self._refuse("the head of the answer is too large", now)
            return
        rest += received[room:]
        self._head = b""
        try:
            self._handshake.receive_data(head + separator)
            events = list(self._handshake.events())
        except (RemoteProtocolError, UnicodeError) as error:
            self._refuse(f"not a WebSocket server: {error}", now)
            return
        for event in events:
            if isinstance(event, AcceptConnection):
                self._opened(rest)
            elif isinstance(event, RejectConnection):
                self.refused = event.status_code
                self._refuse(f"refused with HTTP status {event.status_code}", now)

    def _refuse(self, reason: str, now: float) -> None:
        self._abort = True
        self._end(Closed(1006, reason, ClosedBy.FAULT), now)
