"""What KPS is to reach, beside its peers and in figures of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from model import Figure, Result
from peers import KPS_WORKER
from scenarios import answers, costs, fan_out, flow, golang, within, workers


@dataclass(frozen=True)
class Goal:
    """One figure of one case, or how it compares with the reference of its scenario."""

    row: str
    scenario: str
    case: str
    figure: Figure
    limit: float
    at_most: bool = False
    """Whether the limit is the most; otherwise it is the least."""
    unit: str = ""
    """The unit of the figure; without one it is divided by that of the reference."""

    def value(self, result: Result) -> float | None:
        """What a run gave, from the medians of its rounds; nothing if it was not measured."""
        found = self._median(result, self.case)
        if self.unit or found is None:
            return found
        reference = self._median(result, result.scenario.reference)
        return found / reference if reference else None

    def is_reached(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def _median(self, result: Result, case: str) -> float | None:
        return result.outcomes[case].median(self.figure)


def _most(
    row: str, scenario: str, case: str, figure: Figure, limit: float, *, ratio: bool = False
) -> Goal:
    unit = "" if ratio else figure.unit
    return Goal(row, scenario, case, figure, limit, at_most=True, unit=unit)


_PLAIN = "one to one, plain callback"
_SERVER = "server alone, 1 to 1"
_SYNC = "kps.sync, asyncio server"

GOALS: Sequence[Goal] = (
    Goal("one to one, coroutine callback", "one_to_one", "kps", flow.RATE, 4),
    Goal(f"{_PLAIN} in threads", "one_to_one", "kps, plain callback in threads", flow.RATE, 3),
    Goal(f"{_PLAIN} inline", "one_to_one", "kps, plain callback inline", flow.RATE, 4),
    Goal("100 topics", "many_to_many", "kps", flow.RATE, 2.4),
    Goal("level 1, client to client", "one_to_one", "kps, level 1", flow.RATE, 1),
    Goal("acks, one at a time", "requests", "kps", answers.SEQUENTIAL, 1),
    Goal("acks, 100 under way", "requests", "kps", answers.PARALLEL, 0.75),
    _most("round trip, p50", "round_trip", "kps", answers.P50, 1.1, ratio=True),
    Goal(f"{_SERVER}, level 2", "fan_out_1", "kps serve", fan_out.RATE, 1),
    Goal(f"{_SERVER}, level 1", "fan_out_1", "kps serve, level 1", fan_out.RATE, 0.2),
    Goal("server alone, 1 to 200", "fan_out_200", "kps serve", fan_out.RATE, 7.8),
    Goal("threaded server, 1 to 200", "fan_out_200", "kps serve --threads", fan_out.RATE, 4),
    Goal("blocking client, acks, one at a time", "requests", _SYNC, answers.SEQUENTIAL, 0.7),
    Goal("blocking client, acks, 100 under way", "requests", _SYNC, answers.PARALLEL, 0.7),
    _most("memory of one of 10,000 idle connections", "idle", "kps serve", costs.MEMORY, 4.3),
    _most("importing the asyncio client", "import", "kps", costs.IMPORT, 95),
    _most("`kps serve`, from start to the first client", "start", "kps serve", costs.START, 130),
    _most("memory of the asyncio client", "client_memory", "kps", costs.CONNECTED, 13),
    _most("memory of the blocking client", "client_memory", "kps.sync", costs.CONNECTED, 10),
    _most("a server's own publication, to nobody", "within", within.NOBODY, within.EACH, 0.7),
    _most("the same, to a plain callback", "within", within.PLAIN, within.EACH, 1.5),
    Goal("Go, one to one with batching", "go_one_to_one", "kps, kps serve", flow.RATE, 0.8),
    Goal("Go, the same with raw payloads", "go_raw", "kps, kps serve, raw", flow.RATE, 0.8),
    _most("Go, round trip", "go_round_trip", "kps, kps serve", golang.ROUND, 1.25, ratio=True),
    Goal("Go, requests one at a time", "go_requests", "kps, requests", golang.SEQUENTIAL, 0.8),
    Goal("Go, requests, 64 under way", "go_requests", "kps, requests", golang.PARALLEL, 0.8),
    # The same code, so this is 1 but for the noise, which the table shows.
    Goal("`--workers 1`, beside no option", "workers_200", KPS_WORKER.name, workers.PER_CPU, 0.9),
)
