"""The bus of a node: other nodes subscribe to it, too, and its groups have members elsewhere."""

from collections.abc import Container
from functools import partial

from kps.protocol.bus.groups import Group
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subjects import Subject
from kps.protocol.bus.subscriber import Stage, Subscriber
from kps.protocol.bus.topics import Bus
from kps.protocol.cluster.agreement import Agreement
from kps.protocol.cluster.carrying import About, payload_of
from kps.protocol.cluster.frames import Kind, write_key
from kps.protocol.cluster.nodes import Node, Nodes, Stranger
from kps.protocol.patterns import InGroup, Key
from kps.protocol.timers import Deadlines


class ClusterGroup(Group):
    """A group with members on several nodes. Its home gives them their messages.

    At home, the members on other nodes are guests. On other nodes it has only the members that are
    there.
    """

    __slots__ = ("_agreement", "_nodes", "elsewhere")

    def __init__(
        self, key: InGroup, leaving: Container[Subscriber], nodes: Nodes, agreement: Agreement
    ) -> None:
        super().__init__(key, leaving)
        self._nodes = nodes
        self._agreement = agreement
        self.elsewhere: set[Node] = set()
        """The nodes that have members."""

    @property
    def is_empty(self) -> bool:
        return not self.members and not self.elsewhere

    def publish(self, publication: Publication) -> int:
        """Give each message to one member, in turn, or let the home do that."""
        home = self._nodes.home_of_group(self.key)
        if home is None:
            if self._agreement.is_sure:
                return super().publish(publication)
            self._agreement.when_sure(partial(self.publish, publication))
            return 0
        values = write_key(self.key), publication.receipt, *About.of(publication)
        home.send(Kind.SHARE, *values, payload=payload_of(publication))
        return 0


class ClusterBus(Bus):
    """The bus of a node. What other nodes and their clients do here is no news for its program."""

    elsewhere: tuple[type, ...] = (Node, Stranger)

    def __init__(self, deadlines: Deadlines, nodes: Nodes, agreement: Agreement) -> None:
        super().__init__(deadlines)
        self.nodes = nodes
        self.agreement = agreement

    def _new_group(self, key: InGroup) -> Group:
        return ClusterGroup(key, self._leaving, self.nodes, self.agreement)

    def _tell_joined(self, subscriber: Subscriber, key: Key) -> None:
        if isinstance(subscriber, self.elsewhere):
            self.subscriptions -= 1  # it counts at its own node
        else:
            super()._tell_joined(subscriber, key)

    def _tell_left(self, subscriber: Subscriber, key: Key) -> None:
        if isinstance(subscriber, self.elsewhere):
            self.subscriptions += 1
        else:
            super()._tell_left(subscriber, key)

    def _of_subject(self, subject: Subject) -> list[Subscriber]:
        return [one for one in super()._of_subject(subject) if not isinstance(one, Node)]

    def heed(self, node: Node, key: Key) -> None:
        """Note that a node has subscribers for a topic or pattern, or members of a group."""
        if not isinstance(key, InGroup):
            self.subscribe(node, key)
            return
        group = self.routes.add_group(key, self._new_group)
        assert isinstance(group, ClusterGroup)
        group.elsewhere.add(node)
        node.topics[group.key] = Stage.LIVE

    def _leave_group(self, subscriber: Subscriber, key: InGroup) -> None:
        if not isinstance(subscriber, Node):
            super()._leave_group(subscriber, key)
            return
        subscriber.topics.pop(key, None)
        group = self.group(key)
        if isinstance(group, ClusterGroup):
            group.elsewhere.discard(subscriber)
            if group.is_empty:
                self.routes.remove_group(key)
