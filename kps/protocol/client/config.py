"""What a client is told once, at its start."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kps.errors import InvalidArgument
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect import level2
from kps.protocol.dialect.address import DEFAULT_PATH
from kps.protocol.limits import ClientLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """What a client is told once, at its start."""

    id: str
    host: str
    """The ``Host`` of the request: ``host:port``."""
    target: str = field(default=DEFAULT_PATH, repr=False)
    """Path and query of the request."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    token: str | Callable[[], str] | None = field(default=None, repr=False)
    """What shows the server who this is, or what gives it for each connection."""
    reconnect: Backoff | None = field(default_factory=Backoff)
    """``None``: the client ends with its first connection."""
    offline_messages: int = 0
    """Publications kept while there is no connection; 0 refuses them instead."""
    offline_bytes: int = 16 * 1024 * 1024
    reports_messages: bool = False
    """Whether every message of the server is emitted as ``MessageReceived``."""
    limits: ClientLimits = field(default_factory=ClientLimits)
    level: int = level2.LEVEL
    """The highest level of the protocol that is offered."""


def check_token(token: Any) -> str:
    """Return a token that can be put into a header. Raises ``InvalidArgument``, not showing it."""
    if not isinstance(token, str) or not token:
        raise InvalidArgument("a token is a text that is not empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument("a token is ASCII, without spaces and line ends")
    return token
