"""One run of libFuzzer over one harness: ``python -m tests.fuzz.worker HARNESS [FLAG ...]``.

``run.py`` starts it, and libFuzzer does, which merges in processes of its own. Needs atheris.
"""

import importlib.util
import shlex
import sys
from pathlib import Path

import atheris


def main() -> None:
    harness, *flags = sys.argv[1:]
    watched = ["kps", "wsproto"]
    if harness == "http":  # to the others it would only be a slow way to begin
        watched.append("h11")
    with atheris.instrument_imports(include=watched, exclude=beside_the_core()):
        module = importlib.import_module(f"tests.fuzz.fuzz_{harness}")
    command = shlex.join([sys.executable, "-m", "tests.fuzz.worker", harness])
    atheris.Setup([command, *flags], module.one_input)
    atheris.Fuzz()


def beside_the_core() -> list[str]:
    """The modules of the package that no harness runs: to watch them would only cost time."""
    found = importlib.util.find_spec("kps")  # it must not be imported yet
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    files = package.rglob("*.py")
    names = (".".join(file.relative_to(package.parent).with_suffix("").parts) for file in files)
    modules = (name.removesuffix(".__init__") for name in names)
    return [name for name in modules if not name.startswith("kps.protocol")]


if __name__ == "__main__":
    main()
