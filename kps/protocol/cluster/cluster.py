"""One node of a cluster: its links, and who takes what comes over them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from kps.protocol.bus.slices import MakeWork, Slices
from kps.protocol.calls import entry
from kps.protocol.cluster.acks import ClusterAckBook
from kps.protocol.cluster.agreement import Agreement
from kps.protocol.cluster.asks import Asks
from kps.protocol.cluster.bus import ClusterBus
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.delivery import ClusterDelivery
from kps.protocol.cluster.desk import ClusterDesk
from kps.protocol.cluster.dismissal import Dismissal
from kps.protocol.cluster.figures import ClusterMonitor, Exporter, NodeFigures
from kps.protocol.cluster.frames import Frame, Kind
from kps.protocol.cluster.histories import Histories
from kps.protocol.cluster.interest import Interest
from kps.protocol.cluster.link import ENDED, Link
from kps.protocol.cluster.logs import ClusterLogBook
from kps.protocol.cluster.members import Members
from kps.protocol.cluster.names import Names
from kps.protocol.cluster.nodes import LinkEncoding, Node, Nodes
from kps.protocol.cluster.presence import ClusterPresenceBook
from kps.protocol.cluster.recall import Recall
from kps.protocol.cluster.reception import Reception
from kps.protocol.cluster.resuming import Resumption
from kps.protocol.cluster.survey import Survey
from kps.protocol.cluster.tasks import ClusterTaskBook
from kps.protocol.server.actions import no_such_client
from kps.protocol.server.config import HubConfig
from kps.protocol.server.delivery import Refusal
from kps.protocol.server.events import SessionFailed
from kps.protocol.server.hub import Hub
from kps.protocol.server.local import LocalProgram
from kps.protocol.server.session import ServerSession
from kps.protocol.server.state import Parts, ServerState
from kps.protocol.timers import Deadlines, Timed
from kps.protocol.wire.http import LateResponder


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

    ``metrics`` answers requests for the figures of this node, an ``exporter`` for those of all.
    """

    def __init__(
        self,
        config: HubConfig,
        cluster: ClusterConfig,
        *,
        new_id: Callable[[], str],
        new_token: Callable[[], int],
        now: float,
        metrics: LateResponder | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        self._config = cluster
        self._new_token = new_token
        self._links: dict[str, Link] = {}
        self._unflushed: dict[str, None] = {}
        self.changes: list[LinkChange] = []
        """What has become of links, for the driver's log."""
        self.other_histories: list[str] = []
        """Nodes that have come with history for other topics, for the driver's log."""
        self.forged: list[str] = []
        """Nodes in whose name a chunk has come with a wrong signature, each once, for that log."""
        self.is_leaving = False
        """Whether this node is about to end."""
        self.has_left = False
        """Whether it is home to nothing any more, and owns no topic."""
        self.nodes = Nodes(config.id)
        self.hub = Hub(
            config,
            new_id=new_id,
            now=now,
            parts=Parts(
                self._new_bus,
                ClusterAckBook,
                ClusterPresenceBook,
                ClusterLogBook,
            ),
            new_delivery=self._begin,
            new_monitor=lambda *parts: ClusterMonitor(
                *parts, nodes=self.nodes, known=lambda: self._links, survey=self._survey
            ),
            new_desk=lambda *parts: ClusterDesk(*parts, survey=self._survey),
            metrics=metrics
            if exporter is None
            else lambda request, answer: self._figures.respond(request, answer),
        )
        if exporter is not None:
            self._figures = NodeFigures(exporter, config.id, self._survey)
        self.calls = self.hub.calls
        self._state.dismissal = Dismissal(self.hub.directory, self._survey, cluster.confirm_timeout)

    def _new_bus(self, deadlines: Deadlines) -> ClusterBus:
        patience = self._config.confirm_timeout
        self.agreement = Agreement(
            self.nodes,
            deadlines,
            patience,
            now=lambda: self._state.now,
            failed=partial(self._failed, "what the nodes that decide must know"),
        )
        return ClusterBus(deadlines, self.nodes, self.agreement)

    def _begin(self, state: ServerState, local: LocalProgram) -> ClusterDelivery:
        """Make the parts that the hub needs."""
        patience, nodes = self._config.confirm_timeout, self.nodes
        self._state = state
        self._slices = Slices(state.deadlines)
        self._survey = Survey(
            nodes,
            state.deadlines,
            now=lambda: state.now,
            failed=partial(self._failed, "a question to all nodes"),
        )
        self._encoding = LinkEncoding(lambda ack_id: self._asks.seconds_left(ack_id))
        bus, acks = state.bus, state.acks
        assert isinstance(bus, ClusterBus)
        assert isinstance(acks, ClusterAckBook)
        assert isinstance(acks.tasks, ClusterTaskBook)
        assert isinstance(state.presence, ClusterPresenceBook)
        self.interest = Interest(
            bus, nodes, state.deadlines, patience, lambda: state.now, state.tally
        )
        self.members = Members(state, local, nodes, self.interest, self._find_session)
        self._tasks = acks.tasks
        self._tasks.connect(
            nodes,
            self.agreement,
            now=lambda: state.now,
            give_up=lambda request: acks.cancel(request.owner, request.owner_ack_id),
            taken_back=self.members.tell_load,
        )
        self._presence = state.presence
        self._presence.begin(nodes, self.interest)
        self.names = Names(state, nodes, self.agreement, patience, self._judge)
        state.names = self.names
        state.recall = Recall(state.message_ids, self._survey, patience)
        self._asks = Asks(state, local, nodes)
        self._delivery = ClusterDelivery(
            *(state, local, nodes, self.interest, self.names.places),
            *(self._asks, patience, self._refuse),
        )
        self.histories: Histories | None = None
        """The topics with history, if there are rules for any."""
        self.resumption: Resumption | None = None
        """How this node goes on with what a store has kept of them."""
        if isinstance(state.logs, ClusterLogBook):
            self.histories = Histories(state, state.logs, nodes, self._asks, self._delivery)
            self.resumption = Resumption(state, state.logs, self.histories)
            self._delivery.histories = self.histories
        self._reception = Reception(
            nodes,
            self.agreement,
            self._delivery,
            self.interest,
            self.names,
            self._asks,
            self.members,
            self._tasks,
            self._presence,
            self.histories,
            self.other_histories,
            self._survey,
            self._refuse,
            self._left_by,
        )
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
            try:
                link.receive(chunk, now)
            except Exception as error:  # ours, or of a node of another version
                self._failed(f"the link to {node}", error)
                link.rest("a fault in this node", now)
            self._state.deadlines.schedule(link)

    @entry
    def close(self, node: str, now: float) -> None:
        """End the talk with a node, because there is no way to it any more."""
        self._state.now = now
        link = self._links.get(node)
        if link is not None:
            link.close()
            self._state.deadlines.cancel(link)

    @entry
    def has_engine(self, is_there: bool, now: float) -> None:
        """Note whether there is an engine, without which no other node can be reached.

        Without it, all clients go if they should not stay.
        """
        state = self._state
        state.now, state.is_degraded = now, not is_there
        if is_there:
            state.suspended = False
        elif not self._config.serves_alone and state.admits:
            self.hub.shutdown(self._config.patience, now, for_good=False)

    @entry
    def leave(self, now: float) -> None:
        """Prepare for the end: let other nodes be home to what this one is, and own its topics.

        ``has_left`` tells when that is done. Clients of this node are still served.
        """
        self._state.now = now
        if self.is_leaving:
            return
        self.is_leaving = True
        self.nodes.leave(self.nodes.me)
        self.nodes.tell(Kind.LEAVING)
        if self.histories is not None:
            self.histories.hold()
        self._settle(partial(self.names.move_from, self.nodes.me))
        self.agreement.when_sure(partial(self._slices.begin, self._hand_over))

    @entry
    def say_farewell(self, now: float) -> None:
        """Tell all nodes that this one ends, behind what it has sent them."""
        self._state.now = now
        for link in self._links.values():
            link.say_farewell(now)

    @entry
    def forget(self, node: str, now: float) -> None:
        """Close the link to a node, and forget that there ever was one."""
        self.close(node, now)
        self._links.pop(node, None)
        self._unflushed.pop(node, None)

    def schedule(self, item: Timed) -> None:
        """Call what belongs to this node when it is due."""
        self._state.deadlines.schedule(item)

    def take_unflushed(self) -> list[str]:
        """Return the nodes for which there is something to write."""
        unflushed, self._unflushed = list(self._unflushed), {}
        return unflushed

    def take(self, node: str, now: float) -> list[bytes]:
        """Return the chunks to write to a node."""
        link = self._links.get(node)
        if link is None:
            return []
        chunks = link.take(now)
        self._state.deadlines.schedule(link)
        return chunks

    # -- called by links --------------------------------------------------------------------

    def has_output(self, link: Link) -> None:
        """Note that there is something to write."""
        self._unflushed[link.node] = None

    def rose(self, link: Link) -> None:
        """Take a node in."""
        self.changes.append(LinkChange(link.node, "", 0))
        self._state.note("node_up", other=link.node)
        namesake = self._state.clients.get(link.node)
        if namesake is not None:
            namesake.replaced()  # while the node was not there, nobody knew whose id that is
        node = Node(link, self._encoding)
        self.nodes.add(node)
        self._state.others = self.nodes.others
        if self.histories is not None:
            self.histories.node_came(node)
        self._presence.node_came(node)
        self.interest.greet(node)
        if self.is_leaving:
            node.send(Kind.LEAVING)
        registry = self.names.registry
        self._settle(partial(self.names.move_to, node.id), partial(registry.move_to, node.id))

    def fell(self, link: Link, reason: str) -> None:
        """Let a node go, with all that its clients have here."""
        tally = self._state.tally
        tally.links_fallen += 1
        tally.frames_lost += link.lost
        self.changes.append(LinkChange(link.node, reason, link.lost))
        self._state.note("node_down", other=link.node, reason=reason)
        link.lost = 0
        node = self.nodes.remove(link.node)
        self._state.others = self.nodes.others
        self._state.bus.remove(node)
        if self.histories is not None:
            self.histories.node_went(node, is_orderly=reason == ENDED)
        self._presence.node_went(node)
        self._asks.node_went(node)
        self.members.node_went(node)
        self._tasks.node_went(node)
        self.agreement.node_went(node.id)
        self._settle(
            partial(self.names.registry.forget, node.id), partial(self.names.move_from, node.id)
        )
        self.names.node_went(node.id)
        self._delivery.node_went(node.id)
        self.interest.look()
        self._survey.node_went(node.id)

    def got_forged(self, link: Link) -> None:
        """Note that a chunk with a wrong signature has come in the name of a node."""
        self.forged.append(link.node)

    def received(self, link: Link, frame: Frame) -> None:
        """Take a frame."""
        node = self.nodes.others.get(link.node)
        if node is not None:
            self._reception.take(node, frame)

    # -- within -----------------------------------------------------------------------------

    def _failed(self, where: str, error: Exception) -> None:
        self._state.emit(SessionFailed(where, error))

    def _left_by(self, node: Node) -> None:
        """Turn to other homes, because a node is about to end."""
        self.nodes.leave(node.id)
        self._settle(partial(self.names.move_from, node.id))

    def _settle(self, *works: MakeWork) -> None:
        """Tell the homes what they must know, now that there are other ones."""
        self.agreement.begin(*works, self.members.move, self._tasks.move)

    def _hand_over(self) -> Iterator[int]:
        if self.histories is not None:
            yield from self.histories.hand_over()
        self.has_left = True

    def _refuse(self, client_id: str, refuse: Refusal) -> None:
        session = self._find_session(refuse.number)
        if session is not None:
            session.refuse(no_such_client(client_id), refuse.request)

    def _find_session(self, number: int) -> ServerSession | None:
        connection = self.hub.connections.get(number)
        return None if connection is None else connection.session

    def _judge(self, number: int, verdict: object) -> None:
        connection = self.hub.connections.get(number)
        if connection is not None:
            connection.judge(verdict, self._state.now)
