"""The Autobahn suite: installs it, and knows the commands that start it.

The suite is a program for Python 2.7, so it gets an environment of its own, within that of the
project, from PyPI.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(sys.prefix) / "autobahn"
"""Where it is installed, and where the reports are."""

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_VIRTUALENV = "virtualenv==20.21.1"  # the last one that makes environments for 2.7
_PYTHON = HERE / "python2.7" / "bin" / "python"
_STAMP = HERE / "installed.txt"
_PIP_INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
_PATIENCE = 600  # seconds for each step of the installation

# The suite's server would be open to the whole network, and does not say which port it got.
_MAIN = """
import sys
from autobahntestsuite import wstest
from twisted.internet import reactor

def listen(port, factory, backlog=50, interface=""):
    listener = listen_anywhere(port, factory, backlog, "127.0.0.1")
    print("listening on %d" % listener.getHost().port)
    sys.stdout.flush()
    return listener

listen_anywhere, reactor.listenTCP = reactor.listenTCP, listen
sys.exit(wstest.run())
"""


def find_python() -> str | None:
    """A Python 2.7 that can run the suite, of pyenv or in the path."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    found = [str(path) for path in sorted(versions.glob("2.7*/bin/python2.7"), reverse=True)]
    for python in [*found, shutil.which("python2.7")]:
        if python is not None and _can_run(python):
            return python
    return None


def install(python: str) -> None:
    """Install it for that Python, unless it is there. Raises ``CalledProcessError``."""
    wanted = f"{python}\n{_VIRTUALENV}\n{_REQUIREMENTS.read_text()}"
    if _STAMP.exists() and _STAMP.read_text() == wanted and _can_run(str(_PYTHON)):
        return
    print(f"installing the Autobahn suite into {HERE}", flush=True)
    shutil.rmtree(HERE, ignore_errors=True)
    tools = HERE / "virtualenv"
    _run(sys.executable, *_PIP_INSTALL, "--target", str(tools), _VIRTUALENV)
    _run(
        *(sys.executable, "-m", "virtualenv", "--quiet", "--no-periodic-update"),
        *("--app-data", str(HERE / "virtualenv-data"), "--python", python),
        str(_PYTHON.parent.parent),
        PYTHONPATH=str(tools),
    )
    _run(
        *(str(_PYTHON), *_PIP_INSTALL, "--no-deps", "--requirement", str(_REQUIREMENTS)),
        PIP_NO_PYTHON_VERSION_WARNING="1",
    )
    _STAMP.write_text(wanted)


def command(mode: str, spec: Path) -> list[str]:
    """The command for the ``fuzzingclient`` or the ``fuzzingserver``, to run in ``environment``."""
    return [str(_PYTHON), "-c", _MAIN, "--mode", mode, "--spec", str(spec), "--webport", "0"]


def environment(**more: str) -> dict[str, str]:
    """The variables for a program that brings its own Python."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**ours, **more}


def _can_run(python: str) -> bool:
    code = "import sqlite3, ssl, sys, zlib; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        result = subprocess.run(
            [python, "-c", code], capture_output=True, env=environment(), timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


def _run(*command: str, **variables: str) -> None:
    subprocess.run(command, check=True, timeout=_PATIENCE, env=environment(**variables))
