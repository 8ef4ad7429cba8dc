"""The original Python clients, judged by the vectors, do what ``docs/conformance.md`` says.

The installed ``ksps`` is that of the earlier generation. ``LATER_ORIGINAL`` names a file with the
client of the later one, if there is one: it is in no package.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kps.testing.conformance.client_vectors import ClientVector, load_client_vectors
from kps.testing.conformance.judge_client import judge_client
from kps.testing.conformance.verdict import Outcome
from kps.testing.conformance.where import vectors_for_clients
from tests.interop.original_testee import WITHOUT

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "conformance.md"
TESTEE = [sys.executable, str(HERE / "original_testee.py")]
EARLIER, LATER = "1.0.0", "2026-02"
LATER_FILE = os.environ.get("LATER_ORIGINAL", "")

VECTORS = load_client_vectors(vectors_for_clients())
JUDGED = [one for one in VECTORS if one.on_level_1 and not one.verbs.intersection(WITHOUT)]
DEVIATIONS: list[dict[str, Any]] = json.loads(
    (HERE / "original_deviations.json").read_text(encoding="utf-8")
)["deviations"]


def deviations(client: str) -> list[dict[str, Any]]:
    return [one for one in DEVIATIONS if one.get("only", client) == client]


def deviating(client: str) -> set[str]:
    """The names of the vectors that a client does not pass."""
    return {name for one in deviations(client) for name in one["vectors"]}


SENDER_BESIDE = {
    "a binary message is read like a text",
    "a message in fragments, with a ping in between and a character in two of them",
    "a payload that is nested as deep as a payload may be",
    "the last occurrence of a field counts",
    "what is not wrapped is the payload",
}
"""Where the sender stands beside the payload, and not in an object with it."""


def handed_over() -> set[str]:
    """The vectors in which nothing but this is wrong: the whole object comes to a callback."""
    (this,) = [one for one in DEVIATIONS if one["clause"] == ["4.8"]]
    others = {name for one in DEVIATIONS if one is not this for name in one["vectors"]}
    return set(this["vectors"]) - others


def taken_out() -> set[str]:
    """Those of them that pass if the program takes payload and sender out of the object."""
    return handed_over() - SENDER_BESIDE


def observed(client: str) -> list[ClientVector]:
    """What a client does instead."""
    return [
        ClientVector(
            one["what"],
            one["observed"]["steps"],
            tuple(one["clause"]),
            one["observed"]["options"],
            frozenset(["level_1"]),
            on_level_1=True,
        )
        for one in deviations(client)
    ]


# -- the page ----------------------------------------------------------------------------------


def number(clause: str) -> list[int]:
    return [int(part) for part in clause.split(".")]


def clauses_table() -> str:
    """For each clause, how many of the vectors that concern it a client passes."""
    heads = f"`ksps` {EARLIER} | if payloads are taken out | of {LATER}"
    lines = [f"| clause | judged | {heads} | left out |", "|---|---|---|---|---|---|"]
    deviating_sets = (deviating(EARLIER), deviating(EARLIER) - taken_out(), deviating(LATER))
    for clause in sorted({one for vector in JUDGED for one in vector.clauses}, key=number):
        concerned = {vector.name for vector in VECTORS if clause in vector.clauses}
        judged = concerned & {vector.name for vector in JUDGED}
        passed = [len(judged - names) for names in deviating_sets]
        told = ["all" if count == len(judged) else str(count) for count in passed]
        lines.append(
            f"| {clause} | {len(judged)} | {' | '.join(told)} | {len(concerned - judged) or ''} |"
        )
    return "\n".join(lines)


def deviations_table() -> str:
    lines = [
        f"| clause | what it does instead | `ksps` {EARLIER} | of {LATER} |",
        "|---|---|---|---|",
    ]
    for one in DEVIATIONS:
        count = str(len(one["vectors"]) or "yes")
        later = "" if one.get("only") == EARLIER else count
        lines.append(f"| {', '.join(one['clause'])} | {one['what']} | {count} | {later} |")
    return "\n".join(lines)


@pytest.mark.parametrize("table", [clauses_table, deviations_table])
def test_the_page_has_the_tables(table: Any) -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), f"it should have\n{table()}"


def test_the_page_has_the_numbers() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    on_level_1 = sum(vector.on_level_1 for vector in VECTORS)
    assert (
        f"Of the {len(VECTORS)} vectors {len(VECTORS) - on_level_1} are left out because they "
        f"need level 2, and {on_level_1 - len(JUDGED)} because the original has no such call. "
        f"Of the other {len(JUDGED)}:"
    ) in page
    assert f"In {len(handed_over())} of these only one thing is wrong" in page
    assert f"{len(taken_out())} more pass" in page
    for client in (EARLIER, LATER):
        passed = len(JUDGED) - len(deviating(client))
        assert f"{passed} passed and {len(deviating(client))} failed" in page


def test_the_deviations_are_of_vectors_that_can_be_played() -> None:
    assert deviating(EARLIER) | deviating(LATER) <= {vector.name for vector in JUDGED}


# -- the clients -------------------------------------------------------------------------------


def judge(
    client: str, vectors: Sequence[ClientVector], *options: str, patience: float = 30.0
) -> dict[str, str]:
    """Return what has failed, with the reasons, and check that nothing else was left out."""
    if client == EARLIER:
        pytest.importorskip("ksps", reason="the original's client is not installed")
    elif not LATER_FILE:
        pytest.skip("there is no file with the client of the later generation")
    command = [*TESTEE, *options, *([LATER_FILE] if client == LATER else [])]
    verdicts = asyncio.run(judge_client(command, vectors, patience=patience))
    left_out = {one.vector for one in verdicts if one.outcome is Outcome.LEFT_OUT}
    assert left_out == {one.name for one in vectors if one in VECTORS and one not in JUDGED}
    return {one.vector: one.detail for one in verdicts if one.outcome is Outcome.FAILED}


@pytest.mark.slow
@pytest.mark.parametrize("client", [EARLIER, LATER])
def test_the_original_does_what_the_page_says(client: str) -> None:
    """What must fail is waited for only shortly; what must not, again and for longer."""
    vectors = [*VECTORS, *observed(client)]
    wrong = judge(client, vectors, patience=0.5).keys()
    assert deviating(client) - wrong == set()
    assert judge(client, [one for one in vectors if one.name in wrong - deviating(client)]) == {}


def test_a_program_that_takes_payloads_out_passes_more() -> None:
    """So where the earlier generation hands over the whole object, this is all that is wrong."""
    wrong = judge(
        EARLIER, [vector for vector in JUDGED if vector.name in handed_over()], "--take-out"
    )
    assert wrong.keys() == SENDER_BESIDE
    assert all("lacks ['from']" in detail for detail in wrong.values())
