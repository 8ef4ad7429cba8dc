"""Addresses of other servers, for messages from server to server (spec, section 7)."""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kps.errors import InvalidArgument, QueueFull

DEFAULT_PATH = "/ws/bus"

# Nothing else, as who may be reached is decided by this text: what a URL may have besides, such
# as a user or a fragment, would let another server be meant than the one that it begins with.
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RelayTarget:
    """``host:port[/path][::proxied-address]``, read."""

    address: str
    """``host:port`` to connect to, and the ``to`` of the message."""
    path: str
    proxied: str
    """The address of the server behind a proxy, or empty: the ``id`` of the message."""

    @classmethod
    def parse(cls, to: str) -> "RelayTarget":
        """Read an address. Raises :class:`kps.InvalidArgument`."""
        host = to[: to.find("]") + 1] if to.startswith("[") else ""  # IPv6 has its own colons
        reached, _, proxied = to[len(host) :].partition("::")
        address, slash, path = reached.partition("/")
        address = host + address
        proxied_address, proxied_slash, proxied_path = proxied.partition("/")
        is_sound = to.isprintable() and not any(c in "?#\\ " for c in to)
        if not is_sound or not _HOST_AND_PORT.fullmatch(address):
            raise InvalidArgument(
                f"not a server address: {to!r}; it takes host:port[/path][::proxied-address]"
            )
        if proxied_slash:
            slash, path = proxied_slash, proxied_path
        return cls(address, slash + path if slash else DEFAULT_PATH, proxied_address)


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


def origin_of(address: str, path: str, *, secure: bool, client_id: str = "") -> str:
    """The ``from`` of a relayed message: which server it left, and for which client."""
    host, _, port = address.rpartition(":")
    if port == ("443" if secure else "80"):
        address = host
    url = f"{'wss' if secure else 'ws'}://{address}{path}"
    return f"{client_id}---{url}" if client_id else url
