"""Topics, patterns of topics, and who subscribes to them."""

from collections.abc import Callable, Iterator
from enum import Enum, auto
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from kps.protocol.bus.matching import PatternTable
from kps.protocol.bus.publication import Encoding, Publication
from kps.protocol.bus.slices import Slices
from kps.protocol.patterns import Key
from kps.protocol.timers import Deadlines

# Topics without a subscription of their own whose routes are kept.
_MOST_ROUTES = 16_384


class Stage(Enum):
    """The stage of a subscription.

    A subscriber first asks for it; it takes effect later, because a wait may come between::

        (none) --ask--> ASKED --subscribe--> LIVE --unsubscribe--> (none)
                        ASKED --unsubscribe--> (none)
    """

    ASKED = auto()
    """The subscriber asked for it, and gets nothing yet."""
    LIVE = auto()
    """The subscriber gets every publication."""


class Departure(NamedTuple):
    """Why a subscription ends."""

    reason: str
    may_return: bool
    """Whether the subscriber did not say that it leaves, and may come back."""


UNSUBSCRIBED = Departure("unsubscribed", False)
CLOSED = Departure("closed", False)
AWAY = Departure("closed", True)
LOST = Departure("lost", True)
REPLACED = Departure("replaced", True)


class Subscriber(Protocol):
    """A client, or the server's own program."""

    id: str
    departure: Departure
    """Why a subscription of it ends now, if one does."""
    topics: dict[Key, Stage]
    """Its subscriptions and their stages, which the bus maintains."""

    @property
    def encoding(self) -> Encoding[Any]:
        """The form in which it takes publications."""

    def deliver(self, publication: Publication) -> bool:
        """Take a publication; tell whether its last message had room.

        An overflow may remove subscribers from the bus during the call.
        """


class _Subject:
    """What somebody subscribes to, a topic or a pattern; or a topic that was published."""

    __slots__ = ("addressed", "as_of", "encodings", "key", "matched_as_of", "patterns", "published",
                 "subscribers")  # fmt: skip

    def __init__(self, key: Key) -> None:
        self.key = key
        """The one object that all its subscribers keep."""
        self.subscribers: dict[Subscriber, None] = {}  # a set that keeps its order
        self.published = 0
        # The route of a topic. Either number is that of the bus if the route is up to date.
        self.as_of = self.matched_as_of = -1
        self.patterns: list[_Subject] = []
        """The patterns that have it."""
        self.addressed: tuple[Subscriber, ...] = ()
        """Its subscribers and those of the patterns, each once."""
        self.encodings: tuple[Encoding[Any], ...] = ()
        """Those of the addressed."""


Watcher = Callable[[Subscriber, Key], None]
"""A callback that gets a subscriber, and the topic or pattern of a subscription that began or
ended."""


class Bus:
    """Routes publications to subscribers.

    The subscriptions of one that has left end in slices if they are very many. Meanwhile it gets
    nothing, and does not count.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._topics: dict[str, _Subject] = {}
        self._patterns: PatternTable[_Subject] = PatternTable()
        self._changes = 0  # of subscriptions to patterns
        self.searched = 0
        """Units of work that searches among the patterns have taken (see ``turns``), and that
        nobody has subtracted yet."""
        self._routes: dict[str, _Subject] = {}  # topics without subscribers of their own
        self._held: dict[str, dict[Subscriber, None]] = {}  # by topic, who gets earlier messages
        self._leaving: set[Subscriber] = set()  # those that have left, with subscriptions
        self._slices = Slices(deadlines)
        self.on_join: list[Watcher] = []
        """Called after each new subscription."""
        self.on_leave: list[Watcher] = []
        """Called after the end of each subscription."""

    def __len__(self) -> int:
        """Return how many topics and patterns have a subscriber, or one that has just left."""
        return len(self._topics) + len(self._patterns)

    def __contains__(self, topic: str) -> bool:
        """Tell whether a topic has a subscriber."""
        found = self._route(topic)
        return found is not None and bool(
            self._present(found) if self._leaving else found.addressed
        )

    def has_room(self, key: Key, most: int) -> bool:
        """Tell whether there are at most ``most`` subjects with one more subscription to a key."""
        while len(self) >= most and self._find(key) is None:
            if not self._slices.go_on():
                return False
        return True

    def is_crowded(self, key: Key) -> bool:
        """Tell whether a pattern cannot be added, because too many begin and end as it does."""
        return not isinstance(key, str) and self._patterns.is_crowded(key)

    def subjects(self, most: int) -> list[tuple[Key, int, int]]:
        """Return up to ``most`` topics and patterns: key, subscribers, messages since the first."""
        found = [
            (len(self._of_subject(subject)), subject)
            for subject in islice(chain(self._topics.values(), self._patterns.values()), most)
        ]
        return [(subject.key, count, subject.published) for count, subject in found if count]

    def subscribers(self, topic: str) -> list[Subscriber]:
        """Return who gets what is published on a topic."""
        found = self._route(topic)
        if found is None:
            return []
        return self._present(found) if self._leaving else list(found.addressed)

    def own_subscribers(self, topic: str) -> list[Subscriber]:
        """Return who is subscribed to a topic itself, not to a pattern that has it."""
        found = self._topics.get(topic)
        return [] if found is None else self._of_subject(found)

    def _present(self, subject: _Subject) -> list[Subscriber]:
        """Return the addressed that have not left, while others are leaving."""
        leaving = self._leaving
        return [one for one in subject.addressed if one not in leaving]

    def _of_subject(self, subject: _Subject) -> list[Subscriber]:
        leaving = self._leaving
        return [one for one in subject.subscribers if one not in leaving]

    def _find(self, key: Key) -> _Subject | None:
        return self._topics.get(key) if isinstance(key, str) else self._patterns.get(key)

    def _route(self, topic: str) -> _Subject | None:
        """Return a topic with its route up to date; ``None`` if nobody can have it."""
        found = self._topics.get(topic)
        if found is None:
            if not self._patterns:
                return None
            found = self._routes.get(topic)
            if found is None:
                found = _Subject(topic)
                if len(self._routes) >= _MOST_ROUTES:
                    del self._routes[next(iter(self._routes))]
                self._routes[topic] = found
        if found.as_of != self._changes:
            self._find_route(topic, found)
        return found

    def _find_route(self, topic: str, subject: _Subject) -> None:
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
        subject.as_of = self._changes

    def ask(self, subscriber: Subscriber, key: Key) -> None:
        """Note that a subscriber wants a subscription; ``subscribe`` makes it live."""
        subscriber.topics.setdefault(key, Stage.ASKED)

    def subscribe(self, subscriber: Subscriber, key: Key) -> None:
        """Make a subscription live. May be called twice."""
        if subscriber.topics.get(key) is Stage.LIVE:
            return
        subject = self._find(key)
        if subject is None:
            subject = _Subject(key)
            if isinstance(key, str):
                self._topics[key] = subject
                self._routes.pop(key, None)
            else:
                self._patterns[key] = subject
        subscriber.topics.pop(key, None)  # with an object of its own
        subscriber.topics[subject.key] = Stage.LIVE
        subject.subscribers[subscriber] = None
        self._changed(subject)
        for watch in self.on_join:
            watch(subscriber, key)

    def unsubscribe(self, subscriber: Subscriber, key: Key) -> None:
        """End a subscription, if there is one."""
        stage = subscriber.topics.get(key)
        if stage is None:
            return
        subject = self._find(key)
        # Nothing is called from here on, so no signal handler comes in before all is noted.
        del subscriber.topics[key]
        if stage is not Stage.LIVE or subject is None:
            return
        del subject.subscribers[subscriber]
        self._changed(subject)
        if not subject.subscribers:
            if isinstance(key, str):
                del self._topics[key]
            else:
                del self._patterns[key]
                if not self._patterns:
                    self._routes.clear()
        for watch in self.on_leave:
            watch(subscriber, key)

    def _changed(self, subject: _Subject) -> None:
        """Note that the subscribers of a topic or pattern have changed."""
        if isinstance(subject.key, str):
            subject.as_of = -1
        else:
            self._changes += 1

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

    def remove(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a subscriber that has left."""
        if subscriber.topics:
            self._leaving.add(subscriber)
            self._slices.begin(partial(self._remove, subscriber))

    def _remove(self, subscriber: Subscriber) -> Iterator[int]:
        for key in list(subscriber.topics):
            self.unsubscribe(subscriber, key)
            yield 1
        self._leaving.discard(subscriber)

    def count_for(self, subscriber: Subscriber, topic: str) -> bool:
        """Count a publication on a topic that has this subscriber only; tell whether that is so.

        Then nothing is to be encoded, and the caller delivers it.
        """
        found = self._route(topic)
        if found is None or len(found.addressed) != 1 or found.addressed[0] is not subscriber:
            return False
        found.published += 1
        if found.patterns:
            _count(found.patterns, 1)
        return True

    def publish(self, publication: Publication) -> int:
        """Deliver to every subscriber of the topic; return how many had room."""
        found = self._route(publication.topic)
        if found is None:
            return 0
        addressed = self._present(found) if self._leaving else found.addressed
        # Encode first: after an exception out of a signal handler, nobody must have got it.
        for encoding in found.encodings:
            publication.encoded(encoding)
        found.published += publication.count
        if found.patterns:
            _count(found.patterns, publication.count)
        return sum([subscriber.deliver(publication) for subscriber in addressed])


def _count(patterns: list[_Subject], messages: int) -> None:
    """Count messages for each pattern that has their topic."""
    for pattern in patterns:
        pattern.published += messages


_ENCODING = attrgetter("encoding")
