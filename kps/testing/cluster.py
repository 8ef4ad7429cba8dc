"""A cluster in memory: nodes with clients, links between the nodes, and their faults."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import permutations
from random import Random

from kps.protocol.cluster.cluster import Cluster
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.figures import Exporter
from kps.protocol.cluster.resuming import Resumption
from kps.protocol.server.config import HubConfig
from kps.protocol.server.hub import Hub
from kps.protocol.server_limits import ServerLimits
from kps.testing.kept import MemoryStore
from kps.testing.network import ManualClock, Network


class NodeNetwork(Network):
    """One node of a cluster, with its clients."""

    cluster: Cluster

    def __init__(
        self,
        config: HubConfig,
        cluster: ClusterConfig,
        *,
        limits: ServerLimits,
        clock: ManualClock,
        seed: int,
        exporter: "Callable[[NodeNetwork], Exporter] | None" = None,
    ) -> None:
        self._cluster_config = cluster
        self._exporter = None if exporter is None else exporter(self)
        self.is_running = True
        super().__init__(config, limits=limits, clock=clock, seed=seed)

    def _new_hub(self) -> Hub:
        self.cluster = Cluster(
            self._config,
            self._cluster_config,
            new_id=lambda: f"generated-{self.random.getrandbits(48):012x}",
            new_token=lambda: self.random.getrandbits(64) or 1,
            now=self.clock.now,
            exporter=self._exporter,
        )
        return self.cluster.hub


class Wire:
    """One direction between two nodes."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.is_cut = False
        """Whether there is no connection, which both ends know."""
        self.is_stalled = False
        """Whether what is sent waits."""
        self.swallows = False
        """Whether what is sent is lost, and neither end knows."""


class MemoryCluster:
    """Several nodes in one process, without sockets, and a time that is set by hand.

    ``exporter`` makes what has the figures of a node for operators. What the nodes of ``stores``
    keep of topics with history outlives them.
    """

    def __init__(
        self,
        names: tuple[str, ...] = ("n1", "n2", "n3"),
        *,
        config: HubConfig | None = None,
        cluster: ClusterConfig | None = None,
        limits: ServerLimits | None = None,
        seed: int = 0,
        exporter: Callable[[NodeNetwork], Exporter] | None = None,
        stores: Iterable[str] = (),
    ) -> None:
        self.clock = ManualClock()
        self.stores = {name: MemoryStore() for name in stores}
        self.random = Random(seed)
        self._cluster = cluster or ClusterConfig()
        config = config or HubConfig(id="n")
        self.nodes = {
            name: NodeNetwork(
                replace(config, id=name),
                self._cluster,
                limits=limits or ServerLimits(),
                clock=self.clock,
                seed=self.random.getrandbits(32),
                exporter=exporter,
            )
            for name in names
        }
        self.wires = {pair: Wire() for pair in permutations(names, 2)}
        for one, other in self.wires:
            self.nodes[one].cluster.open(other, self.clock.now)
        for name in self.stores:
            self._open_store(name)
        self.run()

    def __getitem__(self, name: str) -> NodeNetwork:
        return self.nodes[name]

    # -- time -------------------------------------------------------------------------------

    def run(self) -> None:
        """Move bytes and handle events until nothing moves any more."""
        while self.run_within():
            for (source, target), wire in self.wires.items():
                self._deliver(source, target, wire, len(wire.chunks))

    def run_within(self) -> bool:
        """Do the same within each node: what it sends to others waits. Tell if something does."""
        for name, node in self.nodes.items():
            if node.is_running:
                node.run()
                self._send(name, node.cluster)
        return any(self._may_deliver(*pair, wire) for pair, wire in self.wires.items())

    def deliver_next(self, source: str, target: str) -> None:
        """Deliver the next chunk that a node has sent to another one, if there is any."""
        self._deliver(source, target, self.wires[source, target], 1)

    def _send(self, name: str, cluster: Cluster) -> None:
        for target in cluster.take_unflushed():
            wire = self.wires[name, target]
            chunks = cluster.take(target, self.clock.now)
            if not wire.is_cut and not wire.swallows:
                wire.chunks += chunks

    def _may_deliver(self, source: str, target: str, wire: Wire) -> bool:
        return bool(wire.chunks) and not wire.is_stalled and self.nodes[target].is_running

    def _deliver(self, source: str, target: str, wire: Wire, most: int) -> None:
        for _ in range(most):
            if self._may_deliver(source, target, wire):
                chunk = wire.chunks.popleft()
                self.nodes[target].cluster.receive(source, chunk, self.clock.now)

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every deadline on the way."""
        end = self.clock.now + seconds
        while True:
            self.run()
            due = min(self._deadlines(), default=end)
            if due > end:
                break
            if due == end and not any(one <= end for one in self._deadlines()):
                break
            self.clock.now = max(self.clock.now, due)
            for node in self.nodes.values():
                if node.is_running:
                    node.hub.handle_timeout(self.clock.now)
                    for client in node.clients:
                        client.session.handle_timeout(self.clock.now)
        self.clock.now = end
        self.run()

    def _deadlines(self) -> Iterator[float]:
        for node in self.nodes.values():
            if node.is_running:
                yield from node._deadlines()

    # -- faults -----------------------------------------------------------------------------

    def _between(self, one: str, other: str) -> tuple[Wire, Wire]:
        return self.wires[one, other], self.wires[other, one]

    def cut(self, one: str, other: str) -> None:
        """Break the connection of two nodes; both notice."""
        for wire in self._between(one, other):
            wire.is_cut = True
            wire.chunks.clear()
        for name, peer in ((one, other), (other, one)):
            if self.nodes[name].is_running:
                self.nodes[name].cluster.close(peer, self.clock.now)

    def mend(self, one: str, other: str) -> None:
        """Connect two nodes again that run, whatever was between them."""
        if not (self.nodes[one].is_running and self.nodes[other].is_running):
            return
        for wire in self._between(one, other):
            was_cut, wire.is_cut = wire.is_cut, False
            wire.swallows = wire.is_stalled = False
        if was_cut:
            self.nodes[one].cluster.open(other, self.clock.now)
            self.nodes[other].cluster.open(one, self.clock.now)

    def swallow(self, one: str, other: str) -> None:
        """Lose all that two nodes send to each other. They notice by its silence."""
        for wire in self._between(one, other):
            wire.swallows = True
            wire.chunks.clear()

    def stall(self, one: str, other: str) -> None:
        """Let what two nodes send to each other wait."""
        for wire in self._between(one, other):
            wire.is_stalled = True

    def leave(self, name: str) -> None:
        """Let a node prepare for its end. Its clients are still there."""
        self.nodes[name].cluster.leave(self.clock.now)
        self.run()

    def kill(self, name: str) -> None:
        """End a node, with the connections of its clients."""
        node = self.nodes[name]
        for other in self.nodes:
            if other != name:
                self.cut(name, other)
        for link in list(node.links):
            link.cut()
        node.reachable = False
        node.is_running = False

    def stop(self, name: str) -> None:
        """End a node in order."""
        node = self.nodes[name]
        others = (one for one in self.nodes if one != name and self.nodes[one].is_running)
        if any(others) and not node.cluster.is_leaving:
            self.leave(name)
        logs = node.hub.state.logs
        if name in self.stores and logs is not None:
            self.stores[name].close(logs)
        node.cluster.say_farewell(self.clock.now)
        self.run()
        self.kill(name)
        self.run()

    def start(self, *names: str) -> None:
        """Start nodes at once that were killed or stopped. They know what they have stored."""
        for name in names:
            node = self.nodes[name]
            node.reachable = node.is_running = True
            node.restart()
            if name in self.stores:
                self._open_store(name)
            for other in self.nodes:
                if other != name and self.nodes[other].is_running:
                    self.mend(name, other)
        self.run()
        for work in (Resumption.own_whole, Resumption.own_copies):
            for name in names:
                resumption = self.nodes[name].cluster.resumption
                if resumption is not None:
                    work(resumption, self.clock.now)
            self.run()

    def _open_store(self, name: str) -> None:
        logs, store = self.nodes[name].hub.state.logs, self.stores[name]
        if logs is not None:
            logs.open(store, store.load(), self.clock.now)
