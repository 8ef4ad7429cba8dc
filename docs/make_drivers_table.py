"""Write ``docs/drivers.md``: what the scenario suite says of each pairing of drivers.

    python docs/make_drivers_table.py

It runs the suite; a row is a scenario, and a cell what came of it in that pairing.
"""

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUITE = ROOT / "tests" / "io" / "test_scenarios.py"
DRIVERS = ("asyncio", "threads")
PAIRINGS = [(server, client) for server in DRIVERS for client in DRIVERS]

HEAD = """# Scenarios and drivers

KPS has two drivers: one for asyncio (`kps.Client`, `kps.Server`), and a blocking one for threads
(`kps.sync.Client`, `kps.sync.Server`). Both have the same methods and speak the same protocol, so
any client works with any server.

| | asyncio | threads |
|---|---|---|
| callbacks | coroutine functions on the event loop, plain functions in a pool of threads \
| plain functions only, all those of a client or server on one thread |
| callbacks with `inline=True` | plain functions, on the event loop \
| on the thread that reads the socket |
| threads of a server | none for a connection | one for each connection |
| threads of a client | none | one, and one more once it has a callback |
| who may call the methods | the thread of their event loop; others get `WrongThread` | any thread |
| the lookup of a name | within `connect_timeout` | as long as the system allows |

All blocking clients and servers of a process share one more thread, which writes their log.

The same scenarios run over real sockets for every pairing of a server with a client. The table is
made from a run of that suite (`python docs/make_drivers_table.py`); ✓ means passed, and a text says
why the scenario was skipped.

"""


class Outcomes:
    """A pytest plugin that keeps what came of each test."""

    def __init__(self) -> None:
        self.of: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = re.search(r"::test_(\w+)(?:\[(.*)\])?$", report.nodeid)
        if found is None or not (report.when == "call" or report.skipped):
            return
        name, parameters = found.group(1).replace("_", " "), found.group(2) or ""
        for server, client in PAIRINGS:
            if f"{server}-server" not in parameters:
                continue
            if "-client" in parameters and f"{client}-client" not in parameters:
                continue
            outcome = "✓" if report.passed else "failed"
            if report.skipped and isinstance(report.longrepr, tuple):
                outcome = report.longrepr[2].removeprefix("Skipped: ")
            known = self.of[name].get((server, client), "✓")
            self.of[name][server, client] = outcome if known == "✓" else known


def main() -> None:
    outcomes = Outcomes()
    pytest.main(["-q", str(SUITE)], plugins=[outcomes])
    lines = [
        "| scenario | " + " | ".join(f"{s} server, {c} client" for s, c in PAIRINGS) + " |",
        "|---|" + "---|" * len(PAIRINGS),
    ]
    for name, cells in outcomes.of.items():
        lines.append(f"| {name} | " + " | ".join(cells.get(p, "") for p in PAIRINGS) + " |")
    (ROOT / "docs" / "drivers.md").write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
