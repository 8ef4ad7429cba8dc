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
from typing import Any, NamedTuple

from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.bus.history import TopicLog
from kps.protocol.bus.publication import ForwardedPublication, Publication
from kps.protocol.cluster.asks import Asks
from kps.protocol.cluster.carrying import About, payload_of, restored
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.logs import ClusterLogBook
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.owners import COPY, LIVES, WHOLE, Owners
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
    ) -> None:
        self._state = state
        self._logs = logs
        self._nodes = nodes
        self._asks = asks
        self._delivery = delivery
        self.owners = Owners(logs, nodes)
        """Who owns which topic."""
        self._told: dict[tuple[str, str], tuple[int, int]] = {}  # right and top, by node and topic
        self._new: set[str] = set()  # nodes that have not told everything yet
        self._lacking: set[str] = set()  # topics that their owners are to send as a whole
        self._silent: dict[str, int] = {}  # up to where nothing is delivered that comes as past
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
        self._lacking.discard(topic)
        self._silent.pop(topic, None)
        for node in self._nodes.others:
            self._told.pop((node, topic), None)

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
        if owner is not None:
            if concern.ack_id and concern.origin == self._nodes.me:
                self._asks.goes_by(concern.ack_id, owner)
            values = *concern, *About.of(publication)
            owner.send(Kind.KEEP, *values, payload=payload_of(publication))
        elif self._holds or topic in self._logs.waiting:
            self._held.setdefault(topic, []).append((publication, concern))
        else:
            self._number(publication, concern)

    def _release(self, topic: str) -> None:
        """Number what has waited for the owner of a topic, or let that do it."""
        for held in self._held.pop(topic, ()):
            self._number_or_send(*held)

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
        self.owners.lives(publication.topic)
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
        log = self._logs.of(topic)
        if log is None:
            return
        if self.owners.of(topic) is None:
            self.owners.note(topic, node.id)
        owner, is_next = self.owners.of(topic), (log.epoch, log.top + 1) == (epoch, first)
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
        self.owners.lives(topic)
        publication = restored(ForwardedPublication, about, payload)
        if self._logs.follow(log, publication, epoch, first, self._state.now):
            self._deliver(publication, concern)

    def _ask_for(self, owner: Node, topic: str) -> None:
        """Let the owner of a topic send all of it, because something is missing here."""
        if topic not in self._lacking:
            self._lacking.add(topic)
            owner.send(Kind.LACKS, topic)

    def lacks(self, node: Node, _: bytes, topic: str) -> None:
        """Send all of a topic to a node that lacks something of it."""
        log = self._logs.known(topic)
        if log is not None and self.owners.of(topic) == self._nodes.me:
            self._send_log(node, log)

    def _pass_over(self, concern: Concern) -> None:
        """Tell the publisher's node that nobody here gets a publication from this one."""
        origin = self._nodes.others.get(concern.origin)
        if origin is not None and concern.ack_id:
            origin.send(Kind.ASKED, concern.ack_id, [], self._nodes.me)
        elif origin is not None and concern.receipt:
            origin.send(Kind.REACHED, concern.receipt, 0)

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
            self._send_log(node, log)
        self._release(topic)

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
                self._release(topic)  # before anything newer
            yield 1
        self._holds = self._is_over
        for topic in list(self._held):  # that no other node takes
            self._release(topic)

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
        self._release(topic)

    def _tell_epoch(self) -> None:
        if self._epoch != self._logs.own_epoch:
            self._epoch = self._logs.own_epoch
            self._nodes.tell(Kind.EPOCH, self._epoch)

    # -- copies -----------------------------------------------------------------------------

    def _send_log(self, node: Node, log: TopicLog) -> None:
        """Tell a node that this one owns a topic, and all that is kept of it."""
        right = self.owners.right_to(log.topic)
        self._told[node.id, log.topic] = right, log.top
        node.send(Kind.LOG, log.topic, log.epoch, log.first, log.top, right)
        now = self._state.now
        for entry in self._logs.entries_of(log):
            place = log.epoch, entry.first, now - entry.time
            about = About(log.topic, entry.sender, entry.messages, entry.headers.decode())
            node.send(Kind.ENTRY, *place, *about, payload=entry.text)

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
                self.own(log, WHOLE)
            else:
                self.take_over([log], COPY)
        if self.owners.of(topic) == self._nodes.me:
            mine = self._contest(node, log)
            if (*mine, log.epoch) > (right, top, epoch):
                self._told.pop((node.id, topic), None)
                for other in self._nodes.others.values():
                    if other is not node:
                        self._send_log(other, log)
                return
            self._yield_to(node, topic)
        self._lacking.discard(topic)
        self._silent.pop(topic, None)
        if log.epoch != epoch or log.top > top:  # it is no beginning of that one
            self._logs.begin_anew(log, epoch, first - 1)
            self._silent[topic] = top
        self.owners.note(topic, node.id, right)
        self._release(topic)

    def _yield_to(self, winner: Node, topic: str) -> None:
        """Tell those that may take this node for the owner of a topic that another one is."""
        for other in self._nodes.others.values():
            if self._told.pop((other.id, topic), None) and other is not winner:
                other.send(Kind.YIELDED, topic, winner.id)

    def yielded(self, node: Node, _: bytes, topic: str, winner: str) -> None:
        """Turn to another owner of a topic, because the one that we follow has lost against it."""
        if self.owners.of(topic) != node.id:
            return
        owner = self._nodes.others.get(winner)
        if owner is None:
            self.owners.forget(topic)
        else:
            self.owners.note(topic, winner)
            self._ask_for(owner, topic)

    def _contest(self, node: Node, log: TopicLog) -> tuple[int, int]:
        """Tell a node that owns a topic, too, of our log; return our right, and how far the log
        was, when we told that."""
        if (node.id, log.topic) not in self._told:
            self._send_log(node, log)
        return self._told[node.id, log.topic]

    def entry(
        self, node: Node, payload: bytes, epoch: str, first: int, age: float, *values: Any
    ) -> None:
        """Keep a part of the log of a node; deliver what of it has been missed here."""
        about = About(*values)
        topic = about.topic
        log = self._logs.of(topic)
        if log is None or self.owners.of(topic) != node.id:
            return
        publication = restored(ForwardedPublication, about, payload)
        is_new = self._logs.follow(log, publication, epoch, first, self._state.now - age)
        if is_new and publication.offset > self._silent.get(topic, 0):
            self._delivery.publish_here(publication)

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
                self._send_log(node, log)

    def told_all(self, node: Node) -> None:
        """Own the topics that still have no owner, now that a new node has told everything.

        A node that is about to end lets the new one go on with its topics.
        """
        if node.id not in self._new:
            return
        self._new.discard(node.id)
        if self._hands_over:
            for _ in () if self._is_over else self.hand_over():
                pass
        elif not self._holds:
            self.take_over(self.owners.orphans(node))

    def node_went(self, node: Node, *, is_orderly: bool) -> None:
        """Forget what was told to a node, and what it owned. It may come back without that."""
        self._lacking.difference_update(self.owners.owned_by(node.id))
        self.owners.node_went(node.id, is_orderly=is_orderly)
        self._new.discard(node.id)
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
