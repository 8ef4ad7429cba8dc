"""The figures of all nodes: for operators, and for those who watch the console."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from itertools import islice
from math import inf
from typing import Any, Protocol

from kps.protocol.bus.publication import Publication
from kps.protocol.cluster.frames import read_key, write_key
from kps.protocol.cluster.nodes import Nodes
from kps.protocol.cluster.survey import Survey, Told
from kps.protocol.dialect.envelope import load, write
from kps.protocol.patterns import Scope, scope_of
from kps.protocol.server.figures import Stats
from kps.protocol.server.metrics import Figures
from kps.protocol.server.monitor import MOST, Monitor
from kps.protocol.server.state import ServerState
from kps.protocol.server.topic_figures import TopicFigures, figures_of, merged
from kps.protocol.wire.http import Answer, HttpRequest, HttpResponse

_METRICS = "metrics"
_STATS = "stats"
_PATIENCE = 1.0  # seconds that an operator waits for nodes that say nothing
_GLANCE = 0.5  # seconds that those wait who watch: there are new figures every second

_COUNTED = tuple(field.name for field in fields(Stats))
_ADDED_UP = ("client_count", "pending_acks", "waiting_tasks", "rosters", "events")


class Exporter(Protocol):
    """Has the figures of this node for operators, and writes those of all."""

    def gather(self) -> Figures:
        """Return all figures of this node."""

    def answer(self, request: HttpRequest, by_node: Mapping[str, Figures]) -> HttpResponse:
        """Answer a request with the figures of all nodes that have told theirs."""


class NodeFigures:
    """Answers requests of operators for the figures of all nodes."""

    def __init__(self, exporter: Exporter, me: str, survey: Survey) -> None:
        self._exporter = exporter
        self._me = me
        self._survey = survey
        survey.answers[_METRICS] = lambda reply: reply(_packed(exporter.gather()))

    def respond(self, request: HttpRequest, answer: Answer) -> None:
        """Answer a request, once all nodes have told their figures or it has waited for long."""
        done = partial(self._respond, request, answer)
        self._survey.ask(_METRICS, patience=_PATIENCE, done=done)

    def _respond(self, request: HttpRequest, answer: Answer, told: Told) -> None:
        by_node = {self._me: self._exporter.gather()}
        by_node |= {node: _unpacked(data) for node, data in told.items()}
        answer(self._exporter.answer(request, by_node))


def _packed(figures: Figures) -> bytes:
    """Return figures as JSON, which has no infinity."""
    return write([[*key, None if value == inf else value] for key, value in figures.items()])


def _unpacked(data: bytes) -> Figures:
    return {tuple(key): inf if value is None else value for *key, value in load(data)}


class ClusterMonitor(Monitor):
    """Publishes the figures of all nodes to those who watch on this one.

    ``known`` returns the names of all other nodes, of those too that cannot be reached.
    """

    def __init__(
        self,
        state: ServerState,
        publish: Callable[[Publication], int],
        dropped: Callable[[], int],
        *,
        nodes: Nodes,
        known: Callable[[], Iterable[str]],
        survey: Survey,
    ) -> None:
        super().__init__(state, publish, dropped)
        self._nodes = nodes
        self._known = known
        self._survey = survey
        self._totals = _Totals()
        self._begun = state.now  # when the first node began, as far as we know
        survey.answers[_STATS] = lambda reply, *about: reply(self._answer(*about))

    def _answer(self, most: int, keys: list[list[str]]) -> bytes:
        """Tell the figures of this node, with up to ``most`` clients, and of certain topics."""
        state = self._state
        topics = [list(figures_of(state, scope_of(read_key(key)))) for key in keys]
        figures = self._counts() | {"links": len(self._nodes.others)}
        return write([state.started, figures, self._clients(most), topics])

    def _look(self) -> None:
        state = self._state
        keys = [subject.key for subject in islice(state.bus.routes, MOST)]  # those of all nodes
        written = list(map(write_key, keys))
        room = MOST - min(MOST, len(state.clients))
        done = partial(self._tell_all, keys, written)
        self._survey.ask(_STATS, room, written, patience=_GLANCE, done=done)

    def _tell_all(self, keys: list[Scope], written: list[list[str]], told: Told) -> None:
        """Publish what all nodes have told."""
        if not self._is_watched:
            return
        state = self._state
        answers = {state.config.id: self._answer(MOST, written)} | told
        nodes: dict[str, dict[str, Any]] = {
            node: {"id": node, "state": "silent" if node in self._nodes.others else "down"}
            for node in self._known()
        }
        clients: list[dict[str, Any]] = []
        of_topics: list[list[TopicFigures]] = []
        for node, answer in answers.items():
            started, figures, its_clients, topics = load(answer)
            self._totals.note(node, started, figures)
            self._begun = min(self._begun, state.now - figures["uptime"])
            nodes[node] = {"id": node, "state": "up", **figures}
            clients += its_clients
            of_topics.append([TopicFigures(*one) for one in topics])
        up = [entry for entry in nodes.values() if entry["state"] == "up"]
        total = {
            "uptime": round(state.now - self._begun, 3),
            **{name: sum(one[name] for one in up) for name in _ADDED_UP},
            **self._totals.all(),
        }
        topics = [(key, merged(each)) for key, *each in zip(keys, *of_topics, strict=True)]
        shown = [(key, figures) for key, figures in topics if figures.subscribers]
        by_name = [nodes[node] for node in sorted(nodes)]
        self._tell(total, clients[:MOST], shown, nodes=by_name)


class _Totals:
    """What all nodes have counted, those included that have ended: a total never falls."""

    def __init__(self) -> None:
        self._ended: Counter[str] = Counter()
        self._latest: dict[str, tuple[float, dict[str, int]]] = {}

    def note(self, node: str, started: float, figures: Mapping[str, Any]) -> None:
        """Note what a node has counted that has ``started`` at that time of its own clock."""
        known = self._latest.get(node)
        if known is not None and known[0] != started:
            self._ended.update(known[1])
        self._latest[node] = started, {name: figures[name] for name in _COUNTED}

    def all(self) -> dict[str, int]:
        """Return the totals."""
        total = Counter(self._ended)
        for _, counted in self._latest.values():
            total.update(counted)
        return dict(total)
