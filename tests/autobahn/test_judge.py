"""The judge of the Autobahn suite's reports: what it must not let pass."""

import pytest

from tests.autobahn.judge import COUNTS, SETS, Outcome, Verdict, judge


def outcome(behavior: str = "OK", closing: str = "OK") -> Outcome:
    return {"behavior": behavior, "behaviorClose": closing}


def perfect(groups: tuple[str, ...]) -> dict[str, Outcome]:
    """A report in which every case of some groups is as it must be."""
    report = {}
    for group in groups:
        if group in COUNTS:
            for number in range(1, COUNTS[group] + 1):
                report[f"{group}.{number}"] = outcome()
        else:
            report[group] = outcome()
    return report


@pytest.mark.parametrize(
    ("cases", "text"),
    [
        ("core", "265 passed (0 informational), 0 non-strict, 0 failed"),
        ("full", "517 passed (0 informational), 0 non-strict, 0 failed"),
    ],
)
def test_all_as_it_must_be(cases: str, text: str) -> None:
    verdict = judge(perfect(SETS[cases]), SETS[cases])
    assert str(verdict) == text
    assert verdict.complaints == []


def judged(**changed: Outcome) -> Verdict:
    """The verdict on some cases of group 10 and 9.1, which are written as ``c9_1_2``."""
    groups = ("9.1", "10")
    report = perfect(groups)
    report.update({name[1:].replace("_", "."): what for name, what in changed.items()})
    return judge(report, groups, non_strict={"9.1.2": "as an example"})


def test_what_is_informational_passes() -> None:
    verdict = judged(c9_1_3=outcome("INFORMATIONAL", "INFORMATIONAL"))
    assert str(verdict) == "7 passed (1 informational), 0 non-strict, 0 failed"


@pytest.mark.parametrize("behavior", ["FAILED", "NON-STRICT", "UNIMPLEMENTED", "WRONG CODE", ""])
def test_anything_else_fails(behavior: str) -> None:
    verdict = judged(c9_1_3=outcome(behavior))
    assert (verdict.passed, verdict.failed) == (6, 1)
    assert verdict.complaints == [f"9.1.3: {behavior}"]


@pytest.mark.parametrize("closing", ["FAILED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT"])
def test_closing_is_judged_too(closing: str) -> None:
    verdict = judged(c9_1_3=outcome("OK", closing), c9_1_2=outcome("NON-STRICT", closing))
    assert (verdict.passed, verdict.non_strict, verdict.failed) == (5, 0, 2)


def test_non_strict_is_for_those_that_are_named() -> None:
    verdict = judged(c9_1_2=outcome("NON-STRICT"), c9_1_4=outcome("NON-STRICT"))
    assert (verdict.passed, verdict.non_strict, verdict.failed) == (5, 1, 1)
    assert verdict.complaints == ["9.1.4: NON-STRICT"]


def test_compression_must_be_there() -> None:
    report = perfect(("12.1", "13.3.4"))
    report["12.1.7"] = report["13.3.4"] = outcome("UNIMPLEMENTED")
    verdict = judge(report, ("12.1", "13.3.4"))
    assert (verdict.passed, verdict.failed) == (17, 2)


def test_a_single_case_stands_for_itself_only() -> None:
    report = perfect(("13.3.4", "13.3.5"))
    verdict = judge(report, ("13.3.4", "13.3.6"))
    assert verdict.complaints == [
        "group 13.3.6: 1 of 1 cases missing",
        "group 13.3: 1 cases that were not asked for",
    ]


def test_missing_cases_fail() -> None:
    report = perfect(SETS["core"])
    del report["5.3"], report["7.1"], report["7.2"]
    verdict = judge(report, SETS["core"])
    assert (verdict.passed, verdict.failed) == (262, 3)
    assert verdict.complaints == [
        "group 5: 1 of 20 cases missing",
        "group 7: 2 of 37 cases missing",
    ]


def test_an_empty_report_fails_whole() -> None:
    verdict = judge({}, SETS["core"])
    assert (verdict.passed, verdict.failed) == (0, 265)


def test_cases_that_were_not_asked_for_fail() -> None:
    verdict = judge(perfect(("9.1", "9.2")), ("9.1",))
    assert verdict.complaints == ["group 9.2: 6 cases that were not asked for"]
    assert verdict.failed == 6


def test_a_complaint_from_elsewhere_counts() -> None:
    verdict = judged()
    verdict.fail("the server ended by itself")
    assert str(verdict) == "7 passed (0 informational), 0 non-strict, 1 failed"
