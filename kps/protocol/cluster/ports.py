"""Small protocols for what the parts of a node need of each other."""

from typing import Protocol

from kps.protocol.bus.logs import TopicLog
from kps.protocol.bus.publication import Publication
from kps.protocol.cluster.carrying import Concern
from kps.protocol.cluster.nodes import Node


class DeliversHere(Protocol):
    """Delivers to the clients of this node."""

    def publish_here(self, publication: Publication) -> int:
        """Deliver a publication; return how many subscribers had room for its last message."""

    def reached(self, node: str, number: int, count: int) -> None:
        """Note how many subscribers of a node got a publication of which one wants a receipt."""


class Numbers(Protocol):
    """Numbers the messages of topics with history, or lets their owners do it."""

    def own(self, log: TopicLog, right: int) -> None:
        """Own a topic, and tell all nodes what is kept of it."""

    def take_over(self, logs: list[TopicLog], right: int) -> None:
        """Own topics of which this node has copies, in a new epoch."""

    def follows_another(self, topic: str, before: Node) -> None:
        """Send nothing to the new owner of a topic before what has gone by way of the former one.

        ``before`` is that one.
        """

    def release(self, topic: str) -> None:
        """Number what has waited for the owner of a topic, or let that do it."""

    def deliver(self, publication: Publication, concern: Concern) -> None:
        """Deliver to subscribers here, and tell the publisher's node what it wants to know."""
