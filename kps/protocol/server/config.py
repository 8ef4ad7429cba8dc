"""What a server is told once, at its start."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kps.protocol.access.admission import Network
from kps.protocol.access.identity import OPEN, Permissions
from kps.protocol.dialect import level2
from kps.protocol.dialect.address import DEFAULT_PATH
from kps.protocol.limits import ServerLimits
from kps.protocol.wire.http import HttpResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """What a server is told once, at its start."""

    id: str
    """The server's own id, as a sender and for direct messages."""
    path: str = DEFAULT_PATH
    origins: tuple[str, ...] = ()
    """Origins of web pages, beside the server's own, that may connect; ``*`` for all."""
    asks_upgrade: bool = False
    """Whether each upgrade waits for :meth:`Hub.decide`."""
    asks_token: bool = False
    """Whether each client shows a token, which waits for :meth:`Hub.identify`."""
    permissions: Permissions = OPEN
    """Of clients that have no identity."""
    proxies: tuple[Network, ...] = ()
    """Whose ``X-Forwarded-For`` is believed."""
    limits: ServerLimits = field(default_factory=ServerLimits)
    level: int = level2.LEVEL
    """The highest level of the protocol that is spoken."""
    version: str = ""
    """Shown by ``/healthz``."""
    pages: Mapping[str, HttpResponse] = field(default_factory=dict)
    """What is served besides, by path. The answers have an ``etag``."""
    is_monitored: bool = False
    """Whether the figures are published for whoever subscribes to them (spec, 12.8)."""
