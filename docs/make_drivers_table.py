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

The same scenarios run over real sockets for every pairing of an asyncio or threaded server with
an asyncio or blocking client. This table is made from a run of that suite
(`python docs/make_drivers_table.py`); ✓ means passed.

"""

TAIL = """
Both drivers have the same methods with the same documentation: the blocking classes are made from
the asyncio ones (`make faces`). The differences: the asyncio driver runs coroutine functions on the
event loop and plain functions in a pool of threads; the blocking driver runs plain functions only,
and all those of a client or server on one thread. With `inline=True` both call a plain function
where messages come in: on the event loop, or on the thread that reads the socket. A connection
costs a threaded server one thread, and a blocking client one (and one more once it has a
callback); on asyncio it costs none. All
blocking clients and servers of a process share one more thread, which writes their log. Any thread
may call the methods of the blocking driver; those of the asyncio driver raise `WrongThread` outside
their event loop. Both try the addresses of a server in the same way, within the same
`connect_timeout`; on threads the lookup of a name may take longer, as long as the system allows.
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
    (ROOT / "docs" / "drivers.md").write_text(HEAD + "\n".join(lines) + "\n" + TAIL)


if __name__ == "__main__":
    main()
