"""The options of a server, for both drivers."""

import logging
import os
import ssl as tls
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from kps.errors import InvalidArgument
from kps.io_common.certificates import Certificates
from kps.io_common.checks import (
    check_files,
    check_level,
    check_limits,
    check_names,
    check_own_id,
    check_texts,
    check_tls,
    check_tracing,
)
from kps.io_common.hooks import Callback
from kps.io_common.ids import random_id
from kps.io_common.logger import Write, write
from kps.io_common.verdicts import (
    ConnectHook,
    DisconnectHook,
    SubscribeHook,
    TokenHook,
    UnsubscribeHook,
    UpgradeHook,
)
from kps.protocol.access.admission import read_networks
from kps.protocol.access.identity import OPEN, Permissions
from kps.protocol.access.origins import read_origin
from kps.protocol.access.rules import is_foreign
from kps.protocol.bus.history import History
from kps.protocol.client.token import check_token
from kps.protocol.dialect.address import DEFAULT_PATH, Address, named
from kps.protocol.dialect.level2 import LEVEL
from kps.protocol.limits import ClientLimits, check_seconds, check_switch, shown
from kps.protocol.server.config import HubConfig
from kps.protocol.server.relays import RelayQueues
from kps.protocol.server_limits import LEAST_HEAD, LEAST_MESSAGE, ServerLimits
from kps.version import __version__

if TYPE_CHECKING:
    from kps.io_common.cluster_options import ClusterSettings
    from kps.io_common.history_file import HistoryFile
    from kps.io_common.metrics import Exporter
    from kps.otel import Tracing

HOOKS = (
    "on_upgrade",
    "auth",
    "on_connect",
    "on_disconnect",
    "on_subscribe",
    "on_unsubscribe",
    "on_id",
    "on_server_data",
)
"""The options that are hooks and callbacks."""

_FILES = ("tls_cert", "tls_key", "tls_client_ca", "history_file", "cluster_credentials",
          "cluster_ca")  # fmt: skip

SYNCS: Final = ("off", "normal", "full")
"""When a file for history waits for the disk: never, so that it stays whole, for each writing."""


class ServerOptions(TypedDict, total=False):
    """The keyword arguments of a server, which :class:`kps.Server` documents."""

    path: str
    id: str | None
    origins: Iterable[str]
    ssl: tls.SSLContext | None
    tls_cert: str | None
    tls_key: str | None
    tls_client_ca: str | None
    names: Iterable[str]
    level: int
    limits: ServerLimits | None
    console: bool
    http_api: bool
    metrics: bool
    metrics_address: str | None
    relay_timeout: float
    relay_ssl: tls.SSLContext | None
    on_upgrade: UpgradeHook | None
    auth: TokenHook | None
    on_connect: ConnectHook | None
    on_disconnect: DisconnectHook | None
    on_subscribe: SubscribeHook | None
    on_unsubscribe: UnsubscribeHook | None
    history: Sequence[History]
    history_file: str | os.PathLike[str] | None
    history_sync: str
    compress: bool
    cluster: str | None
    cluster_name: str | None
    cluster_secret: str | None
    cluster_credentials: str | os.PathLike[str] | None
    cluster_ca: str | os.PathLike[str] | None
    without_engine: str
    permissions: Permissions
    proxies: Iterable[str]
    relay_token: str | None
    on_id: Callback | None
    on_server_data: Callback | None
    tracing: "Tracing | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The checked options of a server. ``config`` holds those of the core."""

    listens_on: Address
    for_operators: Address | None
    """Where the port for operators is, if there is one."""
    config: HubConfig
    """The core's configuration, without what ``hub_config`` adds when the server starts."""
    certificates: Certificates
    names: frozenset[str]
    relay_timeout: float
    relay_tls: tls.SSLContext | None
    relay_token: str | None
    history_file: str | os.PathLike[str] | None
    history_sync: str
    cluster: "ClusterSettings | None"
    """The cluster of which it is a node, if it is one."""
    on_upgrade: UpgradeHook | None
    auth: TokenHook | None
    on_connect: ConnectHook | None
    on_disconnect: DisconnectHook | None
    on_subscribe: SubscribeHook | None
    on_unsubscribe: UnsubscribeHook | None
    on_id: Callback | None
    on_server_data: Callback | None
    tracing: "Tracing | None"
    is_mounted: bool = False
    """Whether another program's server listens for this one, and its path is a folder there."""

    @classmethod
    def read(cls, address: str, **options: Unpack[ServerOptions]) -> "ServerSettings":
        """Check a program's options. Raises :class:`kps.InvalidArgument`."""
        check_names("a server", options, ServerOptions.__annotations__)
        for name in ("ssl", "relay_ssl"):
            check_tls(name, options.get(name))
        check_tracing(options.get("tracing"))
        own_id = options.get("id")
        if isinstance(own_id, str) and is_foreign(own_id):
            raise InvalidArgument(f"an id of this form is that of another server: {shown(own_id)}")
        check_limits(options.get("limits"), ServerLimits)
        check_own_id(options.get("id"), options.get("limits") or ServerLimits())
        check_files(options, *_FILES)
        metrics_address = options.get("metrics_address")
        path = options.get("path", DEFAULT_PATH)
        if not isinstance(path, str) or not path.startswith("/"):
            raise InvalidArgument(f"a path starts with '/': {shown(path)}")
        level = check_level(options.get("level", LEVEL))
        permissions = options.get("permissions", OPEN)
        if not isinstance(permissions, Permissions):
            raise InvalidArgument(f"permissions is a kps.Permissions, not {shown(permissions)}")
        if permissions.relay and not permissions.peer and options.get("auth") is None:
            text = "anonymous clients may relay, but lack peer: see Permissions.open"
            write(logging.INFO, "relay_without_peer", text)
        relay_token = options.get("relay_token")
        return cls(
            listens_on=_read_address(address),
            for_operators=None if metrics_address is None else _read_address(metrics_address),
            config=HubConfig(
                id=own_id or random_id("server"),
                path=path,
                origins=tuple(map(read_origin, check_texts("origins", options.get("origins", ())))),
                asks_upgrade=options.get("on_upgrade") is not None,
                asks_token=options.get("auth") is not None,
                asks_connect=options.get("on_connect") is not None,
                asks_subscribe=options.get("on_subscribe") is not None,
                tells_unsubscribe=options.get("on_unsubscribe") is not None,
                permissions=permissions,
                proxies=read_networks(check_texts("proxies", options.get("proxies", ()))),
                limits=_check_usable(options.get("limits") or ServerLimits()),
                level=level,
                history=check_history(options.get("history", ())),
                compresses=check_switch("compress", options.get("compress", False)),
                # Over HTTP a client has what level 2 has.
                has_http=check_switch("http_api", options.get("http_api", True)) and level >= LEVEL,
                is_monitored=check_switch("console", options.get("console", True)),
                shows_metrics=check_switch("metrics", options.get("metrics", False)),
            ),
            certificates=Certificates.of(
                options.get("ssl"),
                options.get("tls_cert"),
                options.get("tls_key"),
                options.get("tls_client_ca"),
            ),
            names=frozenset(check_texts("names", options.get("names", ()))),
            relay_timeout=check_seconds("relay_timeout", options.get("relay_timeout", 5.0)),
            relay_tls=options.get("relay_ssl"),
            relay_token=None if relay_token is None else check_token(relay_token),
            history_file=_check_needed(options.get("history_file"), options.get("history", ())),
            history_sync=_check_sync(options.get("history_sync", "normal")),
            cluster=_cluster(options),
            on_upgrade=options.get("on_upgrade"),
            auth=options.get("auth"),
            on_connect=options.get("on_connect"),
            on_disconnect=options.get("on_disconnect"),
            on_subscribe=options.get("on_subscribe"),
            on_unsubscribe=options.get("on_unsubscribe"),
            on_id=options.get("on_id"),
            on_server_data=options.get("on_server_data"),
            tracing=options.get("tracing"),
        )

    def hub_config(self, *, asks_upgrade: bool) -> HubConfig:
        """Return the core's configuration at the start."""
        from kps.web.pages import pages

        is_monitored = self.config.is_monitored
        return replace(
            self.config,
            asks_upgrade=asks_upgrade,
            is_secure=self.certificates.context is not None,
            pages=pages("." if self.is_mounted else self.config.path, console=is_monitored),
            version=__version__,
        )

    def new_exporter(self, driver: str, relays: RelayQueues) -> "Exporter | None":
        """Return what answers requests for the figures, if anybody may ask for them."""
        if not self.config.shows_metrics and self.for_operators is None:
            return None
        from kps.io_common.metrics import Exporter  # most servers need none

        return Exporter(driver, relays)

    def new_history_file(self, now: float, write: Write) -> "HistoryFile | None":
        """Return the file for history, if there is to be one. It is not open yet."""
        if self.history_file is None:
            return None
        from kps.io_common.history_file import HistoryFile  # others need no database

        limits = self.config.limits
        bounds = limits.history_bytes, limits.history_topics
        return HistoryFile(self.history_file, self.history_sync, *bounds, now, write)


def _read_address(address: object) -> Address:
    if not isinstance(address, str):
        raise InvalidArgument(f"a server listens on host:port, not on {shown(address)}")
    if "/" in address:
        raise InvalidArgument(f"a server listens on host:port, not on {named(address)}")
    return Address.parse(address)


def _cluster(options: ServerOptions) -> "ClusterSettings | None":
    servers = options.get("cluster")
    if servers is None:
        for name in ("cluster_name", "cluster_secret", "cluster_credentials", "cluster_ca"):
            if options.get(name) is not None:
                raise InvalidArgument(f"{name} needs cluster: the URL of a NATS server")
        return None
    from kps.io_common.cluster_options import ClusterSettings

    return ClusterSettings.read(
        servers,
        options.get("cluster_name"),
        options.get("cluster_secret"),
        options.get("cluster_credentials"),
        options.get("cluster_ca"),
        options.get("without_engine", "local"),
    )


def check_history(rules: object) -> tuple[History, ...]:
    """Return the rules for history. Raises :class:`kps.InvalidArgument`."""
    if not isinstance(rules, (list, tuple)) or not all(isinstance(one, History) for one in rules):
        raise InvalidArgument(f"history takes a list of kps.History, not {shown(rules)}")
    return tuple(rules)


def _check_needed(
    path: str | os.PathLike[str] | None, rules: Sequence[History]
) -> str | os.PathLike[str] | None:
    """Refuse a file for history that would stay empty, or has no name."""
    if path is not None and not os.fspath(path):
        raise InvalidArgument("history_file is the path of a file, not an empty text")
    if path is not None and not rules:
        raise InvalidArgument("history_file needs history: which topics have messages to keep")
    return path


def _check_sync(value: object) -> str:
    if not isinstance(value, str) or value not in SYNCS:
        raise InvalidArgument(f"history_sync is one of {', '.join(SYNCS)}, not {shown(value)}")
    return value


def _check_usable(limits: ServerLimits) -> ServerLimits:
    """Refuse limits under which no client could connect."""
    for name, least in (("max_message", LEAST_MESSAGE), ("max_head", LEAST_HEAD)):
        if getattr(limits, name) < least:
            raise InvalidArgument(f"{name} must be at least {least}, or nobody could connect")
    return limits


def relay_limits(timeout: float) -> ClientLimits:
    """Return the limits of a connection to another server: each stage may take ``timeout``."""
    # Another server has little to say. A client chose it, so it may be hostile.
    return ClientLimits(max_message=256 * 1024, handshake_timeout=timeout, close_timeout=timeout)
