"""What patterns and history cost, in the core, in memory."""

import tracemalloc
from collections.abc import Sequence
from itertools import count

from kps.protocol.bus.history import History
from kps.protocol.patterns import Pattern
from kps.protocol.server.config import HubConfig
from kps.protocol.server.hub import Hub
from model import Case, Figure, Sample, Scale, Scenario
from scenarios.core import BURST, NOW, new_connection, seconds, settle
from wires import PAYLOAD as PAYLOAD_BYTES
from wires import KpsWire

WARM = Figure("a topic that was published before", "ns", more_is_better=False)
COLD = Figure("a new topic", "µs", more_is_better=False)
MEMORY = Figure("memory of a pattern", "bytes", more_is_better=False, has_ratio=False)
ALONE = Figure("one by one", "ns", more_is_better=False)
TOGETHER = Figure("in batches of 100", "ns", more_is_better=False)

_COLD = 500  # new topics of one measurement
_ROUTES = 40_000  # topics at most, so that each is new


def patterns(number: int) -> Sample:
    """Publications on topics that one of very many patterns has."""
    hub = _hub()
    new_connection(hub, 2, "subscriber", "bench")
    publisher = new_connection(hub, 2, "publisher")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    holders = [new_connection(hub, 2, f"holder-{n}") for n in range(-(-number // 10_000))]
    held = tracemalloc.get_traced_memory()[0] - before
    for n in range(number):
        hub.delivery.subscribe(holders[n // 10_000].session, Pattern(f"room/{n}/*"), lambda _: None)
    memory = tracemalloc.get_traced_memory()[0] - before - held
    tracemalloc.stop()
    warm = KpsWire(2).publishing("room/0/x" if number else "bench", [PAYLOAD_BYTES] * BURST)
    numbers = count()

    def publish_warm() -> None:
        for _ in range(20):
            publisher.receive_data(warm, NOW)
            settle(hub)

    def publish_cold() -> None:
        for _ in range(_COLD):
            n = next(numbers) % _ROUTES
            publisher.receive_data(KpsWire(2).publishing(f"room/{n}/{n}", [PAYLOAD_BYTES]), NOW)
            settle(hub)

    return {
        WARM.title: seconds(publish_warm) / 20 / BURST * 1e9,
        COLD.title: seconds(publish_cold) / _COLD * 1e6,
        MEMORY.title: memory / max(1, number),
    }


def kept(*rules: History) -> Sample:
    """Publications on a topic with one subscriber."""
    hub = _hub(*rules)
    new_connection(hub, 2, "subscriber", "bench")
    publisher = new_connection(hub, 2, "publisher")
    alone = KpsWire(2).publishing("bench", [PAYLOAD_BYTES])
    together = KpsWire(2).publishing("bench", [PAYLOAD_BYTES] * BURST)

    def publish(message: bytes, times: int) -> float:
        def work() -> None:
            for _ in range(times):
                publisher.receive_data(message, NOW)
                settle(hub)

        return seconds(work) / times

    return {
        ALONE.title: publish(alone, 1000) * 1e9,
        TOGETHER.title: publish(together, 50) / BURST * 1e9,
    }


def _hub(*rules: History) -> Hub:
    numbers = count()
    config = HubConfig(id="server", history=rules)
    return Hub(config, new_id=lambda: f"client-{next(numbers)}", now=NOW)


def _with(number: int) -> Case:
    def run(server: object, scale: Scale) -> Sample:
        return {} if number > scale.count(number, 1000) else patterns(number)

    return Case(f"{number:,}", run)


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="core_patterns",
        title="The core: by the number of patterns",
        text="A publication to one subscriber, through a server with so many subscriptions to "
        "patterns: on a topic whose subscribers are known, and on a new one. Neither must rise.",
        figures=(WARM, COLD, MEMORY),
        cases=[_with(number) for number in (1, 1_000, 100_000)],
        reference="1",
        most_rounds=3,
    ),
    Scenario(
        name="core_history",
        title="The core: what history costs",
        text="A publication to one subscriber, through a server that keeps the latest 1,000 "
        "messages of its topic, or only those of other topics, or none.",
        figures=(ALONE, TOGETHER),
        cases=(
            Case("none", lambda server, scale: kept()),
            Case("of other topics", lambda server, scale: kept(History("other/**", size=1000))),
            Case("of this topic", lambda server, scale: kept(History("**", size=1000))),
        ),
        reference="none",
        most_rounds=3,
    ),
)
