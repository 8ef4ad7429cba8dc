"""The command ``kps serve``."""

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kps.cli.declaring import Command
from kps.cli.serve_options import ServeOptions, limit_options
from kps.errors import InvalidArgument
from kps.io_common.handing import Place
from kps.io_common.ids import random_id
from kps.io_common.logger import write
from kps.io_common.system_errors import describe_file
from kps.io_common.verdicts import TokenHook, TokenVerdict
from kps.protocol.access.identity import Permissions
from kps.protocol.dialect.address import Address, host_and_port
from kps.protocol.server_limits import IN_SHORT, ServerLimits
from kps.version import __version__

if TYPE_CHECKING:
    from kps.io_asyncio.server import Server
    from kps.io_asyncio.worker import WorkerServer
    from kps.io_sync.server import Server as BlockingServer

_FOR_ONE_PROCESS = ("threads", "cluster")


def serve(options: ServeOptions) -> int:
    """Run a server until a signal stops it."""
    if options.show_limits:
        print(_table(options.limits))
        return 0
    _allow_descriptors()
    _collect_less()
    check_together(options)
    place = Place.of_this_process()
    if place is None:
        _warn_if_open(options)
    if place is None and options.workers > 1:
        return _serve_with_workers(options)
    gc.freeze()  # what is imported stays
    server = new_server(options, place)
    if place is None:
        server.run(ready=lambda server: _announce(server.url, options))
    else:
        cast("WorkerServer", server).work_at(place)
    return 0


def check_together(options: ServeOptions) -> None:
    """Raise :class:`kps.InvalidArgument` for options that do not go together."""
    if options.cluster is not None and options.threads:
        raise InvalidArgument("--threads does not go with --cluster")
    if options.workers > 1:
        if sys.platform != "linux":
            raise InvalidArgument("several --workers need Linux")
        for name in _FOR_ONE_PROCESS:
            if getattr(options, name):
                raise InvalidArgument(f"--{name} does not go with several --workers")


def new_server(
    options: ServeOptions, place: Place | None = None
) -> "Server | BlockingServer | WorkerServer":
    """Make a server, or the worker of a place. Raises :class:`kps.KPSError` if it cannot start."""
    make = _blocking_server() if options.threads else _server() if place is None else _worker()
    return make(
        options.address,
        path=options.path,
        id=options.id if place is None else place.name,
        origins=options.origin,
        names=options.name,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        tls_client_ca=options.tls_client_ca,
        limits=options.limits,
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
        without_engine=options.without_engine,
        history=options.history,
        history_file=options.history_file,
        history_sync=options.history_sync,
        permissions=Permissions.open(relay=options.relay_to, disconnect=options.may_disconnect),
        relay_token=options.relay_token,
        proxies=options.proxy,
    )


def is_open(options: ServeOptions) -> bool:
    """Tell whether everybody who reaches this machine may do everything."""
    is_guarded = options.tokens is not None or options.jwt_key or options.tls_client_ca is not None
    return not is_guarded and _is_any(Address.parse(options.address).host)


def _warn_if_open(options: ServeOptions) -> None:
    if is_open(options):
        write(
            logging.WARNING,
            "open_to_everybody",
            "everybody who reaches this machine may connect, publish and subscribe: the server "
            "listens on all addresses (%(address)s), without --tokens, --jwt-key or "
            "--tls-client-ca",
            address=options.address,
        )


def _is_any(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _serve_with_workers(options: ServeOptions) -> int:
    """Run workers, which share the clients."""
    from kps.cli.workers import serve_with_workers

    for_operators = options.metrics_address
    return serve_with_workers(
        Address.parse(options.address),
        None if for_operators is None else Address.parse(for_operators),
        options.id or random_id("server"),
        options.workers,
        lambda url: _announce(url, options),
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


def _announce(url: str, options: ServeOptions) -> None:
    """Print where the server is. It goes on without a reader: its output is no more than a log."""
    lines = [f"kps serves on {url}", f"version {__version__}"]
    if not options.no_console:
        lines[1] += f"; the console is at {console_url(url)}"
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left goes there
        text = "nobody reads the standard output; the server goes on"
        write(logging.WARNING, "output_closed", text)


def console_url(url: str) -> str:
    """Return the URL of the console by that of the bus, as a browser on this machine opens it."""
    address = Address.parse(url)
    host = "localhost" if _is_any(address.host) else address.host
    return f"{'https' if address.secure else 'http'}://{host_and_port(host, address.port)}/"


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
        raise InvalidArgument(f"cannot read {path}: {describe_file(error, path)}") from error
    if not text:
        raise InvalidArgument(f"there is no secret in {path}")
    return text


def _auth(options: ServeOptions) -> TokenHook | None:
    """Return the hook that identifies clients: tokens first, because that is cheap, then JWT."""
    # Import them here, because most servers need none.
    hooks: list[Callable[[str], TokenVerdict]] = []
    if options.tokens is not None:
        from kps.auth.tokens import TokenFile

        hooks.append(TokenFile(options.tokens))
    if options.jwt_key:
        from kps.auth.jwt import JWTVerifier

        verifier = JWTVerifier.from_file(
            *options.jwt_key,
            algorithm=options.jwt_algorithm,
            audience=options.jwt_audience,
            issuer=options.jwt_issuer,
        )
        hooks.append(verifier)
    if len(hooks) < 2:
        return hooks[0] if hooks else None
    from kps.auth.first_of import FirstOf

    return FirstOf(*hooks)


def _table(limits: ServerLimits) -> str:
    rows = [(name, _shown(getattr(limits, name)), meaning) for name, meaning in IN_SHORT.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {meaning}" for name, value, meaning in rows
    )


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


COMMAND = Command(
    "kps serve",
    ServeOptions,
    serve,
    about=[
        "Each option can also be given as a variable (KPS_ADDRESS, KPS_MAX_MESSAGE, ...) or in the "
        "TOML file (address = ..., max_message = ...). The command line overrides variables, and "
        "variables override the file. In a variable, commas are between several values."
    ],
    examples=[
        ("kps serve", "listens on localhost:9313"),
        ("kps serve --address 0.0.0.0:9313 --tokens tokens.toml", "for all who have a token"),
        ("kps serve --port 8080 --history 'chat/**=1000'", "keeps the latest messages of chats"),
        ("kps serve --config kps.toml", ""),
    ],
    prefix="KPS_",
    more=limit_options(),
    make=ServeOptions.of,
)
