"""Queues the messages that a client sends on one connection, and gathers publications."""

from collections.abc import Callable
from typing import Protocol

from kps.errors import MessageTooLarge, QueueFull
from kps.protocol.bus.given import check_topic
from kps.protocol.calls import Calls
from kps.protocol.client.batch import LARGEST_BATCH, LARGEST_ROW, Batch, Gathering, Row
from kps.protocol.cost import ENTRY
from kps.protocol.dialect import level1
from kps.protocol.dialect.client import LEVEL_1, ClientLevel1
from kps.protocol.limits import Overflow, ProgramLimits
from kps.protocol.wire.client_handshake import ClientWebSocket
from kps.protocol.wire.frames import LONGEST_HEADER, Masker, size_of_masked
from kps.protocol.wire.outbox import Entry, Kind, Push
from kps.protocol.wire.websocket import State

_DROPPABLE = Kind.DROPPABLE
_OPEN = State.OPEN
_OVERFLOW = Push.OVERFLOW


_LONG = 1024  # bytes of a payload


class Clock(Protocol):
    """The time of the latest verb of a client, the turns of its calls, and its id."""

    now: float
    calls: Calls
    id: str


class Outgoing:
    """Queues the messages that a client sends on one connection.

    ``overflowed`` is called when a message has no room, which ends the connection.
    """

    __slots__ = ("_clock", "_is_narrow", "_largest", "_limit", "_limits", "_masker", "_overflowed",
                 "_socket", "_topic", "batch", "dialect", "max_message", "sent")  # fmt: skip

    def __init__(
        self,
        socket: ClientWebSocket,
        clock: Clock,
        masker: Masker,
        limits: ProgramLimits,
        overflowed: Callable[[], None],
    ) -> None:
        self.dialect: ClientLevel1 = LEVEL_1
        """The dialect, which the first pong settles."""
        self.max_message: int | None = None
        """The largest message that the server accepts, in bytes, if its pong told."""
        self._socket = socket
        self._clock = clock
        self._masker = masker
        self._limits = limits
        self._overflowed = overflowed
        self._largest = 0  # the most bytes that need no check
        self._limit = 0  # the most that are gathered
        self._topic = ""  # that of the last publication
        self._is_narrow = limits.queue_messages <= LARGEST_ROW // ENTRY
        self.batch: Gathering | None = None
        """What further publications on its topic may join."""
        self.sent = 0
        """Number of messages sent, without those that are gathered."""

    def speak(self, dialect: ClientLevel1, max_message: int | None) -> None:
        """Switch to the dialect on which both ends have agreed."""
        self.dialect = dialect
        self.max_message = max_message
        largest = LARGEST_BATCH if dialect.has_batches else LARGEST_ROW
        self._largest = min(largest, max_message or largest, self._limits.max_brackets)
        self._limit = min(self._largest, self._limits.queue_bytes - ENTRY)
        self._socket.outbox.speak(dialect.join, max_message)

    @property
    def pending_bytes(self) -> int:
        """Bytes that are pending."""
        if self.batch is not None:
            return self.batch.waiting
        return self._socket.outbox.pending_bytes

    @property
    def end(self) -> int:
        """The end of the queue, as a position in the stream of bytes; see ``has_passed``."""
        if self.batch is not None:
            return self._socket.outbox.gone + self.batch.waiting
        return self._socket.outbox.end

    def has_passed(self, position: int) -> bool:
        """Tell whether everything up to a position was taken to be written."""
        return self._socket.outbox.gone >= position

    def has_room(self, size: int) -> bool:
        """Tell whether a message of that size has room."""
        if self.batch is not None:
            self.seal()
        return self._socket.outbox.has_room(size + LONGEST_HEADER)

    def check_size(self, message: bytes) -> None:
        """Raise ``MessageTooLarge`` for a message on which the server would close."""
        if len(message) <= self._largest:
            return
        limit = self.max_message
        if limit is not None and len(message) > limit:
            raise MessageTooLarge(
                f"the message has {len(message)} bytes, and the server takes {limit} at most"
            )
        most = self._limits.max_brackets
        if len(message) > most and message.count(b"[") + message.count(b"{") > most:
            raise MessageTooLarge(
                f"the message has more than {most} opening brackets ([ and {{), also within its "
                "texts, and servers refuse that: see max_brackets of their limits and of ours"
            )

    def publish(self, topic: object, payload: bytes) -> int:
        """Queue a publication, which others may join: ``ClientSession.publish`` adds those.

        Returns the bytes that are then pending. Raises ``InvalidArgument`` for a bad topic,
        ``MessageTooLarge``, and ``QueueFull`` unless the policy drops publications.
        """
        if self.batch is not None:
            self.seal()
        topic = check_topic(topic, self._limits)
        ahead = self._socket.outbox.pending_bytes
        batch: Gathering
        if self.dialect.has_batches:
            batch = Batch(topic, payload, ahead, self._limit)
        else:
            # Where topics alternate, or for a long payload, there is nothing to gain.
            may_be_joined = len(payload) < _LONG and (topic == self._topic or not ahead)
            self._topic = topic
            if not may_be_joined:
                return self._publish_alone(topic, payload)
            batch = Row(topic, self._clock.id, payload, ahead, self._limit)
        if batch.size > self._largest:
            self.check_size(batch.message())
        if ahead or self._is_narrow:
            self._find_room(batch)
        self.batch = batch
        if batch.size > batch.limit:
            self.seal()  # nothing can join it
        return self.pending_bytes

    def send(self, message: bytes, kind: Kind = Kind.FORWARDED) -> None:
        """Queue a message that no policy may drop."""
        self.sent += 1
        if self.batch is not None:
            self.seal()
        socket = self._socket
        # As ``WebSocket.send`` does, whose call would take a tenth of the time.
        if socket.state is _OPEN and socket.outbox.send(message, kind) is _OVERFLOW:
            socket.overflowed(1, self._clock.now)
            self._overflowed()

    def send_droppable(self, message: bytes) -> None:
        """Queue a message that a policy may drop, and that may be kept for the next connection."""
        self.sent += 1
        if self.batch is not None:
            self.seal()
        self._queue(Entry(self._socket.outbox.text_frame(message), _DROPPABLE))

    def send_anyway(self, message: bytes, kind: Kind = Kind.FORWARDED) -> None:
        """Queue a message that something else bounds, ignoring the limits."""
        self.sent += 1
        self.seal()
        if self._socket.state is _OPEN:
            outbox = self._socket.outbox
            outbox.push_anyway(Entry(outbox.text_frame(message), kind))

    def send_kept(self, message: bytes) -> None:
        """Queue a publication from the offline queue, which has its own limits."""
        self.send_anyway(message, Kind.DROPPABLE)

    def seal(self) -> None:
        """Queue the publications that are gathered, if there are some: nothing more joins them."""
        batch = self.batch
        if batch is not None:
            entry = batch.entry(self._masker)  # if a signal handler raises, nothing has happened
            self.batch = None
            self.sent += batch.count
            self._queue(entry)

    def _find_room(self, batch: Gathering) -> None:
        """Limit a batch to the room that there is.

        Raises ``QueueFull`` if there is none for its first message, unless a policy makes room.
        """
        limits, outbox = self._limits, self._socket.outbox
        self._require_room(batch.first_frame)
        batch.limit = min(batch.limit, outbox.room)
        if not self.dialect.has_batches:  # each has a frame, and counts as ``more`` at least
            frames = limits.queue_messages - outbox.pending_messages
            batch.limit = min(batch.limit, frames * batch.more)

    def _publish_alone(self, topic: str, payload: bytes) -> int:
        """Queue a publication on level 1 that none may join."""
        head, tail = level1.around_published(topic, self._clock.id)
        message = head + payload + tail
        if len(message) > self._largest:
            self.check_size(message)
        self._require_room(size_of_masked(len(message)))
        self.send_droppable(message)
        return self.pending_bytes

    def _require_room(self, frame: int) -> None:
        """Raise ``QueueFull`` if there is no room for a frame, unless a policy makes room."""
        limits = self._limits
        if limits.overflow is Overflow.CLOSE and not self._socket.outbox.has_room(frame):
            raise QueueFull("the outgoing queue is full: the network is slower than the program")

    def _queue(self, entry: Entry) -> None:
        if self._socket.queue(entry, self._clock.now) is _OVERFLOW:
            self._overflowed()
