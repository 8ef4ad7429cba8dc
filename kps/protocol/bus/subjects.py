"""What is published and subscribed to, and the route of each topic."""

from collections.abc import Callable, Iterator
from itertools import chain
from operator import attrgetter
from typing import Any

from kps.protocol.bus.groups import Group
from kps.protocol.bus.matching import PatternTable
from kps.protocol.bus.publication import Encoding
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.patterns import InGroup, Scope

# Topics without a subscription of their own whose routes are kept.
_MOST_ROUTES = 16_384


class Subject:
    """What somebody subscribes to, a topic or a pattern; or a topic that was published."""

    __slots__ = ("addressed", "as_of", "encodings", "groups", "key", "matched_as_of", "own_groups",
                 "patterns", "published", "subscribers")  # fmt: skip

    def __init__(self, key: Scope) -> None:
        self.key = key
        """The one object that all its subscribers keep."""
        self.subscribers: dict[Subscriber, None] = {}  # a set that keeps its order
        self.own_groups: dict[str, Group] = {}
        """Its groups by name."""
        self.published = 0
        # The route of a topic. Either number is that of the bus if the route is up to date.
        self.as_of = self.matched_as_of = -1
        self.patterns: list[Subject] = []
        """The patterns that have it."""
        self.addressed: tuple[Subscriber, ...] = ()
        """Its subscribers and those of the patterns, each once."""
        self.encodings: tuple[Encoding[Any], ...] = ()
        """Those of the addressed."""
        self.groups: tuple[Group, ...] = ()
        """Its groups and those of the patterns."""

    @property
    def is_empty(self) -> bool:
        """Whether nobody is subscribed."""
        return not self.subscribers and not self.own_groups


def members_here(group: Group, elsewhere: tuple[type, ...]) -> list[Subscriber]:
    """Return the members of a group that have not left, but for those of kinds ``elsewhere``."""
    members = [member.subscriber for member in group.present()]
    return [one for one in members if not isinstance(one, elsewhere)] if elsewhere else members


def count_here(group: Group, elsewhere: tuple[type, ...]) -> int:
    """Count the members of a group that have not left, but for those of kinds ``elsewhere``."""
    return len(members_here(group, elsewhere)) if elsewhere else group.count_present()


def count_members(subject: Subject, elsewhere: tuple[type, ...]) -> int:
    """Count the members of the groups of a topic or pattern, but for those of kinds ``elsewhere``.

    A client is counted for each group.
    """
    return sum([count_here(group, elsewhere) for group in subject.own_groups.values()])


class Subjects:
    """The topics and patterns that have subscriptions, and the routes of published topics."""

    def __init__(self) -> None:
        self._topics: dict[str, Subject] = {}
        self._patterns: PatternTable[Subject] = PatternTable()
        self._changes = 0  # of subscriptions to patterns
        self.searched = 0
        """Units of work (see ``turns``) of searches among the patterns, and of groups, which nobody
        has subtracted yet."""
        self._routes: dict[str, Subject] = {}  # topics without subscribers of their own
        self.groups = 0
        """How many groups have members, or one that has just left."""
        self._held: dict[str, dict[Subscriber, None]] = {}  # by topic, who gets earlier messages

    def __len__(self) -> int:
        return len(self._topics) + len(self._patterns)

    @property
    def patterns(self) -> int:
        """How many of them are patterns."""
        return len(self._patterns)

    def __iter__(self) -> Iterator[Subject]:
        return chain(self._topics.values(), self._patterns.values())

    def is_crowded(self, key: Scope) -> bool:
        """Tell whether a pattern cannot be added, because too many begin and end as it does."""
        return not isinstance(key, str) and self._patterns.is_crowded(key)

    def find(self, key: Scope) -> Subject | None:
        """Return a topic or pattern, if it has a subscription."""
        return self._topics.get(key) if isinstance(key, str) else self._patterns.get(key)

    def add(self, key: Scope) -> Subject:
        """Return a topic or pattern, which may be new."""
        subject = self.find(key)
        if subject is None:
            subject = Subject(key)
            if isinstance(key, str):
                self._topics[key] = subject
                self._routes.pop(key, None)
            else:
                self._patterns[key] = subject
        return subject

    def remove(self, key: Scope) -> None:
        """Remove a topic or pattern, which has no subscription any more."""
        if isinstance(key, str):
            del self._topics[key]
        else:
            del self._patterns[key]
            if not self._patterns:
                self._routes.clear()

    def add_group(self, key: InGroup, new: Callable[[InGroup], Group]) -> Group:
        """Return a group of a topic or pattern, which may be new."""
        subject = self.add(key.scope)
        group = subject.own_groups.get(key.group)
        if group is None:
            group = subject.own_groups[key.group] = new(key)
            self.groups += 1
            self.changed(subject)
        return group

    def remove_group(self, key: InGroup) -> None:
        """Remove a group, which has no member any more."""
        subject = self.find(key.scope)
        if subject is not None:
            del subject.own_groups[key.group]
            self.groups -= 1
            self.changed(subject)
            if subject.is_empty:
                self.remove(key.scope)

    def changed(self, subject: Subject) -> None:
        """Note that the subscribers of a topic or pattern have changed."""
        if isinstance(subject.key, str):
            subject.as_of = -1
        else:
            self._changes += 1

    def route(self, topic: str) -> Subject | None:
        """Return a topic with its route up to date; ``None`` if nobody can have it."""
        found = self._topics.get(topic)
        if found is None:
            if not self._patterns:
                return None
            found = self._routes.get(topic)
            if found is None:
                found = Subject(topic)
                if len(self._routes) >= _MOST_ROUTES:
                    del self._routes[next(iter(self._routes))]
                self._routes[topic] = found
        if found.as_of != self._changes:
            self._find_route(topic, found)
        return found

    def _find_route(self, topic: str, subject: Subject) -> None:
        if subject.matched_as_of != self._patterns.changes:
            subject.patterns, work = self._patterns.find_again(
                topic, subject.patterns, subject.matched_as_of
            )
            self.searched += work
            subject.matched_as_of = self._patterns.changes
        addressed = subject.subscribers
        if subject.patterns:
            addressed = dict(addressed)
            for pattern in subject.patterns:
                addressed.update(pattern.subscribers)
        if topic in self._held:
            held = self._held[topic]
            addressed = {one: None for one in addressed if one not in held}
        subject.addressed = tuple(addressed)
        subject.encodings = tuple(set(map(_ENCODING, addressed)))
        groups = list(subject.own_groups.values())
        for pattern in subject.patterns:
            groups += pattern.own_groups.values()
        subject.groups = tuple(groups)
        subject.as_of = self._changes

    def hold(self, subscriber: Subscriber, topic: str) -> None:
        """Let a subscriber get nothing of a topic, because it gets earlier messages first."""
        self._held.setdefault(topic, {})[subscriber] = None
        self._reroute(topic)

    def release(self, subscriber: Subscriber, topic: str) -> None:
        """End that."""
        held = self._held.get(topic)
        if held is None:
            return
        held.pop(subscriber, None)
        if not held:
            del self._held[topic]
        self._reroute(topic)

    def _reroute(self, topic: str) -> None:
        for subject in (self._topics.get(topic), self._routes.get(topic)):
            if subject is not None:
                subject.as_of = -1


_ENCODING = attrgetter("encoding")
