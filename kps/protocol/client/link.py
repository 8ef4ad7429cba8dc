"""One connection of a client: the bytes of one transport, and what waits to be written."""

from typing import TYPE_CHECKING

from kps.errors import MessageTooLarge, QueueFull
from kps.protocol.bus.message import check_topic
from kps.protocol.client.batch import _LARGEST_BATCH, Batch, BatchFrame
from kps.protocol.limits import Overflow
from kps.protocol.wire.client_handshake import ClientWebSocket
from kps.protocol.wire.frames import Masker
from kps.protocol.wire.outbox import Droppable, Push
from kps.protocol.wire.websocket import ClosedBy, Output, State

if TYPE_CHECKING:
    from kps.protocol.client.session import ClientSession


class ClientLink:
    """One connection of a client session."""

    def __init__(
        self, session: "ClientSession", masker: Masker, token: str | None, now: float
    ) -> None:
        config = session.config
        headers = list(config.headers)
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        self.registered = False
        self.level = 1
        """Of the protocol; settled by the first pong."""
        self.max_message: int | None = None
        """The largest message that the server accepts, in bytes, if it has said so."""
        self._session = session
        self._batch: Batch | None = None
        self._greeted = False
        self._reported = False
        self._state = State.HANDSHAKE
        self._gone = False
        self._register_by: float | None = None
        self._connection = ClientWebSocket(
            host=config.host,
            target=config.target,
            headers=headers,
            text_frame=masker.text_frame,
            limits=config.limits,
            now=now,
        )

    # -- what a driver calls --------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""
        if self._batch is not None:
            self._seal()  # what follows may end the connection, and the batch must be found
        self._session._now = now
        frames = self._connection.receive_data(data, now)
        if not self._greeted and self._connection.state is State.OPEN:
            self._greeted = True
            self._register_by = now + self._connection.limits.handshake_timeout
            self._session._open(self)
        self._session._received(self, frames)
        self._after()

    def receive_eof(self, now: float) -> None:
        """Note that the server will send nothing more."""
        self._seal()
        self._session._now = now
        self._connection.receive_eof(now)
        self._after()

    def connection_lost(self, now: float) -> None:
        """Note that the transport is gone. May be called twice."""
        self._gone = True
        self.receive_eof(now)
        self._session._link_gone(self)
        self._connection.connection_lost(now)

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take bytes to write."""
        if self._batch is not None:
            self._seal()
        return self._connection.data_to_send(limit)

    @property
    def output(self) -> Output:
        """What to do with the transport once all is written."""
        return self._connection.output

    @property
    def wants_pause(self) -> bool:
        """Whether to stop reading for now."""
        connection = self._connection
        is_flooded = self._session.flow.is_paused and connection.state is State.OPEN
        return is_flooded or connection.wants_pause

    def next_deadline(self) -> float | None:
        due = self._connection.next_deadline()
        if due is None or self._register_by is None or self.registered:
            return due
        return min(due, self._register_by)

    def handle_timeout(self, now: float) -> None:
        self._seal()
        self._session._now = now
        self._connection.handle_timeout(now)
        if not self.registered and self._register_by is not None and now >= self._register_by:
            self._connection.abort("the server did not answer the first ping", now)
        self._after()

    # -- what the session calls -----------------------------------------------------------

    @property
    def refused(self) -> int | None:
        return self._connection.refused

    @property
    def pending_bytes(self) -> int:
        if self._batch is not None:
            return self._batch.waiting
        return self._connection.pending_bytes

    @property
    def dropped(self) -> int:
        return self._connection.outbox.dropped

    def speak(self, level: int, max_message: int | None) -> None:
        """Go on on a later level, on which both ends have agreed."""
        self.level = level
        self.max_message = max_message
        connection = self._connection
        connection.gathers = True
        if max_message is not None:
            connection.largest_array = min(connection.largest_array, max_message - 2)

    def publish(self, topic: str, payload: bytes) -> int:
        """On level 2: queue a publication, with others of its topic if some wait.

        Returns the bytes that wait then. Raises ``InvalidArgument`` for a bad topic,
        ``MessageTooLarge``, and ``QueueFull`` unless the policy is to drop something.
        """
        batch = self._batch
        if batch is not None and batch.topic == topic:
            waiting = batch.add(payload)
            if waiting:
                return waiting
        self._seal()
        batch = self._new_batch(topic, payload)
        self._batch = batch
        return batch.waiting

    def _new_batch(self, topic: str, payload: bytes) -> Batch:
        limits = self._connection.limits
        waiting = self._connection.pending_bytes
        room = limits.queue_bytes - waiting
        batch = Batch(
            check_topic(topic),
            payload,
            ahead=waiting,
            limit=min(_LARGEST_BATCH, room, self.max_message or _LARGEST_BATCH),
        )
        if self.max_message is not None and batch.size > self.max_message:
            self.check_size(batch.message())
        if limits.overflow is Overflow.CLOSE and not self.has_room(batch.size):
            raise QueueFull("the outgoing queue is full: the network is slower than the program")
        return batch

    def check_size(self, message: bytes) -> None:
        """Refuse what the server would close the connection for. Raises ``MessageTooLarge``."""
        limit = self.max_message
        if limit is not None and len(message) > limit:
            raise MessageTooLarge(
                f"the message has {len(message)} bytes, and the server takes {limit} at most"
            )

    def has_room(self, size: int) -> bool:
        """Whether a message of that size can be queued behind what waits."""
        self._seal()
        return self._connection.has_room(size)

    def send(self, message: bytes) -> None:
        """Queue a message."""
        self._seal()
        if self._connection.send(message, self._session._now) is Push.OVERFLOW:
            self._after()

    def send_droppable(self, message: bytes) -> None:
        """Queue a message that may be dropped by a policy, or kept for another connection."""
        self.queue(Droppable(self._connection.text_frame(message)))

    def send_anyway(self, message: bytes) -> None:
        """Queue a message without regard to the limits."""
        self.queue_anyway(self._connection.text_frame(message))

    def queue(self, frame: bytes) -> None:
        self._seal()
        if self._connection.queue(frame, self._session._now) is Push.OVERFLOW:
            self._after()

    def queue_anyway(self, frame: bytes) -> None:
        self._seal()
        self._connection.queue_anyway(frame)

    def _seal(self) -> None:
        """Let nothing more join the batch that waits."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        frame = BatchFrame.holding(self._connection.text_frame(batch.message()), batch.count)
        frame.batch = batch
        self.queue(frame)

    def take_unsent(self) -> list[Droppable]:
        """Take the publications that the server will not get any more.

        After the program's own ``close`` they go out before it, while there is a transport.
        """
        closed = self._connection.closed
        dropped = self._gone or self.output is Output.ABORT
        if closed is None or (closed.by is ClosedBy.LOCAL and not dropped):
            return []
        return self._connection.outbox.take_droppable()

    def close(self, now: float) -> None:
        self._seal()
        self._connection.close(1000, "", now)
        self._session._deadlines.schedule(self)

    def refuse(self, reason: str, now: float) -> None:
        self._connection.fail(1008, reason, now)

    def abandon(self, now: float) -> None:
        """Drop the connection: it is not wanted any more."""
        self._seal()
        self._connection.abort("the client was closed", now)
        self._after()

    def _after(self) -> None:
        """Tell the session once that the connection has ended, and note new deadlines."""
        state = self._connection.state
        if state is self._state:
            return
        self._state = state
        closed = self._connection.closed
        ended = closed is not None and state is not State.CLOSING
        if ended and not self._reported:
            assert closed is not None
            self._reported = True
            self._session._link_ended(self, closed)
        self._session._deadlines.schedule(self)
