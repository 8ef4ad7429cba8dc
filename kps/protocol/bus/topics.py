"""Topics and who subscribes to them."""

from collections.abc import Callable, Iterator
from enum import Enum, auto
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any, Protocol

from kps.protocol.bus.publication import Encoding, Publication
from kps.protocol.bus.slices import Slices
from kps.protocol.timers import Deadlines

Key = str
"""The target of a subscription: a topic. Only this module interprets keys, so that later a key
may also be a pattern or a topic's group."""


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


class Subscriber(Protocol):
    """A client, or the server's own program."""

    id: str
    topics: dict[Key, Stage]
    """Its subscriptions and their stages, which the bus maintains."""

    @property
    def encoding(self) -> Encoding[Any]:
        """The form in which it takes publications."""

    def deliver(self, publication: Publication) -> bool:
        """Take a publication; tell whether its last message had room.

        An overflow may remove subscribers from the bus during the call.
        """


class _Topic:
    """A topic with a subscriber."""

    __slots__ = ("encodings", "key", "published", "subscribers")

    def __init__(self, key: Key) -> None:
        self.key = key
        """The one text that all its subscribers keep."""
        self.subscribers: dict[Subscriber, None] = {}  # a set that keeps its order
        self.published = 0
        self.encodings: tuple[Encoding[Any], ...] | None = None
        """Those of its subscribers, unless these have changed since the last publication."""


Watcher = Callable[[Subscriber, Key], None]
"""A callback that gets a subscriber and the key of a subscription that began or ended."""


class Bus:
    """Routes publications to subscribers.

    The subscriptions of one that has left end in slices if they are very many. Meanwhile it gets
    nothing, and does not count.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._topics: dict[Key, _Topic] = {}
        self._leaving: set[Subscriber] = set()  # those that have left, with subscriptions
        self._slices = Slices(deadlines)
        self.on_join: list[Watcher] = []
        """Called after each new subscription."""
        self.on_leave: list[Watcher] = []
        """Called after the end of each subscription."""

    def __len__(self) -> int:
        """Return the number of topics with a subscriber, or with one that has just left."""
        return len(self._topics)

    def __contains__(self, topic: object) -> bool:
        """Tell whether a topic has a subscriber."""
        found = self._topics.get(topic)  # type: ignore[call-overload]
        return found is not None and (not self._leaving or bool(self._present(found)))

    def has_room(self, topic: Key, most: int) -> bool:
        """Tell whether there are at most ``most`` topics with one more subscription to a topic."""
        topics = self._topics
        while len(topics) >= most and topic not in topics:
            if not self._slices.go_on():
                return False
        return True

    def topics(self, most: int) -> list[tuple[str, int, int]]:
        """Return up to ``most`` topics: name, subscribers, messages since the first of them."""
        found = [
            (name, len(self._present(topic) if self._leaving else topic.subscribers), topic)
            for name, topic in islice(self._topics.items(), most)
        ]
        return [(name, count, topic.published) for name, count, topic in found if count]

    def subscribers(self, topic: str) -> list[Subscriber]:
        found = self._topics.get(topic)
        if found is None:
            return []
        return self._present(found) if self._leaving else list(found.subscribers)

    def _present(self, topic: _Topic) -> list[Subscriber]:
        """Return the subscribers that have not left, while others are leaving."""
        leaving = self._leaving
        return [one for one in topic.subscribers if one not in leaving]

    def ask(self, subscriber: Subscriber, key: Key) -> None:
        """Note that a subscriber wants a subscription; ``subscribe`` makes it live."""
        subscriber.topics.setdefault(key, Stage.ASKED)

    def subscribe(self, subscriber: Subscriber, key: Key) -> None:
        """Make a subscription live. May be called twice."""
        if subscriber.topics.get(key) is Stage.LIVE:
            return
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = _Topic(key)
        subscriber.topics.pop(key, None)  # with a text of its own
        subscriber.topics[topic.key] = Stage.LIVE
        topic.subscribers[subscriber] = None
        topic.encodings = None
        for watch in self.on_join:
            watch(subscriber, key)

    def unsubscribe(self, subscriber: Subscriber, key: Key) -> None:
        """End a subscription, if there is one."""
        stage = subscriber.topics.get(key)
        if stage is None:
            return
        topic = self._topics.get(key)
        # Nothing is called from here on, so no signal handler comes in before all is noted.
        del subscriber.topics[key]
        if stage is not Stage.LIVE or topic is None:
            return
        del topic.subscribers[subscriber]
        topic.encodings = None
        if not topic.subscribers:
            del self._topics[key]
        for watch in self.on_leave:
            watch(subscriber, key)

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

    def count_for(self, subscriber: Subscriber, key: Key) -> bool:
        """Count a publication on a topic that has this subscriber only; tell whether that is so.

        Then nothing is to be encoded, and the caller delivers it.
        """
        topic = self._topics.get(key)
        if topic is None or len(topic.subscribers) != 1 or subscriber not in topic.subscribers:
            return False
        topic.published += 1
        return True

    def publish(self, publication: Publication) -> int:
        """Deliver to every subscriber of the topic; return how many had room."""
        topic = self._topics.get(publication.topic)
        if topic is None:
            return 0
        addressed = self._present(topic) if self._leaving else list(topic.subscribers)
        encodings = topic.encodings
        if encodings is None:
            encodings = topic.encodings = tuple(set(map(_ENCODING, topic.subscribers)))
        # Encode first: after an exception out of a signal handler, nobody must have got it.
        for encoding in encodings:
            publication.encoded(encoding)
        topic.published += publication.count
        return sum([subscriber.deliver(publication) for subscriber in addressed])


_ENCODING = attrgetter("encoding")
