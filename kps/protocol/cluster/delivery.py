"""Delivers messages to receivers on all nodes."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from kps.protocol.bus.ack_request import AckOwner, AckRequest, Keeper
from kps.protocol.bus.publication import CountedPublication, Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.cluster.asks import Asks, DirectAsk
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.histories import Histories
from kps.protocol.cluster.interest import Interest
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.places import Places
from kps.protocol.cluster.waiting import Waiting
from kps.protocol.dialect.requests import Ask
from kps.protocol.patterns import Key
from kps.protocol.server.delivery import IGNORED, Delivery, Direct, Ready, Refusal
from kps.protocol.server.local import LocalProgram
from kps.protocol.server.state import ServerState


class _Counting:
    """A publication of which one must tell how many subscribers got it."""

    __slots__ = ("_tell", "awaited", "reached")

    def __init__(self, awaited: Counter[str], tell: Callable[[int], None]) -> None:
        self.awaited = awaited
        """Answers that have not come yet, by node."""
        self.reached = 0
        self._tell = tell

    def conclude(self) -> None:
        """Tell how many got it, as far as that is known."""
        self._tell(self.reached)


class ClusterDelivery(Delivery):
    """Delivers messages to clients, those of other nodes included."""

    def __init__(
        self,
        state: ServerState,
        local: LocalProgram,
        nodes: Nodes,
        interest: Interest,
        places: Places,
        asks: Asks,
        patience: float,
        refuse: Callable[[str, Refusal], None],
    ) -> None:
        super().__init__(state, local)
        self._refuse = refuse
        self._nodes = nodes
        self._interest = interest
        self._places = places
        self._asks = asks
        self._counting = Waiting(state.deadlines, lambda: state.now, patience, _Counting.conclude)
        self.histories: Histories | None = None
        """The topics with history, if any have it."""

    def subscribe(
        self,
        subscriber: Subscriber,
        key: Key,
        ready: Ready,
        concurrency: int = 1,
    ) -> None:
        """Make a subscription; call ``ready`` once all nodes heed it."""
        super().subscribe(subscriber, key, lambda _: None, concurrency)
        self._interest.when_heeded(key, ready)

    # -- topics with history ----------------------------------------------------------------

    def publish(self, publication: Publication) -> int:
        """Deliver a publication; return how many subscribers here had room for its last message.

        What is published on a topic with history goes by way of the topic's owner.
        """
        histories = self.histories
        if histories is None or publication.is_forwarded or not histories.has(publication.topic):
            return self.publish_here(publication)
        return histories.publish(publication)

    def publish_here(self, publication: Publication) -> int:
        """Deliver a publication that has its offset, if it has one, to subscribers here."""
        if publication.is_forwarded:
            self._state.stats.published -= publication.count  # it counts where it comes from
        return super().publish(publication)

    def ask_topic(
        self, owner: AckOwner, sender: str, ask: Ask, keeper: Keeper | None = None
    ) -> None:
        """Publish with acks. Raises as in the base class."""
        histories, nodes = self.histories, self._nodes
        if histories is None or not histories.has(ask.target):
            super().ask_topic(owner, sender, ask, keeper)
            return
        _, found = self._state.bus.receivers(ask.target)
        everywhere: list[Subscriber] = [*nodes.others.values(), nodes.here]
        request = self._open_for_topic(owner, sender, ask, keeper, everywhere, found)
        histories.ask(request, sender, ask)
        self._ask_groups(request, found, ask.demands)

    # -- receipts ---------------------------------------------------------------------------

    def publish_counted(self, publication: CountedPublication, tell: Callable[[int], None]) -> None:
        """Deliver a publication; ``tell`` how many subscribers had room for its last message."""
        subscribers, groups = self._state.bus.receivers(publication.topic)
        awaited = Counter([one.id for one in subscribers if isinstance(one, Node)])
        if self.histories is not None and self.histories.has(publication.topic):
            awaited, groups = Counter([*self._nodes.others, self._nodes.me]), ()
        for group in groups:
            home = self._nodes.home_of_group(group.key)
            if home is not None:
                awaited[home.id] += 1
        if not awaited:
            super().publish_counted(publication, tell)
            return
        counting = _Counting(awaited, tell)
        publication.receipt = self._counting.add(counting)
        here = self.publish(publication)  # which may count, too, on topics with history
        counting.reached += here

    def reached(self, node: str, number: int, count: int) -> None:
        """Note how many subscribers of a node got a publication."""
        counting = self._counting.get(number)
        if counting is not None and counting.awaited[node]:
            counting.awaited[node] -= 1
            counting.reached += count
            self._conclude_if_known(number, counting)

    def node_went(self, node: str) -> None:
        """Wait for a node no longer."""
        for number, counting in self._counting:
            if counting.awaited.pop(node, 0):
                self._conclude_if_known(number, counting)

    def _conclude_if_known(self, number: int, counting: _Counting) -> None:
        if not counting.awaited.total() and self._counting.take(number):
            counting.conclude()

    # -- direct messages --------------------------------------------------------------------

    def send_direct(self, client_id: str, direct: Direct, refuse: Refusal = IGNORED) -> bool:
        """Deliver a direct message. Return ``False`` if nobody has that id."""
        if super().send_direct(client_id, direct, refuse):
            return True
        node, is_home = self._way_to(client_id)
        if node is None:
            return False
        kind = Kind.DIRECT if is_home else Kind.HAND
        self._pass_on(node, kind, client_id, direct, self._nodes.me, refuse)
        return True

    def _way_to(self, client_id: str) -> tuple[Node | None, bool]:
        """Return the node to which messages for an id go, and whether that is only its home.

        It is ``None`` if this node is the home, and nobody has the id.
        """
        node = self._places.node_of(client_id)
        if node is not None:
            return node, False
        return self._nodes.home(client_id), True

    def _pass_on(
        self, node: Node, kind: Kind, client_id: str, direct: Direct, origin: str, refuse: Refusal
    ) -> None:
        values = client_id, direct.sender, direct.headers.decode(), origin, *refuse
        node.send(kind, *values, payload=direct.data)

    def route(self, client_id: str, direct: Direct, origin: str, refuse: Refusal) -> bool:
        """Deliver a direct message from another node to whoever has an id whose home is here."""
        if super().send_direct(client_id, direct):
            return True
        node = self._places.node_of(client_id)
        if node is None:
            return False
        self._pass_on(node, Kind.HAND, client_id, direct, origin, refuse)
        return True

    def hand(self, client_id: str, direct: Direct) -> bool:
        """Deliver a direct message from another node to a client of this one."""
        return super().send_direct(client_id, direct)

    def came_back(self, node: Node, client_id: str, direct: Direct, refuse: Refusal) -> None:
        """Take a direct message back that has come to the wrong node: its client has moved."""
        places = self._places
        places.has_moved(client_id, node.id)
        again = partial(self._send_again, node, client_id, direct, refuse)
        if places.when_known(client_id, lambda _: again()):
            again()

    def _send_again(self, wrong: Node, client_id: str, direct: Direct, refuse: Refusal) -> None:
        if super().send_direct(client_id, direct):
            return
        node = self._places.node_of(client_id)
        if node is None or node is wrong:
            self._refuse(client_id, refuse)
        else:
            self._pass_on(node, Kind.HAND, client_id, direct, self._nodes.me, refuse)

    # -- acks -------------------------------------------------------------------------------

    def _note_absent(self, request: AckRequest, ids: list[str]) -> None:
        self._asks.expect(request, ids)

    def ask_id(self, owner: AckOwner, sender: str, ask: Ask, keeper: Keeper | None = None) -> None:
        """Send a direct message with ack. Raises the same as ``ask_topic``."""
        client_id = ask.target
        if client_id == self._state.config.id or client_id in self._state.clients:
            super().ask_id(owner, sender, ask, keeper)
            return
        node, is_home = self._way_to(client_id)
        if node is None:
            super().ask_id(owner, sender, ask, keeper)  # which finds nobody
            return
        request = self.open_request(owner, ask, [node], keeper)
        request.awaited[node] = client_id
        seconds = (request.deadline or 0.0) - self._state.now
        direct = DirectAsk(request.id, client_id, sender, ask.headers.decode(), seconds)
        kind = Kind.ASK_ID if is_home else Kind.HAND_ASK
        node.send(kind, *direct, self._nodes.me, payload=ask.data)

    def route_ask(self, origin: Node, ask: DirectAsk, data: bytes) -> None:
        """Pass a direct message with ack on to whoever has an id whose home is here."""
        node = self._places.node_of(ask.client_id)
        if ask.client_id in self._state.clients:
            self._asks.ask_client(origin, ask, data)
        elif node is None or node is origin:  # there, the client has come after the message
            origin.send(Kind.ASKED, ask.ack_id, [], self._nodes.me)
        else:
            origin.send(Kind.ASKED, ask.ack_id, [ask.client_id], node.id)
            node.send(Kind.HAND_ASK, *ask, origin.id, payload=data)

    def ask_came_back(self, node: Node, ask: DirectAsk, data: bytes) -> None:
        """Take a direct message with ack back that has come to the wrong node."""
        places = self._places
        places.has_moved(ask.client_id, node.id)
        again = partial(self._ask_again, node, ask, data)
        if places.when_known(ask.client_id, lambda _: again()):
            again()

    def _ask_again(self, wrong: Node, ask: DirectAsk, data: bytes) -> None:
        node = self._places.node_of(ask.client_id)
        self._asks.ask_elsewhere(ask, data, None if node is wrong else node)
