"""One connection of a client: carries bytes between a driver and the client."""

from typing import Protocol

from kps.protocol.calls import entry
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.outgoing import Clock, Outgoing
from kps.protocol.wire.client_handshake import ClientWebSocket
from kps.protocol.wire.frames import Masker
from kps.protocol.wire.outbox import Entry
from kps.protocol.wire.taken import Taken
from kps.protocol.wire.websocket import Closed, ClosedBy, Output, State

_OPEN = State.OPEN
_CLOSING = State.CLOSING

# Bytes that a driver takes at once while the client closes. When the peer resets the connection,
# asyncio does not tell how much of what it took was not written, and so that is not counted.
_LAST_CHUNK = 16 * 1024


class LinkOwner(Protocol):
    """The client that owns a link, as the link sees it."""

    @property
    def is_paused(self) -> bool:
        """Whether reading is paused, because the program is behind."""

    def link_opened(self, link: "ClientLink") -> None:
        """Register: the opening handshake is done."""

    def received(self, link: "ClientLink", messages: list[bytes]) -> None:
        """Handle messages of the server."""

    def link_ended(self, link: "ClientLink", closed: Closed) -> None:
        """Note that the connection has ended. Called once."""

    def link_gone(self, link: "ClientLink", lost: int) -> None:
        """Note that the transport is gone; ``lost`` messages, not counted yet, were unwritten."""

    def schedule(self, link: "ClientLink") -> None:
        """Schedule the link's new deadline."""


class ClientLink:
    """Carries bytes between a driver and a client."""

    def __init__(
        self,
        owner: LinkOwner,
        config: ClientConfig,
        clock: Clock,
        masker: Masker,
        key: bytes,
        token: str | None,
    ) -> None:
        headers = list(config.headers)
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        self.registered = False
        """Whether the client is registered on this connection."""
        self.calls = clock.calls
        self._owner = owner
        self._clock = clock
        self._state = State.HANDSHAKE
        self._has_ended = False
        self._is_gone = False
        self._register_by: float | None = None
        self._socket = ClientWebSocket(
            host=config.host,
            target=config.target,
            headers=headers,
            key=key,
            text_frame=masker.text_frame,
            limits=config.limits,
            now=clock.now,
            offers_compression=config.offers_compression,
        )
        self._taken = self._socket.outbox.taken = Taken()
        self.outgoing = Outgoing(self._socket, clock, masker, config.limits, self._note_state)
        """The messages to the server."""

    # -- called by a driver -----------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""
        owner, socket, calls = self._owner, self._socket, self.calls
        is_nested, calls.is_under_way = calls.is_under_way, True
        try:
            self._clock.now = now
            if self.outgoing.batch is not None:
                self.outgoing.seal()  # the data may end the connection, and it would be unsent
            socket.feed(data, now)
            if self._register_by is None and socket.state is _OPEN:
                self._register_by = now + socket.limits.handshake_timeout
                owner.link_opened(self)
            messages = socket.read(now)
            while messages:
                owner.received(self, messages)
                messages = socket.read(now) if socket.reader.has_more else []
            self._note_state()
        finally:
            if not is_nested:
                try:
                    if calls.waiting:
                        calls.end()
                finally:
                    calls.is_under_way = False

    @entry
    def receive_eof(self, now: float, unwritten: int = 0) -> None:
        """Note that the server will send nothing more, nor read ``unwritten`` bytes."""
        if self._socket.state is _OPEN:
            self._count_lost(unwritten)
        self.outgoing.seal()
        self._clock.now = now
        self._socket.receive_eof(now)
        self._note_state()

    @entry
    def connection_lost(self, now: float, unwritten: int = 0) -> None:
        """Note that the transport is gone. May be called twice."""
        had_ended = self._has_ended
        lost = self._count_lost(unwritten)
        self._is_gone = True
        self.receive_eof(now)
        self._owner.link_gone(self, lost if had_ended else 0)
        self._socket.connection_lost(now)

    def _count_lost(self, unwritten: int) -> int:
        """Count the messages that the driver took and could not write, once."""
        lost = self._taken.messages_in(unwritten)
        outbox = self._socket.outbox
        self._taken = outbox.taken = Taken()
        outbox.dropped += lost
        return lost

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take bytes to write."""
        outgoing, calls, outbox = self.outgoing, self.calls, self._socket.outbox
        if outgoing.batch is None and not (outbox.framed_bytes or outbox.gathered):
            return b""
        is_nested, calls.is_under_way = calls.is_under_way, True
        try:
            if outgoing.batch is not None:
                outgoing.seal()
            if self._socket.state is _CLOSING:
                limit = min(limit, _LAST_CHUNK)
            return self._socket.data_to_send(limit)
        finally:
            if not is_nested:
                try:
                    if calls.waiting:
                        calls.end()
                finally:
                    calls.is_under_way = False

    @property
    def output(self) -> Output:
        """What to do with the transport once everything is written."""
        return self._socket.output

    @property
    def wants_pause(self) -> bool:
        """Whether the driver should pause reading."""
        socket = self._socket
        return (self._owner.is_paused and socket.state is _OPEN) or socket.wants_pause

    @entry
    def set_reading(self, is_reading: bool, now: float) -> None:
        """Note that the driver paused or resumed reading."""
        self._socket.set_reading(is_reading, now)
        self._owner.schedule(self)

    def next_deadline(self) -> float | None:
        due = self._socket.next_deadline()
        if due is None or self._register_by is None or self.registered:
            return due
        return min(due, self._register_by)

    def handle_timeout(self, now: float) -> None:
        self.outgoing.seal()
        self._clock.now = now
        self._socket.handle_timeout(now)
        if not self.registered and self._register_by is not None and now >= self._register_by:
            self._socket.abort("the server did not answer the first ping", now)
        self._note_state()

    # -- called by the client ---------------------------------------------------------------

    @property
    def refused(self) -> int | None:
        """The HTTP status of the server's refusal, if it refused."""
        return self._socket.refused

    @property
    def dropped(self) -> int:
        """Messages that were dropped, by a policy or with the connection."""
        return self._socket.outbox.dropped

    def take_unsent(self) -> list[Entry]:
        """Remove and return the publications that the server will not get.

        After the program's own ``close`` there are none while the transport lives, because the
        driver still writes them.
        """
        closed = self._socket.closed
        dropped = self._is_gone or self.output is Output.ABORT
        if closed is None or (closed.by is ClosedBy.LOCAL and not dropped):
            return []
        return self._socket.outbox.take_droppable()

    def close(self, timeout: float | None) -> None:
        """Start the closing handshake, behind the queued data. A second call may shorten it."""
        self.outgoing.seal()
        self._socket.close(1000, "", self._clock.now, timeout)
        self._owner.schedule(self)

    def refuse(self, reason: str) -> None:
        """Close because the server is at fault."""
        self._socket.fail(1008, reason, self._clock.now)

    def abandon(self) -> None:
        """Drop the connection, because the client was closed."""
        self.outgoing.seal()
        self._socket.abort("the client was closed", self._clock.now)
        self._note_state()

    # -- within -----------------------------------------------------------------------------

    def _note_state(self) -> None:
        """If the state changed, schedule the deadline; tell the client once of the end."""
        state = self._socket.state
        if state is self._state:
            return
        self._state = state
        closed = self._socket.closed
        if closed is not None and state is not _CLOSING and not self._has_ended:
            self._has_ended = True
            self._owner.link_ended(self, closed)
        self._owner.schedule(self)
