"""Asks all other nodes for something, and waits for what they tell, but not for long."""

from collections.abc import Callable
from itertools import count

from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.timers import Deadlines

Told = dict[str, bytes]
"""What nodes have told, by their names."""

Reply = Callable[[bytes], object]
"""Takes an answer to a node that asks."""


class _Question:
    """A question to which not all nodes have an answer yet."""

    def __init__(self, awaited: set[str], due: float, done: Callable[[Told], object]) -> None:
        self.awaited = awaited
        self.due = due
        self.done = done
        self.told: Told = {}


class Survey:
    """The questions of this node, and its answers to those of others.

    ``now`` tells the time. ``failed`` is called with a fault in an answer, which then is empty, and
    with one in what is done with the answers of others.
    """

    def __init__(
        self,
        nodes: Nodes,
        deadlines: Deadlines,
        now: Callable[[], float],
        failed: Callable[[Exception], object],
    ) -> None:
        self.answers: dict[str, Callable[..., None]] = {}
        """Answers of this node, by what is asked. Each gets a :data:`Reply`, which it calls at once
        or later, and what the question says about that."""
        self._nodes = nodes
        self._deadlines = deadlines
        self._now = now
        self._failed = failed
        self._numbers = count(1)
        self._questions: dict[int, _Question] = {}

    def ask(
        self, what: str, *about: object, patience: float, done: Callable[[Told], object]
    ) -> None:
        """Ask all nodes that can be reached; call ``done`` with what they have told.

        That is when all have told something, or after ``patience`` seconds, or at once if there is
        no other node. A node that falls meanwhile tells nothing.
        """
        others = self._nodes.others
        if not others:
            done({})
            return
        number = next(self._numbers)
        self._questions[number] = _Question(set(others), self._now() + patience, done)
        self._nodes.tell(Kind.SURVEY, number, what, *about)
        self._deadlines.schedule(self)

    def asked(self, node: Node, number: int, what: str, *about: object) -> None:
        """Answer a question of another node."""

        def reply(answer: bytes) -> None:
            if self._nodes.others.get(node.id) is node:  # it may have fallen meanwhile
                node.send(Kind.SURVEYED, number, payload=answer)

        tell = self.answers.get(what)
        if tell is None:
            reply(b"")
            return
        try:
            tell(reply, *about)
        except Exception as error:  # ours, or of what the program shows of itself
            self._failed(error)
            reply(b"")

    def told(self, node: Node, answer: bytes, number: int) -> None:
        """Take an answer of another node; one that comes too late does not count."""
        question = self._questions.get(number)
        if question is not None and node.id in question.awaited:
            if answer:
                question.told[node.id] = answer
            self._await_no_more(number, node.id)

    def node_went(self, node: str) -> None:
        """Wait for a node no longer."""
        for number in list(self._questions):
            self._await_no_more(number, node)

    def _await_no_more(self, number: int, node: str) -> None:
        question = self._questions[number]
        question.awaited.discard(node)
        if not question.awaited:
            self._conclude(number)

    def _conclude(self, number: int) -> None:
        question = self._questions.pop(number)
        try:
            question.done(question.told)
        except Exception as error:  # ours: it must not end the link over which the last word came
            self._failed(error)

    # -- time -------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        return min((question.due for question in self._questions.values()), default=None)

    def handle_timeout(self, now: float) -> None:
        """Wait no longer for nodes that say nothing."""
        for number in [one for one, question in self._questions.items() if question.due <= now]:
            self._conclude(number)
