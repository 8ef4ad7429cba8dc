"""Deliveries a second of a bus in an application that uvicorn serves, beside ``kps serve``."""

from collections.abc import Sequence

from generator import Party, deliver
from model import Case, Figure, Sample, Scale, Scenario
from peers import KPS, KPS_LEVEL_1, Peer, Server, mounted_bus

RATE = Figure("deliveries/s")
CPU = Figure("server, µs per delivery", more_is_better=False, has_ratio=False)

PEERS = (
    KPS,
    mounted_bus("kps.asgi", level=2),
    mounted_bus("kps.uvicorn", "--direct", level=2),
    KPS_LEVEL_1,
    mounted_bus("kps.asgi, level 1", level=1),
    mounted_bus("kps.uvicorn, level 1", "--direct", level=1),
)


def _case(peer: Peer, subscribers: int) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        party = Party(server.address, [(server.address, "bench")] * subscribers)
        done = deliver(peer.wire, [party], scale.seconds, servers=server.pids)
        return {RATE.title: done.rate, CPU.title: 1e6 * done.servers / done.deliveries}

    return Case(peer.name, run, peer)


SCENARIOS: Sequence[Scenario] = tuple(
    Scenario(
        name=f"mounted_{subscribers}",
        title=f"A bus in an application: 1 publisher, {subscribers} subscriber"
        + ("s" if subscribers > 1 else ""),
        text="As for the server alone, with plain sockets. The bus is the outermost application of "
        "uvicorn on uvloop, which carries its WebSockets over ASGI, or leaves them to the protocol "
        "of `kps.uvicorn`. On level 2 a message of the server carries 100 publications here, on "
        "level 1 one.",
        figures=(RATE, CPU),
        cases=[_case(peer, subscribers) for peer in PEERS],
        reference=KPS.name,
    )
    for subscribers in (1, 50)
)
