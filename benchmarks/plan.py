"""What a large cluster would cost: fifty nodes in this process, with clients and links in memory.

    python benchmarks/plan.py                     # all tables
    python benchmarks/plan.py --write             # into docs/scaling.md
    python benchmarks/plan.py --quick             # five nodes, in seconds: shows that it works
    python benchmarks/plan.py --only storm asks

The nodes are real cores (``kps.protocol.cluster``), and so are the sessions of clients. What stands
for the rest is in ``planning``. Figures in italics are extrapolated.
"""

import argparse
import datetime
import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from machine import machine
from planning import asks, interests, sharing, storm, traffic
from planning.scale import Scale
from planning.tables import Table, in_page

PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"

PARTS: Mapping[str, Callable[[Scale], Sequence[Table]]] = {
    "interests": interests.measure,
    "traffic": traffic.measure,
    "storm": storm.measure,
    "asks": asks.measure,
    "sharing": sharing.measure,
}


def main() -> None:
    """Measure, and print the tables, or write them into the page."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="five nodes and few clients")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                        help=f"some of {', '.join(PARTS)}")  # fmt: skip
    parser.add_argument("--write", action="store_true", help=f"write into docs/{PAGE.name}")
    arguments = parser.parse_args()
    gc.disable()  # what one process has for all nodes would be gone through again and again
    began, scale = time.process_time(), Scale(arguments.quick)
    tables: list[Table] = []
    for part in arguments.only:
        print(f"{part} ...", file=sys.stderr)
        tables += PARTS[part](scale)
        gc.collect()
    texts = {table.name: table.markdown() for table in tables}
    if set(arguments.only) == set(PARTS):
        took = (time.process_time() - began) / 60
        texts["made"] = (
            f"Made by `python benchmarks/plan.py{' --quick' * arguments.quick}` on "
            f"{datetime.date.today():%Y-%m-%d} in {took:.1f} minutes of one core: {machine()}.\n"
        )
    if arguments.write:
        PAGE.write_text(in_page(PAGE.read_text(encoding="utf-8"), texts), encoding="utf-8")
    else:
        print("\n".join(f"{name}\n\n{text}" for name, text in texts.items()))


if __name__ == "__main__":
    main()
