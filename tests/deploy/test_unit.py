"""The unit for systemd."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, settled, succeeds

analyze = shutil.which("systemd-analyze")


@pytest.mark.skipif(analyze is None, reason="systemd-analyze is not installed here")
def test_it_is_what_systemd_understands(tmp_path: Path) -> None:
    text = (DEPLOY / "kps.service").read_text()
    command = re.search(r"^ExecStart=(\S+) (.*)$", text, re.M)
    assert command is not None
    unit = tmp_path / "kps.service"
    unit.write_text(text.replace(command[1], sys.executable))  # it must be there
    assert analyze is not None
    errors = succeeds(analyze, "verify", "--man=no", unit, errors=True)
    assert [line for line in errors.splitlines() if "kps.service" in line] == []
    assert settled(shlex.split(command[2])).values["config"].value == "/etc/kps/kps.toml"


@pytest.mark.skipif(analyze is None, reason="systemd-analyze is not installed here")
def test_it_may_do_little() -> None:
    """By systemd's own measure of what a unit exposes: 0 is nothing, 100 everything."""
    assert analyze is not None
    command = (analyze, "security", "--offline=yes", "--threshold=20", "--no-pager")
    assert "kps.service" in succeeds(*command, DEPLOY / "kps.service")
