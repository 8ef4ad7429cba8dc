"""Messages with ack whose receivers are on all nodes."""

from collections import Counter
from collections.abc import Sequence

import orjson

from kps.protocol.server_limits import ServerLimits
from planning.clients import Client, client_id, join, subscribe
from planning.mesh import Mesh, Server, memory_of
from planning.scale import Scale
from planning.tables import MILLION, Growth, Table, Work, beyond, listed, number, seconds, size

_TOPIC = "all"
_ASK = {"action": "publish_with_ack", "topic": _TOPIC, "data": 1, "ack_id": "1", "timeout": 60}
_TURN = 1000  # clients that come, or answer, between two rounds


class _Request:
    """One request, of a client of the first node, to all of its subscribers.

    Those are on all nodes, in turn, or, in larger steps, on some.
    """

    def __init__(self, mesh: Mesh | Server, count: int, first: int = 0, step: int = 1) -> None:
        self.mesh = mesh
        self._first, self._step = first, step
        self.subscribers = [self._join(one) for one in range(count)]
        self.asker = join(mesh, mesh.node(0), "asker")
        mesh.settle()

    def _join(self, number: int) -> Client:
        if number % _TURN == _TURN - 1:
            self.mesh.settle()
        where = self.mesh.node(self._first + number * self._step)
        return join(self.mesh, where, client_id(number), subscribe(_TOPIC))

    def ask(self) -> None:
        """Send the request, up to where all who are asked have it."""
        self.asker.say([_ASK])
        self.mesh.settle()

    def answer(self, subscribers: Sequence[Client]) -> None:
        """Let subscribers answer that have got it."""
        for place, one in enumerate(subscribers):
            if one.asked:
                one.acknowledge()
            if place % _TURN == _TURN - 1:
                self.mesh.settle()
        self.mesh.settle()

    def told(self) -> str:
        """Return what the publisher was told, in a few words."""
        answer = orjson.loads(self.asker.replied)
        if answer["action"] == "error":
            return f"the error `{answer['code']}`: {answer['error']}"
        outcomes: dict[str, dict[str, object]] = answer["responses"]
        good = sum(1 for one in outcomes.values() if one["success"])
        bad = Counter(str(one["error"]) for one in outcomes.values() if not one["success"])
        names = {str(one["error"]): name for name, one in outcomes.items() if not one["success"]}
        told = [f"{number(good)} times success"] if good else []
        told += [f"{count} times “{error}”, as `{names[error]}`" for error, count in bad.items()]
        return ", ".join(told)


def measure(scale: Scale) -> list[Table]:
    """Return what the request costs, and what its publisher is told when it does not fit."""
    return [_costs(scale), _bounds()]


def _costs(scale: Scale) -> Table:
    sizes = scale.sizes(10_000, 20_000, 40_000)
    table = Table("asks", ("subscribers", *(f"{count:,}" for count in sizes), f"{MILLION:,}"))
    frames, carried, own, others, alone, answers = [], [], [], [], [], []
    for count in sizes:
        mesh = Mesh(scale.nodes)
        mesh.meet()
        request = _Request(mesh, count)
        mesh.begin()
        request.ask()
        request.answer(request.subscribers)
        assert not request.told().startswith("the error")
        traffic = mesh.traffic()
        frames.append(traffic.frames.total())
        carried.append(traffic.size)
        own.append(mesh.node(0).work)
        others.append((traffic.work - own[-1]) / (scale.nodes - 1))
        answers.append(len(request.asker.replied))
        server = Server()
        single = _Request(server, count)
        server.begin()
        single.ask()
        single.answer(single.subscribers)
        alone.append(server.begin())
        del mesh, request, server, single
    for title, show, values in (
        ("frames", number, frames),
        ("bytes between nodes", size, carried),
        ("bytes of the answer to the publisher", size, answers),
    ):
        grown = Growth(sizes, values)
        end = beyond(show(grown.at(MILLION)))
        table.rows.append([title + grown.remark, *map(show, values), end])
    for title, taken in (
        ("work of the publisher's node", own),
        ("work of each other node", others),
        ("work of one server alone", alone),
    ):
        end = beyond(Work(sizes, taken).shown(MILLION))
        table.rows.append([title, *map(seconds, taken), end])
    few = scale.sizes(2000, 4000, 8000)
    extra = [_memory(Mesh(scale.nodes), count) - _memory(Server(), count) for count in few]
    at = Growth(few, extra)
    cells = [beyond(size(at.at(count))) for count in sizes]
    title = f"memory of the publisher's node (measured: {listed(few)}){at.remark}"
    table.rows.append([title, *cells, beyond(size(at.at(MILLION)))])
    return table


def _memory(mesh: Mesh | Server, count: int) -> int:
    if isinstance(mesh, Mesh):
        mesh.meet()
    request = _Request(mesh, count)
    return memory_of(request.ask)


def _bounds() -> Table:
    """Ask a thousand on ten nodes, with a limit that is too low somewhere."""
    table = Table(
        "bounds",
        ("`max_awaited_acks`", "1,000 subscribers are on", "get it", "the publisher is told"),
    )
    for limit, where in ((50, 10), (500, 1), (500, 10), (1000, 10)):
        mesh = Mesh(10, limits=ServerLimits(max_awaited_acks=limit))
        mesh.meet()
        request = _Request(mesh, 1000, first=0 if where == 10 else 1, step=10 // where)
        request.ask()
        reached = sum(1 for one in request.subscribers if one.got)
        request.answer(request.subscribers)
        on = "all 10 nodes" if where == 10 else "another node"
        table.rows.append([number(limit), on, number(reached), request.told()])
    return table
