"""Topics and who subscribes to them."""

from collections.abc import Callable
from enum import Enum, auto
from itertools import islice
from operator import attrgetter
from typing import Any, Protocol

from kps.protocol.bus.publication import Encoding, Publication

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

    __slots__ = ("key", "published", "subscribers")

    def __init__(self, key: Key) -> None:
        self.key = key
        """The one text that all its subscribers keep."""
        self.subscribers: dict[Subscriber, None] = {}  # a set that keeps its order
        self.published = 0


Watcher = Callable[[Subscriber, Key], None]
"""A callback that gets a subscriber and the key of a subscription that began or ended."""


class Bus:
    """Routes publications to subscribers."""

    def __init__(self) -> None:
        self._topics: dict[Key, _Topic] = {}
        self.on_join: list[Watcher] = []
        """Called after each new subscription."""
        self.on_leave: list[Watcher] = []
        """Called after the end of each subscription."""

    def __len__(self) -> int:
        """Return the number of topics with a subscriber."""
        return len(self._topics)

    def __contains__(self, topic: object) -> bool:
        """Tell whether a topic has a subscriber."""
        return topic in self._topics

    def topics(self, most: int) -> list[tuple[str, int, int]]:
        """Return up to ``most`` topics: name, subscribers, messages since the first of them."""
        return [
            (name, len(topic.subscribers), topic.published)
            for name, topic in islice(self._topics.items(), most)
        ]

    def subscribers(self, topic: str) -> list[Subscriber]:
        found = self._topics.get(topic)
        return list(found.subscribers) if found is not None else []

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
        for watch in self.on_join:
            watch(subscriber, key)

    def unsubscribe(self, subscriber: Subscriber, key: Key) -> None:
        """End a subscription, if there is one."""
        if subscriber.topics.pop(key, None) is not Stage.LIVE:
            return
        subscribers = self._topics[key].subscribers
        del subscribers[subscriber]
        if not subscribers:
            del self._topics[key]
        for watch in self.on_leave:
            watch(subscriber, key)

    def remove(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a subscriber."""
        for key in list(subscriber.topics):
            self.unsubscribe(subscriber, key)

    def publish(self, publication: Publication) -> int:
        """Deliver to every subscriber of the topic; return how many had room."""
        topic = self._topics.get(publication.topic)
        if topic is None:
            return 0
        addressed = list(topic.subscribers)
        # Encode first: if a payload cannot be written, nobody must get it.
        for encoding in set(map(_ENCODING, addressed)):
            publication.encoded(encoding)
        topic.published += len(publication.payloads)
        return sum([subscriber.deliver(publication) for subscriber in addressed])


_ENCODING = attrgetter("encoding")
