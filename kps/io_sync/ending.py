"""Ends a server once, however many callers wait for that."""

import threading
from collections.abc import Callable


class Ending:
    """Lets one caller run the end. When that is interrupted, another one runs it again."""

    waiting = None
    """On asyncio: the tasks that wait for the end."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._is_done = False
        self.is_under_way = False
        """Whether the end has begun, and is not over."""

    def finish(self, end: Callable[[], None]) -> None:
        """Wait for the end, and run it if nobody does."""
        with self._news:
            while self.is_under_way:
                self._news.wait()
            if self._is_done:
                return
            self.is_under_way = True
        try:
            end()
            self._is_done = True
        finally:
            with self._news:
                self.is_under_way = False
                self._news.notify_all()
