"""The agent of a machine: tells its figures each second, and answers questions about it.

    AGENT_TOKEN=… python agent.py NAME ADDRESS

It reads ``/proc``, so the machine has Linux.
"""

import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import kps
import kps.sync

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")  # of a processor, in a second


class Figures(TypedDict):
    """How busy a machine is: when (Unix time), and percentages."""

    time: float
    cpu: float
    memory: float
    disk: float


def cpu_times() -> tuple[int, int]:
    """Return for how many ticks all processors have been busy, and busy or idle."""
    ticks = [int(one) for one in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]  # and waiting for disks
    return sum(ticks) - idle, sum(ticks)


def memory() -> float:
    """Return how much of the memory is in use, in percent."""
    lines = (line.split() for line in (PROC / "meminfo").read_text().splitlines())
    kilobytes = {name: int(value) for name, value, *_ in lines}
    return 100 - 100 * kilobytes["MemAvailable:"] / kilobytes["MemTotal:"]


def processes() -> dict[str, tuple[str, int]]:
    """Return the processes by their ids: what they are called, and the ticks they have used."""
    found = {}
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            name, fields = (folder / "stat").read_text().split(" (", 1)[1].rsplit(") ", 1)
            found[folder.name] = name, sum(map(int, fields.split()[11:13]))
    return found


def top() -> list[dict[str, str | float]]:
    """Return the busiest processes of half a second."""
    before = processes()
    time.sleep(0.5)
    used = [
        (ticks - before[process][1], process, name)
        for process, (name, ticks) in processes().items()
        if process in before
    ]
    return [
        {"process": process, "name": name, "cpu %": round(ticks / TICKS / 0.5 * 100)}
        for ticks, process, name in sorted(used, reverse=True)[:5]
    ]


def uptime() -> list[dict[str, str | float]]:
    """Return since when the machine runs, and its load."""
    seconds = float((PROC / "uptime").read_text().split()[0])
    names = ("load, 1 min", "5 min", "15 min")
    return [{"hours": round(seconds / 3600, 1), **dict(zip(names, os.getloadavg(), strict=True))}]


# An operator chooses one of these, and cannot run anything else here.
COMMANDS: dict[str, Callable[[], list[dict[str, str | float]]]] = {"top": top, "uptime": uptime}


def answer(message: kps.Message[str]) -> list[dict[str, str | float]]:
    """Answer a direct message. What this raises is the answer, too: a failure."""
    if message.data not in COMMANDS:
        raise kps.Refused(f"no such command: {message.data}")
    return COMMANDS[message.data]()


def watch(name: str, address: str, token: str) -> None:
    """Tell the figures until Ctrl-C. Those of three minutes without connection come later."""
    about = {"machine": socket.gethostname(), "cores": os.cpu_count(), "process": os.getpid()}
    client = kps.sync.Client(address, id=name, token=token, on_id=answer, offline_queue=180)
    with contextlib.suppress(KeyboardInterrupt), client:
        client.subscribe("agents", lambda message: None, info=about)  # to be seen
        busy, total = cpu_times()
        while True:
            time.sleep(1)
            (busy_before, total_before), (busy, total) = (busy, total), cpu_times()
            disk = shutil.disk_usage("/")
            figures = Figures(
                time=time.time(),
                cpu=100 * (busy - busy_before) / max(1, total - total_before),
                memory=memory(),
                disk=100 * disk.used / (disk.used + disk.free),
            )
            with contextlib.suppress(kps.QueueFull):
                # No receipt: nobody waits for it, and the next one comes in a second.
                client.publish(f"figures/{name}", figures)


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2], os.environ["AGENT_TOKEN"])
