"""Processes that the benchmarks start, listen to, measure and end."""

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE = 60.0
"""Seconds that any single wait may take. What takes longer has failed."""


class Failed(Exception):
    """A measurement that could not be made, and why."""


class NotInstalled(Exception):
    """A program that is not here, and need not be; the text says how to install it."""


class Process:
    """A program of its own. It is ended by its own id, at the latest when the block ends."""

    def __init__(self, *command: str) -> None:
        self.command = command
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._said: list[str] = []
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        # A thread, so that nobody waits for ever for a line, and no full pipe stops the program.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_for(self, wanted: Callable[[str], bool], patience: float = PATIENCE) -> str:
        """The next line of output that is wanted."""
        deadline = time.monotonic() + patience
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"nothing came within {patience:.0f} s") from None
            if line is None:
                said = self._said[-1] if self._said else "without a word"
                raise Failed(f"the process ended: {said}")
            self._said[:] = [line]
            if wanted(line):
                return line

    def report(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The next line of output that is a JSON object."""
        found: dict[str, Any] = json.loads(self.wait_for(lambda line: line[:1] == "{", patience))
        return found

    def said(self) -> list[str]:
        """The lines of output that came since; waits for none."""
        lines: list[str] = []
        with suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                lines.append(line)
        self._said[:] = lines[-1:] or self._said
        return lines

    def tell(self, line: str) -> None:
        """Give the program a line of input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line + "\n")
        self._popen.stdin.flush()

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def stop(self) -> None:
        """End it, if it has not ended yet."""
        process = self._popen
        with suppress(OSError):
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(5)
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        process.stdout.close()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._lines.put(line.strip())
        self._lines.put(None)


def resident(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS:")


def peak_resident(pid: int) -> int:
    """The most that it ever was."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:")


def private(pid: int) -> int:
    """Memory that a process shares with no other, in bytes."""
    path = Path(f"/proc/{pid}/smaps_rollup")
    return _kilobytes(path, "Private_Clean:", "Private_Dirty:")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all threads together, also those that have ended."""
    # The number of its clock on Linux, as clock_getcpuclockid(3) gives it. /proc/PID/stat counts
    # in hundredths of a second, and the files of the threads end with them.
    return time.clock_gettime(~pid << 3 | 2)


def with_children(pid: int) -> list[int]:
    """A process, and those that it has started and that live."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def descriptors(pid: int) -> int:
    """Files and sockets that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _kilobytes(path: Path, *names: str) -> int:
    lines = (line.split() for line in path.read_text().splitlines())
    return sum(int(line[1]) for line in lines if line and line[0] in names) * 1024
