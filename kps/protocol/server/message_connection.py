"""A connection of the server that another program carries: it takes and gives whole messages."""

from collections.abc import Iterator

from kps.protocol.calls import entry
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.hub import Hub
from kps.protocol.wire.controls import CLOSE_FIN, CloseReceived, close_payload, control_frame
from kps.protocol.wire.frames import text_frame
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.protocol.wire.message_socket import MessageSocket, read_written
from kps.protocol.wire.websocket import State

_BINARY_FIN = 0x82

_REQUEST = 150  # units of work (see ``turns``) of the answer to a request

_LOST = (1006, 1015)
"""Codes by which a server tells that there was no close frame."""


class MessageConnection(WebSocketConnection):
    """Carries messages between a driver and the session of one client.

    A driver calls ``begin`` first, and then looks at ``answer`` and ``is_accepted`` whenever the
    hub says that there is something to write. Once it is accepted, the driver calls
    ``receive_text``, ``receive_bytes`` and ``take``, and at the end ``peer_closed`` (if it knows
    how) and ``connection_lost``.
    """

    __slots__ = ("_message_socket",)

    def __init__(self, hub: Hub, number: int, peer: str) -> None:
        state = hub.state
        self._message_socket = MessageSocket(limits=state.limits, now=state.now, books=state.tally)
        super().__init__(
            state,
            hub.delivery,
            number,
            peer,
            routes=hub.routes,
            forget=hub.forget,
            socket=self._message_socket,
        )

    @entry
    def begin(self, request: HttpRequest, now: float) -> None:
        """Take the request of the client, unless it was turned away already."""
        state, socket = self._state, self._message_socket
        state.now = now
        if socket.state is State.HANDSHAKE:
            state.turns.left -= _REQUEST
            socket.begin(request, self._routes.respond, now)
            self._requested()

    @property
    def answer(self) -> HttpResponse | None:
        """The plain answer to the request, once it is known that it is not accepted."""
        return self._message_socket.answer

    @property
    def head(self) -> HttpResponse | None:
        """The head of the answer, if that is a stream of bytes, which ``data_to_send`` gives."""
        return self._message_socket.head

    @property
    def wants_body(self) -> bool:
        """Whether ``receive_body`` may be called: before, nobody may keep what comes."""
        return self._message_socket.wants_body

    @entry
    def receive_body(self, part: bytes, now: float, *, is_last: bool) -> None:
        """Take a part of the body of a plain request."""
        state, before = self._state, self._message_socket.state
        state.now = now
        state.stats.bytes_in += len(part)
        self._message_socket.take_body(part, is_last=is_last)
        self._changed(before)

    @property
    def is_accepted(self) -> bool:
        """Whether the request was accepted, so that messages may follow."""
        return self._message_socket.is_accepted

    def receive_text(self, message: str, now: float) -> None:
        """Take a text message."""
        # What is no text in UTF-8 is found by the reader.
        self.receive_data(text_frame(message.encode("utf-8", "surrogatepass")), now)

    def receive_bytes(self, message: bytes, now: float) -> None:
        """Take a binary message, which is read as text (spec, 2.5)."""
        self.receive_data(bytes((_BINARY_FIN,)) + text_frame(message)[1:], now)

    def peer_closed(self, code: int, reason: str, now: float) -> None:
        """Note that the peer has closed. ``connection_lost`` follows."""
        if code not in _LOST:
            payload = close_payload(code, reason)
            self.receive_data(control_frame(CLOSE_FIN, payload, text_frame), now)

    def take(self, limit: int) -> Iterator[str | CloseReceived]:
        """Take messages of up to ``limit`` bytes, or a longer one, to write; and how to close."""
        return read_written(self.data_to_send(limit))


def connect(hub: Hub, peer: str, now: float) -> MessageConnection:
    """Begin a session for a client from ``peer``, whose connection another program carries."""

    def make(number: int) -> MessageConnection:
        return MessageConnection(hub, number, peer)

    return hub.adopt(make, now)
