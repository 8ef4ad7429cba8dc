"""Addresses of other servers, for messages from server to server (spec, section 7)."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kps.errors import QueueFull
from kps.protocol.dialect.address import RelayTarget

Done = Callable[[str | None], None]
"""Called once with ``None`` when the other server has got the message, or with the error."""

STOPPING = "the server is stopping"
"""The error of what was not sent when the first server stopped."""

MAX_WAITING = 1024
"""Messages that may wait for one address."""

MAX_LINKS = 64
"""Addresses, with their paths, to which messages may be under way."""

Link = tuple[str, str, bool]
"""What one connection leads to: an address, a path, and whether that is with TLS."""


@dataclass(frozen=True, slots=True)
class RelayJob:
    """One message for another server."""

    target: RelayTarget
    origin: str
    data: Any
    done: Done


class RelayQueues:
    """The messages that wait for other servers, in order for each link."""

    def __init__(self) -> None:
        self._by_link: dict[Link, deque[RelayJob]] = {}

    def add(self, link: Link, job: RelayJob) -> deque[RelayJob] | None:
        """Let a message wait; return its queue if that is new, and the link is to be begun.

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
        """Let the next message begin the link anew. May be called twice."""
        if self._by_link.get(link) is queue:
            del self._by_link[link]

    def end_all(self) -> list[RelayJob]:
        """End all queues; return what waited in them."""
        jobs = [job for queue in self._by_link.values() for job in queue]
        self._by_link.clear()
        return jobs
