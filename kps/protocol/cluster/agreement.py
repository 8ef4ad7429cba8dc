"""Whether the nodes agree about which of them there are, and have told each other what follows.

A home of names must know what other nodes have there before it decides. When the set of homes
changes, each node first tells the new homes what they must know, and then all nodes the set that it
has done that for. A node is *sure* when all others have told it such a set, without a home that it
does not see itself: with fewer homes they have told it no less than it must know.
"""

from collections.abc import Callable, Iterator
from functools import partial

from kps.protocol.bus.slices import MakeWork, Slices
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.cluster.waiting import Waiting
from kps.protocol.timers import Deadlines

_Ready = Callable[[], object]


class Agreement:
    """What the other nodes have told this one since the set of homes has changed."""

    def __init__(
        self,
        nodes: Nodes,
        deadlines: Deadlines,
        patience: float,
        now: Callable[[], float],
        failed: Callable[[Exception], object],
    ) -> None:
        self.is_sure = True
        """Whether this node knows all that it must know as a home."""
        self._nodes = nodes
        self._failed = failed
        self._slices = Slices(deadlines)
        self._unfinished = 0
        self._told: dict[str, frozenset[str]] = {}  # the set of homes that each has told of
        self._waiting = Waiting(deadlines, now, patience, self._give_up)

    def begin(self, *works: MakeWork) -> None:
        """Do what a change of the set of homes makes due, then tell the other nodes."""
        self.is_sure = False
        self._unfinished += 1
        self._slices.begin(partial(self._work, works))

    def _work(self, works: tuple[MakeWork, ...]) -> Iterator[int]:
        for make in works:
            try:
                yield from make()
            except Exception as error:  # ours; the nodes must not wait for the rest for ever
                self._failed(error)
        self._unfinished -= 1
        if not self._unfinished:
            self._nodes.tell(Kind.TOLD, list(self._nodes.homes))
            self._look()

    def told(self, node: Node, homes: list[str]) -> None:
        """Note that a node has told the homes what they must know."""
        self._told[node.id] = frozenset(homes)
        self._look()

    def node_went(self, node: str) -> None:
        """Wait for a node no more."""
        self._told.pop(node, None)

    def when_sure(self, ready: _Ready) -> None:
        """Call ``ready`` once this node is sure, or time is over."""
        if self.is_sure:
            ready()
        else:
            self._waiting.add(ready)

    def _look(self) -> None:
        homes, told = frozenset(self._nodes.homes), self._told
        if not self._unfinished and all(
            node in told and told[node] <= homes for node in self._nodes.others
        ):
            self.is_sure = True
            self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self.is_sure:
            self._waiting.take_first()()

    def _give_up(self, ready: _Ready) -> None:
        """Go on without those that do not tell; they may see other nodes than this one."""
        self.is_sure = True
        try:
            ready()
        finally:
            self._go_on()
