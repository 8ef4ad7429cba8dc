"""Topics with history in a cluster: one node owns each, numbers its messages, and tells all others.

Every node keeps a copy of every log, so clients get messages of the past from their own node, and
what is kept outlives any node. A topic of which nothing is known is owned by its home. From then on
its owner stays the same, until it is gone: then the home of that moment goes on with what it has
kept, in a new epoch, so nobody is told that nothing is missing. If two nodes own one topic after a
split, the one with more messages keeps it.

A node may have a store, such as a file, with what it has kept before it started. What other nodes
own then, it follows. Of the rest, it owns again what it owned when it ended in order, in the same
epochs; what it had copies of, it goes on with in a new epoch. A topic with a message since the node
has started wins over one that is as a store had it.
"""

from collections.abc import Iterator
from typing import Any

from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.bus.logs import TopicLog
from kps.protocol.bus.publication import ForwardedPublication, Publication
from kps.protocol.cluster.asks import Asks
from kps.protocol.cluster.carrying import About, Concern, concern_in, payload_of, restored
from kps.protocol.cluster.copies import Copies
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.logs import ClusterLogBook
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.owners import LIVES, Owners
from kps.protocol.cluster.ports import DeliversHere
from kps.protocol.dialect.requests import Ask
from kps.protocol.server.state import ServerState


class Histories:
    """The topics with history, as one node sees them."""

    def __init__(
        self,
        state: ServerState,
        logs: ClusterLogBook,
        nodes: Nodes,
        asks: Asks,
        delivery: DeliversHere,
    ) -> None:
        self._state = state
        self._logs = logs
        self._nodes = nodes
        self._asks = asks
        self._delivery = delivery
        self.owners = Owners(logs, nodes)
        """Who owns which topic."""
        self.copies = Copies(state, logs, nodes, self.owners, delivery, self)
        """The logs of topics that other nodes own."""
        self._new: set[str] = set()  # nodes that have not told everything yet
        self._fences: dict[str, str] = {}
        """Topics with a new owner, and the former one, by way of which messages of ours may still
        be under way: so that newer ones do not overtake them, these are held."""
        self._epoch = logs.own_epoch
        self._holds = self._hands_over = self._is_over = False
        self._held: dict[str, list[tuple[Publication, Concern]]] = {}
        """What waits for the next owner of its topic: while this node hands its topics over, and
        after its start."""
        self.selected = logs.selected
        """The patterns of topics that have history."""
        logs.epoch_of = self._epoch_of
        logs.forgot = self._forgot

    def _forgot(self, topic: str) -> None:
        """Forget a topic whose log is forgotten."""
        self.owners.forget(topic)
        self.copies.forget(topic)

    def has(self, topic: str) -> bool:
        """Tell whether a topic has history."""
        return self._logs.has(topic)

    def _epoch_of(self, topic: str) -> str:
        home = self._nodes.home(topic)
        return self._logs.own_epoch if home is None else home.epoch

    # -- publishing -------------------------------------------------------------------------

    def publish(self, publication: Publication) -> int:
        """Number and deliver a publication, or let the owner of its topic do that."""
        concern = Concern(self._nodes.me, publication.receipt, "", 0.0)
        self._number_or_send(publication, concern)
        return 0  # it is counted when it comes back

    def ask(self, request: AckRequest, sender: str, ask: Ask) -> None:
        """Do the same with one that wants an ack."""
        publication = Publication(ask.target, sender, ask.data)
        publication.headers = ask.headers
        seconds = (request.deadline or 0.0) - self._state.now
        self._number_or_send(publication, Concern(self._nodes.me, 0, request.id, seconds))

    def _number_or_send(self, publication: Publication, concern: Concern) -> None:
        topic = publication.topic
        owner = None if topic in self._logs.waiting else self._owner_of(topic)
        if topic in self._fences:
            self._held.setdefault(topic, []).append((publication, concern))
        elif owner is not None:
            if concern.ack_id and concern.origin == self._nodes.me:
                self._asks.goes_by(concern.ack_id, owner)
            values = *concern, *About.of(publication)
            owner.send(Kind.KEEP, *values, payload=payload_of(publication))
        elif self._holds or topic in self._logs.waiting:
            self._held.setdefault(topic, []).append((publication, concern))
        else:
            self._number(publication, concern)

    def release(self, topic: str) -> None:
        """Number what has waited for the owner of a topic, or let that do it."""
        for held in self._held.pop(topic, ()):
            self._number_or_send(*held)

    def keep(self, _: Node, payload: bytes, *values: Any) -> None:
        """Number a publication of another node, as the owner of its topic."""
        concern, about = concern_in(values)
        publication = restored(Publication, about, payload)
        if not self.has(publication.topic):
            return  # that node has other rules
        self._number_or_send(publication, concern)

    def _number(self, publication: Publication, concern: Concern) -> None:
        """Number and keep a publication, deliver it here, and tell all nodes."""
        state, logs = self._state, self._logs
        logs.keep(publication, state.now)
        self.owners.lives(publication.topic)
        if logs.work:
            state.turns.left -= logs.take_work()
        log = logs.known(publication.topic)
        assert log is not None
        self._tell_epoch()
        about, payload = About.of(publication), payload_of(publication)
        place = log.epoch, publication.offset
        self._nodes.tell(Kind.KEPT, *place, *concern, *about, payload=payload)
        self.deliver(publication, concern)

    def deliver(self, publication: Publication, concern: Concern) -> None:
        """Deliver to subscribers here, and tell the publisher's node what it wants to know."""
        me, origin = self._nodes.me, self._nodes.others.get(concern.origin)
        if not concern.ack_id:
            reached = self._delivery.publish_here(publication)
            if concern.receipt and origin is not None:
                origin.send(Kind.REACHED, concern.receipt, reached)
            elif concern.receipt and concern.origin == me:
                self._delivery.reached(me, concern.receipt, reached)
            return
        for_subscribers, is_asked = _without_groups(publication), False
        if origin is not None:
            asking = origin, concern.ack_id, for_subscribers, concern.seconds
            is_asked = self._asks.ask_topic(*asking)
        elif concern.origin == me:
            is_asked = self._asks.ask_here(concern.ack_id, for_subscribers)
        if not is_asked:  # nobody waits any more, but the message is one of the topic
            self._delivery.publish_here(for_subscribers)

    # -- owners -----------------------------------------------------------------------------

    def _owner_of(self, topic: str) -> Node | None:
        """Return the node that numbers the messages of a topic; ``None``: this one."""
        owner, me = self.owners.of(topic), self._nodes.me
        if owner == me:
            return None
        if owner is not None:
            return self._nodes.others[owner]
        home = self._nodes.home(topic)
        if home is None:
            log = self._logs.of(topic)
            if log is not None and log.top:
                self.take_over([log])
            self.owners.note(topic, me)
        return home

    def take_over(self, logs: list[TopicLog], right: int = LIVES) -> None:
        """Own topics of which this node has copies, in a new epoch."""
        if logs:
            self._logs.renew(logs)
            self._tell_epoch()
        for log in logs:
            self.own(log, right)

    def own(self, log: TopicLog, right: int) -> None:
        """Own a topic, and tell all nodes what is kept of it."""
        topic = log.topic
        self.owners.note(topic, self._nodes.me, right)
        for node in self._nodes.others.values():
            self.copies.send(node, log)
        self.release(topic)

    def hold(self, *, for_good: bool = False) -> None:
        """Number nothing any more, because this node is about to end.

        With ``for_good`` it owns nothing new either.
        """
        self._holds, self._is_over = True, for_good

    def hand_over(self) -> Iterator[int]:
        """Let other nodes go on with the topics that this one owns. All have what it numbered."""
        self._hands_over = True
        for topic in self.owners.owned_by(self._nodes.me):
            log = self._logs.of(topic)
            if log is not None and self.owners.pass_on(log, log.epoch, log.top):
                self.release(topic)  # before anything newer
            yield 1
        self._holds = self._is_over
        for topic in list(self._held):  # that no other node takes
            self.release(topic)

    def handed_over(self, node: Node, _: bytes, topic: str, epoch: str, top: int) -> None:
        """Own a topic that its owner has handed over, and go on in its epoch."""
        log, was_ours = self._logs.of(topic), topic in self.owners.unconfirmed
        if log is None:
            return
        if was_ours:
            self.owners.refusing.add(node.id)
        if self._hands_over and self.owners.pass_on(log, epoch, top):
            return  # this node is about to end as well
        if self._is_over:
            if not was_ours:
                node.send(Kind.HANDOVER, topic, epoch, top)
            return
        if (log.epoch, log.top) != (epoch, top):  # this node has missed something
            self.take_over([log])
            return
        right = self.owners.right_to(topic)
        self.owners.note(topic, self._nodes.me, right)
        self._nodes.tell(Kind.LOG, topic, epoch, log.first, log.top, right)
        self.release(topic)

    def _tell_epoch(self) -> None:
        if self._epoch != self._logs.own_epoch:
            self._epoch = self._logs.own_epoch
            self._nodes.tell(Kind.EPOCH, self._epoch)

    def follows_another(self, topic: str, before: Node) -> None:
        """Send nothing to the new owner of a topic before what has gone by way of the former one.

        ``before`` is that one.
        """
        self._fences[topic] = before.id
        before.send(Kind.FENCE, topic, self._nodes.me)

    def fence(self, _: Node, __: bytes, topic: str, origin: str) -> None:
        """Pass on what comes behind all that a node has sent to a former owner of a topic."""
        owner, other = self._owner_of(topic), self._nodes.others.get(origin)
        if owner is not None:
            owner.send(Kind.FENCE, topic, origin)
        elif other is not None:
            other.send(Kind.FENCED, topic)

    def fenced(self, _: Node, __: bytes, topic: str) -> None:
        """Send to the owner of a topic, which has all by now that went by way of another node."""
        if self._fences.pop(topic, None) is not None:
            self.release(topic)

    # -- nodes that come and go -------------------------------------------------------------

    def node_came(self, node: Node) -> None:
        """Tell a new node the logs of this one."""
        self._new.add(node.id)
        node.send(Kind.EPOCH, self._epoch, self.selected)
        for topic in self.owners.owned_by(self._nodes.me):
            log = self._logs.known(topic)
            if log is None:
                self.owners.forget(topic)
            else:
                self.copies.send(node, log)

    def told_all(self, node: Node) -> None:
        """Own the topics that still have no owner, now that a new node has told everything.

        A node that is about to end lets the new one go on with its topics.
        """
        if node.id not in self._new:
            return
        self._new.discard(node.id)
        if self._is_over:
            return
        if self._hands_over:
            for _ in self.hand_over():
                pass
        elif not self._holds:
            self.take_over(self.owners.orphans(node))

    def node_went(self, node: Node, *, is_orderly: bool) -> None:
        """Forget what was told to a node, and what it owned. It may come back without that."""
        self.copies.node_went(node)
        self.owners.node_went(node.id, is_orderly=is_orderly)
        self._new.discard(node.id)
        for topic, before in list(self._fences.items()):
            if before == node.id or self.owners.of(topic) is None:
                del self._fences[topic]
                self.release(topic)


def _without_groups(publication: Publication) -> Publication:
    """Return a publication for subscribers; groups get it from the publisher's node."""
    forwarded = ForwardedPublication(publication.topic, publication.sender, *publication.texts)
    forwarded.headers, forwarded.offset = publication.headers, publication.offset
    forwarded.epoch = publication.epoch
    return forwarded
