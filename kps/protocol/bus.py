"""Topics and who subscribes to them."""

from typing import Any, Protocol

from kps.protocol import level1
from kps.protocol.frames import text_frame
from kps.protocol.outbox import Droppable


class Publication:
    """Messages of one sender on one topic, on their way to any number of subscribers.

    Usually it is one; there are several when they came together, so that each subscriber's
    queue is touched once for all of them. Their bytes are made once for each level of the
    protocol that is among the subscribers, and the same object is queued for all.
    """

    __slots__ = ("_frames", "_joined", "ack_id", "payloads", "sender", "size", "topic")

    def __init__(self, topic: str, sender: str, *payloads: Any, ack_id: str = "") -> None:
        self.topic = topic
        self.sender = sender
        self.payloads = list(payloads)
        self.ack_id = ack_id
        """The server's id of the ack request; empty when no answer is wanted."""
        self.size = 0
        """Bytes of the frames that were made so far."""
        self._frames: list[bytes] = []
        self._joined: bytes | None = None

    def add(self, data: Any, *, is_wanted: bool) -> None:
        """Add a message, and make its frame if somebody wants it.

        Raises :class:`~kps.protocol.envelope.TooDeep`, and then nothing is added.
        """
        if is_wanted:
            self._make(data)
        self.payloads.append(data)

    def frames(self) -> list[bytes]:
        """The WebSocket frame of each message. Raises ``TooDeep``."""
        for data in self.payloads[len(self._frames) :]:
            self._make(data)
        return self._frames

    def frame(self) -> bytes:
        """All messages in one piece, as whole WebSocket frames. Raises ``TooDeep``."""
        if self._joined is None:
            frames = self.frames()
            self._joined = frames[0] if len(frames) == 1 else Droppable.of(frames)
        return self._joined

    def _make(self, data: Any) -> None:
        if self.ack_id:
            frame = text_frame(level1.delivery_with_ack(self.topic, self.sender, data, self.ack_id))
        else:
            frame = Droppable(text_frame(level1.delivery(self.topic, self.sender, data)))
        self._frames.append(frame)
        self.size += len(frame)


class Subscriber(Protocol):
    """Whoever can subscribe: a connection, or the server's own program."""

    id: str
    topics: set[str]
    """Kept by the bus."""

    def deliver(self, publication: Publication) -> None:
        """Take a publication. What has no room may remove subscribers from the bus."""


class Bus:
    """Who gets what."""

    def __init__(self) -> None:
        self._subscribers: dict[str, dict[Subscriber, None]] = {}  # a set that keeps its order

    def __len__(self) -> int:
        """Topics that have a subscriber."""
        return len(self._subscribers)

    def __contains__(self, topic: object) -> bool:
        """Whether a topic has a subscriber."""
        return topic in self._subscribers

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
