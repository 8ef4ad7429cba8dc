"""Write the table of all metrics into ``docs/monitoring.md``.

python docs/make_metrics_table.py
"""

import re
from pathlib import Path

from kps.io_common.metrics import METRICS
from kps.protocol.server.metrics import COUNTER, INFO, Metric

PAGE = Path(__file__).parent / "monitoring.md"
HEAD = "| metric | kind | labels | what it tells |\n|---|---|---|---|\n"


def written(page: str) -> str:
    """Return the page with the table as it should be."""
    rows = "".join(map(_row, METRICS))
    return re.sub(re.escape(HEAD) + r"(\|.*\n)*", lambda _: HEAD + rows, page)


def _row(metric: Metric) -> str:
    name = metric.name + {COUNTER: "_total", INFO: "_info"}.get(metric.kind, "")
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{name}` | {metric.kind} | {labels} | {metric.help} |\n"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
