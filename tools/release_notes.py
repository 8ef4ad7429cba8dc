"""Print the notes of a release: what the changelog has under the heading of a version.

python tools/release_notes.py 0.1.0

It fails if there is no such version, if it has no date yet, or if a package of this repository has
another version.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


class NotReady(Exception):
    """Why a version cannot be released."""


def versions(root: Path = ROOT) -> dict[str, str]:
    """Return the version that each package of a checkout has, by the file that says so."""
    python = re.search(r'^__version__ = "(.+)"$', (root / "kps/version.py").read_text(), re.M)
    chart = (root / "examples/deploy/helm/kps/Chart.yaml").read_text()
    of_chart = dict(re.findall(r'^(version|appVersion): "?([^"\s]+)"?$', chart, re.M))
    rust = tomllib.loads((root / "clients/rust/Cargo.toml").read_text())
    on_core = tomllib.loads((root / "clients/rust/kps/Cargo.toml").read_text())["dependencies"]
    return {
        "kps/version.py": python[1] if python else "",
        "clients/js/package.json": json.loads((root / "clients/js/package.json").read_text())[
            "version"
        ],
        "clients/rust/Cargo.toml": rust["workspace"]["package"]["version"],
        "clients/rust/kps/Cargo.toml": on_core["kps-core"]["version"],
        "examples/deploy/helm/kps/Chart.yaml, version": of_chart["version"],
        "examples/deploy/helm/kps/Chart.yaml, appVersion": of_chart["appVersion"],
    }


def notes(changelog: str, version: str) -> str:
    """Return what a changelog has about a version.

    Raises :class:`NotReady` if it has nothing, or calls the version unreleased.
    """
    parts = re.split(r"^## (\S+) \(([^)]*)\)\n", changelog, flags=re.M)
    for name, when, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if name == version:
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", when):
                raise NotReady(f"CHANGELOG.md has no date for {version}: it says {when}")
            return str(text.strip())
    raise NotReady(f"CHANGELOG.md has nothing about {version}")


def main() -> None:
    """Print the notes of the version on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/release_notes.py VERSION")
    version = sys.argv[1]
    others = [file for file, found in versions().items() if found != version]
    if others:
        sys.exit(f"another version than {version} is in: {'; '.join(others)}")
    try:
        print(notes((ROOT / "CHANGELOG.md").read_text(), version))
    except NotReady as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
