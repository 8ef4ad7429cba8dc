"""Topics and who subscribes to them."""

from collections.abc import Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, Protocol

from kps.protocol import level1, level2
from kps.protocol.frames import text_frame
from kps.protocol.outbox import Droppable


class Publication:
    """Messages of one sender on one topic, on their way to any number of subscribers.

    Usually it is one; there are several when they came together, so that each subscriber's
    queue is touched once for all of them. Their bytes are made once for each level of the
    protocol that is among the subscribers, and the same object is queued for all.
    """

    __slots__ = (
        "_joined",
        "_messages",
        "_plain",
        "_single",
        "ack_id",
        "is_direct",
        "payloads",
        "sender",
        "topic",
    )

    def __init__(
        self, topic: str, sender: str, *payloads: Any, ack_id: str = "", is_direct: bool = False
    ) -> None:
        self.topic = topic
        self.sender = sender
        self.payloads = list(payloads)
        self.ack_id = ack_id
        """The server's id of the ack request; empty when no answer is wanted."""
        self.is_direct = is_direct
        """Whether it was sent to an id, and ``topic`` only names that for level 1."""
        self._joined: dict[int, bytes] = {}
        self._messages: dict[int, bytes] = {}
        self._plain: list[bytes] = []  # the frames of level 1, each as it is
        self._single: dict[int, list[bytes]] = {}

    def make(self, level: int) -> bytes:
        """Make the bytes for a level, once; return them."""
        return self.message(level) if self.ack_id else self.frame(level)

    def frame(self, level: int) -> bytes:
        """All messages in one piece, as whole WebSocket frames."""
        joined = self._joined.get(level)
        if joined is None:
            joined = self._joined[level] = self._join(level)
        return joined

    def message(self, level: int) -> bytes:
        """The one message, which wants an answer, as JSON."""
        message = self._messages.get(level)
        if message is None:
            (data,) = self.payloads
            if level == 1:
                message = level1.delivery_with_ack(self.topic, self.sender, data, self.ack_id)
            else:
                topic = "" if self.is_direct else self.topic
                message = level2.delivery_with_ack(topic, self.sender, data, self.ack_id)
            self._messages[level] = message
        return message

    def frames(self, level: int) -> Sequence[bytes]:
        """The WebSocket frame of each message, for a queue without room for all of them."""
        if len(self.payloads) == 1:
            return (self.frame(level),)
        if level == 1 and level not in self._single:
            self.frame(level)
            self._single[level] = [Droppable(frame) for frame in self._plain]
        elif level not in self._single:
            alone = [Publication(self.topic, self.sender, data) for data in self.payloads]
            self._single[level] = [publication.frame(level) for publication in alone]
        return self._single[level]

    def _join(self, level: int) -> bytes:
        if self.ack_id:
            return text_frame(self.message(level))
        if level == 1:
            frames = [
                text_frame(level1.delivery(self.topic, self.sender, d)) for d in self.payloads
            ]
            self._plain = frames
            return Droppable.of(frames)
        batch = level2.delivery(self.topic, self.sender, self.payloads)
        return Droppable.holding(text_frame(batch), len(self.payloads))


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
