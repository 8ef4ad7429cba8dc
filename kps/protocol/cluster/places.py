"""On which nodes the clients are to which clients of this node send direct messages.

A message for a client goes over the link to its node, as the publications do that it gets, so they
come in the order in which they were sent. So the node of the sender must know that node first: it
asks the home of the id, and the sender is not heard meanwhile.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from kps.protocol.cluster.agreement import Agreement
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.waiting import Waiting
from kps.protocol.server.state import ServerState

_MOST = 16_384  # ids of which the node is kept

Ready = Callable[[bool], object]
"""Is called when the node of a client is known, with ``True``; with ``False`` if nobody has the id.
It is ``True``, too, if nobody could say."""


class _Asking(NamedTuple):
    """Who waits for the node of a client."""

    client_id: str
    ready: Ready


class _Question(NamedTuple):
    """What is asked about an id, and for whom."""

    home: str
    """The node that is asked; empty: this one decides, once it is sure."""
    numbers: list[int]
    """Of those who wait."""


class Places:
    """The nodes of clients, as far as this node knows them.

    ``holder`` returns the node of the client that has an id whose home is here.
    """

    def __init__(
        self,
        state: ServerState,
        nodes: Nodes,
        agreement: Agreement,
        holder: Callable[[str], str | None],
        patience: float,
    ) -> None:
        self._state = state
        self._nodes = nodes
        self._agreement = agreement
        self._holder = holder
        self._known: dict[str, str] = {}
        self._asking = Waiting(state.deadlines, lambda: state.now, patience, self._give_up)
        self._by_id: dict[str, _Question] = {}

    # -- of this node -----------------------------------------------------------------------

    def node_of(self, client_id: str) -> Node | None:
        """Return the node of a client, if that is known and another one.

        If the home of the id is here, the registry knows better than what we were told before.
        """
        others = self._nodes.others
        place = self._holder(client_id) or self._known.get(client_id, "")
        return others.get(client_id) or others.get(place)

    def knows(self, client_id: str) -> bool:
        """Tell whether nobody needs to be asked about an id."""
        return (
            client_id in self._state.clients
            or client_id == self._nodes.me
            or client_id in self._known
            or client_id in self._nodes.others
        )

    def when_known(self, client_id: str, ready: Ready, *, anew: bool = False) -> bool:
        """Return ``True`` if the node of a client is known, or call ``ready`` later.

        That is when the home of the id has said where it is, or that nobody has it, or when time
        is over. What the home said before does not count if it is to be asked ``anew``.
        """
        if anew:
            self._known.pop(client_id, None)
        if self.knows(client_id):
            return True
        home = self._nodes.home(client_id)
        if home is None and (self._agreement.is_sure or self._holder(client_id)):
            return True
        number = self._asking.add(_Asking(client_id, ready))
        if client_id in self._by_id:
            self._by_id[client_id].numbers.append(number)
        else:
            self._ask(client_id, [number])
        return False

    def _ask(self, client_id: str, numbers: list[int]) -> None:
        home = self._nodes.home(client_id)
        self._by_id[client_id] = _Question("" if home is None else home.id, numbers)
        if home is None:
            self._agreement.when_sure(partial(self._settle, client_id, is_there=True))
        else:
            home.send(Kind.WHERE, client_id)

    def is_there(self, home: Node, client_id: str, node: str) -> None:
        """Take the answer of a home: the node of a client, or empty.

        Of an id that has another home meanwhile, it may know nothing any more.
        """
        if node and node != self._nodes.me:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[client_id] = node
        self._settle(client_id, is_there=bool(node) or self._nodes.home(client_id) is not home)

    def has_moved(self, client_id: str, node: str) -> None:
        """Note that a client is not on a node any more."""
        if self._known.get(client_id) == node:
            del self._known[client_id]

    def _settle(self, client_id: str, *, is_there: bool) -> None:
        question = self._by_id.pop(client_id, None)
        if question is not None:
            self._go_on(question, is_there=is_there)

    def _go_on(self, question: _Question, *, is_there: bool) -> None:
        for number in question.numbers:
            asking = self._asking.take(number)
            if asking is not None:
                asking.ready(is_there)

    def _give_up(self, asking: _Asking) -> None:
        """Go on without the answer. What is asked about the id from now on is another question."""
        question = self._by_id.pop(asking.client_id, None)
        try:
            asking.ready(True)
        finally:
            if question is not None:
                self._go_on(question, is_there=True)

    # -- of other nodes ---------------------------------------------------------------------

    def where(self, node: Node, client_id: str) -> None:
        """Tell a node where a client is, once this node surely knows that."""
        if self._holder(client_id):
            self._tell(node, client_id)
        else:
            self._agreement.when_sure(partial(self._tell, node, client_id))

    def _tell(self, node: Node, client_id: str) -> None:
        node.send(Kind.THERE, client_id, self._holder(client_id) or "")

    def node_went(self, node: str) -> None:
        """Forget who was on a node, and ask the new homes of what it was asked for."""
        self._known = {one: place for one, place in self._known.items() if place != node}
        for client_id, question in list(self._by_id.items()):
            if question.home == node:
                self._ask(client_id, question.numbers)
