"""What is shared by all nodes: who is subscribed, the members of a group, messages of the past."""

from collections import Counter

from kps.protocol.bus.history import History
from kps.protocol.patterns import InGroup
from planning.clients import Client, Fields, client_id, join, subscribe
from planning.mesh import Mesh, Server, memory_of
from planning.scale import Scale
from planning.tables import MILLION, Growth, Table, Work, beyond, number, seconds, size

_TOPIC = "room"
_GROUP = "workers"
_TURN = 500  # clients that come between two rounds


def measure(scale: Scale) -> list[Table]:
    """Return what presence, groups and history cost."""
    return [_presence(scale), _groups(scale), _history(scale)]


def _come(mesh: Mesh | Server, count: int, **fields: object) -> list[Client]:
    """Connect subscribers of one topic, in turn with all nodes."""
    clients = []
    for one in range(count):
        clients.append(join(mesh, mesh.node(one), client_id(one), subscribe(_TOPIC, **fields)))
        if one % _TURN == _TURN - 1:
            mesh.settle()
    mesh.settle()
    return clients


# -- presence -------------------------------------------------------------------------------------


def _presence(scale: Scale) -> Table:
    sizes = scale.sizes(250, 500, 2000)
    table = Table(
        "presence",
        ("an observer on each node; members", *(f"{count:,}" for count in sizes), f"{MILLION:,}"),
    )
    frames, carried, work, memory, more, coming = [], [], [], [], [], []
    for count in sizes:
        mesh = Mesh(scale.nodes)
        mesh.meet()
        _come(mesh, count)
        mesh.begin()
        _observe(mesh, "first")
        traffic = mesh.traffic()
        frames.append(traffic.frames.total())
        carried.append(traffic.size)
        work.append(traffic.work / scale.nodes)
        mesh.begin()
        _observe(mesh, "second")
        more.append(_without_ids(mesh.traffic().frames))
        mesh.begin()
        join(mesh, mesh.node(0), "late", subscribe(_TOPIC))
        mesh.settle()
        coming.append(_without_ids(mesh.traffic().frames))
        memory.append(_memory_of_observers(scale.nodes, count) / scale.nodes)
    for title, show, values in (
        ("frames when the observers come", number, frames),
        ("bytes on all links", size, carried),
        ("memory of each node", size, memory),
    ):
        growth = Growth(sizes, values)
        end = beyond(show(growth.at(MILLION)))
        table.rows.append([title + growth.remark, *map(show, values), end])
    end = beyond(Work(sizes, work).shown(MILLION))
    table.rows.append(["work of each node", *map(seconds, work), end])
    table.rows.append(["frames when a second observer comes to each node", *map(number, more), ""])
    table.rows.append(["frames when a member comes", *map(number, coming), ""])
    return table


def _without_ids(frames: Counter[str]) -> int:
    return frames.total() - frames["CLAIM"] - frames["CLAIMED"]


def _observe(mesh: Mesh, name: str) -> None:
    for node in mesh.nodes.values():
        join(mesh, node, f"{name}-{node.name}", subscribe(_TOPIC, presence=True))
    mesh.settle()


def _memory_of_observers(nodes: int, count: int) -> int:
    mesh = Mesh(nodes)
    mesh.meet()
    _come(mesh, count)
    return memory_of(lambda: _observe(mesh, "first"))


# -- groups ---------------------------------------------------------------------------------------


def _groups(scale: Scale) -> Table:
    table = Table(
        "groups",
        ("each message for a group", "frames", "taken by its home", "work of its home",
         "work of all others together", "of one server"),
    )  # fmt: skip
    members, count = scale.count(200, 20), scale.count(1000, 100)
    for title, with_ack in (("without ack", False), ("with ack and its answer", True)):
        mesh = Mesh(scale.nodes)
        mesh.meet()
        home = mesh.nodes[_home(mesh)]
        workers = _come(mesh, members, group=_GROUP, concurrency=10)
        publishers = [join(mesh, node, f"p-{node.name}") for node in mesh.nodes.values()]
        mesh.settle()
        mesh.begin()
        _share(mesh, workers, publishers, count, with_ack)
        traffic = mesh.traffic()
        server = Server()
        alone = _come(server, members, group=_GROUP, concurrency=10)
        one = [join(server, server.node(0), "p")]
        server.settle()
        server.begin()
        _share(server, alone, one, count, with_ack)
        table.rows.append(
            [
                title,
                number(round(traffic.frames.total() / count, 2)),
                number(round(home.taken.total() / count, 2)),
                seconds(home.work / count),
                seconds((traffic.work - home.work) / count),
                seconds(server.begin() / count),
            ]
        )
    return table


def _home(mesh: Mesh) -> str:
    first = mesh.node(0)
    home = first.nodes.home_of_group(InGroup(_TOPIC, _GROUP))
    return first.name if home is None else home.id


def _share(
    mesh: Mesh | Server,
    workers: list[Client],
    publishers: list[Client],
    count: int,
    with_ack: bool,
) -> None:
    before = sum(one.got for one in workers)
    for place in range(count):
        message: Fields = {"action": "publish", "topic": _TOPIC, "data": place}
        if with_ack:
            message |= {"action": "publish_with_ack", "ack_id": str(place), "timeout": 60}
        publishers[place % len(publishers)].say([message])
        mesh.settle()
        if with_ack:
            for one in workers:
                if one.asked:
                    one.acknowledge()
            mesh.settle()
    assert sum(one.got for one in workers) - before == count


# -- history --------------------------------------------------------------------------------------


def _history(scale: Scale) -> Table:
    rule = History("log/**", size=1000)
    sizes = scale.sizes(200, 400, 1000)
    columns = ("messages of 100 bytes on 50 topics", *(f"{count:,}" for count in sizes))
    table = Table("history", columns)
    frames, carried, publishing, memory, again, meeting = [], [], [], [], [], []
    for count in sizes:
        mesh = Mesh(scale.nodes, history=[rule])
        mesh.meet()
        mesh.begin()
        _keep(mesh, count)
        traffic = mesh.traffic()
        frames.append(traffic.frames.total())
        carried.append(traffic.size)
        publishing.append(traffic.work)
        mesh.break_all()
        mesh.begin()
        mesh.meet()
        traffic = mesh.traffic()
        again.append(traffic.size)
        meeting.append(traffic.work / scale.nodes)
        other = Mesh(scale.nodes, history=[rule])
        other.meet()
        memory.append(_memory_of_logs(other, count))
    for title, show, values in (
        ("frames", number, frames),
        ("bytes on all links", size, carried),
        ("memory, all nodes", size, memory),
        ("bytes when all links rise again", size, again),
    ):
        growth = Growth(sizes, values)
        table.rows.append([title, *map(show, values), growth.shown(show)])
    for title, taken in (
        ("work of all nodes", publishing),
        ("work of each node when all links rise again", meeting),
    ):
        table.rows.append([title, *map(seconds, taken), Work(sizes, taken).shown()])
    table.columns = (*columns, "each message")
    return table


def _keep(mesh: Mesh, count: int) -> None:
    """Publish on topics with history, from all nodes."""
    publishers = [join(mesh, node, f"p-{node.name}") for node in mesh.nodes.values()]
    mesh.settle()
    for place in range(count):
        topic = f"log/{place % 50}"
        message: Fields = {"action": "publish", "topic": topic, "data": "x" * 98}
        publishers[place * 7 % len(publishers)].say([message])
        mesh.move()
    kept = {0 if node.hub.state.logs is None else node.hub.state.logs.count()
            for node in mesh.nodes.values()}  # fmt: skip
    assert kept == {count}


def _memory_of_logs(mesh: Mesh, count: int) -> int:
    return memory_of(lambda: _keep(mesh, count))
