"""The pictures are those that their descriptions say."""

import runpy

from tests.docs.blocks import ROOT


def test_they_are_up_to_date() -> None:
    module = runpy.run_path(str(ROOT / "docs" / "make_pictures.py"))
    drawn = {f"{name}.svg": module["drawn"](one) for name, one in module["PICTURES"].items()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in module["FOLDER"].iterdir()}
    assert kept == drawn, "run: python docs/make_pictures.py"
