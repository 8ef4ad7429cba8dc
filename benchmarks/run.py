"""KPS beside its peers, all measured in the same run on this machine.

Each scenario starts its servers on loopback, on ports that the system chooses, and measures its
cases in turn, round after round; what is reported are medians, and which goals they reach. The
peers come from PyPI with the extra ``bench``. Two servers are Debian's, redis-server and mosquitto:
where they are not installed the results say so.

    python benchmarks/run.py                      # everything
    python benchmarks/run.py one_to_one core      # some scenarios, or groups of them
    python benchmarks/run.py --quick              # one small round: does everything work?
    python benchmarks/run.py --write              # keep results.md and results.svg
    python benchmarks/run.py --only go --write    # the part of results.md about clients in Go
    python benchmarks/run.py --only nodes --write # that about servers of several processes
    python benchmarks/run.py --only edges --write # that about frameworks, HTTP, MQTT, compression
    make bench-compiled                           # that about the compiled core
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import chart
import model
import report
from scenarios import (
    answers,
    bridging,
    channels,
    compiled,
    compression,
    core,
    costs,
    fan_out,
    flow,
    golang,
    groups,
    mounted,
    nodes,
    plain_http,
    presence,
    slow_reader,
    topics,
    within,
    workers,
)

PARTS = {
    "python": report.PYTHON,
    "go": report.GO,
    "nodes": report.NODES,
    "edges": report.EDGES,
    "compiled": report.COMPILED,
}
MODULES = {
    "python": (
        flow,
        fan_out,
        slow_reader,
        answers,
        groups,
        within,
        costs,
        core,
        topics,
        presence,
    ),
    "go": (golang,),
    "nodes": (workers, nodes),
    "edges": (mounted, plain_http, bridging, channels, compression),
    "compiled": (compiled,),
}
SCENARIOS: dict[str, dict[str, model.Scenario]] = {
    part: {scenario.name: scenario for module in modules for scenario in module.SCENARIOS}
    for part, modules in MODULES.items()
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help=f"{', '.join(name for part in SCENARIOS.values() for name in part)}; the beginning of "
        "names stands for all of them",
    )
    parser.add_argument("--only", choices=PARTS, default="python", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one small round")
    parser.add_argument("--write", action="store_true", help="keep results.md and results.svg")
    options = parser.parse_args()
    scenarios = SCENARIOS[options.only]
    chosen = [
        scenario
        for name, scenario in scenarios.items()
        if not options.scenarios or any(name.startswith(wanted) for wanted in options.scenarios)
    ]
    for wanted in options.scenarios:
        if not any(name.startswith(wanted) for name in scenarios):
            parser.error(f"there is no scenario {wanted!r}: {', '.join(scenarios)}")
    # So that the processes which were started are ended in this case too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    # Else each process would compile KPS anew, but not what is installed.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

    began = time.monotonic()
    rounds = 1 if options.quick else options.rounds
    results = [model.run(scenario, rounds, model.Scale(options.quick)) for scenario in chosen]
    part = PARTS[options.only]
    text = report.render(results, time.monotonic() - began, part, is_quick=options.quick)
    print(text)
    if options.write:
        here = Path(__file__).parent
        document = here / "results.md"
        before = document.read_text(encoding="utf-8") if document.exists() else ""
        document.write_text(report.merged(before, text), encoding="utf-8")
        if part is report.PYTHON:
            chart.draw(results, here / "results.svg")
    if any(outcome.failures for result in results for outcome in result.outcomes.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
