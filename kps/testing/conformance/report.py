"""Verdicts as a text for people, as JSON, and as JUnit's XML."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from kps.testing.conformance.verdict import Outcome, Verdict

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_text(judged: str, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the lines of a report by clause."""
    yield judged
    clauses = sorted({one for verdict in verdicts for one in verdict.clauses}, key=_in_order)
    told: set[str] = set()
    for clause in clauses:
        concerned = [verdict for verdict in verdicts if clause in verdict.clauses]
        yield f"{clause:>6}  {_counted(concerned)}"
        for verdict in concerned:
            if verdict.outcome is Outcome.FAILED:
                yield f"        failed: {verdict.vector!r}"
                # A vector that concerns several clauses is shown with the first one.
                detail = [] if verdict.vector in told else verdict.detail.splitlines()
                yield from (f"          {line}" for line in detail)
                told.add(verdict.vector)
    reasons = Counter(one.detail for one in verdicts if one.outcome is Outcome.LEFT_OUT)
    for reason, count in reasons.items():
        yield f"left out: {count}, because {reason}"
    yield f"{len(verdicts)} vectors: {_counted(verdicts)}"


def as_json(judged: str, verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as JSON."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    report = {
        "judged": judged,
        **{outcome.replace(" ", "_"): counts[outcome] for outcome in Outcome},
        "vectors": [
            {
                "name": verdict.vector,
                "clauses": verdict.clauses,
                "outcome": verdict.outcome,
                "detail": verdict.detail,
                "seconds": round(verdict.seconds, 3),
            }
            for verdict in verdicts
        ],
    }
    return json.dumps(report, indent=2) + "\n"


def as_junit(judged: str, verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts in the XML that build servers read."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    seconds = sum(verdict.seconds for verdict in verdicts)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={_attribute(f"kps conformance: {judged}")} tests="{len(verdicts)}" '
        f'failures="{counts[Outcome.FAILED]}" skipped="{counts[Outcome.LEFT_OUT]}" errors="0" '
        f'time="{seconds:.3f}">',
    ]
    for verdict in verdicts:
        lines.append(
            f"  <testcase classname={_attribute(f'clause {verdict.clauses[0]}')} "
            f'name={_attribute(verdict.vector)} time="{verdict.seconds:.3f}">'
        )
        if verdict.outcome is Outcome.FAILED:
            first = verdict.detail.partition("\n")[0]
            lines.append(
                f"    <failure message={_attribute(first)}>{_text(verdict.detail)}</failure>"
            )
        elif verdict.outcome is Outcome.LEFT_OUT:
            lines.append(f"    <skipped message={_attribute(verdict.detail)}/>")
        lines.append("  </testcase>")
    return "\n".join([*lines, "</testsuite>", ""])


def _counted(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.outcome for verdict in verdicts)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])


def _in_order(clause: str) -> list[int]:
    return [int(number) for number in clause.split(".")]


def _attribute(text: str) -> str:
    return quoteattr(_NOT_IN_XML.sub("\ufffd", text))


def _text(text: str) -> str:
    return escape(_NOT_IN_XML.sub("\ufffd", text))
