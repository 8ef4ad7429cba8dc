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

SETS = {
    "core": ("1", "2", "3", "4", "5", "6", "7", "9.1", "9.2", "10"),
    "full": tuple(COUNTS),
}

COMPRESSION = ("12", "13")
"""permessage-deflate, which KPS offers at neither end: see the README beside this."""

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
    unimplemented: int = 0
    failed: int = 0
    complaints: list[str] = field(default_factory=list)
    """A line for each thing that failed."""

    def fail(self, complaint: str, cases: int = 1) -> None:
        self.failed += cases
        self.complaints.append(complaint)

    def __str__(self) -> str:
        text = f"{self.passed} passed ({self.informational} informational)"
        text += f", {self.non_strict} non-strict"
        if self.unimplemented:
            text += f", {self.unimplemented} unimplemented by design"
        return f"{text}, {self.failed} failed"


def judge(
    report: Mapping[str, Outcome],
    groups: tuple[str, ...],
    non_strict: Mapping[str, str] = NON_STRICT,
) -> Verdict:
    """Judge what became of the cases of some groups: each must be there, and be as it must.

    What the suite calls INFORMATIONAL has no right or wrong.
    """
    verdict = Verdict()
    for case, outcome in report.items():
        behavior = outcome["behavior"]
        if outcome["behaviorClose"] not in ("OK", "INFORMATIONAL"):
            verdict.fail(f"{case}: {behavior}, and {outcome['behaviorClose']} in closing")
        elif _main_group(case) in COMPRESSION:
            if behavior == "UNIMPLEMENTED":
                verdict.unimplemented += 1
            else:
                verdict.fail(f"{case}: {behavior}, though KPS offers no compression")
        elif behavior in ("OK", "INFORMATIONAL"):
            verdict.passed += 1
            verdict.informational += behavior == "INFORMATIONAL"
        elif behavior == "NON-STRICT" and case in non_strict:
            verdict.non_strict += 1
        else:
            verdict.fail(f"{case}: {behavior}")
    ran = Counter(map(_group, report))
    for group in groups:
        missing = COUNTS[group] - ran.pop(group, 0)
        if missing:
            verdict.fail(f"group {group}: {missing} of {COUNTS[group]} cases missing", abs(missing))
    for group, count in ran.items():
        verdict.fail(f"group {group}: {count} cases that were not asked for", count)
    return verdict


def _main_group(case: str) -> str:
    return case.partition(".")[0]


def _group(case: str) -> str:
    main = _main_group(case)
    return main if main in COUNTS else ".".join(case.split(".")[:2])
