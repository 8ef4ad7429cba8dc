"""What a release is made of: one version everywhere, and notes out of the changelog."""

import re

import pytest

from kps.version import __version__
from tests.packages.test_distribution import ROOT
from tools.release_notes import NotReady, notes, versions

CHANGELOG = """# Changelog

About versions.

## 0.3.0 (unreleased)

- What is new.

## 0.2.0 (2026-02-03)

- One thing,
  on two lines.
- Another.

## 0.1.0 (2026-01-02)

The first version.
"""


def test_all_packages_have_one_version() -> None:
    assert set(versions().values()) == {__version__}


def test_the_changelog_begins_with_it() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0].partition(" ")[0] == __version__
    assert all(re.fullmatch(r"\S+ \((unreleased|\d{4}-\d\d-\d\d)\)", one) for one in headings)


def test_notes_are_what_is_below_the_heading() -> None:
    assert notes(CHANGELOG, "0.2.0") == "- One thing,\n  on two lines.\n- Another."
    assert notes(CHANGELOG, "0.1.0") == "The first version."


@pytest.mark.parametrize(("version", "reason"), [("0.3.0", "unreleased"), ("0.4.0", "nothing")])
def test_a_version_that_is_not_ready_has_none(version: str, reason: str) -> None:
    with pytest.raises(NotReady, match=reason):
        notes(CHANGELOG, version)
