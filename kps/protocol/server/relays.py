"""The queues of messages to other servers (spec, section 7)."""

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from kps.errors import QueueFull
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.dialect.envelope import compose_payload
from kps.protocol.server_limits import ServerLimits

Done = Callable[[str | None], None]
"""Called once: with ``None`` when the other server has the message, else with the error."""

STOPPING = "the server is stopping"
"""The error of messages that were not sent before this server stopped."""

_LONGEST_ERROR = 1000  # characters
_AROUND = 512  # bytes of memory that a message takes besides its payload, roughly


class Link(NamedTuple):
    """The target of one connection to another server."""

    address: str
    path: str
    secure: bool
    """Whether it uses TLS."""
    shows_token: bool
    """Whether this server's token goes there."""


class RelayJob(NamedTuple):
    """One message for another server."""

    target: RelayTarget
    origin: str
    payload: bytes
    """The JSON of the payload, whose size is known, unlike that of objects."""
    done: Done

    @classmethod
    def make(cls, target: RelayTarget, origin: str, data: Any, done: Done) -> "RelayJob":
        """Make a job. Raises :class:`kps.InvalidArgument` for a payload that is not JSON."""
        return cls(target, origin, compose_payload(data), done)

    def finish(self, error: str | None) -> None:
        """Tell the outcome. The text may come from the other server, so it is cut off."""
        self.done(error if error is None else error[:_LONGEST_ERROR])

    @property
    def size(self) -> int:
        """Bytes that count against the limits."""
        return len(self.payload) + len(self.origin) + _AROUND


class RelayQueue:
    """The messages that are pending for one link, in order."""

    def __init__(self, link: Link, owner: Hashable) -> None:
        self.link = link
        self.owner = owner
        self.jobs: deque[RelayJob] = deque()
        self.size = 0


class RelayQueues:
    """The messages that are pending for other servers, bounded in number and bytes."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._by_link: dict[Link, RelayQueue] = {}
        self._open: set[RelayQueue] = set()  # also those whose link is about to close
        self._owners: Counter[Hashable] = Counter()
        self.size = 0
        """Bytes that are pending for all links."""

    def __len__(self) -> int:
        """Return the number of links."""
        return len(self._open)

    def add(self, link: Link, job: RelayJob, owner: Hashable) -> RelayQueue | None:
        """Queue a message; return the queue if it is new, so that the caller opens the link.

        ``owner`` says whose client sends it, whatever its connection; ``None`` for this server's
        program.
        Raises :class:`kps.QueueFull`.
        """
        limits, known = self._limits, self._by_link.get(link)
        pending, size = (len(known.jobs), known.size) if known is not None else (0, 0)
        if pending >= limits.relay_messages or size + job.size > limits.relay_bytes:
            raise QueueFull("too many messages wait for that server")
        if self.size + job.size > limits.relay_all_bytes:
            raise QueueFull("too many messages wait for other servers")
        queue = known or self._begin(link, owner)
        queue.jobs.append(job)
        queue.size += job.size
        self.size += job.size
        return None if known is not None else queue

    def take(self, queue: RelayQueue) -> RelayJob | None:
        """Take the next message. If there is none, a later one opens a new link."""
        if not queue.jobs:
            self._forget(queue)
            return None
        job = queue.jobs.popleft()
        queue.size -= job.size
        self.size -= job.size
        return job

    def end(self, queue: RelayQueue, error: str) -> None:
        """Note that a link has ended, and fail its messages. May be called twice."""
        self._forget(queue)
        if queue in self._open:
            self._open.discard(queue)
            if queue.owner is not None:
                self._owners -= Counter([queue.owner])
        while (job := self.take(queue)) is not None:
            job.finish(error)

    def end_all(self, error: str) -> None:
        """End all links."""
        for queue in list(self._open):
            self.end(queue, error)

    def _begin(self, link: Link, owner: Hashable) -> RelayQueue:
        limits = self._limits
        if len(self._open) >= limits.relay_links:
            raise QueueFull("messages to too many servers are under way")
        if owner is not None:
            if self._owners[owner] >= limits.relay_links_per_client:
                raise QueueFull("messages of this client to too many servers are under way")
            self._owners[owner] += 1
        queue = self._by_link[link] = RelayQueue(link, owner)
        self._open.add(queue)
        return queue

    def _forget(self, queue: RelayQueue) -> None:
        if self._by_link.get(queue.link) is queue:
            del self._by_link[queue.link]
