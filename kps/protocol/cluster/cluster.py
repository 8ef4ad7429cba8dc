"""One node of a cluster: its links, and who takes what comes over them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from kps.protocol.bus.publication import ForwardedPublication
from kps.protocol.calls import entry
from kps.protocol.cluster.acks import ClusterAckBook
from kps.protocol.cluster.asks import Asks, DirectAsk
from kps.protocol.cluster.bus import ClusterBus
from kps.protocol.cluster.carrying import About, restored
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.delivery import ClusterDelivery
from kps.protocol.cluster.frames import Frame, Kind
from kps.protocol.cluster.histories import Histories
from kps.protocol.cluster.interest import Interest
from kps.protocol.cluster.link import Link
from kps.protocol.cluster.logs import ClusterLogBook
from kps.protocol.cluster.members import Members
from kps.protocol.cluster.names import Names
from kps.protocol.cluster.nodes import LinkEncoding, Node, Nodes
from kps.protocol.cluster.presence import ClusterPresenceBook
from kps.protocol.server.actions import no_such_client
from kps.protocol.server.config import HubConfig
from kps.protocol.server.delivery import Direct, Refusal
from kps.protocol.server.hub import Hub
from kps.protocol.server.local import LocalProgram
from kps.protocol.server.session import ServerSession
from kps.protocol.server.state import Parts, ServerState
from kps.protocol.wire.http import Responder


class LinkChange(NamedTuple):
    """The link to a node has come up, or has fallen."""

    node: str
    reason: str
    """Why it fell; empty: it is up."""
    lost: int
    """Frames that were not sent when it fell."""


class Cluster:
    """One node of a cluster. Its name is the id of its server.

    A driver says with ``open`` that it can reach another node, gives ``receive`` what comes from
    there, and with ``close`` that it cannot any more. It writes what ``take`` returns for the nodes
    of ``take_unflushed``.
    """

    def __init__(
        self,
        config: HubConfig,
        cluster: ClusterConfig,
        *,
        new_id: Callable[[], str],
        new_token: Callable[[], int],
        now: float,
        metrics: Responder | None = None,
    ) -> None:
        self._config = cluster
        self._new_token = new_token
        self._links: dict[str, Link] = {}
        self._unflushed: dict[str, None] = {}
        self.changes: list[LinkChange] = []
        """What has become of links, for the driver's log."""
        self.nodes = Nodes(config.id)
        self.hub = Hub(
            config,
            new_id=new_id,
            now=now,
            parts=Parts(
                lambda deadlines: ClusterBus(deadlines, self.nodes),
                ClusterAckBook,
                ClusterPresenceBook,
                ClusterLogBook,
            ),
            new_delivery=self._begin,
            metrics=metrics,
        )
        self.calls = self.hub.calls

    def _begin(self, state: ServerState, local: LocalProgram) -> ClusterDelivery:
        """Make the parts that the hub needs."""
        patience, nodes = self._config.confirm_timeout, self.nodes
        self._state = state
        self._encoding = LinkEncoding(self._seconds_left)
        bus, acks = state.bus, state.acks
        assert isinstance(bus, ClusterBus)
        assert isinstance(acks, ClusterAckBook)
        assert isinstance(state.presence, ClusterPresenceBook)
        self.interest = Interest(bus, nodes, state.deadlines, patience, now=lambda: state.now)
        self.members = Members(state, local, nodes, self.interest, self._find_session)
        self._tasks = acks.tasks
        self._tasks.connect(
            now=lambda: state.now,
            give_up=lambda request: acks.cancel(request.owner, request.owner_ack_id),
            taken_back=self.members.tell_load,
        )
        self._presence = state.presence
        self._presence.begin(nodes, self.interest)
        self.names = Names(state, nodes, patience, self._judge)
        state.names = self.names
        self._asks = Asks(state, local, nodes)
        self._delivery = ClusterDelivery(
            state, local, nodes, self.interest, self.names, self._asks, patience
        )
        self._histories: Histories | None = None
        if isinstance(state.logs, ClusterLogBook):
            self._histories = Histories(state, state.logs, nodes, self._asks, self._delivery)
            self._delivery.histories = self._histories
        return self._delivery

    # -- called by a driver -----------------------------------------------------------------

    @entry
    def open(self, node: str, now: float) -> None:
        """Begin to talk with a node, because there is a way to it."""
        self._state.now = now
        link = self._links.get(node)
        if link is None:
            name = self.nodes.me
            link = self._links[node] = Link(name, node, self._config, self, self._new_token)
        link.open(now)
        self._state.deadlines.schedule(link)

    @entry
    def receive(self, node: str, chunk: bytes, now: float) -> None:
        """Take a chunk of a node."""
        self._state.now = now
        link = self._links.get(node)
        if link is not None:
            link.receive(chunk, now)
            self._state.deadlines.schedule(link)

    @entry
    def close(self, node: str, now: float) -> None:
        """End the talk with a node, because there is no way to it any more."""
        self._state.now = now
        link = self._links.get(node)
        if link is not None:
            link.close()
            self._state.deadlines.cancel(link)

    def take_unflushed(self) -> list[str]:
        """Return the nodes for which there is something to write."""
        unflushed, self._unflushed = list(self._unflushed), {}
        return unflushed

    def take(self, node: str, now: float) -> list[bytes]:
        """Return the chunks to write to a node."""
        chunks = self._links[node].take(now)
        self._state.deadlines.schedule(self._links[node])
        return chunks

    # -- called by links --------------------------------------------------------------------

    def has_output(self, link: Link) -> None:
        """Note that there is something to write."""
        self._unflushed[link.node] = None

    def rose(self, link: Link) -> None:
        """Take a node in."""
        self.changes.append(LinkChange(link.node, "", 0))
        node = Node(link, self._encoding)
        self.nodes.add(node)
        if self._histories is not None:
            self._histories.node_came(node)
        self._presence.node_came(node)
        self.interest.greet(node)
        self.names.node_came(node.id)
        self.members.nodes_changed()

    def fell(self, link: Link, reason: str) -> None:
        """Let a node go, with all that its clients have here."""
        self.changes.append(LinkChange(link.node, reason, link.lost))
        link.lost = 0
        node = self.nodes.remove(link.node)
        self._state.bus.remove(node)
        if self._histories is not None:
            self._histories.node_went(node)
        self._presence.node_went(node)
        self._asks.node_went(node)
        self.members.node_went(node)
        self._tasks.node_went(node)
        self.members.nodes_changed()
        self.names.node_went(node.id)
        self._delivery.node_went(node.id)
        self.interest.look()

    def received(self, link: Link, frame: Frame) -> None:
        """Take a frame."""
        node = self.nodes.others.get(link.node)
        if node is None:
            return
        if frame.kind in _OF_HISTORY:
            if self._histories is not None:
                _OF_HISTORY[frame.kind](self._histories, node, frame.payload, *frame.values)
        else:
            _HANDLERS[frame.kind](self, node, frame.payload, *frame.values)

    # -- frames -----------------------------------------------------------------------------

    def _publish(self, node: Node, data: bytes, receipt: int, *about: Any) -> None:
        publication = restored(ForwardedPublication, About(*about), data)
        reached = self._delivery.publish(publication)
        if receipt:
            node.send(Kind.REACHED, receipt, reached)

    def _direct(
        self, node: Node, data: bytes, client_id: str, sender: str, headers: str, *where: Any
    ) -> None:
        origin, number, request = where
        direct, refuse = Direct(sender, data, headers.encode()), Refusal(number, request)
        if not self._delivery.route(client_id, direct, origin, refuse):
            self._tell_nobody(origin, client_id, refuse)

    def _hand(
        self, node: Node, data: bytes, client_id: str, sender: str, headers: str, *where: Any
    ) -> None:
        origin, number, request = where
        if not self._delivery.hand(client_id, Direct(sender, data, headers.encode())):
            self._tell_nobody(origin, client_id, Refusal(number, request))

    def _tell_nobody(self, origin: str, client_id: str, refuse: Refusal) -> None:
        node = self.nodes.others.get(origin)
        if node is not None:
            node.send(Kind.NOBODY, client_id, *refuse)
        elif origin == self.nodes.me:
            self._refuse(client_id, *refuse)

    def _nobody(self, node: Node, _: bytes, client_id: str, number: int, request: Any) -> None:
        self._refuse(client_id, number, request)

    def _refuse(self, client_id: str, number: int, request: Any) -> None:
        connection = self.hub.connections.get(number)
        if connection is not None:
            connection.session.refuse(no_such_client(client_id), request)

    def _ask(self, node: Node, data: bytes, ack_id: str, seconds: float, *about: Any) -> None:
        publication = restored(ForwardedPublication, About(*about), data)
        self._asks.ask_topic(node, ack_id, publication, seconds)

    def _ask_id(self, node: Node, data: bytes, *values: Any) -> None:
        self._delivery.route_ask(node, DirectAsk(*values[:-1]), data)

    def _hand_ask(self, node: Node, data: bytes, *values: Any) -> None:
        origin = self.nodes.others.get(values[-1])
        if origin is not None:
            self._asks.ask_client(origin, DirectAsk(*values[:-1]), data)

    # -- within -----------------------------------------------------------------------------

    def _find_session(self, number: int) -> ServerSession | None:
        connection = self.hub.connections.get(number)
        return None if connection is None else connection.session

    def _judge(self, number: int, verdict: object) -> None:
        connection = self.hub.connections.get(number)
        if connection is not None:
            connection.judge(verdict, self._state.now)

    def _seconds_left(self, ack_id: str) -> float:
        request = self._asks.pending(ack_id)
        return 0.0 if request is None else (request.deadline or 0.0) - self._state.now


_Handler = Callable[..., None]

_HANDLERS: dict[int, _Handler] = {
    Kind.INTEREST: lambda cluster, node, _, *values: cluster.interest.heed(node, *values),
    Kind.CONFIRM: lambda cluster, node, _, number: cluster.interest.confirmed(node, number),
    Kind.PUBLISH: Cluster._publish,
    Kind.REACHED: lambda cluster, node, _, *values: cluster._delivery.reached(node.id, *values),
    Kind.DIRECT: Cluster._direct,
    Kind.HAND: Cluster._hand,
    Kind.NOBODY: Cluster._nobody,
    Kind.CLAIM: lambda cluster, node, _, *values: cluster.names.claim_of(node, *values),
    Kind.CLAIMED: lambda cluster, node, _, *values: cluster.names.claimed(node, *values),
    Kind.REGISTER: lambda cluster, node, _, *values: cluster.names.registered(node.id, *values),
    Kind.RELEASE: lambda cluster, _, __, *values: cluster.names.released(*values),
    Kind.EVICT: lambda cluster, _, __, *values: cluster.names.evicted(*values),
    Kind.ASK: Cluster._ask,
    Kind.ASK_ID: Cluster._ask_id,
    Kind.HAND_ASK: Cluster._hand_ask,
    Kind.ASKED: lambda cluster, node, _, *values: cluster._asks.asked(node, *values),
    Kind.OUTCOME: lambda cluster, node, data, *values: cluster._asks.outcome(node, *values, data),
    Kind.JOIN: lambda cluster, node, _, *values: cluster.members.join(node, *values),
    Kind.LEAVE: lambda cluster, node, _, *values: cluster.members.leave(node, *values),
    Kind.GONE: lambda cluster, node, _, *values: cluster.members.left_for_good(node, *values),
    Kind.SHARE: lambda cluster, *values: cluster.members.share(*values),
    Kind.OFFER: lambda cluster, *values: cluster.members.offered(*values),
    Kind.TOOK: lambda cluster, _, __, *values: cluster._tasks.took(*values),
    Kind.MOVED: lambda cluster, _, __, *values: cluster._tasks.moved(*values),
    Kind.CONCLUDED: lambda cluster, _, data, *values: cluster._tasks.concluded(*values, data),
    Kind.GIVE: lambda cluster, *values: cluster.members.take(*values),
    Kind.ANSWER: lambda cluster, *values: cluster.members.answered(*values),
    Kind.WATCH: lambda cluster, node, _, *values: cluster._presence.watch(node, *values),
    Kind.PRESENT: lambda cluster, node, info, *values: cluster._presence.came(node, info, *values),
    Kind.RENAMED: lambda cluster, node, _, *values: cluster._presence.has_new_id(node, *values),
    Kind.AWAY: lambda cluster, node, _, *values: cluster._presence.went(node, *values),
    Kind.END: lambda cluster, node, _, ack_id: cluster._asks.ended(node, ack_id),
}

_OF_HISTORY: dict[int, _Handler] = {
    Kind.EPOCH: Histories.epoch,
    Kind.KEEP: Histories.keep,
    Kind.KEPT: Histories.kept,
    Kind.LOG: Histories.log,
    Kind.ENTRY: Histories.entry,
}
