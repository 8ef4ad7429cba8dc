"""Addresses of other servers, for messages from server to server (spec, section 7)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kps.errors import InvalidArgument

DEFAULT_PATH = "/ws/bus"


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
        if not address or any(c.isspace() or not c.isprintable() for c in to) or "?" in to:
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


@dataclass(frozen=True, slots=True)
class RelayJob:
    """One message for another server."""

    target: RelayTarget
    origin: str
    data: Any
    done: Done


def origin_of(address: str, path: str, *, secure: bool, client_id: str = "") -> str:
    """The ``from`` of a relayed message: which server it left, and for which client."""
    host, _, port = address.rpartition(":")
    if port == ("443" if secure else "80"):
        address = host
    url = f"{'wss' if secure else 'ws'}://{address}{path}"
    return f"{client_id}---{url}" if client_id else url
