"""The command ``kps serve``."""

import argparse
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kps.cli.arguments import Rules, address, file, rate, rule, seconds, size
from kps.errors import InvalidArgument
from kps.io_common.cluster_options import WITHOUT_ENGINE
from kps.io_common.handing import Place
from kps.io_common.ids import random_id
from kps.io_common.logger import write
from kps.io_common.server_options import SYNCS
from kps.io_common.system_errors import describe
from kps.io_common.verdicts import TokenHook, TokenVerdict
from kps.protocol.access.identity import Permissions
from kps.protocol.dialect.address import DEFAULT_ADDRESS, DEFAULT_PATH, Address
from kps.protocol.server_limits import IN_SHORT, ServerLimits

if TYPE_CHECKING:
    from kps.io_asyncio.server import Server
    from kps.io_asyncio.worker import WorkerServer
    from kps.io_sync.server import Server as BlockingServer

_ALGORITHMS = ("HS256", "RS256", "ES256")
_NEEDS = {
    "tls_key": "tls_cert",
    "tls_client_ca": "tls_cert",
    "jwt_algorithm": "jwt_key",
    "jwt_audience": "jwt_key",
    "jwt_issuer": "jwt_key",
    "cluster_name": "cluster",
    "cluster_secret_file": "cluster",
    "cluster_credentials": "cluster",
    "cluster_ca": "cluster",
    "without_engine": "cluster",
    "history_file": "history",
    "history_sync": "history_file",
}
_FOR_ONE_PROCESS = ("threads", "cluster")
_MOST_WORKERS = 64
_RATES = ("message_rate", "byte_rate")
_DEFAULTS = ServerLimits()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``kps serve``."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="a TOML file with any of these options")
    add("--address", type=address, metavar="HOST:PORT", default=DEFAULT_ADDRESS,
        help="a port alone means localhost; default: %(default)s")  # fmt: skip
    add("--path", default=DEFAULT_PATH, help="path of the WebSocket; default: %(default)s")
    add("--id", help="the server's own id; default: a random one")
    add("--origin", action="append", help="origin of web pages that may connect; repeatable")
    add("--name", action="append", help="host by which other servers reach it; repeatable")
    add("--proxy", action="append", metavar="ADDRESS",
        help="address or network of a proxy in front of this server, whose X-Forwarded-For "
        "it trusts; repeatable")  # fmt: skip
    add("--relay-to", action="append", metavar="HOST:PORT",
        help="server to which anonymous clients may send messages through this one, "
        "wss://HOST:PORT for TLS only, ** for any; default: none; repeatable")  # fmt: skip
    add("--may-disconnect", action="append", metavar="ID",
        help="client that anonymous clients may disconnect, on the console for instance; ** for "
        "all; default: none; repeatable")  # fmt: skip
    add("--relay-token", metavar="TEXT",
        help="token that identifies this server to others; prefer KPS_RELAY_TOKEN")  # fmt: skip
    add(
        "--tls-cert", type=file, metavar="FILE", help="certificate chain (PEM): serve wss and https"
    )
    add("--tls-key", type=file, metavar="FILE", help="its private key (PEM)")
    add("--tls-client-ca", type=file, metavar="FILE",
        help="authorities (PEM): clients must show a certificate of one of them")  # fmt: skip
    add("--compress", action="store_true",
        help="compress long publications where it pays, for clients that take it")  # fmt: skip
    add("--no-console", action="store_true", help="serve no console page at /")
    add("--no-http-api", action="store_true",
        help="do not answer POST /publish, POST /request and GET /sse")  # fmt: skip
    add("--metrics", action="store_true",
        help="answer GET /metrics, for Prometheus: to a token with the permission console, or, "
        "without tokens, to this machine only")  # fmt: skip
    add("--metrics-address", type=address, metavar="HOST:PORT",
        help="answer it there, to all who reach that; a port alone means localhost")  # fmt: skip
    add("--threads", action="store_true", help="use a thread for each connection, not asyncio")
    add("--workers", type=partial(size, most=_MOST_WORKERS), metavar="N", default=1,
        help="processes that share the clients, so that the server has several cores; "
        "default: %(default)s")  # fmt: skip

    together = parser.add_argument_group(
        "cluster", "Servers on several machines that are one for their clients: kps[cluster]."
    )
    add = together.add_argument
    add("--cluster", metavar="URL", help="the NATS server over which the nodes talk, such as "
        "nats://host:4222; several with commas between")  # fmt: skip
    add("--cluster-name", metavar="TEXT", help="the name of the cluster; default: kps")
    add("--cluster-secret-file", type=file, metavar="FILE",
        help="a file with what all nodes know and nobody else does")  # fmt: skip
    add("--cluster-credentials", type=file, metavar="FILE", help="credentials for NATS")
    add(
        "--cluster-ca",
        type=file,
        metavar="FILE",
        help="authorities that vouch for NATS (tls://); default: those of the system",
    )
    add("--without-engine", choices=WITHOUT_ENGINE,
        help="while NATS is away, serve the clients that are here, or let them go; "
        "default: local")  # fmt: skip

    kept = parser.add_argument_group(
        "history", "Without these options, the server keeps no messages."
    )
    add = kept.add_argument
    add("--history", action=Rules, type=rule, metavar="PATTERN=SIZE[,SECONDS]",
        help="keep the latest SIZE messages of each such topic, for SECONDS; the first rule that "
        "has a topic counts; in a TOML file: tables of topics, size, ttl; repeatable")  # fmt: skip
    add("--history-file", type=file, metavar="FILE",
        help="keep them in this file too, beyond the end of the server: one for all workers, one "
        "for each node of a cluster")  # fmt: skip
    add("--history-sync", choices=SYNCS, help="when the file waits for the disk: never, so that "
        "it stays whole, or each time; default: normal")  # fmt: skip

    who = parser.add_argument_group("who may connect", "Without these options, anybody may.")
    add = who.add_argument
    add("--tokens", type=file, metavar="FILE", help="a TOML file of identities and their tokens")
    add("--jwt-key", action="append", type=file, metavar="FILE",
        help="accept JWT signed with this secret, or with the key of this public key (PEM); "
        "repeatable")  # fmt: skip
    add("--jwt-algorithm", choices=_ALGORITHMS, help=f"default: {_ALGORITHMS[0]}")
    add("--jwt-audience", metavar="TEXT", help="the aud that a JWT must have")
    add("--jwt-issuer", metavar="TEXT", help="the iss that a JWT must have")

    limits = parser.add_argument_group(
        "limits", "The documentation says what the server does past each."
    )
    limits.add_argument("--show-limits", action="store_true", help="print all limits, and exit")
    for field in fields(ServerLimits):
        if field.name in IN_SHORT:
            _add_limit(limits, field.name, IN_SHORT[field.name], getattr(_DEFAULTS, field.name))


def serve(options: argparse.Namespace) -> int:
    """Run a server until a signal stops it."""
    limits = replace(_DEFAULTS, **{name: _limit(name, getattr(options, name)) for name in IN_SHORT})
    if options.show_limits:
        print(_table(limits))
        return 0
    _allow_descriptors()
    _collect_less()
    for option, other in _NEEDS.items():
        if getattr(options, option) is not None and getattr(options, other) is None:
            raise InvalidArgument(f"{_flag(option)} needs {_flag(other)}")
    if options.cluster is not None and options.threads:
        raise InvalidArgument("--threads does not go with --cluster")
    place = Place.of_this_process()
    if place is None and options.workers > 1:
        return _serve_with_workers(options)
    make = _blocking_server() if options.threads else _server() if place is None else _worker()
    gc.freeze()  # what is imported stays
    server = make(
        options.address,
        path=options.path,
        id=options.id if place is None else place.name,
        origins=options.origin or (),
        names=options.name or (),
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        tls_client_ca=options.tls_client_ca,
        limits=limits,
        console=not options.no_console,
        http_api=not options.no_http_api,
        compress=options.compress,
        metrics=options.metrics,
        metrics_address=options.metrics_address,
        auth=_auth(options),
        cluster=options.cluster,
        cluster_name=options.cluster_name,
        cluster_secret=_secret(options.cluster_secret_file),
        cluster_credentials=options.cluster_credentials,
        cluster_ca=options.cluster_ca,
        without_engine=options.without_engine or WITHOUT_ENGINE[0],
        history=options.history or (),
        history_file=options.history_file,
        history_sync=options.history_sync or "normal",
        permissions=Permissions.open(
            relay=options.relay_to or (), disconnect=options.may_disconnect or ()
        ),
        relay_token=options.relay_token,
        proxies=options.proxy or (),
    )
    if place is None:
        server.run(ready=_announce)
    else:
        cast("WorkerServer", server).work_at(place)
    return 0


def _serve_with_workers(options: argparse.Namespace) -> int:
    """Run workers, which share the clients."""
    from kps.cli.workers import serve_with_workers

    if sys.platform != "linux":
        raise InvalidArgument("several --workers need Linux")
    for name in _FOR_ONE_PROCESS:
        if getattr(options, name):
            raise InvalidArgument(f"{_flag(name)} does not go with several --workers")
    for_operators = options.metrics_address
    return serve_with_workers(
        Address.parse(options.address),
        None if for_operators is None else Address.parse(for_operators),
        options.id or random_id("server"),
        options.workers,
        _announce_url,
        is_first_ahead=options.history_file is not None,
    )


def _server() -> "type[Server]":
    from kps.io_asyncio.server import Server

    return Server


def _blocking_server() -> "type[BlockingServer]":
    from kps.io_sync.server import Server as BlockingServer

    return BlockingServer


def _worker() -> "type[WorkerServer]":
    from kps.io_asyncio.worker import WorkerServer

    return WorkerServer


def _announce(server: "Server | BlockingServer") -> None:
    _announce_url(server.url)


def _announce_url(url: str) -> None:
    """Print the URL. The server goes on without a reader: its output is no more than a log."""
    try:
        print(f"kps serves on {url}", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left goes there
        text = "nobody reads the standard output; the server goes on"
        write(logging.WARNING, "output_closed", text)


def _allow_descriptors() -> None:
    """Raise the limit on descriptors from the shell's default to the system's maximum."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # on Windows, or if not allowed
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_less() -> None:
    """Look for garbage less often. A look stops everybody, and there is little to be found.

    Only what a connection leaves behind has cycles; messages have none.
    """
    gc.set_threshold(10_000)


def _secret(path: str | None) -> str | None:
    """Return the text of a file."""
    if path is None:
        return None
    try:
        text = Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"cannot read {path}: {describe(error)}") from error
    if not text:
        raise InvalidArgument(f"there is no secret in {path}")
    return text


def _auth(options: argparse.Namespace) -> TokenHook | None:
    """Return the hook that identifies clients: tokens first, because that is cheap, then JWT."""
    # Import them here, because most servers need none.
    hooks: list[Callable[[str], TokenVerdict]] = []
    if options.tokens is not None:
        from kps.auth.tokens import TokenFile

        hooks.append(TokenFile(options.tokens))
    if options.jwt_key is not None:
        from kps.auth.jwt import JWTVerifier

        verifier = JWTVerifier.from_file(
            *options.jwt_key,
            algorithm=options.jwt_algorithm or _ALGORITHMS[0],
            audience=options.jwt_audience,
            issuer=options.jwt_issuer,
        )
        hooks.append(verifier)
    if len(hooks) < 2:
        return hooks[0] if hooks else None
    from kps.auth.first_of import FirstOf

    return FirstOf(*hooks)


def _add_limit(
    group: argparse._ArgumentGroup, name: str, meaning: str, default: int | float | StrEnum | None
) -> None:
    flag = _flag(name)
    shown = f"{meaning}; default: {_shown(default)}".replace("%", "%%")
    if isinstance(default, StrEnum):
        kind = type(default)
        group.add_argument(
            flag,
            choices=[policy.value for policy in kind],
            default=default.value,
            help=shown,
        )
        return
    read: Callable[[str], Any] = size
    if isinstance(default, float):
        read = rate if name in _RATES else seconds
    group.add_argument(flag, type=read, metavar="N", default=default, help=shown)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _limit(name: str, value: Any) -> Any:
    default = getattr(_DEFAULTS, name)
    return type(default)(value) if isinstance(default, StrEnum) else value


def _table(limits: ServerLimits) -> str:
    rows = [(name, _shown(getattr(limits, name)), meaning) for name, meaning in IN_SHORT.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {meaning}" for name, value, meaning in rows
    )


def _shown(value: int | float | StrEnum | None) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
