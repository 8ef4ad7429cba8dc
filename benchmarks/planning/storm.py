"""A node dies, and all of its clients come back to the others at once."""

from collections.abc import Callable

from planning.clients import Client, client_id, join, own_topic, subscribe
from planning.mesh import Mesh
from planning.scale import Scale
from planning.tables import Table, number, seconds, size

_TURN = 1000  # clients that come to the node before it dies, between two rounds


def measure(scale: Scale) -> list[Table]:
    """Return what the death of a node costs, and the return of its clients."""
    count = scale.count(20_000, 200)
    columns = (f"{count:,} clients with", "one of 10 topics", "a topic of its own")
    few, own = (_storm(scale.nodes, count, topic_of) for topic_of in (_few, own_topic))
    return [Table("storm", columns, list(zip(_ROWS, few, own, strict=True)))]


_ROWS = (
    "work of each survivor with the death",
    "claims of ids, and answers",
    "changes of interest, and confirmations",
    "frames that each survivor takes",
    "bytes on all links",
    "most bytes for one node in one round",
    "work of each survivor with the return",
    "units that the clients of a node are charged",
)


def _few(number: int) -> str:
    return f"few/{number % 10}"


def _storm(nodes: int, count: int, topic_of: Callable[[int], str]) -> list[str]:
    mesh = Mesh(nodes)
    mesh.meet()
    victim = mesh.node(0)
    for place in range(nodes):  # whatever is shared is wanted on all nodes already
        shared = [subscribe(_few(number)) for number in range(10)]
        join(mesh, mesh.node(place), f"resident-{place:02}", *shared)
    mesh.settle()
    for one in range(count):
        join(mesh, victim, client_id(one), subscribe(topic_of(one)))
        if one % _TURN == _TURN - 1:
            mesh.settle()
    mesh.settle()
    mesh.begin()
    mesh.kill(victim)
    mesh.settle()
    death = mesh.traffic()
    mesh.begin()
    clients: list[Client] = []
    for one in range(count):
        clients.append(join(mesh, mesh.node(one), client_id(one), subscribe(topic_of(one))))
    mesh.settle()
    back = mesh.traffic()
    survivors = nodes - 1
    assert all(client.session.topics for client in clients)
    assert not any(node.hub.state.tally.unconfirmed for node in mesh.nodes.values())
    frames = back.frames
    return [
        seconds(death.work / survivors),
        number(frames["CLAIM"] + frames["CLAIMED"]),
        number(frames["INTEREST"] + frames["CONFIRM"]),
        number(round(frames.total() / survivors)),
        size(back.size),
        size(back.largest),
        seconds(back.work / survivors),
        number(round(back.charged / survivors)),
    ]
