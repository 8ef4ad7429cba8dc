"""The links of all pages lead to a file that exists, and to a heading in it."""

import re
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.blocks import ROOT

_LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
)
PAGES = [ROOT / name for name in _LISTED.stdout.split() if (ROOT / name).exists()]

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")


@cache
def _text(page: Path) -> str:
    """The text of a page without its code."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@cache
def _anchors(page: Path) -> frozenset[str]:
    """The names of a page's headings, as GitHub and the site make them."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", _text(page), re.M):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        while name in found:
            name += "-1"
        found.append(name)
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_they_lead_to_something(page: Path) -> None:
    for link in _LINK.findall(re.sub(r"`[^`\n]+`", "", _text(page))):
        file, _, anchor = unquote(link).partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), link
