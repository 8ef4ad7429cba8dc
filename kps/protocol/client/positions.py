"""Finds the question that an error answers on level 1, where errors do not name it (spec, 5.4).

A server answers in order. So an error answers our oldest question about a topic if everything
that we sent before it was answered. Otherwise we send a probe, whose answer is named: a question
that is still open when that arrives was refused.
"""

from collections import deque
from itertools import islice
from typing import NamedTuple

from kps.protocol.dialect.codes import LIMIT_REACHED, RATE_LIMITED


class Question(NamedTuple):
    """A question about a topic, and its number among all messages that we sent."""

    number: int
    topic: str
    joins: bool
    """Whether it was to subscribe, or to unsubscribe."""


class Positions:
    """The open questions about topics on one connection, in order."""

    def __init__(self) -> None:
        self.confirmed = 0
        """Publications that the server has confirmed since the last answer that we matched."""
        self.probe = ""
        """The name of the probe whose answer we wait for."""
        self._open: deque[Question] = deque()
        self._settled = 0  # all messages up to this number have been answered
        self._probe_number = 0
        self._errors: deque[str] = deque()  # the latest errors since the probe was sent
        self._probes = 0

    def begin(self, number: int) -> None:
        """Begin on a new connection, on which ``number`` messages were sent and answered."""
        self._open.clear()
        self._errors.clear()
        self._settled, self.confirmed, self.probe = number, 0, ""

    def asked(self, question: Question) -> None:
        """Note a question."""
        self._open.append(question)

    def answered(self, topic: str, *, joins: bool) -> None:
        """Note that the server confirmed a question."""
        for place, question in enumerate(islice(self._open, _FAR)):
            if question.topic == topic and question.joins == joins:
                del self._open[place]
                self._settle(question)
                return
        self._open.clear()  # the server does not answer in order: positions tell nothing

    def refused(self, error: str) -> Question | None:
        """Return the question that an error answers, if that is certain."""
        if not self._open or error.startswith(_LATE):
            return None
        first = self._open[0]
        if not self.probe and first.number == self._settled + self.confirmed + 1:
            self._open.popleft()
            self._settle(first)
            return first
        self._errors.append(error)
        if len(self._errors) > len(self._open):
            self._errors.popleft()
        return None

    @property
    def needs_probe(self) -> bool:
        """Whether an error came that may answer one of several messages."""
        return bool(self._errors) and not self.probe

    def probed(self, name: str, number: int) -> None:
        """Note that a probe was sent."""
        self.probe, self._probe_number = name, number

    def passed(self) -> list[tuple[Question, str]]:
        """Note the answer to the probe; return the refused questions with their errors."""
        refused: list[Question] = []
        while self._open and self._open[0].number < self._probe_number:
            refused.append(self._open.popleft())
        errors = list(self._errors)[-len(refused) :]
        errors = errors[:1] * (len(refused) - len(errors)) + errors
        self._errors.clear()
        self._settled, self.confirmed, self.probe = self._probe_number, 0, ""
        return list(zip(refused, errors, strict=False))

    def new_name(self, client_id: str) -> str:
        """Return a name for a probe."""
        self._probes += 1
        return f"probe_{client_id}_{self._probes}"

    def _settle(self, question: Question) -> None:
        if question.number > self._settled:
            self._settled, self.confirmed = question.number, 0


def code_of(error: str) -> str:
    """Return the code for the text of a temporary error, else ``""`` (spec, 12.6)."""
    return _CODES.get(error, "")


# Questions among which an answer is looked for. More than a few are refused before it only if the
# server refuses many in a row.
_FAR = 1000

# The outcome of ``publish_to_server`` comes later than its turn (spec, 5.4).
_LATE = "failed to relay to server"

_CODES = {
    "too many messages in too short a time": RATE_LIMITED,
    "this client has too many subscriptions": LIMIT_REACHED,
    "the server has too many topics": LIMIT_REACHED,
}
