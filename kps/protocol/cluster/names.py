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

from kps.protocol.cluster.agreement import Agreement
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.homes import weight
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.places import Places
from kps.protocol.cluster.registry import Registry
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
    claim: int
    """The number of the claim by which the client has it."""


class Names:
    """The ids that clients of this node have or ask for."""

    def __init__(
        self,
        state: ServerState,
        nodes: Nodes,
        agreement: Agreement,
        patience: float,
        judge: Judge,
    ) -> None:
        self._state = state
        self._nodes = nodes
        self._agreement = agreement
        self._patience = patience
        self._judge = judge
        self.registry = Registry(state, nodes, agreement, self.evicted)
        """The ids whose home is this node."""
        self.places = Places(state, nodes, agreement, self.registry.holder, patience)
        """Where clients of other nodes are."""
        self._numbers = count(1)
        self._claims: dict[int, _Claim] = {}
        self._held: dict[str, _Held] = {}

    # -- clients of this node ---------------------------------------------------------------

    def claim(self, number: int, client_id: str, identity: str) -> bool | None:
        """Ask for an id on behalf of a session, which may get the verdict later."""
        home, me = self._nodes.home(client_id), self._nodes.me
        if home is None and (self._agreement.is_sure or self.registry.holder(client_id)):
            claim = next(self._numbers)
            stamp = self.registry.decide(me, claim, client_id, identity)
            if stamp:
                self._held[client_id] = _Held(identity, stamp, me, claim)
            return bool(stamp)
        due, claim = self._state.now + self._patience, next(self._numbers)
        at = me if home is None else home.id
        self._claims[claim] = _Claim(number, client_id, identity, at, due)
        self._state.deadlines.schedule(self)
        if home is None:
            self._agreement.when_sure(partial(self._claim_here, claim))
        else:
            home.send(Kind.CLAIM, claim, client_id, identity)
        return None

    def _claim_here(self, claim: int) -> None:
        claimed = self._claims.pop(claim, None)
        if claimed is None:
            return
        me, identity = self._nodes.me, claimed.identity
        stamp = self.registry.decide(me, claim, claimed.client_id, identity)
        if stamp:
            self._hold(claim, claimed, stamp)
        else:
            self._judge(claimed.number, False)

    def locate(self, number: int, client_id: str, *, anew: bool = False) -> bool:
        """Tell whether the node of a client is known; if not, a verdict follows when it is."""
        return self.places.when_known(client_id, partial(self._judge, number), anew=anew)

    def claimed(self, home: Node, claim: int, client_id: str, stamp: int) -> None:
        """Take the home's verdict on a claim: a stamp, or 0."""
        claimed = self._claims.pop(claim, None)
        self.registry.note(stamp)
        if claimed is None:
            self._claimed_late(home, claim, client_id, stamp)
        elif stamp:
            self._hold(claim, claimed, stamp)
        else:
            self._judge(claimed.number, False)

    def _claimed_late(self, home: Node, claim: int, client_id: str, stamp: int) -> None:
        """Take a verdict without which we have gone on."""
        held = self._held.get(client_id)
        if held is not None and held.claim == claim and held.stamp < stamp:
            held = self._held[client_id] = held._replace(stamp=stamp)
            if held.home == home.id:
                return
            self._register(client_id, held)
        home.send(Kind.RELEASE, claim, client_id)

    def _hold(self, number: int, claim: _Claim, stamp: int) -> None:
        client_id = claim.client_id
        self._state.owners.take(client_id, claim.identity)
        self._held[client_id] = _Held(claim.identity, stamp, claim.home, number)
        self._judge(claim.number, True)
        client = self._state.clients.get(client_id)
        if client is None or client.number != claim.number:
            self._let_go(client_id, number)  # it has gone, or may not have it for another reason
        elif (self._nodes.home(client_id) or self._nodes.here).id != claim.home:
            self._move(client_id)  # the home has changed meanwhile

    def is_node(self, client_id: str) -> bool:
        """Tell whether an id is that of a node."""
        return client_id in self._nodes.others

    def left(self, client_id: str) -> None:
        """Note that no client of this node has an id any more."""
        held = self._held.get(client_id)
        if held is not None:
            self._let_go(client_id, held.claim)

    def _let_go(self, client_id: str, claim: int) -> None:
        held = self._held.get(client_id)
        if held is None or held.claim != claim or client_id in self._state.clients:
            return
        del self._held[client_id]
        self._release(client_id, held)

    def _register(self, client_id: str, held: _Held) -> None:
        """Tell the home of an id that a client of this node has it."""
        home, values = self._nodes.others.get(held.home), (client_id, held.identity, held.stamp)
        if home is not None:
            home.send(Kind.REGISTER, held.claim, *values)
        elif held.home == self._nodes.me:
            self.registry.registered(self._nodes.me, held.claim, *values)

    def _release(self, client_id: str, held: _Held) -> None:
        """Tell the home of an id that a client of this node has it no more."""
        home = self._nodes.others.get(held.home)
        if home is not None:
            home.send(Kind.RELEASE, held.claim, client_id)
        elif held.home == self._nodes.me:
            self.registry.released(self._nodes.me, held.claim, client_id)

    def evicted(self, client_id: str, claim: int) -> None:
        """Close the connection of a client whose id was given to one on another node."""
        held = self._held.get(client_id)
        if held is None or held.claim != claim:
            return  # it has left, or was itself replaced meanwhile
        del self._held[client_id]
        client: Client | None = self._state.clients.get(client_id)
        if client is not None:
            client.replaced()

    # -- nodes that come and go -------------------------------------------------------------

    def move_to(self, node: str) -> Iterator[int]:
        """Tell a new node the ids of our clients whose home it has become."""
        for client_id, held in list(self._held.items()):
            if weight(client_id, node) > weight(client_id, held.home):
                self._move(client_id)
            yield 1

    def node_went(self, node: str) -> None:
        """Ask the next home for the ids that a node has not given yet."""
        self.places.node_went(node)
        for number, claim in list(self._claims.items()):
            if claim.home == node:
                del self._claims[number]
                verdict = self.claim(claim.number, claim.client_id, claim.identity)
                if verdict is not None:
                    self._judge(claim.number, verdict)

    def move_from(self, node: str) -> Iterator[int]:
        """Tell the next homes the ids of our clients whose home a node was."""
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
        self._register(client_id, held)
        if before.home != held.home:
            self._release(client_id, before)

    # -- time -------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        # All wait for as long, so the first is the one that has waited longest.
        return next((claim.due for claim in self._claims.values()), None)

    def handle_timeout(self, now: float) -> None:
        """Take ids without the home's verdict: an id is never refused for want of an answer.

        But nobody gets what a client here has, or had, that has another identity.
        """
        for number, claim in list(self._claims.items()):
            if claim.due > now:
                break
            del self._claims[number]
            held, owners = self._held.get(claim.client_id), self._state.owners
            is_taken = held is not None and held.identity != claim.identity
            if is_taken or not owners.may_use(claim.client_id, claim.identity):
                self._judge(claim.number, False)
                continue
            self._state.tally.unconfirmed += 1
            self._hold(number, claim, 0)  # what another client of ours had is not its own
            self._move(claim.client_id)
