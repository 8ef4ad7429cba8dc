"""What the client has asked the server and waits for: one table, by the names of the questions.

Every answer names its question: the id of an ack request, a receipt, the nonce of a ping. So a
lost or late answer concerns its own question only, and whatever is still open when a connection
ends is ended in one place.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from kps.errors import KPSError
from kps.protocol.bus.message import AckHandle

Q = TypeVar("Q", bound="Barrier | ClientAck")


class Barrier:
    """A point in what the client sends, and whether the server has got there."""

    __slots__ = ("delivered", "error", "name", "passed", "refusals")

    def __init__(self, name: str) -> None:
        self.name = name
        """What the answer repeats: a nonce, or a receipt."""
        self.passed = False
        self.refusals: list[str] = []
        """Errors that the server sent before it got there."""
        self.delivered: int | None = None
        """Subscribers that got the message, if it was asked for and the server tells."""
        self.error: KPSError | None = None
        """Why it never will."""


class ClientAck(AckHandle):
    """An ack request under way, with the time after which the client gives up on it."""

    __slots__ = ("_deadline", "_expire")

    def __init__(self, ack_id: str, deadline: float, expire: Callable[["ClientAck"], None]) -> None:
        super().__init__(ack_id)
        self._deadline = deadline
        self._expire = expire

    def next_deadline(self) -> float | None:
        return None if self.finished else self._deadline

    def handle_timeout(self, now: float) -> None:
        if not self.finished and now >= self._deadline:
            self._expire(self)


class Pending:
    """Open questions by name, in the order in which they were asked."""

    def __init__(self) -> None:
        self._by_name: dict[str, Barrier | ClientAck] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Barrier | ClientAck]:
        return iter(list(self._by_name.values()))

    def new_name(self, kind: str) -> str:
        """A name that no other question of this client has."""
        self._count += 1
        return f"{kind}_{self._count}"

    def add(self, name: str, question: Barrier | ClientAck) -> None:
        """Wait for the answer to a question."""
        self._by_name[name] = question

    def find(self, name: str, kind: type[Q]) -> Q | None:
        """The open question of that name, if it is of that kind."""
        question = self._by_name.get(name)
        return question if isinstance(question, kind) else None

    def take(self, name: str, kind: type[Q]) -> Q | None:
        """As ``find``; and wait for it no longer."""
        question = self.find(name, kind)
        if question is not None:
            del self._by_name[name]
        return question

    def take_all(self) -> list[Barrier | ClientAck]:
        """Wait for nothing any longer; return what was open."""
        questions = list(self._by_name.values())
        self._by_name.clear()
        return questions
