"""Where the files are, and how the program reads the command lines in them."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kps.cli.registry import find, load
from kps.cli.sources import Settled

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
PATIENCE = 30.0


def settled(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settled:
    """Read a command line behind ``kps``, and the variables, as the program does.

    Raises :class:`kps.cli.line.Mistake` for what it does not take.
    """
    name, rest = find(arguments)
    return Settled.read(load(name), rest, environment or {})


def options_of(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Any:
    """Read a command line behind ``kps``, and the variables; return its options."""
    return settled(arguments, environment).options()


def unknown_variables(environment: Mapping[str, str]) -> set[str]:
    """Return the variables that begin with ``KPS_`` and are no option of ``kps serve``."""
    return set(settled(["serve"], environment).unknown)


def succeeds(*command: str | Path, cwd: Path | None = None, errors: bool = False) -> str:
    """Run a tool that must be content; return what it printed, or wrote as errors."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr if errors else done.stdout


def dockerfile() -> str:
    """The Dockerfile, each instruction on one line."""
    return re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
