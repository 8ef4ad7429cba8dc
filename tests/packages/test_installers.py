"""Installers take a checkout as the documentation says. They ask a package index.

These are slow: an installer looks for versions that go together, also of what it leaves out.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
UNREACHABLE = ("error sending request", "Failed to fetch", "Could not connect")

pytestmark = pytest.mark.slow


def uv(*arguments: str | Path, folder: Path, **variables: str) -> str:
    """Run uv in a folder; return what the command printed. Skip the test where no index is."""
    ours = {"VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT"}
    done = subprocess.run(
        [sys.executable, "-m", "uv", *map(str, arguments)],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if name not in ours},
            "UV_PYTHON": sys.executable,
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode != 0 and any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a checkout has, with what is not committed yet, and nothing that a run leaves in it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            copy = tmp_path / "checkout" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy)
    return tmp_path / "checkout"


def test_in_a_checkout(checkout: Path) -> None:
    assert "all works" in uv("run", "kps-test", folder=checkout)


def test_as_a_need_of_a_project(checkout: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    uv("init", "--bare", folder=project)
    uv("add", f"{checkout}[jwt]", folder=project)
    assert "all works" in uv("run", "kps-test", folder=project)
    uv("run", "python", "-c", "import kps.auth.jwt", folder=project)


def test_as_a_tool(checkout: Path, tmp_path: Path) -> None:
    where = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    uv("tool", "install", "--quiet", checkout, folder=tmp_path, **where)
    done = subprocess.run(
        [tmp_path / "bin" / "kps-test"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "all works" in done.stdout
