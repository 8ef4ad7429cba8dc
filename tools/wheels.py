"""Makes the wheels, pure and compiled, and tries each in an empty folder.

    python tools/wheels.py                       # for every CPython from 3.11 up that is here
    python tools/wheels.py python3.11            # for some
    python tools/wheels.py --others              # makes nothing: tells which others are here

They are in ``dist``. To compile takes some minutes for each CPython, and a C compiler.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
OLDEST = 11
"""The minor version of the oldest CPython that KPS supports."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="default: all that are here")
    parser.add_argument("--to", type=Path, default=ROOT / "dist", help="folder; default: dist")
    parser.add_argument(
        "--others",
        action="store_true",
        help="print the minor version and the path of each CPython but this one, and make nothing",
    )
    options = parser.parse_args()
    pythons = options.pythons or list(pythons_here())
    if options.others:
        for python in pythons:
            if (minor := minor_of(python)) != sys.version_info.minor:
                print(minor, python)
        return
    wheels: dict[str, Path] = {}
    for python in pythons:
        for build in ("pure", "compiled"):
            if build == "compiled" or build not in wheels:  # a pure wheel is for all of them
                wheels[build] = make_wheel(python, build, options.to.resolve())
            try_wheel(python, wheels[build], build)


def pythons_here() -> Iterator[str]:
    """Yield a CPython of each version from the oldest one up, by its path."""
    names = [f"python3.{minor}" for minor in range(OLDEST, OLDEST + 9)]
    own = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found: set[int] = set()
    for python in (*names, *sorted(map(str, own.glob("versions/*/bin/python")))):
        minor = minor_of(python)
        if minor >= OLDEST and minor not in found:
            found.add(minor)
            yield python


def minor_of(python: str) -> int:
    """Return the minor version of a CPython 3; 0 if it is none that runs."""
    about = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
    try:
        shown = subprocess.run([python, "-c", about], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 0
    name, major, minor = shown.stdout.split()
    return int(minor) if (name, major) == ("cpython", "3") else 0


def make_wheel(python: str, build: str, target: Path) -> Path:
    """Make a wheel for a CPython, in a folder."""
    print(f"makes the {build} wheel with {python}", flush=True)
    with TemporaryDirectory() as folder:
        run([python, "-m", "venv", "venv"], folder)
        environment = os.environ | {"KPS_COMPILE": "1" if build == "compiled" else ""}
        build_it = ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(ROOT)]
        run([f"{folder}/venv/bin/python", "-m", *build_it], folder, environment)
        (made,) = Path(folder).glob("kps-*.whl")
        target.mkdir(parents=True, exist_ok=True)
        kept = target / made.name
        kept.write_bytes(made.read_bytes())
    return kept


def try_wheel(python: str, wheel: Path, build: str) -> None:
    """Install a wheel, and use it from an empty folder: client, server, and the vectors."""
    with TemporaryDirectory() as folder, TemporaryDirectory() as empty:
        commands = f"{folder}/venv/bin"
        run([python, "-m", "venv", "venv"], folder)
        run([f"{commands}/python", "-m", "pip", "install", "--quiet", str(wheel)], empty)
        version = run([f"{commands}/kps", "--version"], empty)
        if not version.endswith(f" ({build})\n"):
            sys.exit(f"{wheel.name} is not {build}: {version}")
        run([f"{commands}/kps-test"], empty)
        serve = [f"{commands}/kps", "serve", "--address", "127.0.0.1:0", "--log-level", "error"]
        with serving(serve, empty) as url:
            judged = run([f"{commands}/kps", "conformance", url], empty)
        print(f"{wheel.name} on {python}: {version.strip()}, {judged.splitlines()[-1]}", flush=True)


@contextmanager
def serving(command: list[str], folder: str) -> Iterator[str]:
    """Run a server for a while; yield its URL."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            found = re.search(r"ws://\S+", line)
            if found is None:
                sys.exit(f"the server says: {line}")
            yield found.group()
        finally:
            server.terminate()
    if server.returncode:
        sys.exit(f"the server has ended with {server.returncode}")


def run(command: list[str], folder: str, environment: dict[str, str] | None = None) -> str:
    """Run a command; return what it prints. If it fails, show that, and end."""
    environment = {**(environment or os.environ)}
    environment.pop("PYTHONPATH", None)  # what is installed is what is tried
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    main()
