"""What several workers on one machine give, and what they cost."""

import time
from collections.abc import Sequence
from itertools import cycle, islice

from generator import DELIVERIES_IN_FLIGHT, Delivered, Party, deliver
from model import Case, Figure, Sample, Scale, Scenario
from peers import KPS, KPS_WORKER, KPS_WORKERS, Peer, Server
from processes import resident
from scenarios.fan_out import RATE
from scenarios.flow import worker


def _cores(title: str) -> Figure:
    return Figure(title, "cores", has_ratio=False, has_range=False)


PER_CPU = Figure("deliveries in a second of the servers' processor time")
SERVERS = _cores("taken by the servers")
GENERATOR = _cores("by the generator")
FIGURES = (RATE, PER_CPU, SERVERS, GENERATOR)

WORKER = Figure("a worker", "MiB", more_is_better=False)
HOLDING = Figure("a worker, with its part of 1,000 clients", "MiB", more_is_better=False)
PARENT = Figure("the parent", "MiB", more_is_better=False, has_ratio=False)
ALL = Figure("all, with 1,000 clients", "MiB", more_is_better=False)

_TOPICS = 100
_EACH = 4  # subscribers of a topic
_PUBLISHERS = 4


def shown(done: Delivered) -> Sample:
    """The figures of what was delivered."""
    return {
        RATE.title: done.rate,
        PER_CPU.title: done.deliveries / done.servers,
        SERVERS.title: done.servers / done.seconds,
        GENERATOR.title: done.generator / done.seconds,
    }


def fan_out(
    server: Server, peer: Peer, subscribers: int, seconds: float, most: int = DELIVERIES_IN_FLIGHT
) -> Sample:
    """One publisher, at the first node; the subscribers in turn at each."""
    places = islice(cycle(server.addresses), subscribers)
    party = Party(server.address, [(address, "bench") for address in places])
    return shown(deliver(peer.wire, [party], seconds, most=most, servers=server.pids))


def many_topics(server: Server, peer: Peer, seconds: float) -> Sample:
    """Each publisher has its part of the topics."""
    parties = [
        Party(
            server.address,
            [
                (server.address, f"bench/{topic}")
                for topic in range(number, _TOPICS, _PUBLISHERS)
                for _ in range(_EACH)
            ],
        )
        for number in range(_PUBLISHERS)
    ]
    return shown(deliver(peer.wire, parties, seconds, servers=server.pids))


def memory(peer: Peer, clients: int) -> Sample:
    """Of a new server, because one that has had clients has memory left for others."""
    with peer.start() as server:
        time.sleep(1)  # what is freed late is freed
        parent, *workers = server.pids
        served_by = workers or [parent]
        sample = {WORKER.title: _mean(served_by)}
        if workers:
            sample[PARENT.title] = _mean([parent])
        with worker("idle", KPS.name, server.address, clients) as idle:
            idle.report()
            time.sleep(1)
            if clients == 1_000:
                sample[HOLDING.title] = _mean(served_by)
                sample[ALL.title] = _mean(server.pids) * len(server.pids)
    return sample


def _mean(pids: Sequence[int]) -> float:
    """MiB of resident memory."""
    return sum(map(resident, pids)) / len(pids) / 2**20


def _fan_out(name: str, peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        # Two processes of the same program differ, for as long as they live.
        with peer.start() as fresh:
            return fan_out(fresh, peer, 200, scale.seconds)

    return Case(name, run)


def _many_topics(peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return many_topics(server, peer, scale.seconds)

    return Case(peer.name, run, peer)


def _memory(peer: Peer) -> Case:
    return Case(peer.name, lambda server, scale: memory(peer, scale.count(1_000, 100)))


_AGAIN = f"{KPS.name}, once more"
_PEERS = KPS, KPS_WORKER, KPS_WORKERS

SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="workers_200",
        title="Workers: 1 publisher, 200 subscribers",
        text="The generator of plain sockets is one process, in which one thread reads; it "
        "publishes 100 messages in a batch, for a second. Servers are new in each round. "
        "`--workers 1` runs the same code as no option, so what it differs by is noise, as the "
        "last row shows: the server of the first one, once more. With two workers each has half "
        "of the subscribers, and a publication goes once over the link between them. The servers "
        "and the generator share the cores of the machine: where those suffice for one server and "
        "the generator only, the rate cannot rise, and what there is to compare is what a delivery "
        "costs the servers. Cores are processor time by wall time; the parent's is in it.",
        figures=FIGURES,
        cases=[*(_fan_out(peer.name, peer) for peer in _PEERS), _fan_out(_AGAIN, KPS)],
        reference=KPS.name,
    ),
    Scenario(
        name="workers_topics",
        title=f"Workers: {_TOPICS} topics with {_EACH} subscribers each",
        text=f"The same with {_PUBLISHERS} publishers, each of which writes a batch of 100 "
        f"messages on each of its {_TOPICS // _PUBLISHERS} topics. Each worker has two subscribers "
        "of each topic, so every message goes over the link, for no more than two deliveries.",
        figures=FIGURES,
        cases=[_many_topics(peer) for peer in _PEERS],
        reference=KPS.name,
    ),
    Scenario(
        name="workers_memory",
        title="Workers: memory",
        text="Resident memory of a new server, one second after its start, and with 1,000 idle "
        "clients that its workers share. Without workers the one process counts as one.",
        figures=(WORKER, PARENT, HOLDING, ALL),
        cases=[_memory(peer) for peer in _PEERS],
        reference=KPS.name,
        most_rounds=3,
    ),
)
