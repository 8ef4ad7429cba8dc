"""Publications, and links at rest: what goes over each link."""

from kps.protocol.cluster.config import ClusterConfig
from planning.clients import Fields, client_id, join, subscribe
from planning.mesh import Mesh, Traffic
from planning.scale import Scale
from planning.tables import Table, number, seconds, size

_PAYLOAD = "x" * 98  # 100 bytes as JSON
_TOPIC = "chat/a-room"
_TURN = 20  # publications of a turn


def measure(scale: Scale) -> list[Table]:
    """Return what publications cost, and what links cost at rest."""
    return [_publications(scale), _rest(scale)]


def _publications(scale: Scale) -> Table:
    table = Table(
        "publications",
        ("subscribers on", "frames", "bytes beside the payload, each link", f"{_TURN} in a turn",
         "work of the publisher's node", "work of each other node"),
    )  # fmt: skip
    count = scale.count(1000, 40)
    reaches = (1, scale.nodes // 2, scale.nodes)
    for reach in reaches:
        frames, single, publisher, other = _publish(scale.nodes, reach, count, 1)
        _, several, _, _ = _publish(scale.nodes, reach, count, _TURN)
        nobody = reach == 1
        table.rows.append(
            [
                "its own node" if nobody else f"{reach} nodes",
                number(frames),
                "" if nobody else number(round(single, 1)),
                "" if nobody else number(round(several, 1)),
                seconds(publisher),
                "" if nobody else seconds(other),
            ]
        )
    frames, own, others = _send(scale.nodes, count)
    title = "one client, directly"
    table.rows.append([title, number(frames), "", "", seconds(own), f"{seconds(others)} in all"])
    return table


def _send(nodes: int, count: int) -> tuple[float, float, float]:
    """Send direct messages to clients of all nodes; return what each takes, as ``_publish``."""
    mesh = Mesh(nodes)
    mesh.meet()
    receivers = [join(mesh, mesh.node(place), client_id(place)) for place in range(nodes)]
    sender = join(mesh, mesh.node(0), "sender")
    mesh.settle()
    mesh.begin()
    for one in range(count):
        to = client_id(one % nodes)
        sender.say([{"action": "direct_message", "to": to, "data": _PAYLOAD}])
        mesh.move()
    assert sum(one.got for one in receivers) == count
    traffic, own = mesh.traffic(), mesh.node(0).work
    return traffic.frames.total() / count, own / count, (traffic.work - own) / count


def _publish(nodes: int, reach: int, count: int, turn: int) -> tuple[float, float, float, float]:
    """Publish; return the frames, bytes beside the payload on a link, and work of each message.

    ``turn`` messages come between two rounds. The work is that of the publisher's node, and of each
    other one with a subscriber.
    """
    mesh = Mesh(nodes)
    mesh.meet()
    subscribers = [
        join(mesh, mesh.node(place), f"subscriber-{place:02}", subscribe(_TOPIC))
        for place in range(reach)
    ]
    publisher = join(mesh, mesh.node(0), "publisher")
    mesh.settle()
    mesh.begin()
    message: Fields = {"action": "publish", "topic": _TOPIC, "data": _PAYLOAD}
    for _ in range(count // turn):
        publisher.say([message] * turn)
        mesh.move()
    assert all(one.got == count for one in subscribers)
    traffic, links = mesh.traffic(), reach - 1
    frames = traffic.frames.total() / count
    own = mesh.node(0).work / count
    if not links:
        return frames, 0.0, own, 0.0
    payload = len(_PAYLOAD) + 2 + (turn - 1) / turn  # with the commas between
    beside = traffic.size / (links * count) - payload
    return frames, beside, own, (traffic.work / count - own) / links


def _rest(scale: Scale) -> Table:
    table = Table(
        "rest",
        ("nodes", "links", "chunks to meet", "bytes", "chunks a second at rest", "bytes", "signed",
         "work of a node"),
    )  # fmt: skip
    for nodes in (scale.nodes // 2, scale.nodes):
        first, chunks, plain, work = _idle(nodes, b"")
        _, _, signed, _ = _idle(nodes, b"a secret")
        table.rows.append(
            [
                str(nodes),
                number(nodes * (nodes - 1) // 2),
                number(first.chunks),
                size(first.size),
                number(round(chunks)),
                size(plain),
                size(signed),
                f"{work / nodes:.2%}",
            ]
        )
    return table


def _idle(nodes: int, secret: bytes) -> tuple[Traffic, float, float, float]:
    """Return what it takes to meet; chunks, bytes and seconds of work in a second at rest."""
    span = 10
    mesh = Mesh(nodes, cluster=ClusterConfig(secret=secret))
    mesh.meet()
    meeting = mesh.traffic()
    mesh.advance(2)
    mesh.begin()
    mesh.advance(span)
    traffic = mesh.traffic()
    return meeting, traffic.chunks / span, traffic.size / span, traffic.work / span
