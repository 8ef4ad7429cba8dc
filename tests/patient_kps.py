"""``kps serve`` whose nodes wait for each other for longer than a busy machine lets one wait.

After a second a node confirms a subscription, gives an id and tells a receipt without the nodes
that say nothing. And a node that ends has a few seconds to hand its topics over. Tests that expect
nodes to know everything run this in place of ``kps``. While all answer, nobody waits for longer.
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from kps.cli.main import main
from kps.io_common.handing import VARIABLE
from kps.protocol.cluster.config import ClusterConfig

COMMAND = [sys.executable, "-W", "error", "-m", "tests.patient_kps"]

CONFIRM = 20.0
"""Seconds, in place of 1."""

GRACE = 40.0
"""Seconds, in place of 10; a quarter is for handing topics over."""

_PARENT = 60.0  # seconds that a parent waits for its workers, in place of 15


def _be_patient() -> None:
    """Change what this process is to run, and import no more than that needs."""
    if VARIABLE in os.environ:
        from kps.io_asyncio import worker

        _wait_longer(worker)
    elif "--cluster" in sys.argv:
        from kps.io_common import cluster_options

        _wait_longer(cluster_options)
    else:
        _start_patient_workers()


def _wait_longer(makes_config: Any) -> None:
    from kps.io_asyncio.server import Server

    makes_config.ClusterConfig = partial(ClusterConfig, confirm_timeout=CONFIRM)
    Server.stop.__defaults__ = (GRACE,)


def _start_patient_workers() -> None:
    """Let a parent start this module once more for each worker, and not ``kps``."""
    from kps.cli import workers

    class Workers(workers.Workers):
        def __init__(self, _: Sequence[str], *args: Any, **options: Any) -> None:
            super().__init__([*COMMAND, *sys.argv[1:]], *args, **options)

    parent: Any = workers
    parent.Workers = Workers
    parent._PATIENCE = _PARENT


if __name__ == "__main__":
    _be_patient()
    main()
