"""The options of a client, for both drivers."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypedDict, Unpack

from kps.errors import InvalidArgument
from kps.io_common.checks import (
    check_count,
    check_level,
    check_limits,
    check_names,
    check_own_id,
    check_tls,
    check_tracing,
)
from kps.io_common.client_hooks import (
    OnClose,
    OnConnect,
    OnDisconnect,
    OnError,
    OnFrame,
    OnLost,
    OnRecovered,
)
from kps.io_common.hooks import Callback
from kps.io_common.ids import random_id
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.reconnect import LEAST, Backoff
from kps.protocol.client.token import check_token
from kps.protocol.dialect.address import Address
from kps.protocol.dialect.level2 import LEVEL
from kps.protocol.limits import ClientLimits, check_seconds, check_switch, shown

if TYPE_CHECKING:
    import ssl as tls  # at run time only where there is TLS

    from kps.otel import Tracing

HIGH_WATER = 128 * 1024
"""Pending bytes above which ``publish`` waits until the connection has drained."""


HOOKS = ("on_id", "on_connect", "on_disconnect", "on_error", "on_recovered", "on_lost", "on_frame",
         "on_close")  # fmt: skip
"""The options that are callbacks."""


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of a client, which :class:`kps.Client` documents."""

    id: str | None
    path: str | None
    secure: bool
    ssl: "tls.SSLContext | None"
    headers: Mapping[str, str] | None
    token: str | Callable[[], str] | None
    reconnect: bool | float | Backoff
    wait: bool
    offline_queue: int
    connect_timeout: float
    request_timeout: float
    level: int
    compress: bool
    limits: ClientLimits | None
    on_id: Callback | None
    on_connect: OnConnect | None
    on_disconnect: OnDisconnect | None
    on_error: OnError | None
    on_recovered: OnRecovered | None
    on_lost: OnLost | None
    on_frame: OnFrame | None
    on_close: OnClose | None
    tracing: "Tracing | None"


class ClientSettings(NamedTuple):
    """The checked options of a client. ``config`` holds those of the core."""

    address: Address
    name: str
    """The id that the program has given; ``""``: none, so it has a random one."""
    tls: "tls.SSLContext | None"
    config: ClientConfig
    connect_timeout: float
    request_timeout: float
    waits: bool
    """Whether the start waits for the first connection."""
    on_id: Callback | None
    on_connect: OnConnect | None
    on_disconnect: OnDisconnect | None
    on_error: OnError | None
    on_recovered: OnRecovered | None
    on_lost: OnLost | None
    on_frame: OnFrame | None
    on_close: OnClose | None
    tracing: "Tracing | None"

    @classmethod
    def read(cls, address: str, **options: Unpack[ClientOptions]) -> "ClientSettings":
        """Check a program's options. Raises :class:`kps.InvalidArgument`."""
        check_names("a client", options, ClientOptions.__annotations__)
        check_tls("ssl", options.get("ssl"))
        check_tracing(options.get("tracing"))
        check_limits(options.get("limits"), ClientLimits)
        limits = options.get("limits") or ClientLimits()
        check_own_id(options.get("id"), limits)
        found = _address(address, options)
        token = options.get("token")
        on_frame = options.get("on_frame")
        return cls(
            address=found,
            name=options.get("id") or "",
            tls=(options.get("ssl") or _default_context()) if found.secure else None,
            config=ClientConfig(
                id=options.get("id") or random_id("client"),
                host=found.host_header,
                is_secure=found.secure,
                target=found.target,
                headers=_headers(options.get("headers"), token is not None),
                token=_token(token),
                reconnect=_backoff(options.get("reconnect", True)),
                offline_messages=check_count("offline_queue", options.get("offline_queue", 0)),
                reports_messages=on_frame is not None,
                limits=limits,
                level=check_level(options.get("level", LEVEL)),
                offers_compression=check_switch("compress", options.get("compress", True)),
            ),
            connect_timeout=check_seconds("connect_timeout", options.get("connect_timeout", 10.0)),
            request_timeout=check_seconds("request_timeout", options.get("request_timeout", 10.0)),
            waits=check_switch("wait", options.get("wait", True)),
            on_id=options.get("on_id"),
            on_connect=options.get("on_connect"),
            on_disconnect=options.get("on_disconnect"),
            on_error=options.get("on_error"),
            on_recovered=options.get("on_recovered"),
            on_lost=options.get("on_lost"),
            on_frame=on_frame,
            on_close=options.get("on_close"),
            tracing=options.get("tracing"),
        )


def _default_context() -> "tls.SSLContext":
    import ssl as tls

    return tls.create_default_context()


def _address(address: object, options: ClientOptions) -> Address:
    """Parse the address of a server, with the options that belong to it."""
    if not isinstance(address, str):
        raise InvalidArgument(f"an address is a text, host:port or a URL, not {shown(address)}")
    path = options.get("path")
    if path is not None and not isinstance(path, str):
        raise InvalidArgument(f"path is a text, not {shown(path)}")
    secure = check_switch("secure", options.get("secure", False))
    found = Address.parse(address, path=path, secure=secure)
    if found.port == 0:
        raise InvalidArgument("a client connects to a port from 1: 0 is for servers")
    if secure and not found.secure:
        raise InvalidArgument(f"secure=True contradicts the scheme of {found.url}")
    if options.get("ssl") is not None and not found.secure:
        raise InvalidArgument(
            "ssl needs a connection with TLS: secure=True, or an address that begins with wss://"
        )
    return found


def _token(token: object) -> str | Callable[[], str] | None:
    call = getattr(token, "__call__", None)  # noqa: B004
    if inspect.iscoroutinefunction(token) or inspect.iscoroutinefunction(call):
        raise InvalidArgument("the function for the token is a plain one, no coroutine function")
    return token if token is None or callable(token) else check_token(token)


def _headers(headers: object, has_token: bool) -> tuple[tuple[str, str], ...]:
    if headers is None:
        return ()
    if not isinstance(headers, Mapping):
        raise InvalidArgument(f"headers is a mapping of names to values, not {shown(headers)}")
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise InvalidArgument(f"not the name of a header: {shown(name)}")
        if _is_ours(name.lower()):
            raise InvalidArgument(f"the header {name} belongs to the opening handshake")
        # Do not show the value: it may be a secret.
        if not isinstance(value, str) or value != value.strip() or not value.isprintable():
            raise InvalidArgument(f"the header {name} has line ends or spaces where none can be")
        if has_token and name.lower() == "authorization":
            raise InvalidArgument("there is a token, and the header Authorization for another")
    return tuple(headers.items())


def _is_ours(name: str) -> bool:
    """Tell whether a header belongs to HTTP and WebSocket, so that another value breaks them."""
    return name in _OURS or name.startswith("sec-websocket-")


_OURS = ("connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te",
         "trailer", "transfer-encoding", "upgrade")  # fmt: skip


def _backoff(reconnect: bool | float | Backoff) -> Backoff | None:
    if isinstance(reconnect, Backoff):
        return reconnect
    if isinstance(reconnect, bool):
        return Backoff() if reconnect else None
    return Backoff.every(check_seconds("reconnect", reconnect, LEAST))
