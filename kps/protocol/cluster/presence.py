"""Who is subscribed to a topic on all nodes, for the observers on this one.

A node with observers of a topic watches it: every other node then tells which of its clients are
subscribed, and what changes. So each node has a roster of its own, and tells its own observers.
"""

from collections import Counter
from collections.abc import Callable

from kps.protocol.bus.subscriber import LOST, Departure, Stage, Subscriber
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.interest import Interest
from kps.protocol.cluster.nodes import Node, Nodes, Stranger, number_of
from kps.protocol.patterns import Key
from kps.protocol.server.presence import PresenceBook, Roster


class _Member(Stranger):
    """A subscriber of a topic on another node."""

    info = b""
    """What it says about itself, as JSON; empty for nothing."""


class ClusterPresenceBook(PresenceBook):
    """Who is subscribed to topics, on all nodes."""

    def begin(self, nodes: Nodes, interest: Interest) -> None:
        """Note what is known only when the other parts have been made."""
        self._nodes = nodes
        self._interest = interest
        self._watchers: dict[str, dict[Node, None]] = {}
        """The nodes that watch a topic."""
        self._elsewhere: dict[str, dict[tuple[str, int], _Member]] = {}
        """The members on other nodes of the topics that we watch."""
        self._preparing: Counter[str] = Counter()
        """How many wait until they can be told who is subscribed to a topic."""

    # -- for clients of this node -----------------------------------------------------------

    def prepare(self, topic: str, ready: Callable[[], object]) -> None:
        """Call ``ready`` once other nodes have told who is subscribed to a topic there."""
        if topic not in self._elsewhere:
            self._elsewhere[topic] = {}
            self._nodes.tell(Kind.WATCH, topic, True)
        self._preparing[topic] += 1

        def prepared() -> None:
            ready()
            self._preparing[topic] -= 1
            if not self._preparing[topic]:
                del self._preparing[topic]
                self._forget(topic)

        self._interest.when_all_answer(prepared)

    def forget_unless_needed(self, roster: Roster) -> None:
        """Forget the members of a topic that nobody observes."""
        super().forget_unless_needed(roster)
        self._forget(roster.topic)

    def _forget(self, topic: str) -> None:
        """Watch a topic no more, unless somebody needs that."""
        if topic in self._rosters or topic in self._preparing or topic not in self._elsewhere:
            return
        del self._elsewhere[topic]
        self._nodes.tell(Kind.WATCH, topic, False)

    def info_of(self, subscriber: Subscriber, topic: str) -> bytes:
        """Return what a subscriber says about itself on a topic, as JSON; empty for nothing."""
        if isinstance(subscriber, _Member):
            return subscriber.info
        return super().info_of(subscriber, topic)

    def _members(self, topic: str) -> list[Subscriber]:
        return [*super()._members(topic), *self._elsewhere.get(topic, {}).values()]

    # -- for other nodes --------------------------------------------------------------------

    def watch(self, node: Node, topic: str, wanted: bool) -> None:
        """Tell a node who is subscribed to a topic here, and what changes; or no more."""
        if not wanted:
            self._watch_no_more(node, topic)
            return
        self._watchers.setdefault(topic, {})[node] = None
        for subscriber in super()._members(topic):
            self._present(subscriber, topic, [node])

    def _watch_no_more(self, node: Node, topic: str) -> None:
        watchers = self._watchers.get(topic, {})
        watchers.pop(node, None)
        if not watchers:
            self._watchers.pop(topic, None)

    def _present(self, subscriber: Subscriber, topic: str, nodes: list[Node]) -> None:
        info = self.info_of(subscriber, topic)
        for node in nodes:
            node.send(Kind.PRESENT, topic, number_of(subscriber), subscriber.id, payload=info)

    def set_info(self, subscriber: Subscriber, topic: str, info: bytes) -> None:
        """Note what a subscriber of a topic says about itself there."""
        super().set_info(subscriber, topic, info)
        if topic in self._watchers and subscriber.topics.get(topic) is Stage.LIVE:
            self._present(subscriber, topic, list(self._watchers[topic]))

    def renamed(self, subscriber: Subscriber, previous: str) -> None:
        """Note that a client has another id."""
        super().renamed(subscriber, previous)
        if self._watchers:
            for key in subscriber.topics:
                for node in list(self._watchers.get(key, ())) if isinstance(key, str) else ():
                    node.send(Kind.RENAMED, key, number_of(subscriber), subscriber.id)

    def _joined(self, subscriber: Subscriber, key: Key) -> None:
        super()._joined(subscriber, key)
        if isinstance(key, str) and key in self._watchers:
            self._present(subscriber, key, list(self._watchers[key]))

    def _left(self, subscriber: Subscriber, key: Key) -> None:
        super()._left(subscriber, key)
        if isinstance(key, str):
            for node in list(self._watchers.get(key, ())):
                node.send(Kind.AWAY, key, number_of(subscriber), *subscriber.departure)

    # -- what other nodes tell --------------------------------------------------------------

    def came(self, node: Node, info: bytes, topic: str, number: int, client_id: str) -> None:
        """Note a subscriber of a node, or that it says something else about itself."""
        elsewhere = self._elsewhere.get(topic)
        if elsewhere is None:
            return
        member = elsewhere.get((node.id, number))
        if member is None:
            member = elsewhere[node.id, number] = _Member(node, number, client_id)
        member.info = info
        roster = self._rosters.get(topic)
        if roster is not None:
            roster.joined(member, self._now())

    def has_new_id(self, node: Node, topic: str, number: int, client_id: str) -> None:
        """Note that a subscriber of a node has another id."""
        member = self._elsewhere.get(topic, {}).get((node.id, number))
        roster = self._rosters.get(topic)
        if member is not None:
            previous, member.id = member.id, client_id
            if roster is not None:
                roster.renamed(member, previous, self._now())

    def went(self, node: Node, topic: str, number: int, *departure: object) -> None:
        """Note that a subscriber of a node has left."""
        member = self._elsewhere.get(topic, {}).pop((node.id, number), None)
        roster = self._rosters.get(topic)
        if member is not None and roster is not None:
            reason, may_return = departure
            roster.left(member, Departure(str(reason), bool(may_return)), self._now())

    def node_came(self, node: Node) -> None:
        """Watch at a new node what we watch."""
        for topic in self._elsewhere:
            node.send(Kind.WATCH, topic, True)

    def node_went(self, node: Node) -> None:
        """Let the subscribers of a node go. They may come back, to any node."""
        for topic in list(self._watchers):
            self._watch_no_more(node, topic)
        for topic, elsewhere in self._elsewhere.items():
            for name, number in list(elsewhere):
                if name == node.id:
                    self.went(node, topic, number, *LOST)
