"""One connection of a client: the bytes of one transport, and what waits to be written."""

from typing import TYPE_CHECKING

from kps.errors import MessageTooLarge
from kps.protocol import level2
from kps.protocol.frames import Masker
from kps.protocol.limits import Overflow
from kps.protocol.outbox import Droppable, Push
from kps.protocol.websocket import ClientWebSocket, ClosedBy, Output, State

if TYPE_CHECKING:
    from kps.protocol.client_session import ClientSession

# The largest message that is formed of several publications: enough to make what is done
# once for all of them cheap.
_LARGEST_BATCH = 64 * 1024
_AROUND = 32  # bytes of a frame beside head and payloads, at most


class Batch:
    """Publications on one topic that will leave in one message."""

    __slots__ = ("head", "payloads", "size", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.head = level2.publish_head(topic)
        self.payloads: list[bytes] = []
        self.size = len(self.head) + _AROUND
        """Bytes that it will have as a frame, at most."""


class BatchFrame(Droppable):
    """A batch that has become a frame; what is kept for another connection is taken from it."""

    batch: Batch


class ClientLink:
    """One connection of a client session."""

    def __init__(self, session: "ClientSession", masker: Masker, now: float) -> None:
        config = session.config
        self.registered = False
        self.level = 1
        """Of the protocol; settled by the first pong."""
        self.max_message: int | None = None
        """The largest message that the server accepts, in bytes, if it has said so."""
        self._session = session
        self._masker = masker
        self._batch: Batch | None = None
        self._greeted = False
        self._reported = False
        self._gone = False
        self._register_by: float | None = None
        self._connection = ClientWebSocket(
            host=config.host,
            target=config.target,
            headers=list(config.headers),
            limits=config.limits,
            now=now,
        )

    # -- what a driver calls --------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""
        self._seal()  # what follows may end the connection, and the batch must be found then
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
        self._connection.connection_lost(now)
        self._session._link_gone(self)

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take bytes to write."""
        self._seal()
        return self._connection.data_to_send(limit)

    @property
    def output(self) -> Output:
        """What to do with the transport once all is written."""
        return self._connection.output

    @property
    def wants_pause(self) -> bool:
        """Whether to stop reading for now."""
        return self._connection.wants_pause

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
        pending = self._connection.outbox.pending_bytes
        return pending if self._batch is None else pending + self._batch.size

    @property
    def dropped(self) -> int:
        return self._connection.outbox.dropped

    def publish(self, topic: str, payload: bytes) -> bool:
        """On level 2: queue a publication, with others of its topic if some wait.

        ``False`` when there is no room for it, and the policy is not to drop any. Raises
        ``MessageTooLarge``.
        """
        batch = self._batch
        if batch is not None:
            size = batch.size + len(payload) + 1
            if (
                batch.topic == topic
                and size <= self._largest_batch
                and self._connection.outbox.has_room(size)
            ):
                batch.payloads.append(payload)
                batch.size = size
                return True
            self._seal()
        batch = Batch(topic)
        batch.payloads.append(payload)
        batch.size += len(payload) + 1
        if self.max_message is not None and batch.size > self.max_message:
            self.check_size(level2.publish(batch.head, batch.payloads))
        if self._connection.limits.overflow is Overflow.CLOSE and not self.has_room(batch.size):
            return False
        self._batch = batch
        return True

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
        outbox = self._connection.outbox
        return not len(outbox) or outbox.has_room(size)

    def send(self, message: bytes) -> None:
        """Queue a message."""
        self.queue(self._masker.text_frame(message))

    def send_droppable(self, message: bytes) -> None:
        """Queue a message that may be dropped by a policy, or kept for another connection."""
        self.queue(Droppable(self._masker.text_frame(message)))

    def send_anyway(self, message: bytes) -> None:
        """Queue a message without regard to the limits."""
        self.queue_anyway(self._masker.text_frame(message))

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
        message = level2.publish(batch.head, batch.payloads)
        frame = BatchFrame.holding(self._masker.text_frame(message), len(batch.payloads))
        frame.batch = batch
        self.queue(frame)

    @property
    def _largest_batch(self) -> int:
        return min(_LARGEST_BATCH, self.max_message or _LARGEST_BATCH)

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
        closed = self._connection.closed
        ended = closed is not None and self._connection.state is not State.CLOSING
        if ended and not self._reported:
            assert closed is not None
            self._reported = True
            self._session._link_ended(self, closed)
        self._session._deadlines.schedule(self)
