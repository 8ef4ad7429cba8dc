"""What the client has settled with the server about each topic that its program subscribes to.

The program's subscriptions last; what the server knows of them lasts as long as a connection::

    WAITING --ask--> ASKED --confirmed--> LIVE
                     ASKED --refused for now--> REFUSED --ask--> ASKED
    LIVE, ASKED --leave--> LEAVING --confirmed--> (none)
    LEAVING --ask--> ASKED

A lost connection takes every topic to WAITING, and those that are LEAVING out of the table. The
server answers questions about one topic in their order, so the last answer is the one that counts.
"""

from collections.abc import Callable
from enum import Enum, auto

from kps.errors import ServerError
from kps.protocol.client.reconnect import Backoff
from kps.protocol.client.state import ClientState
from kps.protocol.dialect import level1
from kps.protocol.dialect.codes import LIMIT_REACHED, TEMPORARY

# How long to wait before asking again for topics that were refused for now.
_RETRIES = Backoff(first=0.5, factor=2.0, longest=30.0, jitter=0.5)

# How long an answer may take before the client takes it that none will come: a server on level 1
# may have refused the topic, and its errors name nothing.
_PATIENCE = 10.0


class TopicState(Enum):
    """How far the client and the server are with one topic."""

    WAITING = auto()
    """There is no connection to ask on."""
    ASKED = auto()
    """The server has not answered yet."""
    LIVE = auto()
    """The server has confirmed the subscription."""
    REFUSED = auto()
    """The server refused it for now; the client will ask again."""
    LEAVING = auto()
    """The program wants it no more, and the server has not confirmed that yet."""


class Verdict(Enum):
    """What an answer of the server means for a topic."""

    PENDING = auto()
    """Nothing yet: another answer is to come, or nobody waits for it."""
    SETTLED = auto()
    """The server has answered all that was asked."""
    RETRY = auto()
    """The server refused it for now, and the client asks again."""
    FINAL = auto()
    """The server refused it for good."""


class _Topic:
    __slots__ = ("answer_by", "has_been_live", "is_reported", "joins", "leaves", "state")

    def __init__(self) -> None:
        self.state = TopicState.WAITING
        self.joins = 0  # questions to subscribe that have no answer yet
        self.leaves = 0  # and to unsubscribe
        self.answer_by = 0.0  # when the client gives up waiting for the answers
        self.has_been_live = False
        self.is_reported = False  # whether a refusal on this connection was told to the program

    @property
    def open_questions(self) -> int:
        return self.joins + self.leaves

    def answered(self, *, joins: bool) -> bool:
        """Count an answer; tell whether one of that kind was to come."""
        if joins and self.joins:
            self.joins -= 1
        elif not joins and self.leaves:
            self.leaves -= 1
        else:
            return False
        return True


class Topics:
    """Asks the server for topics, and again where it refuses them for now.

    ``chance()`` returns a number in [0, 1).
    """

    def __init__(self, state: ClientState, chance: Callable[[], float]) -> None:
        self._state = state
        self._chance = chance
        self._topics: dict[str, _Topic] = {}
        self._retry_at: float | None = None
        self._look_at: float | None = None  # when to look for questions without an answer
        self._attempt = 0

    def __len__(self) -> int:
        return len(self._topics)

    def is_settled(self, topic: str) -> bool:
        """Whether the server has answered all that was asked about a topic."""
        found = self._topics.get(topic)
        return self._state.ready and (found is None or found.state is TopicState.LIVE)

    @property
    def open_questions(self) -> int:
        """Answers about topics that are still to come."""
        return sum(found.open_questions for found in self._topics.values())

    def want(self, topic: str) -> None:
        """Subscribe to a topic, now or when there is a connection."""
        found = self._topics.setdefault(topic, _Topic())
        if found.state in (TopicState.WAITING, TopicState.LEAVING) and self._state.ready:
            self._ask(topic, found)

    def leave(self, topic: str) -> None:
        """Unsubscribe from a topic."""
        found = self._topics.get(topic)
        if found is None:
            return
        if self._state.ready and found.state is not TopicState.WAITING:
            found.state = TopicState.LEAVING
            found.has_been_live = False
            found.leaves += 1
            self._send(found, level1.unsubscribe(topic, self._state.id))
        else:
            del self._topics[topic]

    def connected(self) -> None:
        """Ask for all topics, on a new connection."""
        for topic, found in self._topics.items():
            self._ask(topic, found)

    def disconnected(self) -> None:
        """Note that the server knows of no topic any more."""
        self._retry_at = self._look_at = None
        self._attempt = 0
        self._state.deadlines.cancel(self)
        for topic, found in list(self._topics.items()):
            if found.state is TopicState.LEAVING:
                del self._topics[topic]
            else:
                found.state = TopicState.WAITING
                found.joins = found.leaves = 0
                found.is_reported = False

    def confirmed(self, topic: str, *, joins: bool) -> Verdict:
        """Note that the server has done what it was asked about a topic.

        ``joins`` tells whether that was to subscribe, or to unsubscribe.
        """
        found = self._topics.get(topic)
        if found is None:
            return Verdict.PENDING
        is_late = joins and found.state is TopicState.REFUSED
        if not (found.answered(joins=joins) or is_late) or found.open_questions:
            return Verdict.PENDING
        if found.state is TopicState.LEAVING:
            del self._topics[topic]
        else:
            found.state = TopicState.LIVE
            found.has_been_live = True
            self._attempt = 0
        return Verdict.SETTLED

    def refused(self, topic: str, error: ServerError) -> tuple[Verdict, bool]:
        """Note that the server refused what it was asked about a topic.

        The second value tells whether the program has been told of a refusal before.
        """
        found = self._topics.get(topic)
        if found is None or not found.answered(joins=error.request == "subscribe"):
            return Verdict.PENDING, False
        if found.open_questions:
            return Verdict.PENDING, False
        was_reported, found.is_reported = found.is_reported, True
        may_retry = error.code in TEMPORARY
        if found.state is TopicState.LEAVING:
            if not may_retry:
                del self._topics[topic]
                return Verdict.SETTLED, was_reported
        elif not may_retry or (error.code == LIMIT_REACHED and not found.has_been_live):
            del self._topics[topic]
            return Verdict.FINAL, was_reported
        else:
            found.state = TopicState.REFUSED
        self._retry_later()
        return Verdict.RETRY, was_reported

    def next_deadline(self) -> float | None:
        if self._retry_at is None or self._look_at is None:
            return self._look_at if self._retry_at is None else self._retry_at
        return min(self._retry_at, self._look_at)

    def handle_timeout(self, now: float) -> None:
        """Ask again for all topics that were refused for now, or about which no answer came."""
        if self._look_at is not None and now >= self._look_at:
            self._give_up_waiting(now)
        if self._retry_at is None or now < self._retry_at:
            return
        self._retry_at = None
        for topic, found in list(self._topics.items()):
            if found.state is TopicState.REFUSED:
                self._ask(topic, found)
            elif found.state is TopicState.LEAVING and not found.open_questions:
                found.leaves += 1
                self._send(found, level1.unsubscribe(topic, self._state.id))

    def _give_up_waiting(self, now: float) -> None:
        """Count questions that have no answer in time as refused for now."""
        waiting = [found for found in self._topics.values() if found.open_questions]
        late = [found for found in waiting if now >= found.answer_by]
        for found in late:
            found.joins = found.leaves = 0
            if found.state is TopicState.ASKED:
                found.state = TopicState.REFUSED
        if late:
            self._retry_later()
        self._look_at = min(
            (found.answer_by for found in waiting if found.open_questions), default=None
        )

    def _retry_later(self) -> None:
        if self._retry_at is None:
            self._retry_at = self._state.now + _RETRIES.delay(self._attempt, self._chance())
            self._attempt += 1
            self._state.deadlines.schedule(self)

    def _ask(self, topic: str, found: _Topic) -> None:
        found.state = TopicState.ASKED
        found.joins += 1
        self._send(found, level1.subscribe(topic, self._state.id))

    def _send(self, found: _Topic, message: bytes) -> None:
        found.answer_by = self._state.now + _PATIENCE
        if self._look_at is None:
            self._look_at = found.answer_by
            self._state.deadlines.schedule(self)
        link = self._state.link
        assert link is not None
        # As many as the program's own subscriptions, which bounds them.
        link.outgoing.send_anyway(message)
