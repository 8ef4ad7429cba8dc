"""Processes to be attacked, and to attack with."""

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.io.harness import PATIENCE, eventually

ROOT = Path(__file__).resolve().parents[2]

KINDS = {"asyncio": ("", ()), "threads": ("", ("--threads",))}
"""The kinds of server: what is run before, and options of ``kps serve``."""

PLAIN = {"plain-asyncio": ("import sys; sys.modules['uvloop'] = None\n", ())}
"""A server on the event loop of the standard library."""


class Process:
    """A Python process, of which each line on standard output is awaited."""

    def __init__(self, *arguments: str) -> None:
        # Not a pipe, which might be full and hold it up. It is open as long as this object.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            cwd=ROOT,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def line(self, patience: float = PATIENCE) -> str:
        """The next line of its output; empty when there is none, because it has ended."""
        try:
            return self._lines.get(timeout=patience)
        except queue.Empty:
            raise AssertionError(f"the process says nothing:\n{self.errors()}") from None

    def expect(self, line: str) -> None:
        """Wait for a line of its output."""
        got = self.line()
        assert got == line, f"{got!r} instead of {line!r}:\n{self.errors()}"

    def tell(self, line: str) -> None:
        """Write a line to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def errors(self) -> str:
        """What it has written on standard error so far."""
        self._errors.seek(0)
        return self._errors.read()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does. May be called twice."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for its end; return its exit code."""
        return self._process.wait(patience)

    def cpu_seconds(self) -> float:
        """Time that it has spent on processors."""
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def open_descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def close(self) -> None:
        """Kill it, if it is still there, and let go of everything."""
        self.kill()
        self._reader.join(PATIENCE)
        for file in (self._process.stdin, self._process.stdout, self._errors):
            assert file is not None
            file.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("")


class Serve(Process):
    """``kps serve``."""

    def __init__(
        self, kind: str, *options: str, prelude: str = "", address: str = "127.0.0.1:0"
    ) -> None:
        """``prelude`` is Python that the process runs before anything of KPS."""
        first, kind_options = (KINDS | PLAIN)[kind]
        self._again = kind, options, prelude
        self._successor: Serve | None = None
        run = ["serve", "--address", address, *kind_options, *options]
        if first or prelude:
            program = f"{first}{prelude}\nfrom kps.cli.main import main\nmain({run!r})"
            super().__init__("-c", program)
        else:
            super().__init__("-m", "kps", *run)
        self.is_up = False
        line = self.line()
        if line.startswith(("kps serves on ws://", "kps serves on wss://")):
            self.is_up = True
            self.address = line.split("/")[2]

    def again(self) -> "Serve":
        """A new server on the address of this one, which has ended. It closes with this one."""
        kind, options, prelude = self._again
        started: list[Serve] = []

        def start() -> bool:
            started.append(Serve(kind, *options, prelude=prelude, address=self.address))
            if not started[-1].is_up:  # somebody may use the port for a moment
                started.pop().close()
            return bool(started)

        eventually(start, "the server's return")
        self._successor = started[0]
        return started[0]

    def close(self) -> None:
        if self._successor is not None:
            self._successor.close()
        super().close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end; return the exit code."""
        self.signal(number)
        return self.end()

    def healthz(self) -> dict[str, Any]:
        """What the server says about itself."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        try:
            connection.request("GET", "/healthz")
            health: dict[str, Any] = json.loads(connection.getresponse().read())
            return health
        finally:
            connection.close()

    def await_clients(self, count: int) -> float:
        """Wait until so many clients are registered; return the time then."""
        eventually(lambda: self.healthz()["clients"] == count, f"{count} clients")
        return time.monotonic()
