"""The connections of this process that channel layers have, and what becomes of them at its end."""

import asyncio
import atexit
import contextlib

from kps.channels.post import Post
from kps.io_common.forks import watch_forks


class Posts:
    """Those that run. They outlive the layers that nobody refers to, until they have ended."""

    def __init__(self) -> None:
        self._running: set[Post] = set()
        self._of_parents: list[Post] = []  # nothing of theirs may be touched, nor collected
        watch_forks(self)
        atexit.register(self._close_all)

    def start(self, post: Post) -> None:
        """Let one run. Raises as ``Bus.start``."""
        self._running.add(post)
        try:
            post.bus.start(lambda: self._running.discard(post))
        except BaseException:
            self._running.discard(post)
            raise

    def forked(self) -> None:
        """In a forked child: forget those of the parent."""
        self._of_parents += self._running
        self._running = set()

    def _close_all(self) -> None:
        """Write what was sent: the threads of clients are daemons, which die with the program."""
        for post in list(self._running):
            with contextlib.suppress(Exception):  # the program ends anyway
                asyncio.run(post.drain())
            post.close()


posts = Posts()
