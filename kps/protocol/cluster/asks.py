"""Ack requests between nodes: those of ours that others pass on, and those of others that we do."""

from typing import Any, NamedTuple

from kps.errors import QueueFull
from kps.protocol.bus.ack_figures import DISCONNECTED, NO_ROOM
from kps.protocol.bus.ack_request import AckRequest, RemoteClient
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.cluster.acks import ClusterAckBook
from kps.protocol.cluster.asker import Asker
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.nodes import Here, Node, Nodes
from kps.protocol.dialect.outcome import as_json
from kps.protocol.dialect.requests import Ask
from kps.protocol.server.delivery import direct_publication
from kps.protocol.server.local import LocalProgram
from kps.protocol.server.ports import Client
from kps.protocol.server.state import ServerState

_ASKED = 5  # units of work (see ``turns``)


class DirectAsk(NamedTuple):
    """A direct message with ack, on its way between nodes."""

    ack_id: str
    """The id of the request at the publisher's node."""
    client_id: str
    sender: str
    headers: str
    seconds: float
    """For how long the request waits."""


class Asks:
    """Passes ack requests on to clients here, and takes what other nodes tell of theirs."""

    def __init__(self, state: ServerState, local: LocalProgram, nodes: Nodes) -> None:
        assert isinstance(state.acks, ClusterAckBook)
        self._acks = state.acks
        self._state = state
        self._local = local
        self._nodes = nodes
        self._by_owner: dict[str, Node] = {}  # of the topics of requests
        self._expected: dict[str, list[str]] = {}  # ids that may yet turn out to be there
        self._acks.ended = self._forget

    def pending(self, ack_id: str) -> AckRequest | None:
        """Return a pending request by this server's id of it."""
        return self._acks.pending(ack_id)

    def seconds_left(self, ack_id: str) -> float:
        """Return how long an ack request still waits."""
        request = self.pending(ack_id)
        return 0.0 if request is None else (request.deadline or 0.0) - self._state.now

    # -- of other nodes ---------------------------------------------------------------------

    def ask_topic(self, node: Node, ack_id: str, publication: Publication, seconds: float) -> bool:
        """Pass a node's request on to the subscribers here; return whether anybody waits for it."""
        bus = self._state.bus
        found, _ = bus.receivers(publication.topic)
        subscribers = [one for one in found if not isinstance(one, Node)]
        request = self._open(node, ack_id, subscribers, seconds)
        if request is not None:
            publication.ack_id = request.id
        elif not subscribers or any(one.answers for one in subscribers):
            return False
        self._state.stats.delivered += bus.publish(publication)
        if request is None:
            return False
        self._acks.close(request)
        return True

    def ask_client(self, origin: Node, ask: DirectAsk, data: bytes) -> None:
        """Pass a node's request on to the one client here that has the id."""
        ack_id, client_id, sender, headers, seconds = ask
        target: Client | LocalProgram | None = self._state.clients.get(client_id)
        if client_id == self._state.config.id:
            target = self._local
        if target is None:  # it was here
            origin.send(Kind.BACK_ASK, *ask, payload=data)
            return
        request = self._open(origin, ack_id, [target], seconds)
        if request is not None:
            asked = Ask(client_id, "", data, None, False, headers=headers.encode())
            target.deliver_direct(direct_publication(request, sender, asked))
            self._acks.close(request)

    def _open(
        self, node: Node, ack_id: str, subscribers: list[Any], seconds: float
    ) -> AckRequest | None:
        state, me = self._state, self._nodes.me
        state.turns.left -= _ASKED * (1 + len(subscribers))
        owner = Asker(node, ack_id, self._acks.of_others)
        deadline = state.now + min(seconds, state.limits.max_ack_timeout)
        try:
            request = self._acks.open(
                owner,
                ack_id,
                subscribers,
                tells_timeouts=True,
                deadline=deadline,
                figures=owner.figures,
            )
        except QueueFull as error:
            node.send(Kind.ASKED, ack_id, [me], me)
            node.send(Kind.OUTCOME, ack_id, me, str(error), NO_ROOM)
            return None
        node.send(Kind.ASKED, ack_id, list(request.awaited.values()), me)
        if not request.awaited:
            self._acks.close(request)
            return None
        node.asking[ack_id] = owner
        return request

    def ended(self, node: Node, ack_id: str) -> None:
        """Forget a node's request, whose outcomes it does not want any more."""
        owner = node.asking.pop(ack_id, None)
        if owner is not None:
            self._acks.drop_owner(owner)

    def node_went(self, node: Node) -> None:
        """Forget the requests of a node, and await nobody there any more."""
        for owner in node.asking.values():
            self._acks.drop_owner(owner)
        node.asking.clear()
        for ack_id in list(self._expected):
            request = self._acks.pending(ack_id)
            if request is not None and node in request.awaited:
                self._settle(request, node)
        for ack_id in [one for one, owner in self._by_owner.items() if owner is node]:
            self._by_owner.pop(ack_id, None)
            self._give_up(ack_id)
        self._acks.drop_node(node)

    def _give_up(self, ack_id: str) -> None:
        """Await no node that has not said whom it asks: it may never hear of the request."""
        request = self._acks.pending(ack_id)
        if request is not None:
            for one in [one for one in request.awaited if isinstance(one, (Node, Here))]:
                if request.id in self._expected:
                    self._settle(request, one)
                self._acks.answer(one, ack_id, "disconnected", ends_as=DISCONNECTED)

    # -- of this node -----------------------------------------------------------------------

    def _forget(self, request: AckRequest) -> None:
        """Forget what is kept of a request that has ended."""
        self._expected.pop(request.id, None)
        self._by_owner.pop(request.id, None)

    def expect(self, request: AckRequest, ids: list[str]) -> None:
        """Tell which expected receivers are absent, once all nodes have said whom they ask."""
        if any(isinstance(one, (Node, Here)) for one in request.awaited):
            self._expected[request.id] = ids
        else:
            self._acks.note_absent(request, ids)

    def goes_by(self, ack_id: str, owner: Node) -> None:
        """Note that a request goes to all nodes by way of the owner of its topic."""
        if self._acks.pending(ack_id) is not None:
            self._by_owner[ack_id] = owner

    def ask_here(self, ack_id: str, publication: Publication) -> bool:
        """Ask the subscribers here, of a message that has come back from the owner of its topic.

        Return whether anybody still waits for the answers.
        """
        request = self._acks.pending(ack_id)
        if request is None:
            return False
        bus, here = self._state.bus, self._nodes.here
        subscribers = [
            one
            for one in bus.receivers(publication.topic)[0]
            if one.answers and not isinstance(one, Node)
        ]
        if request.id in self._expected:
            ids = {one.id for one in subscribers}
            self._expected[request.id] = [
                one for one in self._expected[request.id] if one not in ids
            ]
            self._settle(request, here)
        self._acks.replace(request, here, subscribers)
        publication.ack_id = ack_id
        self._state.stats.published += 1
        self._state.stats.delivered += bus.publish(publication)
        return True

    def ask_elsewhere(self, ask: DirectAsk, data: bytes, node: Node | None) -> None:
        """Ask a client that has moved: one of this node or, if it is none of these, of another.

        If it is on no node, nobody is asked.
        """
        request = self._acks.pending(ask.ack_id)
        names = {} if request is None else request.awaited
        before = next((one for one, name in names.items() if name == ask.client_id), None)
        if request is None or before is None:
            return
        client = self._state.clients.get(ask.client_id)
        if client is not None and not client.answers:
            client, node = None, None
        if client is not None:
            self._acks.replace(request, before, [client])
            asked = Ask(ask.client_id, "", data, None, False, headers=ask.headers.encode())
            client.deliver_direct(direct_publication(request, ask.sender, asked))
        elif node is None:
            self._acks.replace(request, before, [])
        else:
            self._acks.replace(request, before, [node])
            request.awaited[node] = ask.client_id
            node.send(Kind.HAND_ASK, *ask, self._nodes.me, payload=data)

    def asked(self, node: Node, ack_id: str, ids: list[str], at: str) -> None:
        """Note whom a node has asked, or that it has passed a request on to another node."""
        request = self._acks.pending(ack_id)
        if request is None:
            return
        if ack_id in self._expected:
            asked = set(ids)
            self._expected[ack_id] = [one for one in self._expected[ack_id] if one not in asked]
            self._settle(request, node)
        there = self._nodes.others.get(at)
        if there is None:  # it is gone, and so is the one client that was asked there
            self._acks.answer(node, ack_id, "disconnected", ends_as=DISCONNECTED)
        else:
            self._acks.replace(request, node, [RemoteClient(there, one) for one in ids])

    def _settle(self, request: AckRequest, node: Subscriber) -> None:
        """Tell who is absent if this node is the last one that had not said whom it asks."""
        if not any(isinstance(one, (Node, Here)) and one is not node for one in request.awaited):
            self._acks.note_absent(request, self._expected.pop(request.id))

    def outcome(
        self, node: Node, ack_id: str, client_id: str, error: str | None, word: str, result: bytes
    ) -> None:
        """Take an outcome of a client of another node."""
        request = self._acks.pending(ack_id)
        if request is None:
            node.send(Kind.END, ack_id)
            return
        client = RemoteClient(node, client_id)
        if client not in request.awaited and len(request.awaited) == 1:
            # The home of the id has not told yet that this node asks the client.
            ((addressee, awaited),) = request.awaited.items()
            if awaited == client_id and isinstance(addressee, Node):
                self._acks.replace(request, addressee, [client])
        kept = as_json(result) if result else None
        self._acks.answer(client, ack_id, error, kept, len(result), ends_as=word)
