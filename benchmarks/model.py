"""What a benchmark is, and how rounds are made of it."""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from peers import Peer, Server
from processes import Failed, NotInstalled

Sample = dict[str, float]
"""What one round of one case gave: a value for each figure, by its title."""


@dataclass(frozen=True)
class Scale:
    """How much is done in a round."""

    quick: bool = False

    @property
    def seconds(self) -> float:
        """How long a flow of messages lasts."""
        return 0.2 if self.quick else 1.0

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Figure:
    """A column of a scenario's table."""

    title: str
    unit: str = ""
    more_is_better: bool = True
    has_ratio: bool = True
    has_range: bool = True
    """Whether the lowest and the highest round are shown."""


@dataclass(frozen=True)
class Case:
    """A row of a scenario's table: one peer, or one size."""

    name: str
    measure: Callable[[Server | None, Scale], Sample]
    peer: Peer | None = None
    """Whose server runs during the whole scenario, if it needs one."""


@dataclass(frozen=True)
class Scenario:
    """Cases that are measured side by side."""

    name: str
    title: str
    text: str
    """How it is measured; a paragraph for the reader."""
    figures: Sequence[Figure]
    cases: Sequence[Case]
    reference: str = ""
    """The case that the others are compared with."""
    most_rounds: int | None = None
    """For what takes long and hardly varies."""
    at_once: bool = False
    """Whether the cases of a round run at the same time, since they are idle anyway."""


@dataclass
class Outcome:
    """What the rounds of one case gave."""

    case: str
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    missing: str = ""
    """Why it was not measured, where that is no failure."""

    def values(self, figure: Figure) -> list[float]:
        return [sample[figure.title] for sample in self.samples if figure.title in sample]

    def median(self, figure: Figure) -> float | None:
        values = self.values(figure)
        return statistics.median(values) if values else None


@dataclass
class Result:
    """A scenario that was run."""

    scenario: Scenario
    rounds: int
    seconds: float
    outcomes: dict[str, Outcome]


def run(scenario: Scenario, rounds: int, scale: Scale) -> Result:
    """Measure the cases in turn, round after round, with all their servers running.

    Every other round goes backward, so that no case always comes after the same one.
    """
    began = time.monotonic()
    rounds = min(rounds, scenario.most_rounds or rounds)
    outcomes = {case.name: Outcome(case.name) for case in scenario.cases}
    with ExitStack() as stack:
        servers: dict[str, Server | None] = {}
        for case in scenario.cases:
            try:
                servers[case.name] = stack.enter_context(case.peer.start()) if case.peer else None
            except NotInstalled as error:
                outcomes[case.name].missing = str(error)
                _log(f"{scenario.name} {case.name}: {error}")
            except Exception as error:
                outcomes[case.name].failures.append(f"no server: {error}")

        def measure(case: Case, number: int) -> None:
            outcome = outcomes[case.name]
            try:
                sample = case.measure(servers[case.name], scale)
            except NotInstalled as error:
                outcome.missing = str(error)
                _log(f"{scenario.name} {case.name}: {error}")
            except Exception as error:  # a peer that fails is a result as well
                reason = str(error) if isinstance(error, Failed) else repr(error)
                outcome.failures.append(reason)
                _log(f"{scenario.name} {number}/{rounds} {case.name}: FAILED, {reason}")
            else:
                outcome.samples.append(sample)
                shown = ", ".join(f"{title} {value:,.4g}" for title, value in sample.items())
                _log(f"{scenario.name} {number}/{rounds} {case.name}: {shown}")

        running = [case for case in scenario.cases if case.name in servers]
        for number in range(1, rounds + 1):
            workers = len(running) if scenario.at_once else 1
            with ThreadPoolExecutor(max(1, workers)) as pool:
                list(pool.map(measure, running, [number] * len(running)))
            running.reverse()
    return Result(scenario, rounds, time.monotonic() - began, outcomes)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
