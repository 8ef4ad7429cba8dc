"""What is known of a topic or pattern in numbers, which can be added up over nodes."""

from collections.abc import Iterable
from typing import NamedTuple

from kps.protocol.bus.census import counts
from kps.protocol.dialect.envelope import Fields
from kps.protocol.patterns import Scope
from kps.protocol.server.state import ServerState


class TopicFigures(NamedTuple):
    """The figures of a topic or pattern at one server. Those that are 0 are not told, but two."""

    subscribers: int = 0
    """Clients, and the server's program; members once for each group."""
    published: int = 0
    """Messages since it had a subscriber."""
    groups: int = 0
    kept: int = 0
    """Messages of its history."""
    observers: int = 0
    """Clients that want to know who is subscribed."""

    def fields(self, key: Scope) -> Fields:
        """Return the entry of the topic or pattern in the server's figures (spec, 12.8)."""
        fields: Fields = {
            "topic" if isinstance(key, str) else "pattern": str(key),
            "subscribers": self.subscribers,
            "published": self.published,
        }
        more = {"groups": self.groups, "kept": self.kept, "observers": self.observers}
        return fields | {name: count for name, count in more.items() if count}


def figures_of(state: ServerState, key: Scope) -> TopicFigures:
    """Return the figures of a topic or pattern at this server."""
    return _figures(state, key, *counts(state.bus, key))


def first_of(state: ServerState, most: int) -> list[tuple[Scope, TopicFigures]]:
    """Return the figures of up to ``most`` topics and patterns that have a subscriber."""
    return [(key, _figures(state, key, *count)) for key, *count in state.bus.subjects(most)]


def _figures(state: ServerState, key: Scope, subscribers: int, published: int) -> TopicFigures:
    subject = state.bus.routes.find(key)
    groups = 0 if subject is None else len(subject.own_groups)
    if not isinstance(key, str):
        return TopicFigures(subscribers, published, groups)
    kept = 0 if state.logs is None else state.logs.count_of(key)
    observers = state.presence.count_observers(key)
    return TopicFigures(subscribers, published, groups, kept, observers)


def merged(each: Iterable[TopicFigures]) -> TopicFigures:
    """Add up the figures of one topic or pattern at several nodes.

    Each node knows the groups, what is published, and what is kept.
    """
    subscribers, published, groups, kept, observers = zip(*each, strict=True)
    return TopicFigures(sum(subscribers), max(published), max(groups), max(kept), sum(observers))
