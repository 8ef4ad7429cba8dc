"""Topics and who subscribes to them."""

from typing import Any, Protocol

from kps.protocol import level1
from kps.protocol.frames import text_frame
from kps.protocol.outbox import Droppable


class Publication:
    """One message on its way to any number of subscribers.

    Its bytes are made once for each level of the protocol that is among them, and
    the same object is queued for all.
    """

    __slots__ = ("_frame", "ack_id", "data", "sender", "topic")

    def __init__(self, topic: str, sender: str, data: Any, ack_id: str = "") -> None:
        self.topic = topic
        self.sender = sender
        self.data = data
        self.ack_id = ack_id
        """The server's id of the ack request; empty when no answer is wanted."""
        self._frame: bytes | None = None

    def frame(self) -> bytes:
        """The whole WebSocket frame. Raises :class:`~kps.protocol.envelope.TooDeep`."""
        frame = self._frame
        if frame is None:
            if self.ack_id:
                frame = text_frame(
                    level1.delivery_with_ack(self.topic, self.sender, self.data, self.ack_id)
                )
            else:
                frame = Droppable(text_frame(level1.delivery(self.topic, self.sender, self.data)))
            self._frame = frame
        return frame


class Subscriber(Protocol):
    """Whoever can subscribe: a connection, or the server's own program."""

    id: str
    topics: set[str]
    """Kept by the bus."""

    def deliver(self, publication: Publication) -> None:
        """Take a publication. May remove this subscriber from the bus, but no other."""


class Bus:
    """Who gets what."""

    def __init__(self) -> None:
        self._subscribers: dict[str, dict[Subscriber, None]] = {}  # a set that keeps its order

    def __len__(self) -> int:
        """Topics that have a subscriber."""
        return len(self._subscribers)

    def subscribers(self, topic: str) -> list[Subscriber]:
        return list(self._subscribers.get(topic, ()))

    def subscribe(self, subscriber: Subscriber, topic: str) -> None:
        """Add a subscriber to a topic, once."""
        subscriber.topics.add(topic)
        self._subscribers.setdefault(topic, {})[subscriber] = None

    def unsubscribe(self, subscriber: Subscriber, topic: str) -> None:
        """Remove a subscriber from a topic, if it is there."""
        if topic in subscriber.topics:
            subscriber.topics.remove(topic)
            subscribers = self._subscribers[topic]
            del subscribers[subscriber]
            if not subscribers:
                del self._subscribers[topic]

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscriber from all its topics."""
        for topic in list(subscriber.topics):
            self.unsubscribe(subscriber, topic)

    def publish(self, publication: Publication) -> int:
        """Deliver to every subscriber of the topic; return how many those were."""
        subscribers = self._subscribers.get(publication.topic)
        if subscribers is None:
            return 0
        addressed = list(subscribers)
        for subscriber in addressed:
            subscriber.deliver(publication)
        return len(addressed)
