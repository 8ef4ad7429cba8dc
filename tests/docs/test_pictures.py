"""The drawn pictures are those that their descriptions say, and those of pages stay small."""

import runpy

from tests.docs.blocks import ROOT


def test_they_are_up_to_date() -> None:
    module = runpy.run_path(str(ROOT / "docs" / "make_pictures.py"))
    drawn = {f"{name}.svg": module["drawn"](one) for name, one in module["PICTURES"].items()}
    kept = {
        path.name: path.read_text(encoding="utf-8") for path in module["FOLDER"].glob("[!e]*.svg")
    }
    assert kept == drawn, "run: python docs/make_pictures.py"


def test_those_of_pages_are_small() -> None:
    """A browser makes them: see docs/make_pictures.py."""
    for path in (ROOT / "docs" / "pictures").glob("*.png"):
        assert path.stat().st_size <= 80_000, path.name
