"""What the console shows: the server's figures, published on a topic of its own (spec, 12.8)."""

from typing import TYPE_CHECKING, Any

from kps.protocol.access.rules import RESERVED
from kps.protocol.bus.publication import Publication

if TYPE_CHECKING:
    from kps.protocol.server.hub import Hub
    from kps.protocol.server.session import ServerSession


STATS_TOPIC = RESERVED + "stats"

_INTERVAL = 1.0  # seconds
_MOST = 200  # clients, and topics, that are told one by one


class Monitor:
    """Publishes the figures once a second, while somebody subscribes to them."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._due: float | None = None

    def watch(self, topic: str) -> None:
        """Take note of a subscription, which may be the first to the figures."""
        if topic == STATS_TOPIC and self._due is None:
            self._due = self._hub.now
            self._hub.deadlines.schedule(self)

    def next_deadline(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        hub = self._hub
        if STATS_TOPIC not in hub.bus:
            self._due = None
        elif self._due is not None and now >= self._due:
            self._due = now + _INTERVAL
            hub.distribute(Publication(STATS_TOPIC, hub.config.id, self._figures()))

    def _figures(self) -> dict[str, Any]:
        hub, stats = self._hub, self._hub.stats
        clients = list(hub.clients.values())[:_MOST]
        return {
            "id": hub.config.id,
            "version": hub.config.version,
            "uptime": hub.uptime(),
            "client_count": len(hub.clients),
            "topic_count": len(hub.bus),
            "pending_acks": len(hub.acks),
            "published": stats.published,
            "delivered": stats.delivered,
            "dropped": hub.dropped(),
            "refused": stats.refused,
            "bytes_in": stats.bytes_in,
            "bytes_out": stats.bytes_out,
            "clients": [self._client(session) for session in clients],
            "topics": [
                {"topic": topic, "subscribers": subscribers, "published": published}
                for topic, subscribers, published in hub.bus.topics(_MOST)
            ],
        }

    def _client(self, session: "ServerSession") -> dict[str, Any]:
        return {
            "id": session.id,
            "address": session.peer,
            "level": session.level,
            "age": round(self._hub.now - session.since, 3),
            "topics": len(session.topics),
            "queue_messages": session.queued_messages,
            "queue_bytes": session.queued_bytes,
            "dropped": session.dropped,
            "received": session.received,
            "delivered": session.delivered,
        }
