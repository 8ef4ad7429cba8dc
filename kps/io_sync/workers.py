"""Background work, and the threads in which a program takes messages."""

import threading
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

Worker = threading.Thread
"""The thread in which a program takes messages."""


def current_worker() -> Worker:
    """Return the thread that is running."""
    return threading.current_thread()


def has_ended(worker: Worker) -> bool:
    """Tell whether a thread has ended."""
    return not worker.is_alive()


def watch(worker: Worker, watcher: object) -> bool:
    """Return ``False``: a thread tells nobody that it ends."""
    return False


def outcome_of(worker: Worker, topic: str) -> str | None:
    """Return why a thread that has ended did not handle its message: whether it did is unknown."""
    return "the thread that took the message has ended"


class Workers:
    """Runs functions in daemon threads."""

    def start(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Start a thread. Raises :class:`RuntimeError` if the system has no more."""
        threading.Thread(
            target=work, args=args, kwargs=kwargs, name="kps-worker", daemon=True
        ).start()

    def close(self) -> None:
        """Do nothing: threads cannot be cancelled, and end by themselves."""
