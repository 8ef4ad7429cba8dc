"""On which nodes the clients are to which clients of this node send direct messages.

A message for a client goes over the link to its node, as the publications do that it gets, so they
come in the order in which they were sent. So the node of the sender must know that node first: it
asks the home of the id, and the sender is not heard meanwhile.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import NamedTuple

from kps.protocol.cluster.agreement import Agreement
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.server.state import ServerState

_MOST = 16_384  # ids of which the node is kept


class _Asking(NamedTuple):
    """Who waits for the node of a client."""

    client_id: str
    due: float
    ready: Callable[[], object]


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
        self._patience = patience
        self._known: dict[str, str] = {}
        self._numbers = count(1)
        self._asking: dict[int, _Asking] = {}
        self._by_id: dict[str, list[int]] = {}

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

    def when_known(self, client_id: str, ready: Callable[[], object]) -> bool:
        """Return ``True`` if the node of a client is known, or call ``ready`` later.

        That is when the home of the id has said where it is, or that nobody has it, or when time
        is over.
        """
        if self.knows(client_id):
            return True
        home = self._nodes.home(client_id)
        if home is None and (self._agreement.is_sure or self._holder(client_id)):
            return True
        number = next(self._numbers)
        asking = _Asking(client_id, self._state.now + self._patience, ready)
        self._asking[number] = asking
        waiting = self._by_id.setdefault(client_id, [])
        waiting.append(number)
        self._state.deadlines.schedule(self)
        if len(waiting) == 1:
            if home is None:
                self._agreement.when_sure(partial(self._settle, client_id))
            else:
                home.send(Kind.WHERE, client_id)
        return False

    def is_there(self, client_id: str, node: str) -> None:
        """Take the answer of a home: the node of a client, or empty."""
        if node and node != self._nodes.me:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[client_id] = node
        self._settle(client_id)

    def has_moved(self, client_id: str, node: str) -> None:
        """Note that a client is not on a node any more."""
        if self._known.get(client_id) == node:
            del self._known[client_id]

    def _settle(self, client_id: str) -> None:
        for number in self._by_id.pop(client_id, ()):
            asking = self._asking.pop(number, None)
            if asking is not None:
                asking.ready()

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
        """Forget who was on a node, and ask the new homes of what its answers are missing for."""
        self._known = {one: place for one, place in self._known.items() if place != node}
        for client_id in list(self._by_id):
            home = self._nodes.home(client_id)
            if home is None:
                self._agreement.when_sure(partial(self._settle, client_id))
            else:
                home.send(Kind.WHERE, client_id)

    # -- time -------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        return next((asking.due for asking in self._asking.values()), None)

    def handle_timeout(self, now: float) -> None:
        """Go on without the answer."""
        while (due := self.next_deadline()) is not None and due <= now:
            self._settle(next(iter(self._asking.values())).client_id)
