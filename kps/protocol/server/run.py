"""A run: publications of one client that came together.

We pass publications on one topic that arrive in one read to the bus together, so that the cost
per subscriber arises once for all of them.
"""

from collections.abc import Callable
from typing import Protocol

from kps.protocol.access import rules
from kps.protocol.access.identity import Permissions
from kps.protocol.bus.publication import CountedPublication, Publication
from kps.protocol.bus.subscriber import Stage
from kps.protocol.dialect.server import ServerLevel1
from kps.protocol.patterns import Key
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.frames import text_frame
from kps.protocol.wire.outbox import Entry, Kind


class Publisher(Protocol):
    """The session of the publishing client, as a run sees it."""

    id: str
    dialect: ServerLevel1
    topics: dict[Key, Stage]

    @property
    def permissions(self) -> Permissions:
        """The client's permissions."""

    def reply(self, message: bytes) -> bool:
        """Answer the client."""

    def reply_all(self, entry: Entry) -> bool:
        """Answer the client with several frames if all have room; tell whether they had."""


class Delivers(Protocol):
    """Delivers publications."""

    def publish(self, publication: Publication) -> int:
        """Deliver a publication."""

    def publish_counted(self, publication: CountedPublication, tell: Callable[[int], None]) -> None:
        """Deliver a publication; ``tell`` how many subscribers had room for its last message."""


class Run:
    """Gathers publications of one client, and delivers them."""

    __slots__ = ("_allowed", "_delivery", "_limits", "_publish", "_publisher", "gathered")

    def __init__(self, publisher: Publisher, delivery: Delivers, limits: ServerLimits) -> None:
        self._publisher = publisher
        self._delivery = delivery
        self._publish = delivery.publish
        self._limits = limits
        self.gathered: Publication | None = None
        """The publications that are not delivered yet, if any."""
        self._allowed = ""  # the last topic that passed ``check``

    def check(self, topic: str) -> None:
        """Raise ``InvalidMessage`` for a topic on which the client may not publish."""
        if topic != self._allowed:
            rules.check_publish(topic, self._publisher.permissions, self._limits)
            self._allowed = topic

    def forget_permissions(self) -> None:
        """Forget the result of ``check``, because the client's identity may change."""
        self._allowed = ""

    def add(self, topic: str, texts: list[bytes], count: int) -> None:
        """Add publications; deliver those on another topic first. Raises the same as ``check``."""
        gathered = self.gathered
        if gathered is None or gathered.topic != topic:
            self.finish()
            self.check(topic)
            gathered = self.gathered = Publication(topic, self._publisher.id)
        gathered.add(texts, count)
        publisher = self._publisher
        if publisher.dialect.confirms_publications and topic in publisher.topics:
            self.finish()  # its own copies and the confirmations must alternate (spec, 5.4)

    def publish_apart(
        self,
        topic: str,
        texts: list[bytes],
        count: int,
        headers: bytes,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        """Publish what has headers, or of which one must ``tell`` how many subscribers got it.

        Raises as ``check``.
        """
        self.finish()
        self.check(topic)
        publication = CountedPublication(topic, self._publisher.id)
        publication.add(texts, count)
        publication.headers = headers
        if tell is None:
            self._deliver(publication)
        elif count:
            self._delivery.publish_counted(publication, tell)
        else:
            tell(0)

    def finish(self) -> None:
        """Deliver the gathered publications."""
        gathered = self.gathered
        if gathered is not None:
            self.gathered = None
            self._deliver(gathered)

    def _deliver(self, publication: Publication) -> None:
        """Deliver and, if the dialect asks for it, confirm each publication."""
        count = publication.count
        if not count:
            return
        self._publish(publication)
        publisher = self._publisher
        if publisher.dialect.confirms_publications:
            confirmation = publisher.dialect.published(publication.topic)
            frames = text_frame(confirmation) * count
            entry = Entry(frames, Kind.REPLY, count, count)
            if not publisher.reply_all(entry):
                for _ in range(count):
                    publisher.reply(confirmation)
