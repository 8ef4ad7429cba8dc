"""What the process of a server takes of the machine, by the names that Prometheus gives that.

The processor time is known everywhere, the rest on Linux only.
"""

import os
import time
from functools import cache
from typing import Final

from kps.protocol.server.metrics import COUNTER, GAUGE, Figures, Metric

METRICS: Final = (
    Metric("process_cpu_seconds", COUNTER, "Processor time of the process, user and system."),
    Metric("process_resident_memory_bytes", GAUGE, "Memory that the process has in RAM."),
    Metric("process_virtual_memory_bytes", GAUGE, "Address space of the process."),
    Metric("process_open_fds", GAUGE, "Open descriptors of the process."),
    Metric("process_max_fds", GAUGE, "Descriptors that the process may open."),
    Metric("process_start_time_seconds", GAUGE, "When the process began, since 1970."),
)

_START = 19  # the field of /proc/self/stat with the start, counted behind the name of the program


def gather() -> Figures:
    """Return the figures of this process, as far as they can be read."""
    times = os.times()
    figures: Figures = {("process_cpu_seconds",): times.user + times.system}
    try:
        with open("/proc/self/statm", "rb") as file:
            size, resident = map(int, file.read().split()[:2])
        with open("/proc/self/stat", "rb") as file:
            begun = int(file.read().rpartition(b")")[2].split()[_START])
        open_now, most = _descriptors()
    except (OSError, ValueError, IndexError, ImportError, AttributeError):  # not on Linux
        return figures
    page = os.sysconf("SC_PAGE_SIZE")
    return figures | {
        ("process_resident_memory_bytes",): resident * page,
        ("process_virtual_memory_bytes",): size * page,
        ("process_open_fds",): open_now,
        ("process_max_fds",): most,
        ("process_start_time_seconds",): _start_time(begun),
    }


@cache
def _start_time(ticks: int) -> float:
    """Return the time that is so many ticks after the boot, always the same for one process.

    Whoever looks for restarts compares it, and the system's clock may be set meanwhile.
    """
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def _descriptors() -> tuple[int, float]:
    """Return how many descriptors are open, and how many may be."""
    import resource  # not on Windows

    # Since Linux 6.2 the size of the directory tells, which no list of very many needs.
    count = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return count, float("inf") if most == resource.RLIM_INFINITY else most
