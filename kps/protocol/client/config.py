"""The configuration of a client."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect import level2
from kps.protocol.dialect.address import DEFAULT_PATH, path_of
from kps.protocol.limits import ClientLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The configuration of a client, which never changes."""

    id: str
    host: str
    """The ``Host`` of the request: ``host:port``."""
    is_secure: bool = True
    """Whether the driver connects with TLS."""
    target: str = field(default=DEFAULT_PATH, repr=False)
    """Path and query of the request."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    token: str | Callable[[], object] | None = field(default=None, repr=False)
    """The token that identifies the client, or a function that returns one per connection."""
    reconnect: Backoff | None = field(default_factory=Backoff)
    """``None``: the client ends with its first connection."""
    offline_messages: int = 0
    """Publications that the client keeps while it is disconnected; 0: it refuses them."""
    offline_bytes: int = 16 * 1024 * 1024
    reports_messages: bool = False
    """Whether the core emits every message of the server as ``MessageReceived``."""
    limits: ClientLimits = field(default_factory=ClientLimits)
    offers_compression: bool = False
    """Whether the client takes compressed publications, if the server compresses."""
    level: int = level2.LEVEL
    """The highest level of the protocol that the client offers."""

    @property
    def server(self) -> str:
        """What errors call the server: its host, and its path unless that is the usual one."""
        path = path_of(self.target)
        return self.host if path == DEFAULT_PATH else f"{self.host}{path}"
