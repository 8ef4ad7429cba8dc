"""The ids whose home is this node: who has them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from kps.protocol.cluster.agreement import Agreement
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.homes import weight
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.server.state import ServerState


class _Entry(NamedTuple):
    """Who has an id."""

    stamp: int
    node: str
    number: int
    """The number of the claim, by which its node knows the client."""
    identity: str


class Registry:
    """Orders the claims of ids whose home is this node.

    ``evicted`` is called when a client here has lost an id, with the number of its claim.
    """

    def __init__(
        self,
        state: ServerState,
        nodes: Nodes,
        agreement: Agreement,
        evicted: Callable[[str, int], None],
    ) -> None:
        self._state = state
        self._nodes = nodes
        self._agreement = agreement
        self._evicted = evicted
        self._clock = 0  # the highest stamp so far
        self._entries: dict[str, _Entry] = {}
        self._waiting: dict[tuple[str, int], bool] = {}
        """Claims that wait until this node is sure, and whether their nodes have gone on without a
        verdict."""

    def claim_of(self, node: Node, claim: int, client_id: str, identity: str) -> None:
        """Answer a claim of another node."""
        if client_id in self._entries:
            self._answer(node, claim, client_id, identity)
        else:
            self._waiting[node.id, claim] = False
            self._agreement.when_sure(partial(self._answer, node, claim, client_id, identity))

    def _answer(self, node: Node, claim: int, client_id: str, identity: str) -> None:
        if self._waiting.pop((node.id, claim), False):
            entry = self._entries.get(client_id)
            if entry is None or (entry.node, entry.number) != (node.id, claim):
                return  # its client has lost the id meanwhile
        if node.id in self._nodes.others:
            stamp = self.decide(node.id, claim, client_id, identity)
            node.send(Kind.CLAIMED, claim, client_id, stamp)

    def decide(self, node: str, claim: int, client_id: str, identity: str) -> int:
        """Give an id to a client of a node; return the stamp, or 0 if it belongs to another."""
        entry, owners = self._entries.get(client_id), self._state.owners
        if entry is not None and entry.identity != identity:
            return 0
        if not owners.may_use(client_id, identity):
            return 0
        owners.take(client_id, identity)
        self._clock += 1
        self._entries[client_id] = _Entry(self._clock, node, claim, identity)
        if entry is not None and entry.node != node:
            self._evict(client_id, entry)
        return self._clock

    def _evict(self, client_id: str, loser: _Entry) -> None:
        if loser.node == self._nodes.me:
            self._evicted(client_id, loser.number)
        elif loser.node in self._nodes.others:
            self._nodes.others[loser.node].send(Kind.EVICT, client_id, loser.number)

    def note(self, stamp: int) -> None:
        """Give only higher stamps from now on."""
        self._clock = max(self._clock, stamp)

    def registered(self, node: str, claim: int, client_id: str, identity: str, stamp: int) -> None:
        """Note who has an id: this node has become its home, or has not answered in time."""
        self.note(stamp)
        if (node, claim) in self._waiting:
            self._waiting[node, claim] = True
        self._state.owners.take(client_id, identity)
        new, entry = _Entry(stamp, node, claim, identity), self._entries.get(client_id)
        if entry is None:
            self._entries[client_id] = new
        elif entry.node == node:  # which knows best to which of its clients it belongs
            self._entries[client_id] = new._replace(stamp=max(entry.stamp, stamp))
        else:
            # Who took the id without the home's verdict has the stamp 0, and gives way.
            winner, loser = max(entry, new), min(entry, new)
            self._entries[client_id] = winner
            self._evict(client_id, loser)

    def released(self, node: str, claim: int, client_id: str) -> None:
        """Note that nobody has an id any more."""
        entry = self._entries.get(client_id)
        if entry is not None and (entry.node, entry.number) == (node, claim):
            del self._entries[client_id]

    def holder(self, client_id: str) -> str | None:
        """Return the node of the client that has an id whose home is here, if one has it."""
        entry = self._entries.get(client_id)
        return None if entry is None else entry.node

    # -- nodes that come and go -------------------------------------------------------------

    def forget(self, node: str) -> Iterator[int]:
        """Forget the clients of a node that is gone."""
        for client_id, entry in list(self._entries.items()):
            if entry.node == node and self._entries.get(client_id) is entry:
                del self._entries[client_id]
            yield 1

    def move_to(self, node: str) -> Iterator[int]:
        """Forget ids whose home a new node has become."""
        for client_id in list(self._entries):
            is_there = node in self._nodes.homes
            if is_there and weight(client_id, node) > weight(client_id, self._nodes.me):
                self._entries.pop(client_id, None)
            yield 1
