"""The pending questions of a client to its server: one table, by name.

Every answer names its question: by the id of an ack request, a receipt, the nonce of a ping. So
a lost or late answer affects its own question only. One place ends all questions that are
pending when a connection ends.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from kps.errors import KPSError
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.members import Presence
from kps.protocol.bus.message import Message
from kps.protocol.dialect.envelope import Fields
from kps.protocol.dialect.outcome import Receipt
from kps.protocol.dialect.places import Standing
from kps.protocol.dialect.requests import Window

ACK_GRACE = 1.0
"""Seconds that the client waits beyond the timeout of an ack request: the server sends the final
answer only when the timeout is over."""

LOOK_EVERY = 0.25
"""Seconds between two looks at whether a request has left the queue. Less than the grace."""

Q = TypeVar("Q", bound="Barrier | ClientAck")


class Repeat(NamedTuple):
    """How a question is asked again, and what must then be as it was."""

    write: Callable[[Fields, float], bytes]
    """Writes the message; takes further fields, and the seconds that are left for the answer."""
    size: int
    """Bytes of the message."""
    window: Window | None
    client_id: str
    until: float
    """The time of the server until which it is sure to remember the message."""
    number: int
    """Its place among all messages with ids."""
    is_again: bool = False
    """Whether it was asked again."""


class Barrier:
    """A point in the stream of messages to the server, and whether the server has reached it."""

    __slots__ = ("error", "name", "passed", "receipt", "refusals", "repeat")

    def __init__(self, name: str) -> None:
        self.name = name
        """The nonce or receipt, which the answer repeats."""
        self.passed = False
        self.refusals: list[str] = []
        """The first errors that the server sent before it reached this point."""
        self.receipt: Receipt | None = None
        """What became of the message, if this waits for a receipt and the server gives one."""
        self.error: KPSError | None = None
        """Why the server will never reach it."""
        self.repeat: Repeat | None = None
        """How it is asked again, if its message has an id."""


class HistoryQuestion(Barrier):
    """A request for messages of the past, and what has come."""

    __slots__ = ("messages", "standing", "topic")

    def __init__(self, name: str, topic: str) -> None:
        super().__init__(name)
        self.topic = topic
        self.messages: list[Message] = []
        self.standing = Standing()


class PresenceQuestion(Barrier):
    """A question for the members of a topic, and the answer."""

    __slots__ = ("presence",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.presence: Presence | None = None


class ClientAck(AckHandle):
    """A pending ack request, and when the client gives it up.

    Its time begins when the request leaves the queue. Meanwhile we look again and again.
    """

    __slots__ = ("_look", "asked", "look_at", "position", "repeat", "size", "started",
                 "timeout")  # fmt: skip

    def __init__(
        self, ack_id: str, timeout: float, now: float, look: Callable[["ClientAck"], None]
    ) -> None:
        super().__init__(ack_id)
        self.timeout = timeout
        """Seconds that the server waits for outcomes."""
        self.asked = now
        """When the program made the request."""
        self.started = now
        """When the request was last seen in the queue."""
        self.position = 0
        """The end of the request in the stream of bytes to the server."""
        self.look_at = now + LOOK_EVERY
        self._look = look
        self.size = 0
        """Bytes that its outcomes take in memory."""
        self.repeat: Repeat | None = None
        """How it is asked again, if its message has an id."""

    def next_deadline(self) -> float | None:
        return None if self.finished else self.look_at

    def handle_timeout(self, now: float) -> None:
        if not self.finished and now >= self.look_at:
            self._look(self)


class Pending:
    """Pending questions by name, in the order in which they were asked."""

    def __init__(self) -> None:
        self._by_name: dict[str, Barrier | ClientAck] = {}
        self._barriers: dict[str, Barrier] = {}  # those among them
        self._count = 0
        self.size = 0
        """Bytes that the outcomes of all questions take in memory."""
        self.repeats = 0
        """Bytes of all messages with ids."""

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def first_barrier(self) -> Barrier | None:
        """The oldest barrier, if there is one."""
        return next(iter(self._barriers.values()), None)

    def new_name(self, kind: str) -> str:
        """Return a name that no other question of this client has."""
        self._count += 1
        return f"{kind}_{self._count}"

    def add(self, name: str, question: Barrier | ClientAck) -> None:
        """Add a question."""
        self._by_name[name] = question
        if question.repeat is not None:
            self.repeats += question.repeat.size
        if isinstance(question, Barrier):
            self._barriers[name] = question

    def find(self, name: str, kind: type[Q]) -> Q | None:
        """Return the question of that name, if it is of that kind."""
        question = self._by_name.get(name)
        return question if isinstance(question, kind) else None

    def take(self, name: str, kind: type[Q]) -> Q | None:
        """Remove and return the question of that name, if it is of that kind."""
        question = self.find(name, kind)
        if question is not None:
            del self._by_name[name]
            if question.repeat is not None:
                self.repeats -= question.repeat.size
            if isinstance(question, ClientAck):
                self.size -= question.size
            else:
                self._barriers.pop(name, None)
        return question

    def questions(self) -> list[Barrier | ClientAck]:
        """Return all questions."""
        return list(self._by_name.values())
