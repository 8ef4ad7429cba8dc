"""The ids of clients in a cluster: one holder for each, whichever node it is on.

The home of an id orders the claims. Of those that it permits, the last one wins, and the node of
the one before closes its connection. A home that dies is replaced by the next one, to which the
nodes tell the ids of their clients. After a split two nodes may have told of one id: the higher
stamp wins, and among equals the node with the higher name.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import NamedTuple

from kps.protocol.bus.slices import Slices
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.homes import weight
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.server.ports import Client
from kps.protocol.server.state import ServerState

Judge = Callable[[int, object], None]
"""Gives a session, by its number, the verdict on the id that it asks for."""


class _Claim(NamedTuple):
    """A client of this node that waits for an id."""

    number: int
    client_id: str
    identity: str
    home: str
    due: float


class _Held(NamedTuple):
    """An id of a client of this node."""

    identity: str
    stamp: int
    home: str


class _Entry(NamedTuple):
    """Who has an id whose home is this node."""

    stamp: int
    node: str
    identity: str


class Names:
    """The ids that clients of this node have or ask for, and those whose home it is."""

    def __init__(self, state: ServerState, nodes: Nodes, patience: float, judge: Judge) -> None:
        self.unconfirmed = 0
        """Ids that were taken though their home did not answer."""
        self._state = state
        self._nodes = nodes
        self._patience = patience
        self._judge = judge
        self._clock = 0  # the highest stamp so far
        self._numbers = count(1)
        self._claims: dict[int, _Claim] = {}
        self._held: dict[str, _Held] = {}
        self._entries: dict[str, _Entry] = {}
        self._slices = Slices(state.deadlines)

    # -- clients of this node ---------------------------------------------------------------

    def claim(self, number: int, client_id: str, identity: str) -> bool | None:
        """Ask for an id on behalf of a session, which may get the verdict later."""
        home, me = self._nodes.home(client_id), self._nodes.me
        if home is not None:
            due = self._state.now + self._patience
            claim = next(self._numbers)
            self._claims[claim] = _Claim(number, client_id, identity, home.id, due)
            home.send(Kind.CLAIM, claim, client_id, identity)
            self._state.deadlines.schedule(self)
            return None
        stamp = self._decide(me, client_id, identity)
        if stamp:
            self._held[client_id] = _Held(identity, stamp, me)
        return bool(stamp)

    def claimed(self, home: Node, claim: int, client_id: str, stamp: int) -> None:
        """Take the home's verdict on a claim: a stamp, or 0."""
        claimed = self._claims.pop(claim, None)
        self._clock = max(self._clock, stamp)
        if claimed is None:
            self._claimed_late(home, client_id, stamp)
        elif stamp:
            self._hold(claimed, stamp)
        else:
            self._judge(claimed.number, False)

    def _claimed_late(self, home: Node, client_id: str, stamp: int) -> None:
        """Take a verdict without which we have gone on."""
        held = self._held.get(client_id)
        if held is None:
            home.send(Kind.RELEASE, client_id, stamp)
        elif held.stamp < stamp:
            self._held[client_id] = held._replace(stamp=stamp)

    def _hold(self, claim: _Claim, stamp: int) -> None:
        client_id = claim.client_id
        self._state.owners.take(client_id, claim.identity)
        self._held[client_id] = _Held(claim.identity, stamp, claim.home)
        self._judge(claim.number, True)
        client = self._state.clients.get(client_id)
        if client is None or client.number != claim.number:
            self._let_go(client_id, stamp)  # it has gone, or may not have it for another reason

    def is_node(self, client_id: str) -> bool:
        """Tell whether an id is that of a node."""
        return client_id in self._nodes.others

    def left(self, client_id: str) -> None:
        """Note that no client of this node has an id any more."""
        held = self._held.get(client_id)
        if held is not None:
            self._let_go(client_id, held.stamp)

    def _let_go(self, client_id: str, stamp: int) -> None:
        held = self._held.get(client_id)
        if held is None or held.stamp != stamp or client_id in self._state.clients:
            return
        del self._held[client_id]
        self._tell_home(held, Kind.RELEASE, client_id, stamp)

    def _tell_home(self, held: _Held, kind: Kind, *values: object) -> None:
        home = self._nodes.others.get(held.home)
        if home is not None:
            home.send(kind, *values)
        elif held.home == self._nodes.me:
            client_id, stamp = str(values[0]), held.stamp
            if kind is Kind.RELEASE:
                self.released(client_id, stamp)
            else:
                self.registered(self._nodes.me, client_id, held.identity, stamp)

    def evicted(self, client_id: str, stamp: int) -> None:
        """Close the connection of a client whose id was given to one on another node."""
        held = self._held.get(client_id)
        if held is None or held.stamp != stamp:
            return  # it has left, or was itself replaced meanwhile
        del self._held[client_id]
        client: Client | None = self._state.clients.get(client_id)
        if client is not None:
            client.replaced()

    # -- ids whose home is here -------------------------------------------------------------

    def claim_of(self, node: Node, claim: int, client_id: str, identity: str) -> None:
        """Answer a claim of another node."""
        node.send(Kind.CLAIMED, claim, client_id, self._decide(node.id, client_id, identity))

    def _decide(self, node: str, client_id: str, identity: str) -> int:
        """Give an id to a client of a node; return the stamp, or 0 if it belongs to another."""
        entry, owners = self._entries.get(client_id), self._state.owners
        if entry is not None and entry.identity != identity:
            return 0
        if not owners.may_use(client_id, identity):
            return 0
        owners.take(client_id, identity)
        self._clock += 1
        self._entries[client_id] = _Entry(self._clock, node, identity)
        if entry is not None and entry.node != node:
            self._evict(entry.node, client_id, entry.stamp)
        return self._clock

    def _evict(self, node: str, client_id: str, stamp: int) -> None:
        if node == self._nodes.me:
            self.evicted(client_id, stamp)
        elif node in self._nodes.others:
            self._nodes.others[node].send(Kind.EVICT, client_id, stamp)

    def registered(self, node: str, client_id: str, identity: str, stamp: int) -> None:
        """Note who has an id whose home this node has become."""
        self._clock = max(self._clock, stamp)
        self._state.owners.take(client_id, identity)
        new, entry = _Entry(stamp, node, identity), self._entries.get(client_id)
        if entry is None or entry.node == node:
            if entry is None or entry.stamp < stamp:
                self._entries[client_id] = new
            return
        # Who took the id without the home's verdict has the stamp 0, and gives way.
        winner, loser = max(entry, new), min(entry, new)
        self._entries[client_id] = winner
        self._evict(loser.node, client_id, loser.stamp)

    def released(self, client_id: str, stamp: int) -> None:
        """Note that nobody has an id any more."""
        entry = self._entries.get(client_id)
        if entry is not None and entry.stamp == stamp:
            del self._entries[client_id]

    def holder(self, client_id: str) -> str | None:
        """Return the node of the client that has an id whose home is here, if one has it."""
        entry = self._entries.get(client_id)
        return None if entry is None else entry.node

    # -- nodes that come and go -------------------------------------------------------------

    def node_came(self, node: str) -> None:
        """Tell a new node the ids of our clients whose home it has become."""
        self._slices.begin(partial(self._move_to, node))

    def _move_to(self, node: str) -> Iterator[int]:
        for client_id, held in list(self._held.items()):
            if weight(client_id, node) > weight(client_id, held.home):
                self._move(client_id)
            yield 1
        for client_id in list(self._entries):
            if self._nodes.home(client_id) is not None:
                self._entries.pop(client_id, None)
            yield 1

    def node_went(self, node: str) -> None:
        """Forget the clients of a node, and tell new homes the ids whose home it was."""
        self._slices.begin(partial(self._forget, node))
        self._slices.begin(partial(self._move_from, node))
        for number, claim in list(self._claims.items()):
            if claim.home == node:
                del self._claims[number]
                verdict = self.claim(claim.number, claim.client_id, claim.identity)
                if verdict is not None:
                    self._judge(claim.number, verdict)

    def _move_from(self, node: str) -> Iterator[int]:
        for client_id, held in list(self._held.items()):
            if held.home == node:
                self._move(client_id)
            yield 1

    def _move(self, client_id: str) -> None:
        """Tell an id of a client of ours to its home."""
        held = self._held.get(client_id)
        if held is None:
            return
        home, before = self._nodes.home(client_id), held
        held = held._replace(home=self._nodes.me if home is None else home.id)
        self._held[client_id] = held
        self._tell_home(held, Kind.REGISTER, client_id, held.identity, held.stamp)
        if before.home != held.home:
            self._tell_home(before, Kind.RELEASE, client_id, before.stamp)

    def _forget(self, node: str) -> Iterator[int]:
        for client_id, entry in list(self._entries.items()):
            if entry.node == node and self._entries.get(client_id) is entry:
                del self._entries[client_id]
            yield 1

    # -- time -------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        return min((claim.due for claim in self._claims.values()), default=None)

    def handle_timeout(self, now: float) -> None:
        """Take ids without the home's verdict: an id is never refused for want of an answer.

        But nobody gets what a client here has, or had, that has another identity.
        """
        for number, claim in list(self._claims.items()):
            if claim.due > now:
                continue
            del self._claims[number]
            held, owners = self._held.get(claim.client_id), self._state.owners
            is_taken = held is not None and held.identity != claim.identity
            if is_taken or not owners.may_use(claim.client_id, claim.identity):
                self._judge(claim.number, False)
                continue
            self.unconfirmed += 1
            self._hold(claim, 0)
            self._move(claim.client_id)
