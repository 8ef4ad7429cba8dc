"""Looks for inputs on which a harness fails, guided by coverage. Needs atheris.

``python -m tests.fuzz.run SECONDS [HARNESS ...]`` runs each harness (or those named) for so
long, starting from the kept corpus, and prints one line for each. An input that fails, takes
too long or too much memory is saved in ``findings/``, and the exit code is 1. Without atheris
it is 3.

``--keep`` then takes into the kept corpus what reached something new; ``--jobs`` is how many
harnesses run side by side; with ``--seed`` the same inputs are tried in the same order, as far as
the time goes; ``--replay HARNESS FILE`` runs one input, without atheris, and shows how it fails.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1
from pathlib import Path

from tests.fuzz.corpus import FOLDER, HARNESSES, load_corpus, load_regressions, save_corpus

ROOT = FOLDER.parents[1]
FINDINGS = FOLDER / "findings"
NO_ATHERIS = 3
MOST_KEPT = 300  # inputs of one harness, which all run in every test run

LIMITS = [
    "-max_len=1200",
    # Far from what any input of that size should take, so that what grows with its square, or
    # with what it claims, is found.
    "-timeout=10",
    "-rss_limit_mb=1024",
]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the protocol core.")
    parser.add_argument("seconds", nargs="?", type=int, default=30, help="for each harness")
    parser.add_argument("harness", nargs="*", help=f"of {', '.join(HARNESSES)}; default: all")
    parser.add_argument("--keep", action="store_true", help="take what is new into the corpus")
    parser.add_argument("--jobs", type=int, default=1, help="harnesses at a time")
    parser.add_argument("--seed", type=int, default=0, help="default: another one each time")
    parser.add_argument("--replay", nargs=2, metavar=("HARNESS", "FILE"), help="run one input")
    options = parser.parse_args()
    if options.replay:
        harness, file = options.replay
        HARNESSES[harness].one_input(Path(file).read_bytes())
        print(f"{file}: no failure")
        return 0
    if unknown := set(options.harness) - set(HARNESSES):
        parser.error(f"no such harness: {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: it is there for CPython 3.11 to 3.14 on Linux, x86-64")
        return NO_ATHERIS
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = [
            pool.submit(fuzz, harness, options.seconds, keep=options.keep, seed=options.seed)
            for harness in options.harness or HARNESSES
        ]
    return 0 if all(run.result() for run in runs) else 1


def fuzz(harness: str, seconds: int, *, keep: bool, seed: int) -> bool:
    """Run one harness, and say how it went; ``False`` if it failed."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        work = Path(folder)
        found, given, words = work / "found", work / "given", work / "words"
        found.mkdir()
        write_inputs(given, [*load_corpus(harness), *HARNESSES[harness].seeds()])
        write_inputs(given, load_regressions(harness).values())
        known_words = HARNESSES[harness].WORDS
        words.write_text("".join(f'"{escaped(word)}"\n' for word in known_words))
        FINDINGS.mkdir(exist_ok=True)
        started = time.monotonic()
        code, log = run_worker(
            harness,
            *LIMITS,
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            *([f"-dict={words}"] if known_words else []),
            f"-artifact_prefix={FINDINGS / harness}-",
            "-print_final_stats=1",
            found,
            given,
        )
        print(report(harness, code, log, time.monotonic() - started), flush=True)
        if keep and not code:
            merge(harness, [found, given], work)
    return not code


def run_worker(harness: str, *arguments: str | Path) -> tuple[int, str]:
    """Run libFuzzer; return its exit code and everything that it wrote."""
    command = [sys.executable, "-m", "tests.fuzz.worker", harness, *map(str, arguments)]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def report(harness: str, code: int, log: str, seconds: float) -> str:
    """One line about a run."""
    executed = int(last(r"^stat::number_of_executed_units: (\d+)", log) or 0)
    edges, features = last(r"cov: (\d+)", log) or 0, last(r"ft: (\d+)", log) or 0
    said = f"{harness}: {executed} executions, {executed / seconds:.0f}/s, {edges} edges, "
    said += f"{features} features"
    if not code:
        return said + ", no findings"
    file = last(r"Test unit written to (\S+)", log)
    if not file:
        return f"{said}; the fuzzer failed with code {code}:\n{log[-3000:]}"
    why = last(r"=== Uncaught Python exception: ===\n(.*)", log) or last(r"libFuzzer: (.*)", log)
    file = os.path.relpath(file)
    replay = f"python -m tests.fuzz.run --replay {harness} {file}"
    return f"{said}; FOUND {why[:200]} (replay: {replay})"


def last(pattern: str, log: str) -> str:
    found = re.findall(pattern, log, re.MULTILINE)
    return found[-1] if found else ""


def merge(harness: str, folders: Sequence[Path], work: Path) -> None:
    """Keep few and small inputs: all that are needed to reach every edge that was reached, and
    of those that reach one in another way or more often, the smallest."""
    edges = cover(harness, folders, work / "edges", "-use_counters=0")
    features = cover(harness, folders, work / "features")
    others = sorted(features - edges, key=lambda one: (len(one), one))
    kept = [*edges, *others[: MOST_KEPT - len(edges)]]
    save_corpus(harness, kept)
    print(f"{harness}: {len(kept)} inputs kept, {sum(map(len, kept))} bytes", flush=True)


def cover(harness: str, folders: Iterable[Path], target: Path, *flags: str) -> set[bytes]:
    """Of the inputs in some folders, those that together reach what all of them do."""
    target.mkdir()
    code, log = run_worker(harness, *LIMITS, *flags, "-set_cover_merge=1", target, *folders)
    inputs = {file.read_bytes() for file in target.iterdir()}
    if code or not inputs:
        raise SystemExit(f"{harness}: merging failed with code {code}:\n{log[-3000:]}")
    return inputs


def write_inputs(folder: Path, inputs: Iterable[bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for one in inputs:
        (folder / sha1(one).hexdigest()).write_bytes(one)


def escaped(word: bytes) -> str:
    """As a dictionary of libFuzzer has it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
