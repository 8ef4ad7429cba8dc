"""The wheel and the sdist: what is in them, what an index shows of them, and that they work."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import kps.sync
from kps.version import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PATIENCE = 120.0

pytestmark = pytest.mark.pure("it builds what is in the checkout")


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command in a folder; return what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this tree."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made of the sdist alone, as an installer makes it."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=tree)
    (made,) = folder.glob("*.whl")
    return made


def names_in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata_of(package: Path) -> Message:
    """The metadata of a wheel or an sdist."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
            return message_from_bytes(archive.read(name))
    with tarfile.open(package) as archive:
        (name,) = (name for name in archive.getnames() if name.endswith("/PKG-INFO"))
        file = archive.extractfile(name)
        assert file is not None
        return message_from_bytes(file.read())


def readme_in(package: Path) -> str:
    """What an index shows of a package."""
    payload = metadata_of(package).get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


def of_this_tree(*patterns: str) -> set[str]:
    """The files that a checkout has, but for those that git ignores."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "--",
                 *patterns, cwd=ROOT)  # fmt: skip
    return {name for name in listed.splitlines() if (ROOT / name).exists()}


def test_the_sdist_has_what_it_takes_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    around = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}
    made = {".gitignore", "PKG-INFO"}  # by hatchling
    assert names == of_this_tree("kps", "spec", "tools/compile_core.py") | around | made


def test_the_wheel_has_the_program_and_the_vectors(wheel: Path) -> None:
    names = {name for name in names_in_wheel(wheel) if ".dist-info/" not in name}
    vectors = of_this_tree("spec/vectors", "spec/client-vectors")
    assert len(vectors) > 20
    inside = {f"kps/testing/conformance/{name}" for name in vectors}
    assert names == of_this_tree("kps") | inside


def test_an_index_gets_no_link_that_leads_nowhere(sdist: Path, wheel: Path) -> None:
    repository = PROJECT["urls"]["Repository"]
    text = (ROOT / "README.md").read_text()
    relative = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    assert len(relative) > 20
    for package in (sdist, wheel):
        shown = readme_in(package)
        assert re.findall(r"\]\((?!https://)[^)]*\)", shown) == []
        assert re.findall(r"(?:src|href|srcset)=[\"'](?!https://)", shown) == []
        assert re.findall(r"^\[[^]]+\]:\s+(?!https://)", shown, re.M) == []
        for link in relative:
            path = f"README.md{link}" if link.startswith("#") else link
            kind = "raw" if link.endswith(".svg") else "blob"
            assert f"]({repository}/{kind}/v{__version__}/{path})" in shown
        pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", shown)
        assert pictures
        for picture in pictures:
            assert "/raw/" in picture
        # Otherwise it is the README, code and all.
        back = re.sub(rf"{re.escape(repository)}/(raw|blob)/v[^/]+/", "", shown)
        assert back.replace("](README.md#", "](#") == text


def test_its_metadata(sdist: Path, wheel: Path) -> None:
    for package in (sdist, wheel):
        metadata = metadata_of(package)
        assert metadata["Version"] == __version__
        assert metadata["License-Expression"] == "MIT"
        assert metadata["License-File"] == "LICENSE"
        assert metadata["Description-Content-Type"] == "text/markdown"
        urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
        assert set(urls) == {"Repository", "Documentation", "Changelog", "Issues"}
        assert all(url.startswith(urls["Repository"]) for url in urls.values())


def test_an_index_takes_them(sdist: Path, wheel: Path) -> None:
    run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", sdist, wheel, cwd=ROOT)


def test_one_place_has_the_name() -> None:
    """Extras that take in others name this package, and not whatever else has that name."""
    extras = PROJECT["optional-dependencies"].values()
    whole = re.compile(rf"{re.escape(PROJECT['name'])}\[[a-z,]+\]")
    of_ours = [need for needs in extras for need in needs if re.match(r"kps\b", need)]
    assert len(of_ours) > 3
    for need in of_ours:
        assert whole.fullmatch(need), need


def test_it_works_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    fresh, empty = tmp_path / "venv", tmp_path / "empty"
    venv.create(fresh, symlinks=True)
    empty.mkdir()
    programs = fresh / "bin"
    python = programs / "python"
    run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps",
        "--python", python, wheel, cwd=empty)  # fmt: skip
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", where, cwd=empty).strip())
    # What it depends on is that of the tests. Their KPS comes after the one that is tested.
    (packages / "needs.pth").write_text(sysconfig.get_path("purelib"))
    variables = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}

    source = run(python, "-c", "import kps; print(kps.__file__)", cwd=empty, **variables).strip()
    assert Path(source).is_relative_to(packages)
    assert "all works" in run(programs / "kps-test", cwd=empty, **variables)
    # It is judged by the vectors that came with it, those for clients and those for servers.
    testee = f"{python} -m kps.testing.testee"
    judged = run(programs / "kps", "conformance", "--client", testee, "--only", "9.1",
                 cwd=empty, **variables)  # fmt: skip
    assert all_passed(judged)
    with kps.sync.Server("127.0.0.1:0", id="refserver") as server:
        judged = run(programs / "kps", "conformance", server.address, "--only", "12.3",
                     cwd=empty, **variables)  # fmt: skip
    assert all_passed(judged)


def all_passed(report: str) -> bool:
    """Whether a report of ``kps conformance`` says that vectors were played and passed."""
    last = re.fullmatch(r"(\d+) vectors?: (\d+) passed", report.splitlines()[-1])
    return last is not None and last[1] == last[2] != "0"
