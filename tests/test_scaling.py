"""The simulation of a large cluster runs, its figures are as reckoned, and its page has them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "scaling.md"
NODES = 5

Rows = dict[str, list[str]]
"""The cells of the rows of a table, by the first cell of each, without what stands behind its
colon."""

pytestmark = [
    pytest.mark.pure("its nodes extend classes of the core"),
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it describes the machine"),
]


def tables_in(text: str, mark: str) -> dict[str, Rows]:
    """Return the tables of a text by name; a name is in a line with a mark."""
    tables: dict[str, Rows] = {}
    rows: Rows = {}
    for line in text.splitlines():
        if line.startswith("|"):
            first, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            rows[first.partition(":")[0]] = cells
        elif line.startswith(mark) and line:
            rows = tables[line.removeprefix(mark).removesuffix(" -->")] = {}
    return {name: rows for name, rows in tables.items() if rows}


@pytest.fixture(scope="module")
def tables() -> dict[str, Rows]:
    plan = [sys.executable, "benchmarks/plan.py", "--quick"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(plan, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return tables_in(ran.stdout, "")


def test_each_node_hears_of_each_topic(tables: dict[str, Rows]) -> None:
    others = NODES - 1
    frames = {name: cells[0] for name, cells in tables["each"].items()}
    assert frames["a topic of its own"] == str(2 * others)
    assert frames["one of 10 topics"] == "0"


def test_frames_of_what_is_shared(tables: dict[str, Rows]) -> None:
    others = NODES - 1
    assert tables["publications"][f"{NODES} nodes"][0] == str(others)
    assert tables["rest"][str(NODES)][0] == str(NODES * others // 2)
    assert tables["rest"][str(NODES)][3] == str(NODES * others)
    assert set(tables["presence"]["frames when a member comes"][:3]) == {str(others)}
    frames = float(tables["history"]["frames"][3])
    assert others < frames < others + 1  # the publisher's node is mostly not the owner


def test_each_survivor_hears_of_each_topic_that_comes_back(tables: dict[str, Rows]) -> None:
    survivors, clients = NODES - 1, 200
    few, own = tables["storm"]["changes of interest, and confirmations"]
    assert few == "0"
    assert own == f"{2 * (survivors - 1) * clients:,}"


def test_the_page_has_the_tables(tables: dict[str, Rows]) -> None:
    shown = tables_in(PAGE.read_text(encoding="utf-8"), "<!-- plan: ")
    assert set(shown) == set(tables)
    for name in ("each", "meeting", "publications", "rest", "groups"):
        assert next(iter(shown[name].items())) == next(iter(tables[name].items()))
    assert shown["bounds"] == tables["bounds"]
    assert list(shown["storm"])[1:] == list(tables["storm"])[1:]
