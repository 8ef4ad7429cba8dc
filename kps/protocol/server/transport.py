"""Our WebSocket as the transport of a session."""

from kps.protocol.dialect.server import ServerLevel1
from kps.protocol.server.encodings import FRAMES, FrameEncoding
from kps.protocol.server.over_socket import OverSocket
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.outbox import Entry, Kind, Push
from kps.protocol.wire.websocket import State

_OPEN = State.OPEN
_REQUEST = State.REQUEST
_QUEUED = Push.QUEUED
_OVERFLOW = Push.OVERFLOW
_REPLY = Kind.REPLY


class WebSocketTransport(OverSocket):
    """Queues what a session sends, and tells the hub that there is something to write."""

    __slots__ = ()

    @property
    def host(self) -> str:
        """The host by which the client reached the server."""
        return self._socket.host

    @property
    def queued_bytes(self) -> int:
        """Bytes that are pending."""
        return self._socket.outbox.pending_bytes

    @property
    def queued_messages(self) -> int:
        """Messages that are pending."""
        return self._socket.outbox.pending_messages

    @property
    def dropped(self) -> int:
        """Messages for this client that were dropped: it read too slowly, or was disconnected."""
        return self._socket.outbox.dropped

    def send(self, message: bytes, kind: Kind) -> bool:
        """Queue a message that no policy may drop; tell whether it had room."""
        # As ``WebSocket.send`` does, whose call would be a tenth of the cost of a reply.
        socket = self._socket
        if socket.state is not _OPEN:
            return False
        if socket.outbox.send(message, kind) is _QUEUED:
            self._state.unflushed[self._number] = None
            if kind is _REPLY:
                self._look_at_backlog()
            return True
        socket.overflowed(1, self._state.now)
        self._changed(_OPEN)
        return False

    def queue(self, entry: Entry) -> bool:
        """Queue publications; tell whether they had room or the policy made room."""
        pushed = self._socket.queue(entry, self._state.now)
        if pushed is _OVERFLOW:
            self._changed(_OPEN)
        else:
            self._state.unflushed[self._number] = None
        return pushed is _QUEUED

    def queue_whole(self, entry: Entry) -> bool:
        """Queue an entry if all its frames have room, else do nothing; tell which."""
        socket = self._socket
        if socket.state is _OPEN and socket.outbox.push_whole(entry):
            self._state.unflushed[self._number] = None
            if entry.kind is _REPLY:
                self._look_at_backlog()
            return True
        return False

    def _look_at_backlog(self) -> None:
        """Hear the client no further while it does not read the replies to it."""
        state = self._state
        if self._socket.outbox.pending_replies > state.limits.backlog_bytes:
            state.turns.stop(self._number)

    def speak(self, dialect: ServerLevel1) -> FrameEncoding:
        """Switch to a dialect; return the encoding in which it then takes publications."""
        socket, state = self._socket, self._state
        socket.outbox.speak(dialect.join)
        socket.reader.max_message = state.limits.max_message
        return (state.compressed if socket.deflates else FRAMES)[dialect]

    def accept(self) -> None:
        """Accept the client, which may then send messages."""
        self._act(self._socket.accept)

    def refuse(self, response: HttpResponse, patience: float | None = None) -> None:
        """Refuse the client before it is accepted. It has ``patience`` seconds to read that."""
        self._act(self._socket.respond, response, self._state.now, patience)

    def answer(self, response: HttpResponse) -> None:
        """Answer a plain request, unless its connection has ended while that was found."""
        if self._socket.state is _REQUEST:
            self.refuse(response)

    def close(self, code: int, reason: str, grace: float | None = None) -> None:
        """Start the closing handshake, behind the queued data. It has ``grace`` seconds."""
        self._act(self._socket.close, code, reason, self._state.now, grace)

    def abort(self) -> None:
        """Drop the connection, because a fault of the server has struck it."""
        self._state.unflushed[self._number] = None
        self._act(self._socket.abort, "a fault of the server", self._state.now)

    def fail(self, code: int, reason: str) -> None:
        """Close because the client is at fault, and ignore its further input."""
        self._act(self._socket.fail, code, reason, self._state.now)
