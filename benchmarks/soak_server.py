"""``kps serve`` for the soak, which tells on SIGUSR1 what it has: tasks, threads, and objects."""

import asyncio
import gc
import json
import os
import signal
import sys
import threading

from kps.cli.main import main


def tell(*_: object) -> None:
    """Print the numbers as a line of JSON."""
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:  # on threads there is no loop
        tasks = 0
    gc.collect()
    found = {
        "tasks": tasks,
        "threads": threading.active_count(),
        "objects": sum(str(type(each).__module__).startswith("kps.") for each in gc.get_objects()),
    }
    # In one call: the next signal may come in meanwhile, and its line must not be within this one.
    os.write(1, json.dumps({"has": found}).encode() + b"\n")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    main(sys.argv[1:])
