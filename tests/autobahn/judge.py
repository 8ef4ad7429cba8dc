"""Judges a report of the Autobahn suite, whose own exit code says nothing."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

COUNTS = (
    {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "10": 1}
    | {"9.1": 6, "9.2": 6, "9.3": 9, "9.4": 9, "9.5": 6, "9.6": 6, "9.7": 6, "9.8": 6}
    | {f"12.{number}": 18 for number in range(1, 6)}
    | {f"13.{number}": 18 for number in range(1, 8)}
)
"""How many cases each group has. (There are no groups 8 and 11.)"""

SOME_COMPRESSION = ("12.1.4", "12.2.3", "12.3.11", "13.3.4", "13.5.11", "13.7.1")
"""Cases of compression (permessage-deflate), of 1000 messages each: texts and binary ones, whole
and in frames, with all kinds of parameters."""

SETS = {
    "core": ("1", "2", "3", "4", "5", "6", "7", "9.1", "9.2", "10", *SOME_COMPRESSION),
    "full": tuple(COUNTS),
}
"""The groups that are to run, and single cases of others."""

NON_STRICT: dict[str, str] = {}
"""The cases in which KPS may be judged NON-STRICT, each with the reason. There are none."""


class Outcome(TypedDict):
    """What a report says of one case, as far as it is looked at."""

    behavior: str
    behaviorClose: str


@dataclass
class Verdict:
    """What is to be said of one testee."""

    passed: int = 0
    informational: int = 0
    non_strict: int = 0
    failed: int = 0
    complaints: list[str] = field(default_factory=list)
    """A line for each thing that failed."""

    def fail(self, complaint: str, cases: int = 1) -> None:
        self.failed += cases
        self.complaints.append(complaint)

    def __str__(self) -> str:
        text = f"{self.passed} passed ({self.informational} informational)"
        return f"{text}, {self.non_strict} non-strict, {self.failed} failed"


def judge(
    report: Mapping[str, Outcome],
    groups: tuple[str, ...],
    non_strict: Mapping[str, str] = NON_STRICT,
) -> Verdict:
    """Judge what became of the cases of a set: each must be there, and be as it must.

    What the suite calls INFORMATIONAL has no right or wrong.
    """
    verdict = Verdict()
    for case, outcome in report.items():
        behavior = outcome["behavior"]
        if outcome["behaviorClose"] not in ("OK", "INFORMATIONAL"):
            verdict.fail(f"{case}: {behavior}, and {outcome['behaviorClose']} in closing")
        elif behavior in ("OK", "INFORMATIONAL"):
            verdict.passed += 1
            verdict.informational += behavior == "INFORMATIONAL"
        elif behavior == "NON-STRICT" and case in non_strict:
            verdict.non_strict += 1
        else:
            verdict.fail(f"{case}: {behavior}")
    ran = Counter(_group(case, groups) for case in report)
    for group in groups:
        expected = size_of(group)
        missing = expected - ran.pop(group, 0)
        if missing:
            verdict.fail(f"group {group}: {missing} of {expected} cases missing", abs(missing))
    for group, count in ran.items():
        verdict.fail(f"group {group}: {count} cases that were not asked for", count)
    return verdict


def size_of(group: str) -> int:
    """How many cases a group has; a single case is one."""
    return COUNTS.get(group, 1)


def _group(case: str, groups: tuple[str, ...]) -> str:
    """The one of the groups to which a case belongs; if it was not asked for, any name of one."""
    main, inner = case.partition(".")[0], ".".join(case.split(".")[:2])
    return next((name for name in (main, inner, case) if name in groups), inner)
