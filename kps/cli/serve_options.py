"""What ``kps serve`` takes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import partial
from typing import Any, Final

from kps.cli import readers
from kps.cli.connecting import LogOptions, level_option, log_format_option
from kps.cli.declaring import Heading, Kind, Option, option, several, switch
from kps.errors import InvalidArgument
from kps.io_common.cluster_options import WITHOUT_ENGINE
from kps.io_common.server_options import SYNCS
from kps.protocol.bus.history import History
from kps.protocol.dialect.address import DEFAULT_ADDRESS, DEFAULT_PATH
from kps.protocol.limits import shown
from kps.protocol.server_limits import IN_SHORT, ServerLimits

ALGORITHMS: Final = ("HS256", "RS256", "ES256")

_MOST_WORKERS = 64
_RATES = ("message_rate", "byte_rate")

_TLS = Heading("TLS", "Files are PEM.")
_CLUSTER = Heading(
    "cluster", "Servers on several machines that are one for their clients: kps[cluster]."
)
_HISTORY = Heading("history", "Without these options, the server keeps no messages.")
_WHO = Heading("who may connect", "Without these options, anybody may.")
_LIMITS = Heading("limits", "The documentation says what the server does past each.")


def rule(value: str) -> History:
    """Read a rule for history: ``PATTERN=SIZE[,SECONDS]``."""
    found = re.fullmatch(r"(.*)=([0-9]{1,16})(?:,([0-9]+(?:\.[0-9]+)?))?", value, re.DOTALL)
    if found is None:
        raise readers.BadValue(
            f"must be like 'chat/**=1000' or 'chat/**=1000,3600', not {shown(value)}"
        )
    topics, most, ttl = found.groups()
    return rule_of({"topics": topics, "size": int(most)} | ({"ttl": float(ttl)} if ttl else {}))


def rule_of(table: dict[str, object]) -> History:
    """Read a rule for history from a table of a file."""
    for name in table:
        if name not in ("topics", "size", "ttl"):
            raise readers.BadValue(f"it has topics, size and ttl, but no {name}")
    if "topics" not in table:
        raise readers.BadValue("it needs topics, a pattern")
    try:
        return History(**table)  # type: ignore[arg-type]
    except InvalidArgument as error:
        raise readers.BadValue(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class ServeOptions(LogOptions):
    """What ``kps serve`` takes, besides an option for each limit."""

    config: str | None = option(
        "FILE", "a TOML file with any of these options", read=readers.file, default=None, key=""
    )
    address: str = option(
        "HOST:PORT", "where to listen; a port alone means localhost", read=readers.address,
        default=DEFAULT_ADDRESS,
    )  # fmt: skip
    port: int | None = option(
        "PORT",
        "the port, in place of that of the address",
        read=readers.port,
        default=None,
        variable="",
    )
    path: str = option("PATH", "path of the WebSocket", read=readers.text, default=DEFAULT_PATH)
    id: str | None = option(
        "ID", "the server's own id; default: a random one", read=readers.text, default=None
    )
    origin: Sequence[str] = several(
        "ORIGIN", "origin of web pages that may connect", read=readers.text
    )
    name: Sequence[str] = several("HOST", "host by which other servers reach it", read=readers.text)
    proxy: Sequence[str] = several(
        "ADDRESS",
        "address or network of a proxy in front of this server, whose X-Forwarded-For it trusts",
        read=readers.text,
    )
    relay_to: Sequence[str] = several(
        "HOST:PORT",
        "server to which anonymous clients may send messages through this one, wss://HOST:PORT for "
        "TLS only, ** for any; default: none",
        read=readers.text,
    )
    may_disconnect: Sequence[str] = several(
        "ID",
        "client that anonymous clients may disconnect, on the console for instance; ** for all; "
        "default: none",
        read=readers.text,
    )
    relay_token: str | None = option(
        "TEXT",
        "token that identifies this server to others; prefer KPS_RELAY_TOKEN",
        read=readers.text,
        default=None,
        is_secret=True,
    )
    compress: bool = switch("compress long publications where it pays, for clients that take it")
    no_console: bool = switch(
        "serve no console page at /, and answer no questions (__kps/...), such as those of kps top"
    )
    no_http_api: bool = switch("do not answer POST /publish, POST /request and GET /sse")
    metrics: bool = switch(
        "answer GET /metrics, for Prometheus: to a token with the permission console, or, without "
        "tokens, to this machine only"
    )
    metrics_address: str | None = option(
        "HOST:PORT",
        "answer it there, to all who reach that; a port alone means localhost",
        read=readers.address,
        default=None,
    )
    threads: bool = switch("use a thread for each connection, not asyncio")
    workers: int = option(
        "N",
        "processes that share the clients, so that the server has several cores",
        read=partial(readers.size, most=_MOST_WORKERS),
        default=1,
    )

    tls_cert: str | None = option(
        "FILE",
        "certificate chain: serve wss and https",
        read=readers.file,
        default=None,
        heading=_TLS,
    )
    tls_key: str | None = option(
        "FILE",
        "its private key",
        read=readers.file,
        default=None,
        heading=_TLS,
        needs="tls_cert",
    )
    tls_client_ca: str | None = option(
        "FILE",
        "authorities: clients must show a certificate of one of them",
        read=readers.file,
        default=None,
        heading=_TLS,
        needs="tls_cert",
    )

    tokens: str | None = option(
        "FILE",
        "a TOML file of identities and their tokens",
        read=readers.file,
        default=None,
        heading=_WHO,
    )
    jwt_key: Sequence[str] = several(
        "FILE",
        "accept JWT signed with this secret, or with the key of this public key (PEM)",
        read=readers.file,
        heading=_WHO,
    )
    jwt_algorithm: str = option(
        "",
        "how a JWT must be signed",
        read=readers.text,
        choices=ALGORITHMS,
        default=ALGORITHMS[0],
        heading=_WHO,
        needs="jwt_key",
    )
    jwt_audience: str | None = option(
        "TEXT",
        "the aud that a JWT must have",
        read=readers.text,
        default=None,
        heading=_WHO,
        needs="jwt_key",
    )
    jwt_issuer: str | None = option(
        "TEXT",
        "the iss that a JWT must have",
        read=readers.text,
        default=None,
        heading=_WHO,
        needs="jwt_key",
    )

    history: Sequence[History] = several(
        "PATTERN=SIZE[,SECONDS]",
        "keep the latest SIZE messages of each such topic, for SECONDS; the first rule that has a "
        "topic counts; in a TOML file: tables of topics, size, ttl",
        read=rule,
        read_table=rule_of,
        is_joined=True,  # so those of the command line come first
        separator=",(?=[^,]*=)",  # a rule may have a comma
        heading=_HISTORY,
    )
    history_file: str | None = option(
        "FILE",
        "keep them in this file too, beyond the end of the server: one for all workers, one for "
        "each node of a cluster",
        read=readers.file,
        default=None,
        heading=_HISTORY,
        needs="history",
    )
    history_sync: str = option(
        "",
        "when the file waits for the disk: never, so that it stays whole, or each time",
        read=readers.text,
        choices=SYNCS,
        default="normal",
        heading=_HISTORY,
        needs="history_file",
    )

    cluster: str | None = option(
        "URL",
        "the NATS server over which the nodes talk, such as nats://host:4222; several with commas "
        "between",
        read=readers.text,
        default=None,
        heading=_CLUSTER,
        is_secret=True,  # it may have a password
    )
    cluster_name: str | None = option(
        "TEXT",
        "the name of the cluster; default: kps",
        read=readers.text,
        default=None,
        heading=_CLUSTER,
        needs="cluster",
    )
    cluster_secret_file: str | None = option(
        "FILE",
        "a file with what all nodes know and nobody else does",
        read=readers.file,
        default=None,
        heading=_CLUSTER,
        needs="cluster",
    )
    cluster_credentials: str | None = option(
        "FILE",
        "credentials for NATS",
        read=readers.file,
        default=None,
        heading=_CLUSTER,
        needs="cluster",
    )
    cluster_ca: str | None = option(
        "FILE",
        "authorities that vouch for NATS (tls://); default: those of the system",
        read=readers.file,
        default=None,
        heading=_CLUSTER,
        needs="cluster",
    )
    without_engine: str = option(
        "",
        "while NATS is away, serve the clients that are here, or let them go",
        read=readers.text,
        choices=WITHOUT_ENGINE,
        default=WITHOUT_ENGINE[0],
        heading=_CLUSTER,
        needs="cluster",
    )

    log_level: str = level_option("info")
    log_format: str = log_format_option()
    show_limits: bool = switch("print all limits, and exit", heading=_LIMITS, variable="", key="")
    limits: ServerLimits

    @classmethod
    def of(cls, **values: Any) -> "ServeOptions":
        """Make them of their values, and of those of the limits."""
        limits = ServerLimits(**{name: values.pop(name) for name in IN_SHORT})
        return cls(limits=limits, **values)


def limit_options() -> list[Option]:
    """Return an option for each limit of a server that it may set."""
    defaults = ServerLimits()
    names = [each.name for each in fields(ServerLimits) if each.name in IN_SHORT]
    return [_limit(name, getattr(defaults, name)) for name in names]


def _limit(name: str, default: int | float | StrEnum) -> Option:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(default, StrEnum):
        choices = tuple(each.value for each in type(default))
        return Option(
            kind=Kind.VALUE,
            help=IN_SHORT[name],
            name=name,
            key=name,
            flag=flag,
            metavar="|".join(choices),
            choices=choices,
            default=default.value,
            heading=_LIMITS,
        )
    is_whole = isinstance(default, int)
    return Option(
        kind=Kind.VALUE,
        help=IN_SHORT[name],
        name=name,
        key=name,
        flag=flag,
        metavar="N",
        read=readers.size if is_whole else readers.rate if name in _RATES else readers.seconds,
        default=default,
        heading=_LIMITS,
    )
