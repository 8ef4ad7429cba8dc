"""Makes the documentation's site in ``dist/docs``: ``dev`` for this tree, others for releases.

python docs/make_site.py          # this tree only
python docs/make_site.py --all    # the released versions too: the tags that begin with v

A warning, such as a link that leads nowhere, is an error.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SITE = ROOT / "dist" / "docs"
THIS = "dev"


def main() -> None:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="released versions too")
    tags = _released() if parser.parse_args().all else []
    versions = [THIS, *tags]
    _make(ROOT, THIS, versions)
    for tag in tags:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder, tag)
            _git("worktree", "add", "--detach", str(tree), tag)
            try:
                _make(tree, tag, versions)
            finally:
                _git("worktree", "remove", "--force", str(tree))
    first = tags[0] if tags else THIS
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={first}/docs/index.html">\n'
    (SITE / "index.html").write_text(page, encoding="utf-8")
    print(f"the site is in {SITE}")


def _released() -> list[str]:
    """The tags of versions, the latest first."""
    return _git("tag", "--list", "v*", "--sort=-version:refname").split()


def _make(tree: Path, name: str, versions: Sequence[str]) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    environment = {
        **os.environ,
        "KPS_SITE_VERSIONS": " ".join(versions) if len(versions) > 1 else "",
        "PYTHONPATH": str(tree),  # so that the reference is that of this tree
    }
    subprocess.run(
        [*command, "-c", str(tree / "docs"), str(tree), str(SITE / name)],
        check=True,
        env=environment,
    )


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
