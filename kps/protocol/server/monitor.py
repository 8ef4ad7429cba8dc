"""Publishes the server's figures on a topic, which the console shows (spec, 12.8)."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import islice
from typing import Any

from kps.protocol.access.rules import RESERVED
from kps.protocol.bus.census import audience
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.patterns import Key, Scope, scope_of
from kps.protocol.server.clients import figures
from kps.protocol.server.fitting import fitting
from kps.protocol.server.state import ServerState
from kps.protocol.server.topic_figures import TopicFigures, first_of

STATS_TOPIC = RESERVED + "stats"

MOST = 200
"""Clients, and topics, that are listed."""

_INTERVAL = 1.0  # seconds


class Monitor:
    """Publishes the figures once a second while they have a subscriber.

    ``publish`` delivers a publication; ``dropped()`` counts the messages dropped so far.
    """

    def __init__(
        self,
        state: ServerState,
        publish: Callable[[Publication], int],
        dropped: Callable[[], int],
    ) -> None:
        self._state = state
        self._publish = publish
        self._dropped = dropped
        self._due: float | None = None
        state.bus.on_join.append(self._joined)

    def _joined(self, subscriber: Subscriber, key: Key) -> None:
        scope = scope_of(key)
        is_for_it = scope == STATS_TOPIC if isinstance(scope, str) else scope.selects(STATS_TOPIC)
        if is_for_it and self._due is None:
            self._due = self._state.now
            self._state.deadlines.schedule(self)

    @property
    def _is_watched(self) -> bool:
        return any(audience(self._state.bus, STATS_TOPIC))

    def next_deadline(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        if not self._is_watched:
            self._due = None
        elif self._due is not None and now >= self._due:
            self._due = now + _INTERVAL
            self._look()

    def _look(self) -> None:
        """Find out the figures, and publish them."""
        self._tell(self._counts(), self._clients(MOST), first_of(self._state, MOST))

    def _counts(self) -> dict[str, Any]:
        """Return the figures of this server that are numbers."""
        state = self._state
        return {
            "uptime": state.uptime(),
            "client_count": len(state.clients),
            "pending_acks": state.acks.figures.pending,
            "waiting_tasks": state.acks.tasks.waiting,
            "rosters": len(state.presence),
            "events": 0 if state.journal is None else state.journal.number,
            **asdict(state.stats),
            "dropped": self._dropped(),
        }

    def _common(self) -> dict[str, Any]:
        """Return the figures that each node of a cluster knows of all."""
        state, logs = self._state, self._state.logs
        return {
            "topic_count": len(state.bus),
            "groups": state.bus.routes.groups,
            "history_topics": 0 if logs is None else len(logs),
            "history_bytes": 0 if logs is None else logs.size,
        }

    def _clients(self, most: int) -> list[dict[str, Any]]:
        """Describe up to ``most`` clients of this server."""
        state = self._state
        return [figures(client, state.now) for client in islice(state.clients.values(), most)]

    def _tell(
        self,
        counts: dict[str, Any],
        clients: list[dict[str, Any]],
        topics: Iterable[tuple[Scope, TopicFigures]],
        **more: object,
    ) -> None:
        """Publish figures."""
        state = self._state
        told = {
            "id": state.config.id,
            "version": state.config.version,
            **counts,
            **self._common(),
            "clients": clients,
            "topics": [figures.fields(key) for key, figures in topics],
            **more,
        }
        reached = self._publish(Publication(STATS_TOPIC, state.config.id, fitting(told)))
        state.stats.own_published += 1
        state.stats.own_delivered += reached
