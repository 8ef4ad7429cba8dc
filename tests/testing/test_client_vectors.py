"""The vectors for clients: their form, and the Python clients, which pass them."""

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kps.testing.conformance.client_vectors import (
    ClientVector,
    load_client_vectors,
    lowered,
)
from kps.testing.conformance.judge_client import judge_client
from kps.testing.conformance.verdict import Outcome, Verdict
from kps.testing.conformance.where import vectors_for_clients
from kps.testing.testee.in_memory import play_in_memory
from kps.testing.testee.on_asyncio import Program
from kps.testing.testee.on_threads import Program as BlockingProgram

SPEC = Path(__file__).parents[2] / "spec"
FILES = sorted((SPEC / "client-vectors").glob("*.json"))
VECTORS = load_client_vectors(SPEC / "client-vectors")
TESTEES = {"asyncio": [], "blocking": ["--blocking"]}
TESTEE = [sys.executable, "-m", "kps.testing.testee"]


def schema() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((SPEC / "client-vectors.schema.json").read_text("utf-8"))
    return read


def clients_page() -> str:
    return (SPEC / "CLIENTS.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> set[str]:
    """The words in backticks in the first cells of the tables under a heading."""
    section = clients_page().partition(f"\n{heading}\n")[2].partition("\n##")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


# -- the files ---------------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_file_follows_the_schema(file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema()).validate(content)


def test_names_are_unique() -> None:
    names = [vector.name for vector in VECTORS]
    assert [name for name in names if names.count(name) > 1] == []


def test_cited_clauses_exist() -> None:
    protocol = (SPEC / "PROTOCOL.md").read_text(encoding="utf-8")
    numbers = set(re.findall(r"^##+ ([0-9.]+) ", protocol, re.MULTILINE))
    assert {one for vector in VECTORS for one in vector.clauses} <= numbers


def test_the_page_names_every_file_and_every_feature() -> None:
    steps = clients_page().partition("\n## In a day\n")[2].partition("\n## ")[0]
    assert {file.stem for file in FILES} <= set(re.findall(r"`(\w+)`", steps))
    row = re.search(r"^\| `needs` \|(.*)$", clients_page(), re.MULTILINE)
    assert row is not None
    features = set(re.findall(r"`(\w+)`", row[1]))
    assert features == set(schema()["$defs"]["vector"]["properties"]["needs"]["items"]["enum"])
    assert features == {one for vector in VECTORS for one in vector.needs}


def test_the_page_has_every_verb_and_our_testees_know_it() -> None:
    verbs = first_cells("### What a program does") - {"do"}  # the heading
    kinds = schema()["$defs"]["step"]["oneOf"][0]["oneOf"]
    assert verbs == {kind["properties"]["do"]["const"] for kind in kinds}
    assert verbs == {step["do"] for vector in VECTORS for step in vector.steps if "do" in step}
    for program in (Program, BlockingProgram):
        assert verbs == {name[3:] for name in vars(program) if name.startswith("do_")}


def test_the_page_has_everything_that_is_told() -> None:
    told = first_cells("### What a program is told")
    assert told == set(schema()["$defs"]["event"]["properties"]["told"]["enum"])
    kinds = ("told", "told_in_any_order", "told_among")
    used = {
        event["told"]
        for vector in VECTORS
        for step in vector.steps
        for kind in kinds
        for event in step.get(kind, ())
    }
    assert told == used


def test_the_installed_files_are_found() -> None:
    assert load_client_vectors(vectors_for_clients()) == VECTORS


# -- in memory -----------------------------------------------------------------------------------


def by_name(vectors: Sequence[ClientVector]) -> pytest.MarkDecorator:
    """Parametrize a test by vectors."""
    return pytest.mark.parametrize("vector", vectors, ids=[vector.name for vector in vectors])


@by_name(VECTORS)
def test_our_client_passes_in_memory(vector: ClientVector) -> None:
    assert not play_in_memory(vector)


@by_name([vector for vector in VECTORS if vector.on_level_1])
def test_our_client_passes_on_level_1(vector: ClientVector) -> None:
    """So a vector says rightly that it holds for a client that knows level 1 only."""
    assert not play_in_memory(lowered(vector))


def test_time_costs_nothing_in_memory() -> None:
    hour, year = 3600, 365 * 24 * 3600
    steps: list[dict[str, Any]] = [
        {"do": "connect"},
        {"accept": True, "id": "a"},
        {"told": [{"told": "connected", "id": "a"}]},
        {"wait_s": hour},
        {"got": []},
        {"drop": True},
        {"told": [{"told": "disconnected", "code": 1006}]},
        {"no_connection_s": year - 1},
        {"accept": True, "id": "a"},
        {"told": [{"told": "connected", "id": "a"}]},
    ]
    assert not play_in_memory(ClientVector("a year", steps, (), {"id": "a", "reconnect": year}))


# -- over sockets --------------------------------------------------------------------------------


def judge(vectors: Sequence[ClientVector], *options: str, patience: float = 20.0) -> list[Verdict]:
    return asyncio.run(judge_client([*TESTEE, *options], vectors, patience=patience))


@pytest.mark.parametrize("driver", TESTEES)
def test_our_client_passes(driver: str) -> None:
    verdicts = judge(VECTORS, *TESTEES[driver])
    assert [verdict.vector for verdict in verdicts] == [vector.name for vector in VECTORS]
    wrong = [one for one in verdicts if one.outcome is not Outcome.PASSED]
    assert not wrong, "\n\n".join(f"{one.vector}: {one.detail}" for one in wrong)
