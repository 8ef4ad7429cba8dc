"""Topics and who subscribes to them."""

from itertools import islice
from operator import attrgetter
from typing import Protocol

from kps.protocol.bus.publication import Publication


class Subscriber(Protocol):
    """Whoever can subscribe: a connection, or the server's own program."""

    id: str
    level: int
    """Of the protocol, in which it takes publications."""
    topics: set[str]
    """Kept by the bus."""

    def deliver(self, publication: Publication) -> bool:
        """Take a publication; tell whether there was room, for its last message at least.

        What has no room may remove subscribers from the bus.
        """


class _Topic:
    """A topic that somebody subscribes to."""

    __slots__ = ("published", "subscribers")

    def __init__(self) -> None:
        self.subscribers: dict[Subscriber, None] = {}  # a set that keeps its order
        self.published = 0


class Bus:
    """Who gets what."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    def __len__(self) -> int:
        """Topics that have a subscriber."""
        return len(self._topics)

    def __contains__(self, topic: object) -> bool:
        """Whether a topic has a subscriber."""
        return topic in self._topics

    def topics(self, most: int) -> list[tuple[str, int, int]]:
        """Up to so many topics: the name, the subscribers, and messages since the first of them."""
        return [
            (name, len(topic.subscribers), topic.published)
            for name, topic in islice(self._topics.items(), most)
        ]

    def subscribers(self, topic: str) -> list[Subscriber]:
        found = self._topics.get(topic)
        return list(found.subscribers) if found is not None else []

    def subscribe(self, subscriber: Subscriber, topic: str) -> None:
        """Add a subscriber to a topic, once."""
        subscriber.topics.add(topic)
        found = self._topics.get(topic)
        if found is None:
            found = self._topics[topic] = _Topic()
        found.subscribers[subscriber] = None

    def unsubscribe(self, subscriber: Subscriber, topic: str) -> None:
        """Remove a subscriber from a topic, if it is there."""
        if topic in subscriber.topics:
            subscriber.topics.remove(topic)
            subscribers = self._topics[topic].subscribers
            del subscribers[subscriber]
            if not subscribers:
                del self._topics[topic]

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscriber from all its topics."""
        for topic in list(subscriber.topics):
            self.unsubscribe(subscriber, topic)

    def publish(self, publication: Publication) -> int:
        """Deliver to every subscriber of the topic; return how many had room for it."""
        topic = self._topics.get(publication.topic)
        if topic is None:
            return 0
        addressed = list(topic.subscribers)
        for level in set(map(_LEVEL, addressed)):
            publication.make(level)
        topic.published += len(publication.payloads)
        return sum([subscriber.deliver(publication) for subscriber in addressed])


_LEVEL = attrgetter("level")
