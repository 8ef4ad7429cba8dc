"""Who owns the topics with history, as one node knows it, and by which right."""

from typing import Final

from kps.protocol.bus.logs import TopicLog
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.homes import home_of
from kps.protocol.cluster.logs import ClusterLogBook
from kps.protocol.cluster.nodes import Node, Nodes

COPY: Final = 0
"""The right of a node whose store has a copy of a topic."""
WHOLE: Final = 1
"""That of one which owned it when it ended in order: its store has all."""
LIVES: Final = 2
"""That of one which has numbered messages since it started, or has taken the topic over."""


class Owners:
    """The owners of topics. Those of the store that nobody owns yet wait in the logs."""

    def __init__(self, logs: ClusterLogBook, nodes: Nodes) -> None:
        self._logs = logs
        self._nodes = nodes
        self._owners: dict[str, str] = {}
        self._rights: dict[str, int] = {}  # only those below LIVES
        self.refusing: set[str] = set()
        """Nodes that are about to end, and take no topics."""
        self.unconfirmed: set[str] = set()
        """Topics of this node that others are to own, and have not said that they do."""
        logs.is_owned = lambda topic: self._owners.get(topic) == nodes.me

    def of(self, topic: str) -> str | None:
        """Return the node that owns a topic, if one does."""
        return self._owners.get(topic)

    def owned_by(self, node: str) -> list[str]:
        """Return the topics that a node owns."""
        return [topic for topic, owner in self._owners.items() if owner == node]

    @property
    def have_all_here(self) -> bool:
        """Whether no other node owns a topic, or will."""
        me = self._nodes.me
        return self._nodes.homes == (me,) and all(one == me for one in self._owners.values())

    def pass_on(self, log: TopicLog, epoch: str, top: int) -> bool:
        """Let another node go on with a topic of this one, unless all others are about to end."""
        topic = log.topic
        me, refusing = self._nodes.me, self.refusing
        homes = [one for one in self._nodes.homes if one != me and one not in refusing]
        if not homes or not self._nodes.somebody_stays:
            return False
        home = self._nodes.others[home_of(topic, homes)]
        self.note(topic, home.id, self.right_to(topic))
        self.unconfirmed.add(topic)
        home.send(Kind.HANDOVER, topic, epoch, top)
        return True

    def right_to(self, topic: str) -> int:
        """Return by which right the owner of a topic has it."""
        return self._rights.get(topic, LIVES)

    def note(self, topic: str, owner: str, right: int = LIVES) -> None:
        """Note who owns a topic."""
        self._owners[topic] = owner
        self.unconfirmed.discard(topic)
        self._logs.waiting.pop(topic, None)
        if right < LIVES:
            self._rights[topic] = right
        else:
            self.lives(topic)

    def lives(self, topic: str) -> None:
        """Note that the owner of a topic has numbered a message."""
        self._rights.pop(topic, None)

    def forget(self, topic: str) -> None:
        """Forget a topic that has no log any more."""
        self._owners.pop(topic, None)
        self._rights.pop(topic, None)
        self.unconfirmed.discard(topic)

    def node_went(self, node: str, *, is_orderly: bool) -> None:
        """Forget what a node owned.

        If it has ended in order, it had not taken what it did not confirm. So that is ours again,
        or another one's who stays.
        """
        self.refusing.discard(node)
        for topic in self.owned_by(node):
            log = self._logs.known(topic)
            if is_orderly and topic in self.unconfirmed and log is not None:
                self.note(topic, self._nodes.me, self.right_to(topic))
                self.pass_on(log, log.epoch, log.top)
            else:
                self.forget(topic)

    def orphans(self, new: Node) -> list[TopicLog]:
        """Return logs that nobody owns, and whose home this node was before another one came."""
        homes = [home for home in self._nodes.homes if home != new.id]
        known = self._owners.keys() | self._logs.waiting
        orphans = [log for log in self._logs.logs() if log.entries and log.topic not in known]
        return [log for log in orphans if homes and home_of(log.topic, homes) == self._nodes.me]
