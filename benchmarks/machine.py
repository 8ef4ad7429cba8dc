"""The machine, in a few words."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """The machine and its Python, in a few words."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = os.cpu_count() or 1
    return (
        f"{cores} core{'s' * (cores != 1)} ({_cpu_model()}), {memory:.0f} GiB, {system}, "
        f"Linux {platform.release().partition('-')[0]}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
