"""Takes the frames of other nodes, each to the part that it is for."""

from collections.abc import Callable
from functools import partial
from typing import Any

from kps.protocol.bus.publication import ForwardedPublication
from kps.protocol.cluster.agreement import Agreement
from kps.protocol.cluster.asks import Asks, DirectAsk
from kps.protocol.cluster.carrying import About, restored
from kps.protocol.cluster.delivery import ClusterDelivery
from kps.protocol.cluster.frames import Frame, Kind
from kps.protocol.cluster.histories import Histories
from kps.protocol.cluster.interest import Interest
from kps.protocol.cluster.members import Members
from kps.protocol.cluster.names import Names
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.presence import ClusterPresenceBook
from kps.protocol.cluster.survey import Survey
from kps.protocol.cluster.tasks import ClusterTaskBook
from kps.protocol.server.delivery import Direct, Refusal


class Reception:
    """Takes the frames of other nodes. It has the parts of this one."""

    def __init__(
        self,
        nodes: Nodes,
        agreement: Agreement,
        delivery: ClusterDelivery,
        interest: Interest,
        names: Names,
        asks: Asks,
        members: Members,
        tasks: ClusterTaskBook,
        presence: ClusterPresenceBook,
        histories: Histories | None,
        other_histories: list[str],
        survey: Survey,
        refuse: Callable[[str, Refusal], None],
        leaving: Callable[[Node], None],
    ) -> None:
        self.nodes = nodes
        self.agreement = agreement
        self.delivery = delivery
        self.interest = interest
        self.names = names
        self.asks = asks
        self.members = members
        self.tasks = tasks
        self.presence = presence
        self.histories = histories
        self._other_histories = other_histories
        self.survey = survey
        self._refuse = refuse
        self.leaving = leaving

    def take(self, node: Node, frame: Frame) -> None:
        """Take a frame of a node."""
        if frame.kind in _OF_HISTORY:
            if self.histories is not None:
                _OF_HISTORY[frame.kind](self.histories, node, frame.payload, *frame.values)
        else:
            handler = _HANDLERS.get(frame.kind)
            if handler is not None:  # a later version may say more
                handler(self, node, frame.payload, *frame.values)

    def told(self, node: Node, homes: list[str]) -> None:
        """Note that a node has told the homes what they must know, and others what it owns."""
        if self.histories is not None:
            self.histories.told_all(node)
        self.agreement.told(node, homes)

    def _epoch(self, node: Node, _: bytes, epoch: str, selected: list[str] | None = None) -> None:
        """Note the epoch of topics that a node will own, and which topics have history there."""
        node.epoch = epoch
        mine = [] if self.histories is None else self.histories.selected
        if selected is not None and selected != mine:
            self._other_histories.append(node.id)

    def _publish(self, node: Node, data: bytes, receipt: int, *about: Any) -> None:
        publication = restored(ForwardedPublication, About(*about), data)
        reached = self.delivery.publish(publication)
        if receipt:
            node.send(Kind.REACHED, receipt, reached)

    def _direct(
        self, node: Node, data: bytes, client_id: str, sender: str, headers: str, *where: Any
    ) -> None:
        origin, number, request = where
        direct, refuse = Direct(sender, data, headers.encode()), Refusal(number, request)
        route = partial(self.delivery.route, client_id, direct, origin, refuse)
        if route():
            return
        home = self.nodes.home(client_id)
        if home is not None and home is not node:  # it has become another one meanwhile
            values = client_id, sender, headers, *where
            home.send(Kind.DIRECT, *values, payload=data)
            return

        def route_surely() -> None:
            if not route():
                self._tell_nobody(origin, client_id, refuse)

        self.agreement.when_sure(route_surely)

    def _hand(
        self, node: Node, data: bytes, client_id: str, sender: str, headers: str, *where: Any
    ) -> None:
        origin, number, request = where
        if not self.delivery.hand(client_id, Direct(sender, data, headers.encode())):
            sent_by = self.nodes.others.get(origin)
            if sent_by is not None:
                values = client_id, sender, headers, origin, number, request
                sent_by.send(Kind.BACK, *values, payload=data)

    def _came_back(
        self, node: Node, data: bytes, client_id: str, sender: str, headers: str, *where: Any
    ) -> None:
        _, number, request = where
        direct, refuse = Direct(sender, data, headers.encode()), Refusal(number, request)
        self.delivery.came_back(node, client_id, direct, refuse)

    def _tell_nobody(self, origin: str, client_id: str, refuse: Refusal) -> None:
        node = self.nodes.others.get(origin)
        if node is not None:
            node.send(Kind.NOBODY, client_id, *refuse)
        elif origin == self.nodes.me:
            self._refuse(client_id, refuse)

    def _nobody(self, node: Node, _: bytes, client_id: str, *refuse: Any) -> None:
        self._refuse(client_id, Refusal(*refuse))

    def _ask(self, node: Node, data: bytes, ack_id: str, seconds: float, *about: Any) -> None:
        publication = restored(ForwardedPublication, About(*about), data)
        self.asks.ask_topic(node, ack_id, publication, seconds)

    def _ask_id(self, node: Node, data: bytes, *values: Any) -> None:
        ask = DirectAsk(*values[:-1])
        route = partial(self.delivery.route_ask, node, ask, data)
        if self.names.places.knows(ask.client_id) or self.names.registry.holder(ask.client_id):
            route()
        else:
            self.agreement.when_sure(route)

    def _hand_ask(self, node: Node, data: bytes, *values: Any) -> None:
        origin = self.nodes.others.get(values[-1])
        if origin is not None:
            self.asks.ask_client(origin, DirectAsk(*values[:-1]), data)


_Handler = Callable[..., None]

_HANDLERS: dict[int, _Handler] = {
    Kind.INTEREST: lambda it, node, _, *values: it.interest.heed(node, *values),
    Kind.CONFIRM: lambda it, node, _, number: it.interest.confirmed(node, number),
    Kind.PUBLISH: Reception._publish,
    Kind.REACHED: lambda it, node, _, *values: it.delivery.reached(node.id, *values),
    Kind.DIRECT: Reception._direct,
    Kind.HAND: Reception._hand,
    Kind.NOBODY: Reception._nobody,
    Kind.CLAIM: lambda it, node, _, *values: it.names.registry.claim_of(node, *values),
    Kind.CLAIMED: lambda it, node, _, *values: it.names.claimed(node, *values),
    Kind.REGISTER: lambda it, node, _, *values: it.names.registry.registered(node.id, *values),
    Kind.RELEASE: lambda it, node, _, *values: it.names.registry.released(node.id, *values),
    Kind.EVICT: lambda it, _, __, *values: it.names.evicted(*values),
    Kind.ASK: Reception._ask,
    Kind.ASK_ID: Reception._ask_id,
    Kind.HAND_ASK: Reception._hand_ask,
    Kind.BACK: Reception._came_back,
    Kind.BACK_ASK: lambda it, node, data, *ask: it.delivery.ask_came_back(
        node, DirectAsk(*ask), data
    ),
    Kind.WHERE: lambda it, node, _, client_id: it.names.places.where(node, client_id),
    Kind.THERE: lambda it, node, _, *values: it.names.places.is_there(node, *values),
    Kind.LEAVING: lambda it, node, _: it.leaving(node),
    Kind.TOLD: lambda it, node, _, homes: it.told(node, homes),
    Kind.ASKED: lambda it, node, _, *values: it.asks.asked(node, *values),
    Kind.OUTCOME: lambda it, node, data, *values: it.asks.outcome(node, *values, data),
    Kind.JOIN: lambda it, node, _, *values: it.members.join(node, *values),
    Kind.LEAVE: lambda it, node, _, *values: it.members.leave(node, *values),
    Kind.GONE: lambda it, node, _, *values: it.members.left_for_good(node, *values),
    Kind.SHARE: lambda it, *values: it.members.share(*values),
    Kind.OFFER: lambda it, *values: it.members.offered(*values),
    Kind.TOOK: lambda it, _, __, *values: it.tasks.took(*values),
    Kind.MOVED: lambda it, _, __, *values: it.tasks.moved(*values),
    Kind.CONCLUDED: lambda it, _, data, *values: it.tasks.concluded(*values, data),
    Kind.GIVE: lambda it, *values: it.members.take(*values),
    Kind.ANSWER: lambda it, *values: it.members.answered(*values),
    Kind.WATCH: lambda it, node, _, *values: it.presence.watch(node, *values),
    Kind.PRESENT: lambda it, node, info, *values: it.presence.came(node, info, *values),
    Kind.RENAMED: lambda it, node, _, *values: it.presence.has_new_id(node, *values),
    Kind.AWAY: lambda it, node, _, *values: it.presence.went(node, *values),
    Kind.SURVEY: lambda it, node, _, *values: it.survey.asked(node, *values),
    Kind.SURVEYED: lambda it, *values: it.survey.told(*values),
    Kind.EPOCH: Reception._epoch,
    Kind.END: lambda it, node, _, ack_id: it.asks.ended(node, ack_id),
}

_OF_HISTORY: dict[int, _Handler] = {
    Kind.KEEP: Histories.keep,
    Kind.KEPT: lambda it, *values: it.copies.kept(*values),
    Kind.LOG: lambda it, *values: it.copies.log(*values),
    Kind.ENTRY: lambda it, *values: it.copies.entry(*values),
    Kind.HANDOVER: Histories.handed_over,
    Kind.LACKS: lambda it, *values: it.copies.lacks(*values),
    Kind.YIELDED: lambda it, *values: it.copies.yielded(*values),
    Kind.FENCE: Histories.fence,
    Kind.FENCED: Histories.fenced,
}
