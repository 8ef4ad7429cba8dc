"""``help``, ``dir`` and ``kps.__version__`` work, though most names are loaded on first use."""

import importlib.metadata
import inspect
import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import kps
import kps.sync
from kps.io_common.client_options import ClientOptions
from kps.io_common.server_options import ServerOptions

ROOT = Path(__file__).parents[2]


def shown_by(code: str) -> list[str]:
    """What a program prints, in an interpreter that has imported nothing."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout.split()


def test_every_public_name_is_there_and_in_dir() -> None:
    assert set(kps.__all__) <= set(dir(kps))
    for name in kps.__all__:
        assert getattr(kps, name) is not None


def test_dir_tells_of_names_that_are_not_loaded_yet() -> None:
    shown = shown_by("import kps; print(*dir(kps))")
    assert {"Ack", "Client", "Messages", "Server", "Subscription", "sync", "__version__"} <= set(
        shown
    )


def test_help_shows_the_client_and_its_options() -> None:
    shown = re.sub(".\b", "", pydoc.render_doc(kps))  # without the bold letters of terminals
    assert "class Client(" in shown
    assert "offline_queue: How many publications to keep" in shown


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (kps.Client, ClientOptions),
        (kps.sync.Client, ClientOptions),
        (kps.Server, ServerOptions),
        (kps.sync.Server, ServerOptions),
    ],
)
def test_every_option_is_documented(cls: type, options: type) -> None:
    documented = re.findall(r"^    (\w+): ", inspect.getdoc(cls) or "", re.MULTILINE)
    assert documented == ["address", *options.__annotations__]


def test_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert kps.__version__ == importlib.metadata.version(project["name"])


def test_importing_kps_is_cheap() -> None:
    dear = ("asyncio", "ssl", "threading", "importlib.metadata", "kps.io_asyncio", "kps.io_sync")
    assert shown_by(f"import sys, kps; print(*[m for m in {dear!r} if m in sys.modules])") == []


def test_the_blocking_api_needs_no_import_of_its_own() -> None:
    code = "import sys, kps; kps.sync.Client; print('asyncio' in sys.modules)"
    assert shown_by(code) == ["False"]


def test_a_name_that_was_split_says_into_what() -> None:
    with pytest.raises(ImportError, match="ServerLimits for servers"):
        kps.Limits  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="ServerLimits for servers"):
        from kps import Limits  # type: ignore[attr-defined]  # noqa: F401
