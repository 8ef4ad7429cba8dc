"""The kept inputs, as files of the tree (see the package's docstring)."""

import base64
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from tests.fuzz import (
    fuzz_client,
    fuzz_deflate,
    fuzz_envelope,
    fuzz_frames,
    fuzz_http,
    fuzz_server,
)

FOLDER = Path(__file__).parent
REGRESSIONS = FOLDER / "regressions"

HARNESSES: dict[str, ModuleType] = {
    "frames": fuzz_frames,
    "deflate": fuzz_deflate,
    "envelope": fuzz_envelope,
    "http": fuzz_http,
    "server": fuzz_server,
    "client": fuzz_client,
}


def load_corpus(harness: str) -> list[bytes]:
    """The inputs that were worth keeping."""
    return [base64.b64decode(line) for line in corpus_file(harness).read_text().split()]


def save_corpus(harness: str, inputs: Iterable[bytes]) -> None:
    """Replace the kept inputs. Sorted, so that a new one is one new line."""
    lines = sorted(base64.b64encode(one).decode() for one in set(inputs) if one)
    corpus_file(harness).write_text("".join(line + "\n" for line in lines))


def load_regressions(harness: str) -> dict[str, bytes]:
    """By file name, the inputs that failed once."""
    files = sorted(REGRESSIONS.glob(f"{harness}-*"))
    return {file.name: file.read_bytes() for file in files}


def corpus_file(harness: str) -> Path:
    return FOLDER / "corpus" / f"{harness}.txt"
