"""Answers questions about a cluster: each node looks at what it has (spec, 12.8)."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.cluster.survey import Survey, Told
from kps.protocol.dialect.envelope import InvalidMessage, load, write
from kps.protocol.server.desk import Desk, Parts
from kps.protocol.server.insight import Insight, Look
from kps.protocol.server.ports import Opens
from kps.protocol.server.state import ServerState

_PATIENCE = 1.0  # seconds that one who asks waits for nodes that say nothing
_ASK = "ask "  # begins what other nodes are asked


class ClusterDesk(Desk):
    """Answers questions about all nodes that tell what they know in time."""

    def __init__(
        self,
        state: ServerState,
        program: Subscriber,
        delivery: Opens,
        insight: Insight,
        *,
        survey: Survey,
    ) -> None:
        super().__init__(state, program, delivery, insight)
        self._survey = survey
        for what, look in insight.looks.items():
            survey.answers[_ASK + what] = _in_bytes(look)

    def spread(self, what: str, about: object, done: Callable[[Parts], object]) -> None:
        """Let all nodes look at what there is; call ``done`` with what they tell."""
        gathered: list[Parts] = []

        def gather(parts: Parts) -> None:
            gathered.append(parts)
            if len(gathered) == 2:  # this node, and the others
                done({**gathered[0], **gathered[1]})

        def told(answers: Told) -> None:
            gather(_readable(answers))

        self._survey.ask(_ASK + what, about, patience=_PATIENCE, done=told)
        super().spread(what, about, gather)


def _readable(answers: Told) -> Parts:
    """Read what nodes have told. One whose answer is no JSON counts as one that says nothing."""
    parts = {}
    for node, answer in answers.items():
        with suppress(InvalidMessage):
            parts[node] = load(answer)
    return parts


def _in_bytes(look: Look) -> Callable[..., None]:
    """Return a look as an answer to other nodes."""

    def answer(reply: Callable[[bytes], object], about: Any) -> None:
        look(about, lambda part: reply(write(part)))

    return answer
