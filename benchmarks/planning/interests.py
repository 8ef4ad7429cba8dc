"""Ids and topics: what they cost a cluster, beyond what they cost one server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from planning.clients import Client, client_id, join, own_topic, subscribe
from planning.mesh import Mesh, Server, Traffic, memory_of
from planning.scale import Scale
from planning.tables import MILLION, Growth, Table, Work, beyond, listed, number, seconds, size

_AT_ONCE = 20  # clients of a node that come, or subscribe, between two rounds
_PER_TOPIC = 10
_FEW = tuple(f"few/{number}" for number in range(10))

Topics = Callable[[int], Sequence[str]]
"""Returns the topic of each of so many clients."""


def _few(count: int) -> list[str]:
    random = Random(count)
    return [random.choice(_FEW) for _ in range(count)]


def _spread(count: int) -> list[str]:
    topics = [f"spread/{number // _PER_TOPIC:06}" for number in range(count)]
    Random(count).shuffle(topics)
    return topics


def _own(count: int) -> list[str]:
    return [own_topic(number) for number in range(count)]


def come(mesh: Mesh | Server, count: int, identity: str = "") -> list[Client]:
    """Connect clients, in turn with all nodes, each with an id."""
    clients = []
    for one in range(count):
        name = f"{identity}{one}" if identity else ""
        clients.append(join(mesh, mesh.node(one), client_id(one), identity=name))
        if one % (_AT_ONCE * len(mesh.nodes)) == 0:
            mesh.settle()
    mesh.settle()
    return clients


def join_topics(mesh: Mesh | Server, clients: Sequence[Client], topics: Sequence[str]) -> None:
    """Let each client subscribe to its topic."""
    for one, (client, topic) in enumerate(zip(clients, topics, strict=True)):
        client.say([subscribe(topic)])
        if one % (_AT_ONCE * len(mesh.nodes)) == 0:
            mesh.settle()
    mesh.settle()
    assert all(client.session.topics for client in clients)


# -- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Crowd:
    """How many clients there are, and what they subscribe to."""

    title: str
    topics: Topics
    sizes: Sequence[int]
    traced: Sequence[int]
    """Sizes at which memory is measured, which takes longer."""
    residents: Sequence[str] = ()
    """Topics that all nodes have subscribers for before any of them comes."""


@dataclass(frozen=True)
class _Seen:
    """What a crowd of one size has caused, step by step."""

    ids: Traffic
    topics: Traffic
    falling: Traffic
    meeting: Traffic


def _watch(crowd: _Crowd, nodes: int, count: int) -> _Seen:
    """Let clients come and subscribe; then all links fall, and the nodes meet again."""
    mesh = _meet(nodes)
    _settle_in(mesh, crowd)
    clients: list[Client] = []

    def step(act: Callable[[], object]) -> Traffic:
        mesh.begin()
        act()
        return mesh.traffic()

    return _Seen(
        step(lambda: clients.extend(come(mesh, count))),
        step(lambda: join_topics(mesh, clients, crowd.topics(count))),
        step(mesh.break_all),
        step(mesh.meet),
    )


def _settle_in(mesh: Mesh | Server, crowd: _Crowd) -> None:
    if crowd.residents:
        for node in mesh.nodes.values():
            join(mesh, node, f"resident-{node.hub.config.id}", *map(subscribe, crowd.residents))
    mesh.settle()


def _alone(crowd: _Crowd, count: int) -> tuple[float, float]:
    """Return the work of one server with the ids, and with the topics, of a crowd."""
    server = Server()
    _settle_in(server, crowd)
    server.begin()
    clients = come(server, count)
    ids = server.begin()
    join_topics(server, clients, crowd.topics(count))
    return ids, server.begin()


def _memory(crowd: _Crowd, nodes: int, count: int) -> tuple[int, int]:
    """Return the memory of ids, and of topics, beyond that of one server."""
    topics, taken = crowd.topics(count), []
    for mesh in (_meet(nodes), Server()):
        _settle_in(mesh, crowd)
        clients: list[Client] = []
        taken.append(memory_of(lambda: clients.extend(come(mesh, count))))  # noqa: B023
        taken.append(memory_of(lambda: join_topics(mesh, clients, topics)))  # noqa: B023
    return taken[0] - taken[2], taken[1] - taken[3]


def _memory_of_owned(nodes: int, count: int) -> int:
    """Return the memory of ids that belong to identities, beyond that of one server."""
    mesh, server = _meet(nodes, asks_upgrade=True), Server(asks_upgrade=True)
    taken = memory_of(lambda: come(mesh, count, "user-"))
    return taken - memory_of(lambda: come(server, count, "user-"))


def _meet(nodes: int, *, asks_upgrade: bool = False) -> Mesh:
    mesh = Mesh(nodes, asks_upgrade=asks_upgrade)
    mesh.meet()
    return mesh


# -- tables ---------------------------------------------------------------------------------------


class _Costs:
    """The table of what each client costs, and what a million would."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self.table = Table(
            "each",
            ("each client has", "frames", "bytes", "memory", "work", "work of one server",
             "a million: memory of a node", "work of a node"),
        )  # fmt: skip

    def add(
        self,
        title: str,
        sizes: Sequence[int],
        seen: Sequence[Traffic],
        alone: Sequence[float],
        memory: Growth,
    ) -> None:
        """Add a row."""
        work = Work(sizes, [one.work for one in seen])
        self.table.rows.append(
            [
                f"{title}: {listed(sizes)}",
                Growth(sizes, [one.frames.total() for one in seen]).shown(number),
                Growth(sizes, [one.size for one in seen]).shown(size),
                memory.shown(size),
                work.shown(),
                Work(sizes, alone).shown(),
                self._of_a_million(memory),
                beyond(work.shown(MILLION // self._nodes)),
            ]
        )

    def add_memory(self, title: str, memory: Growth) -> None:
        """Add a row of which only the memory differs from the row before."""
        row = [f"{title}: {listed(memory.sizes)}", "", "", memory.shown(size), "", ""]
        self.table.rows.append([*row, self._of_a_million(memory), ""])

    def _of_a_million(self, memory: Growth) -> str:
        return beyond(size(memory.at(MILLION) / self._nodes))


def measure(scale: Scale) -> list[Table]:
    """Return what each client costs, what a million would, and what it costs to meet with them."""
    nodes = scale.nodes
    many, some = scale.sizes(4000, 8000, 16_000), scale.sizes(1000, 2000, 4000)
    traced, barely = scale.sizes(500, 1000, 2000), scale.sizes(200, 400, 800)
    few = _Crowd("one of 10 topics", _few, many, traced, _FEW)
    spread = _Crowd(f"one of many, {_PER_TOPIC} clients each", _spread, some, barely)
    own = _Crowd("a topic of its own", _own, some, barely)
    costs = _Costs(nodes)
    meeting = Table(
        "meeting",
        ("each client has", "frames", "bytes", "work", "work to let go", "a million: bytes",
         "bytes of a link", "work of a node"),
    )  # fmt: skip
    for crowd in (few, spread, own):
        seen = [_watch(crowd, nodes, count) for count in crowd.sizes]
        alone = [_alone(crowd, count) for count in crowd.sizes]
        memory = [_memory(crowd, nodes, count) for count in crowd.traced]
        if crowd is few:
            came, own_work = [one.ids for one in seen], [ids for ids, _ in alone]
            costs.add("an id", many, came, own_work, Growth(traced, [ids for ids, _ in memory]))
            owned = Growth(traced, [_memory_of_owned(nodes, count) for count in traced])
            costs.add_memory("an id of an identity", owned)
        costs.add(
            crowd.title,
            crowd.sizes,
            [one.topics for one in seen],
            [topics for _, topics in alone],
            Growth(crowd.traced, [topics for _, topics in memory]),
        )
        meeting.rows.append(_meeting(crowd, seen, nodes))
    return [costs.table, meeting, _greeting(scale)]


def _meeting(crowd: _Crowd, seen: Sequence[_Seen], nodes: int) -> list[str]:
    def grow(values: Sequence[float]) -> Growth:
        return Growth(crowd.sizes, values)

    frames = grow([one.meeting.frames.total() for one in seen])
    carried = grow([one.meeting.size for one in seen])
    largest = grow([one.meeting.largest for one in seen])
    work = Work(crowd.sizes, [one.meeting.work for one in seen])
    falling = Work(crowd.sizes, [one.falling.work for one in seen])
    return [
        crowd.title,
        frames.shown(number),
        carried.shown(size),
        work.shown(),
        falling.shown(),
        beyond(size(carried.at(MILLION))),
        beyond(size(largest.at(MILLION))),
        beyond(work.shown(MILLION // nodes)),
    ]


def _greeting(scale: Scale) -> Table:
    """Return what it costs to meet one node with very many topics: the longest frame of all."""
    sizes = scale.sizes(10_000, 30_000, 100_000)
    carried, work = [], []
    for count in sizes:
        mesh = _with_topics(count)
        mesh.begin()
        mesh.meet()
        carried.append(mesh.traffic().size)
        work.append(mesh.node(1).work)
    memory = [memory_of(_with_topics(count).meet) for count in sizes]
    table = Table(
        "greeting",
        ("the other of two nodes has topics", *(f"{count:,}" for count in sizes), "each topic"),
    )
    for title, values in (("bytes", carried), ("memory", memory)):
        table.rows.append([title, *map(size, values), Growth(sizes, values).shown(size)])
    table.rows.append(["work", *map(seconds, work), Work(sizes, work).shown()])
    return table


def _with_topics(count: int) -> Mesh:
    """Return two nodes that have not met, of which the first has so many topics."""
    mesh = Mesh(2)
    node = mesh.node(0)
    most = node.hub.limits.max_subscriptions
    for first in range(0, count, most):
        topics = [own_topic(one) for one in range(first, min(first + most, count))]
        join(mesh, node, client_id(first), *map(subscribe, topics))
        mesh.settle()
    assert len(node.hub.state.bus) == count
    return mesh
