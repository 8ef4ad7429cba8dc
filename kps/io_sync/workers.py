"""Background work."""

import threading
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


class Workers:
    """Runs functions in daemon threads."""

    def start(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Start a thread. Raises :class:`RuntimeError` if the system has no more."""
        threading.Thread(
            target=work, args=args, kwargs=kwargs, name="kps-worker", daemon=True
        ).start()

    def close(self) -> None:
        """Do nothing: threads cannot be cancelled, and end by themselves."""
