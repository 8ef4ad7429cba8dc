"""Tells other nodes what the clients of this one subscribe to, and subscribes those nodes here."""

from collections.abc import Callable
from typing import NamedTuple

from kps.protocol.access.rules import RESERVED
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.cluster.bus import ClusterBus
from kps.protocol.cluster.frames import Kind, read_key, write_key
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.waiting import Waiting
from kps.protocol.patterns import InGroup, Key
from kps.protocol.server.delivery import Ready
from kps.protocol.server.figures import Tally
from kps.protocol.timers import Deadlines


class _Unheeded(NamedTuple):
    """A subscription that waits until all other nodes heed it."""

    number: int
    ready: Ready


class Interest:
    """The topics and patterns that this node has subscribers for."""

    def __init__(
        self,
        bus: ClusterBus,
        nodes: Nodes,
        deadlines: Deadlines,
        patience: float,
        now: Callable[[], float],
        tally: Tally,
    ) -> None:
        self._bus = bus
        self._nodes = nodes
        self._tally = tally
        self._count = 0  # changes
        self._since: dict[Key, int] = {}  # the number of the change with which each began
        self._subscribers: dict[Key, int] = {}
        self._waiting = Waiting(deadlines, now, patience, self._give_up)
        bus.on_join.append(self._joined)
        bus.on_leave.append(self._left)

    # -- of this node -----------------------------------------------------------------------

    def when_heeded(self, key: Key, ready: Ready) -> None:
        """Call ``ready`` once all other nodes heed our interest in a key, or time is over.

        It is called with the nodes that do not.
        """
        self._when_heeded(self._since.get(key, 0), ready)

    def when_all_answer(self, ready: Callable[[], object]) -> None:
        """Call ``ready`` once all other nodes have heeded what we have sent so far."""
        self._count += 1
        self._tell([], [])
        self._when_heeded(self._count, lambda _: ready())

    def _when_heeded(self, number: int, ready: Ready) -> None:
        if not self._deaf_to(number):
            ready(())
        else:
            self._waiting.add(_Unheeded(number, ready))

    def _joined(self, subscriber: Subscriber, key: Key) -> None:
        if _is_told(key):
            self.begin(key)

    def _left(self, subscriber: Subscriber, key: Key) -> None:
        if _is_told(key):
            self.end(key)

    def begin(self, key: Key) -> None:
        """Note one more subscriber here."""
        count = self._subscribers.get(key, 0)
        self._subscribers[key] = count + 1
        if not count:
            self._count += 1
            self._since[key] = self._count
            self._tell([key], [])

    def end(self, key: Key) -> None:
        """Note one less."""
        self._subscribers[key] -= 1
        if not self._subscribers[key]:
            del self._subscribers[key], self._since[key]
            self._count += 1
            self._tell([], [key])

    def _tell(self, begun: list[Key], ended: list[Key]) -> None:
        keys = list(map(write_key, begun)), list(map(write_key, ended))
        self._nodes.tell(Kind.INTEREST, self._count, *keys)

    # -- of others --------------------------------------------------------------------------

    def greet(self, node: Node) -> None:
        """Tell a node that is new all that we have subscribers for."""
        node.send(Kind.INTEREST, self._count, list(map(write_key, self._since)), [])

    def heed(self, node: Node, number: int, begun: list[list[str]], ended: list[list[str]]) -> None:
        """Subscribe a node to what it has subscribers for."""
        for one in begun:
            self._bus.heed(node, read_key(one))
        for one in ended:
            self._bus.unsubscribe(node, read_key(one))
        node.send(Kind.CONFIRM, number)

    def confirmed(self, node: Node, number: int) -> None:
        """Note that a node heeds our changes up to one."""
        node.heeds = number
        self.look()

    def look(self) -> None:
        """Confirm what all nodes heed by now. Those that have gone count no more."""
        while (first := self._waiting.first()) and not self._deaf_to(first.number):
            self._waiting.take_first().ready(())

    def _deaf_to(self, number: int) -> list[str]:
        """Return the nodes that have not heeded a change of ours."""
        return [name for name, node in self._nodes.others.items() if node.heeds < number]

    def _give_up(self, waiting: _Unheeded) -> None:
        """Wait no longer for nodes that do not confirm."""
        self._tally.unconfirmed += 1
        waiting.ready(self._deaf_to(waiting.number))


def _is_told(key: Key) -> bool:
    """Tell whether other nodes need to know of a subscription.

    Each node publishes figures of its own on the servers' topics; of groups, ``Members`` tells.
    """
    if isinstance(key, InGroup):
        return False
    return not (key if isinstance(key, str) else key.head).startswith(RESERVED)
