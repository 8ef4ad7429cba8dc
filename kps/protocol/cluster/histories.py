"""Topics with history in a cluster: one node owns each, numbers its messages, and tells all others.

Every node keeps a copy of every log, so clients get messages of the past from their own node, and
what is kept outlives any node. A topic of which nothing is known is owned by its home. From then on
its owner stays the same, until it is gone: then the home of that moment goes on with what it has
kept, in a new epoch, so nobody is told that nothing is missing. If two nodes own one topic after a
split, the one with more messages keeps it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.bus.history import TopicLog
from kps.protocol.bus.publication import ForwardedPublication, Publication
from kps.protocol.cluster.asks import Asks
from kps.protocol.cluster.carrying import About, payload_of, restored
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.logs import ClusterLogBook
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.ports import DeliversHere
from kps.protocol.dialect.requests import Ask
from kps.protocol.server.state import ServerState


class Concern(NamedTuple):
    """Who wants to know what becomes of a publication."""

    origin: str
    """The node of the publisher."""
    receipt: int
    """The number of the receipt, or 0."""
    ack_id: str
    """The ack request, or empty."""
    seconds: float
    """For how long that waits."""


class Histories:
    """The topics with history, as one node sees them."""

    def __init__(
        self,
        state: ServerState,
        logs: ClusterLogBook,
        nodes: Nodes,
        asks: Asks,
        delivery: DeliversHere,
        strangers: list[str],
    ) -> None:
        self._state = state
        self._logs = logs
        self._nodes = nodes
        self._asks = asks
        self._delivery = delivery
        self._owners: dict[str, str] = {}
        self._told: dict[tuple[str, str], int] = {}  # how far a log was, by node and topic
        self._silent: dict[str, int] = {}  # up to where nothing is delivered that comes as past
        self._strangers = strangers
        self._epoch = logs.own_epoch
        self._held: dict[str, list[tuple[Publication, Concern]]] | None = None
        """While this node hands its topics over: what their next owners will number, by topic."""
        logs.epoch_of = self._epoch_of

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
        owner = self._owner_of(publication.topic)
        if owner is not None:
            if concern.ack_id and concern.origin == self._nodes.me:
                self._asks.goes_by(concern.ack_id, owner)
            self._send(owner, publication, concern)
        elif self._held is not None:
            self._held.setdefault(publication.topic, []).append((publication, concern))
        else:
            self._number(publication, concern)

    def _send(self, owner: Node, publication: Publication, concern: Concern) -> None:
        owner.send(Kind.KEEP, *concern, *About.of(publication), payload=payload_of(publication))

    def keep(self, _: Node, payload: bytes, *values: Any) -> None:
        """Number a publication of another node, as the owner of its topic."""
        concern, about = _split(values)
        publication = restored(Publication, about, payload)
        if not self.has(publication.topic):
            return  # that node has other rules
        self._number_or_send(publication, concern)

    def _number(self, publication: Publication, concern: Concern) -> None:
        """Number and keep a publication, deliver it here, and tell all nodes."""
        state, logs = self._state, self._logs
        logs.keep(publication, state.now)
        if logs.work:
            state.turns.left -= logs.take_work()
        log = logs.known(publication.topic)
        assert log is not None
        self._tell_epoch()
        about, payload = About.of(publication), payload_of(publication)
        place = log.epoch, publication.offset
        self._nodes.tell(Kind.KEPT, *place, *concern, *about, payload=payload)
        self._deliver(publication, concern)

    def kept(self, node: Node, payload: bytes, epoch: str, first: int, *values: Any) -> None:
        """Keep and deliver what the owner of a topic has numbered."""
        concern, about = _split(values)
        topic = about.topic
        log = self._log(topic)
        if log is None:
            return
        owner = self._owners.get(topic)
        if owner == self._nodes.me:
            self._contest(node, log)
            return
        if owner is None:
            self._owners[topic] = node.id
        elif owner != node.id:
            return  # the owner has won against it, and it does not know yet
        publication = restored(ForwardedPublication, about, payload)
        if self._logs.follow(log, publication, epoch, first, self._state.now):
            self._deliver(publication, concern)

    def _deliver(self, publication: Publication, concern: Concern) -> None:
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
        owner, me = self._owners.get(topic), self._nodes.me
        if owner == me:
            return None
        if owner is not None:
            return self._nodes.others[owner]
        home = self._nodes.home(topic)
        if home is None:
            log = self._log(topic)
            if log is not None and log.top:
                self._take_over(log)
            self._owners[topic] = me
        return home

    def _take_over(self, log: TopicLog) -> None:
        """Own a topic whose owner is gone."""
        self._logs.renumber(log)
        self._tell_epoch()
        self._owners[log.topic] = self._nodes.me
        for node in self._nodes.others.values():
            self._send_log(node, log)

    def hold(self) -> None:
        """Number nothing any more, because this node is about to end."""
        self._held = {}

    def hand_over(self) -> Iterator[int]:
        """Let other nodes go on with the topics that this one owns. All have what it numbered."""
        me = self._nodes.me
        for topic in [topic for topic, owner in self._owners.items() if owner == me]:
            home, log = self._nodes.home(topic), self._log(topic)
            if home is not None and log is not None:
                self._owners[topic] = home.id
                home.send(Kind.HANDOVER, topic, log.epoch, log.top)
                for held in (self._held or {}).pop(topic, ()):  # before anything newer
                    self._number_or_send(*held)
            yield 1
        left, self._held = self._held or {}, None
        for several in left.values():  # of topics that no other node takes
            for held in several:
                self._number_or_send(*held)

    def handed_over(self, node: Node, _: bytes, topic: str, epoch: str, top: int) -> None:
        """Own a topic that its owner has handed over, and go on in its epoch."""
        log = self._log(topic)
        if log is None:
            return
        if (log.epoch, log.top) != (epoch, top):  # this node has missed something
            self._take_over(log)
            return
        self._owners[topic] = self._nodes.me
        for other in self._nodes.others.values():
            if other is not node:
                other.send(Kind.LOG, topic, epoch, log.first, log.top)

    def _log(self, topic: str) -> TopicLog | None:
        return self._logs.known(topic) if self.has(topic) else None

    def _tell_epoch(self) -> None:
        if self._epoch != self._logs.own_epoch:
            self._epoch = self._logs.own_epoch
            self._nodes.tell(Kind.EPOCH, self._epoch)

    def epoch(self, node: Node, _: bytes, epoch: str, selected: list[str] | None = None) -> None:
        """Note the epoch of topics that a node will own, and which topics have history there."""
        node.epoch = epoch
        if selected is not None and selected != self._logs.selected:
            self._strangers.append(node.id)

    # -- copies -----------------------------------------------------------------------------

    def _send_log(self, node: Node, log: TopicLog) -> None:
        """Tell a node that this one owns a topic, and all that is kept of it."""
        self._told[node.id, log.topic] = log.top
        node.send(Kind.LOG, log.topic, log.epoch, log.first, log.top)
        now = self._state.now
        for entry in self._logs.entries_of(log):
            place = log.epoch, entry.first, now - entry.time
            about = About(log.topic, entry.sender, entry.messages, entry.headers.decode())
            node.send(Kind.ENTRY, *place, *about, payload=entry.text)

    def log(self, node: Node, _: bytes, topic: str, epoch: str, first: int, top: int) -> None:
        """Follow a node that owns a topic, unless this one does, with more messages."""
        log = self._log(topic)
        if log is None:
            return
        if self._owners.get(topic) == self._nodes.me:
            mine = self._contest(node, log)
            if (mine, log.epoch) > (top, epoch):
                self._told.pop((node.id, topic), None)
                for other in self._nodes.others.values():
                    if other is not node:
                        self._send_log(other, log)
                return
        self._owners[topic] = node.id
        if log.epoch != epoch:
            self._logs.begin_anew(log, epoch, first - 1)
            self._silent[topic] = top

    def _contest(self, node: Node, log: TopicLog) -> int:
        """Tell a node that owns a topic, too, of our log; return how far that was then."""
        if (node.id, log.topic) not in self._told:
            self._send_log(node, log)
        return self._told[node.id, log.topic]

    def entry(
        self, node: Node, payload: bytes, epoch: str, first: int, age: float, *values: Any
    ) -> None:
        """Keep a part of the log of a node; deliver what of it has been missed here."""
        about = About(*values)
        topic = about.topic
        log = self._log(topic)
        if log is None or self._owners.get(topic) != node.id:
            return
        publication = restored(ForwardedPublication, about, payload)
        is_new = self._logs.follow(log, publication, epoch, first, self._state.now - age)
        if is_new and publication.offset > self._silent.get(topic, 0):
            self._delivery.publish_here(publication)

    # -- nodes that come and go -------------------------------------------------------------

    def node_came(self, node: Node) -> None:
        """Tell a new node the logs of this one."""
        node.send(Kind.EPOCH, self._epoch, self._logs.selected)
        for topic, owner in list(self._owners.items()):
            log = self._logs.known(topic)
            if log is None:
                del self._owners[topic]
            elif owner == self._nodes.me:
                self._send_log(node, log)

    def node_went(self, node: Node) -> None:
        """Forget what was told to a node, and what it owned. It may come back without that."""
        self._owners = {topic: one for topic, one in self._owners.items() if one != node.id}
        self._told = {place: top for place, top in self._told.items() if place[0] != node.id}


def _split(values: tuple[Any, ...]) -> tuple[Concern, About]:
    middle = len(Concern._fields)
    return Concern(*values[:middle]), About(*values[middle:])


def _without_groups(publication: Publication) -> Publication:
    """Return a publication for subscribers; groups get it from the publisher's node."""
    forwarded = ForwardedPublication(publication.topic, publication.sender, *publication.texts)
    forwarded.headers, forwarded.offset = publication.headers, publication.offset
    forwarded.epoch = publication.epoch
    return forwarded
