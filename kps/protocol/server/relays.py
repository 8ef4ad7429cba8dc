"""The queues of messages to other servers (spec, section 7)."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kps.errors import QueueFull
from kps.protocol.dialect.address import RelayTarget

Done = Callable[[str | None], None]
"""Called once: with ``None`` when the other server has the message, else with the error."""

STOPPING = "the server is stopping"
"""The error of messages that were not sent before this server stopped."""

MAX_WAITING = 1024
"""Messages that may be pending for one link."""

MAX_LINKS = 64
"""Links that may exist at a time."""

Link = tuple[str, str, bool]
"""The target of one connection: address, path, and whether it uses TLS."""


@dataclass(frozen=True, slots=True)
class RelayJob:
    """One message for another server."""

    target: RelayTarget
    origin: str
    data: Any
    done: Done


class RelayQueues:
    """The messages pending for other servers, in order for each link."""

    def __init__(self) -> None:
        self._by_link: dict[Link, deque[RelayJob]] = {}

    def add(self, link: Link, job: RelayJob) -> deque[RelayJob] | None:
        """Queue a message; return the queue if it is new, so that the caller opens the link.

        Raises :class:`kps.QueueFull`.
        """
        queue = self._by_link.get(link)
        if queue is None:
            if len(self._by_link) >= MAX_LINKS:
                raise QueueFull("messages to too many servers are under way")
            self._by_link[link] = new = deque([job])
            return new
        if len(queue) >= MAX_WAITING:
            raise QueueFull("too many messages wait for that server")
        queue.append(job)
        return None

    def end(self, link: Link, queue: deque[RelayJob]) -> None:
        """Remove a queue, so that the next message opens the link anew. May be called twice."""
        if self._by_link.get(link) is queue:
            del self._by_link[link]

    def end_all(self) -> list[RelayJob]:
        """Remove all queues; return their messages."""
        jobs = [job for queue in self._by_link.values() for job in queue]
        self._by_link.clear()
        return jobs
