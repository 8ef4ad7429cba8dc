"""Publishes the server's figures on a topic, which the console shows (spec, 12.8)."""

from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from typing import Any

from kps.protocol.access.rules import RESERVED
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.dialect.envelope import write
from kps.protocol.patterns import Key, scope_of
from kps.protocol.server.clients import figures
from kps.protocol.server.state import ServerState

STATS_TOPIC = RESERVED + "stats"

_INTERVAL = 1.0  # seconds
_MOST = 200  # clients, and topics, that are listed


class Monitor:
    """Publishes the figures once a second while they have a subscriber.

    ``publish`` delivers a publication; ``dropped()`` counts the messages dropped so far.
    """

    def __init__(
        self,
        state: ServerState,
        publish: Callable[[Publication], object],
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

    def next_deadline(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        state = self._state
        if STATS_TOPIC not in state.bus:
            self._due = None
        elif self._due is not None and now >= self._due:
            self._due = now + _INTERVAL
            self._publish(Publication(STATS_TOPIC, state.config.id, write(self._figures(now))))

    def _figures(self, now: float) -> dict[str, Any]:
        state = self._state
        return {
            "id": state.config.id,
            "version": state.config.version,
            "uptime": state.uptime(),
            "client_count": len(state.clients),
            "topic_count": len(state.bus),
            "pending_acks": len(state.acks),
            **asdict(state.stats),
            "dropped": self._dropped(),
            "clients": [figures(client, now) for client in islice(state.clients.values(), _MOST)],
            "topics": [
                {
                    "topic" if isinstance(key, str) else "pattern": str(key),
                    "subscribers": subscribers,
                    "published": published,
                }
                for key, subscribers, published in state.bus.subjects(_MOST)
            ],
        }
