"""Many nodes in one process: links in memory that count, and a time that is set by hand."""

import gc
import time
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Protocol

from kps.protocol.bus.history import History
from kps.protocol.cluster.cluster import Cluster
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.frames import Frame, Kind
from kps.protocol.cluster.link import Link
from kps.protocol.server.config import HubConfig
from kps.protocol.server.events import SessionFailed
from kps.protocol.server.hub import Hub
from kps.protocol.server_limits import ServerLimits

cpu = time.thread_time
"""Seconds that this thread has worked: other work on the machine does not count."""

_TICK = 0.001  # seconds between two looks for what is due
_MOMENT = 0.002  # seconds in which what is due belongs to what has just happened


class Node(Cluster):
    """The core of one node. It counts the frames that it takes, and its work."""

    def __init__(
        self, name: str, config: HubConfig, cluster: ClusterConfig, random: Random, now: float
    ) -> None:
        super().__init__(
            replace(config, id=name),
            cluster,
            new_id=lambda: f"generated-{random.getrandbits(48):012x}",
            new_token=lambda: random.getrandbits(64) or 1,
            now=now,
        )
        self.name = name
        self.taken: Counter[int] = Counter()
        """Frames from other nodes, by kind."""
        self.work = 0.0
        """Seconds for which it has worked."""
        self.charged = 0
        """Units of work that its clients were charged."""

    def received(self, link: Link, frame: Frame) -> None:
        """Count a frame, and take it."""
        self.taken[frame.kind] += 1
        super().received(link, frame)


@dataclass
class Traffic:
    """What the nodes have said to each other for a while, all links together."""

    frames: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    size: int = 0
    """Bytes of the chunks: what a carrier is given."""
    work: float = 0.0
    """Seconds for which all nodes have worked, added up."""
    charged: int = 0
    """Units of work that all clients were charged."""
    largest: int = 0
    """The most bytes that one node has given the carrier for another one in one round."""


class Mesh:
    """Nodes of one cluster that can all reach each other.

    They work in rounds: each writes what it has, then each takes all that has come. So whatever a
    node says to another one in one round is one chunk, as if each took a turn when the others had
    taken theirs. ``limits``, ``history`` and ``cluster`` are the same on all nodes.
    """

    def __init__(
        self,
        count: int,
        *,
        limits: ServerLimits | None = None,
        history: Sequence[History] = (),
        cluster: ClusterConfig | None = None,
        asks_upgrade: bool = False,
    ) -> None:
        self.now = 1000.0
        self.random = Random(count)
        config = HubConfig(
            id="node",
            limits=limits or ServerLimits(),
            history=tuple(history),
            asks_upgrade=asks_upgrade,
        )
        cluster = cluster or ClusterConfig()
        width = len(str(count))
        names = [f"node-{number:0{width}}" for number in range(1, count + 1)]
        self.nodes = {name: Node(name, config, cluster, self.random, self.now) for name in names}
        self._waiting: dict[str, deque[tuple[str, bytes]]] = {name: deque() for name in names}
        self._traffic = Traffic()

    def node(self, number: int) -> Node:
        """Return a node by a number, of which there may be more than nodes."""
        nodes = list(self.nodes.values())
        return nodes[number % len(nodes)]

    # -- links ------------------------------------------------------------------------------

    def meet(self) -> None:
        """Open all links, and let the nodes say all that they have to say."""
        for node in self.nodes.values():
            self._work(node, (name for name in self.nodes if name != node.name), node.open)
        self.settle()

    def break_all(self) -> None:
        """Close all links, as when what carries them fails."""
        for node in self.nodes.values():
            self._work(node, list(node.nodes.others), node.close)
        self.settle()

    def kill(self, node: Node) -> None:
        """End a node; the others notice at once. What follows from it is still to be done."""
        del self.nodes[node.name]
        self._waiting.pop(node.name)
        for other in self.nodes.values():
            self._work(other, [node.name], other.close)

    def _work(self, node: Node, names: Iterable[str], step: Callable[[str, float], None]) -> None:
        began = cpu()
        for name in names:
            step(name, self.now)
        node.work += cpu() - began

    # -- time -------------------------------------------------------------------------------

    def move(self) -> None:
        """Let the nodes talk until none has anything to say."""
        while self._write() | self._read():
            pass

    def _write(self) -> bool:
        is_any, traffic = False, self._traffic
        for node in self.nodes.values():
            node.hub.take_unflushed()
            names = node.take_unflushed()
            if not names:
                continue
            began = cpu()
            written = [(name, node.take(name, self.now)) for name in names]
            node.work += cpu() - began
            for name, chunks in written:
                size = sum(map(len, chunks))
                traffic.chunks += len(chunks)
                traffic.size += size
                traffic.largest = max(traffic.largest, size)
                if name in self._waiting:
                    self._waiting[name].extend((node.name, chunk) for chunk in chunks)
                    is_any = True
        return is_any

    def _read(self) -> bool:
        is_any = False
        for name, waiting in self._waiting.items():
            node = self.nodes[name]
            if waiting:
                is_any, began = True, cpu()
                while waiting:
                    source, chunk = waiting.popleft()
                    node.receive(source, chunk, self.now)
                node.work += cpu() - began
            for event in node.hub.events():
                if isinstance(event, SessionFailed):
                    raise event.error
        return is_any

    def settle(self) -> None:
        """Let the nodes talk, and do what is due with it, until nothing is."""
        while True:
            self.move()
            due = [node for node in self.nodes.values() if self._due(node) <= self.now + _MOMENT]
            if not due:
                return
            self.now += _TICK
            self._time_out(due)

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at all that is due on the way."""
        end = self.now + seconds
        while True:
            self.move()
            soonest = min(map(self._due, self.nodes.values()))
            if soonest > end:
                break
            self.now = max(self.now, soonest)
            self._time_out([node for node in self.nodes.values() if self._due(node) <= self.now])
        self.now = end

    def _due(self, node: Node) -> float:
        due = node.hub.next_deadline()
        return float("inf") if due is None else due

    def _time_out(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            began = cpu()
            node.hub.handle_timeout(self.now)
            node.work += cpu() - began
            node.hub.take_unflushed()

    # -- figures ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Count from here on."""
        gc.collect()
        self._traffic = Traffic()
        for node in self.nodes.values():
            node.taken.clear()
            node.work, node.charged = 0.0, 0

    def traffic(self) -> Traffic:
        """Return what has been counted."""
        traffic = self._traffic
        traffic.frames = Counter()
        for node in self.nodes.values():
            for kind, count in node.taken.items():
                traffic.frames[Kind(kind).name] += count
        traffic.work = sum(node.work for node in self.nodes.values())
        traffic.charged = sum(node.charged for node in self.nodes.values())
        return traffic


class Server:
    """One server that is in no cluster, with the interface of a mesh: what the others add to."""

    def __init__(self, *, asks_upgrade: bool = False) -> None:
        self.now = 1000.0
        random = Random(1)
        config = HubConfig(id="server", asks_upgrade=asks_upgrade)
        self._single = _Single(
            Hub(config, new_id=lambda: f"generated-{random.getrandbits(48):012x}", now=self.now)
        )
        self.nodes = {config.id: self._single}

    def node(self, number: int) -> "_Single":
        """Return the server."""
        return self._single

    def settle(self) -> None:
        """Do what is due."""
        hub, began = self._single.hub, cpu()
        while (due := hub.next_deadline()) is not None and due <= self.now:
            hub.handle_timeout(self.now)
            hub.take_unflushed()
        hub.events()
        hub.take_unflushed()
        self._single.work += cpu() - began

    def begin(self) -> float:
        """Return the seconds of work so far, and count from here on."""
        gc.collect()
        work, self._single.work = self._single.work, 0.0
        return work


class _Single:
    """The core of a server, and its work."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.work = 0.0
        self.charged = 0


class Works(Protocol):
    """A node, or a server, that has clients."""

    hub: Hub
    work: float
    charged: int


def memory_of(build: Callable[[], object]) -> int:
    """Return the bytes of memory that a call leaves taken, as Python counts them."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = build()
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        del kept
        return taken
    finally:
        tracemalloc.stop()
