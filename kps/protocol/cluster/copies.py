"""The copies that a node has of the logs of topics which other nodes own, and how it gets them."""

from typing import Any

from kps.protocol.bus.logs import TopicLog
from kps.protocol.bus.publication import ForwardedPublication
from kps.protocol.cluster.carrying import About, Concern, concern_in, restored
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.logs import ClusterLogBook
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.owners import COPY, WHOLE, Owners
from kps.protocol.cluster.ports import DeliversHere, Numbers
from kps.protocol.server.state import ServerState


class Copies:
    """Follows the owners of topics, and tells other nodes of the topics that this one owns."""

    def __init__(
        self,
        state: ServerState,
        logs: ClusterLogBook,
        nodes: Nodes,
        owners: Owners,
        delivery: DeliversHere,
        numbers: Numbers,
    ) -> None:
        self._state = state
        self._logs = logs
        self._nodes = nodes
        self._owners = owners
        self._delivery = delivery
        self._numbers = numbers
        self._told: dict[tuple[str, str], tuple[int, int]] = {}  # right and top, by node and topic
        self._lacking: set[str] = set()  # topics that their owners are to send as a whole
        self._silent: dict[str, int] = {}  # up to where nothing is delivered that comes as past

    # -- what owners send -------------------------------------------------------------------

    def kept(self, node: Node, payload: bytes, epoch: str, first: int, *values: Any) -> None:
        """Keep and deliver what the owner of a topic has numbered."""
        concern, about = concern_in(values)
        topic = about.topic
        log = self._logs.of(topic)
        if log is None:
            return
        if self._owners.of(topic) is None:
            self._owners.note(topic, node.id)
        owner, is_next = self._owners.of(topic), (log.epoch, log.top + 1) == (epoch, first)
        if owner == self._nodes.me:
            self._contest(node, log)
        if owner != node.id:
            # It has lost against the owner, and does not know yet; or it has handed the topic over,
            # and what it sent before comes late.
            is_wanted = is_next and owner != self._nodes.me
        else:
            is_gap = first > 1 and (log.epoch != epoch or first > log.top + 1)
            if is_gap:
                self._ask_for(node, topic)
            is_wanted = not is_gap and topic not in self._lacking
        if not is_wanted:
            self._pass_over(concern)
            return
        self._owners.lives(topic)
        publication = restored(ForwardedPublication, about, payload)
        if self._logs.follow(log, publication, epoch, first, self._state.now):
            self._numbers.deliver(publication, concern)

    def _pass_over(self, concern: Concern) -> None:
        """Tell the publisher's node that nobody here gets a publication from this one."""
        origin = self._nodes.others.get(concern.origin)
        if origin is not None and concern.ack_id:
            origin.send(Kind.ASKED, concern.ack_id, [], self._nodes.me)
        elif origin is not None and concern.receipt:
            origin.send(Kind.REACHED, concern.receipt, 0)

    def entry(
        self, node: Node, payload: bytes, epoch: str, first: int, age: float, *values: Any
    ) -> None:
        """Keep a part of the log of a node; deliver what of it has been missed here."""
        about = About(*values)
        topic = about.topic
        log = self._logs.of(topic)
        if log is None or self._owners.of(topic) != node.id:
            return
        publication = restored(ForwardedPublication, about, payload)
        is_new = self._logs.follow(log, publication, epoch, first, self._state.now - age)
        if is_new and publication.offset > self._silent.get(topic, 0):
            self._delivery.publish_here(publication)

    def log(
        self, node: Node, _: bytes, topic: str, epoch: str, first: int, top: int, right: int
    ) -> None:
        """Follow a node that owns a topic, unless this one does, with more right or messages."""
        log = self._logs.of(topic)
        if log is None:
            return
        is_whole = self._logs.waiting.get(topic)
        if is_whole is not None and (WHOLE if is_whole else COPY, log.top) > (right, top):
            if is_whole:
                self._numbers.own(log, WHOLE)
            else:
                self._numbers.take_over([log], COPY)
        if self._owners.of(topic) == self._nodes.me:
            mine = self._contest(node, log)
            if (*mine, log.epoch) > (right, top, epoch):
                self._told.pop((node.id, topic), None)
                for other in self._nodes.others.values():
                    if other is not node:
                        self.send(other, log)
                return
            self._yield_to(node, topic)
        self._lacking.discard(topic)
        self._silent.pop(topic, None)
        before = self._nodes.others.get(self._owners.of(topic) or "")
        if before is not None and before is not node:
            self._numbers.follows_another(topic, before)
        if log.epoch != epoch or log.top > top:  # it is no beginning of that one
            self._logs.begin_anew(log, epoch, first - 1)
            self._silent[topic] = top
        self._owners.note(topic, node.id, right)
        self._numbers.release(topic)

    # -- who owns what ----------------------------------------------------------------------

    def _contest(self, node: Node, log: TopicLog) -> tuple[int, int]:
        """Tell a node that owns a topic, too, of our log; return our right, and how far the log
        was, when we told that."""
        if (node.id, log.topic) not in self._told:
            self.send(node, log)
        return self._told[node.id, log.topic]

    def _yield_to(self, winner: Node, topic: str) -> None:
        """Tell those that may take this node for the owner of a topic that another one is."""
        for other in self._nodes.others.values():
            if self._told.pop((other.id, topic), None) and other is not winner:
                other.send(Kind.YIELDED, topic, winner.id)

    def yielded(self, node: Node, _: bytes, topic: str, winner: str) -> None:
        """Turn to another owner of a topic, because the one that we follow has lost against it."""
        if self._owners.of(topic) != node.id:
            return
        self._lacking.discard(topic)  # who was asked for it sends it no more
        owner = self._nodes.others.get(winner)
        if owner is None:
            self._owners.forget(topic)
        else:
            self._owners.note(topic, winner)
            self._ask_for(owner, topic)

    def _ask_for(self, owner: Node, topic: str) -> None:
        """Let the owner of a topic send all of it, because something is missing here."""
        if topic not in self._lacking:
            self._lacking.add(topic)
            owner.send(Kind.LACKS, topic)

    def lacks(self, node: Node, _: bytes, topic: str) -> None:
        """Send all of a topic to a node that lacks something of it."""
        log = self._logs.known(topic)
        if log is not None and self._owners.of(topic) == self._nodes.me:
            self.send(node, log)

    def send(self, node: Node, log: TopicLog) -> None:
        """Tell a node that this one owns a topic, and all that is kept of it."""
        right = self._owners.right_to(log.topic)
        self._told[node.id, log.topic] = right, log.top
        node.send(Kind.LOG, log.topic, log.epoch, log.first, log.top, right)
        now = self._state.now
        for entry in self._logs.entries_of(log):
            place = log.epoch, entry.first, now - entry.time
            about = About(log.topic, entry.sender, entry.messages, entry.headers.decode())
            node.send(Kind.ENTRY, *place, *about, payload=entry.text)

    def forget(self, topic: str) -> None:
        """Forget a topic whose log is forgotten."""
        self._lacking.discard(topic)
        self._silent.pop(topic, None)
        for node in self._nodes.others:
            self._told.pop((node, topic), None)

    def node_went(self, node: Node) -> None:
        """Forget what a node was told, and what it was asked for."""
        self._lacking.difference_update(self._owners.owned_by(node.id))
        self._told = {place: told for place, told in self._told.items() if place[0] != node.id}
