"""The configuration of a server."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kps.errors import InvalidArgument
from kps.protocol.access.admission import Network
from kps.protocol.access.identity import OPEN, Permissions
from kps.protocol.access.rules import is_foreign
from kps.protocol.bus.history import History
from kps.protocol.dialect import level2
from kps.protocol.dialect.address import DEFAULT_PATH
from kps.protocol.limits import shown
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.http import HttpResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """The configuration of a server, which never changes."""

    id: str
    """The server's own id, as a sender and for direct messages."""
    path: str = DEFAULT_PATH
    origins: tuple[str, ...] = ()
    """Origins of web pages that may connect besides the server's own, as ``read_origin`` returns
    them; ``*`` for all."""
    is_secure: bool = False
    """Whether the server speaks TLS."""
    asks_upgrade: bool = False
    """Whether each upgrade waits for :meth:`Hub.decide`."""
    asks_token: bool = False
    """Whether each client must show a token, which waits for :meth:`Hub.judge`."""
    asks_connect: bool = False
    """Whether each id for which a client asks waits for it."""
    asks_subscribe: bool = False
    """Whether each subscription waits for it."""
    tells_unsubscribe: bool = False
    """Whether the end of each subscription is an event."""
    permissions: Permissions = OPEN
    """Permissions of anonymous clients."""
    proxies: tuple[Network, ...] = ()
    """Proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` the server trusts."""
    limits: ServerLimits = field(default_factory=ServerLimits)
    level: int = level2.LEVEL
    """The highest level of the protocol that the server speaks."""
    version: str = ""
    """The version that ``/healthz`` shows."""
    pages: Mapping[str, HttpResponse] = field(default_factory=dict)
    """HTTP answers by path. Each has an ``etag``."""
    history: tuple[History, ...] = ()
    """For which topics the server keeps messages; the first rule that has a topic counts."""
    compresses: bool = False
    """Whether the server compresses publications for clients that take it (spec, section 22)."""
    shows_metrics: bool = False
    """Whether the port of the bus also has figures for operators, at ``/metrics``."""
    has_http: bool = True
    """Whether ``/publish``, ``/request`` and ``/sse`` answer HTTP requests (spec, section 24)."""
    is_monitored: bool = False
    """Whether the server publishes its figures to subscribers (spec, 12.8)."""

    def __post_init__(self) -> None:
        if is_foreign(self.id):
            raise InvalidArgument(f"an id of this form is that of another server: {shown(self.id)}")
