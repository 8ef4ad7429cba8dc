"""Runs the programs of ``examples/NAME/`` as their users do."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 60.0  # seconds for anything that a test waits for


class Program:
    """A program that runs, and what it said first."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        self.first_line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", self.first_line)
        self.url = found[0] if found else ""

    def bus(self, path: str = "") -> str:
        """Return the address of the bus, as the page names it, or what it imports from ``path``."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            found = re.search(r"http://(127\.0\.0\.1:\d+)/kps\.js", answer.read().decode())
        assert found
        return found[1]

    def interrupt(self) -> str:
        """Press Ctrl-C; it must end cleanly. Returns what it has said besides."""
        self.process.send_signal(signal.SIGINT)
        return self.finish()

    def finish(self) -> str:
        """Wait for its end, which must be a clean one. Returns what it has said besides."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, errors
        assert "\nTraceback" not in f"\n{errors}", errors  # those in the log are indented
        return output


@contextmanager
def running(name: str, *arguments: str) -> Iterator[Program]:
    """Run an example in a group of processes of its own, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / name / f"{name}.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        program = Program(process)
        assert program.first_line, process.communicate()[1]
        yield program
    finally:
        with suppress(ProcessLookupError):  # there is somebody only if the test has failed
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


async def until_async(holds: Callable[[], object]) -> None:
    """Wait until something holds, and let the event loop work meanwhile."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.02)
