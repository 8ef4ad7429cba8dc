"""Work that goes on beside everything else."""

import threading
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


class Workers:
    """Runs functions in threads, which do not keep the program from ending."""

    def start(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Begin some work. Raises :class:`RuntimeError` when there are no more threads."""
        threading.Thread(
            target=work, args=args, kwargs=kwargs, name="kps-worker", daemon=True
        ).start()

    def close(self) -> None:
        """What is under way cannot be ended: it ends by itself."""
