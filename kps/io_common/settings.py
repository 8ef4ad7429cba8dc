"""What a program chooses when it makes a client or a server, whatever the driver."""

import re
import ssl as tls
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kps.errors import InvalidArgument, KPSError, ServerError
from kps.io_common.logs import logger
from kps.io_common.tls import server_context
from kps.protocol.access.admission import read_networks
from kps.protocol.access.identity import OPEN, Permissions
from kps.protocol.bus.message import Message
from kps.protocol.client.config import ClientConfig, check_token
from kps.protocol.client.events import Connected, Disconnected
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.address import DEFAULT_ADDRESS, DEFAULT_PATH, Address, host_and_port
from kps.protocol.dialect.level2 import LEVEL
from kps.protocol.limits import ClientLimits, ServerLimits
from kps.protocol.server.config import HubConfig
from kps.protocol.wire.http import HttpRequest

Callback = Callable[[Message], Any]
"""Takes a message: a plain function or, on asyncio, also a coroutine function."""

UpgradeHook = Callable[[HttpRequest], Any]
"""Sees the request of a client that wants to connect; returns whether it may.

Also who it is, as a :class:`kps.Identity`, or an :class:`kps.HttpResponse` to turn it away
with; on asyncio, also an awaitable of any of these."""

TokenHook = Callable[[str], Any]
"""Takes a client's token; returns the :class:`kps.Identity` behind it, or ``None``.

Also an :class:`kps.HttpResponse` when it cannot be found out for now; on asyncio, also an
awaitable of any of these. :class:`kps.TokenFile` and :class:`kps.JWTVerifier` are two."""

HIGH_WATER = 128 * 1024
"""Bytes that wait to be written before a client's ``publish`` waits for the network."""


class ClientSettings:
    """The choices of a client.

    Args:
        address: ``host:port``, or a ``ws://`` or ``wss://`` URL with path and query.
        id: The id under which others reach this client; a random one if not given. A second
            client of the same id replaces the first, which then closes for good.
        path: Path (and query) of the server's WebSocket, unless the address has one.
        secure: Whether to use TLS (``wss``), unless the address says so.
        ssl: The TLS context; the default one verifies the server's certificate.
        headers: More headers for the opening request.
        token: What shows a server that wants one who this is: a text, or a function that
            returns it, called before each attempt to connect. It must not block for long, and
            what it raises makes the attempt fail. Sent as ``Authorization: Bearer``.
        reconnect: ``True`` (default) for exponential backoff with jitter, a number for a
            fixed interval in seconds, a :class:`kps.Backoff`, or ``False``. While it is on,
            a server that is down is waited for, also at the start.
        offline_queue: How many publications to keep while there is no connection; 0 (the
            default) raises :class:`kps.NotConnected` instead. They are sent, in order, when
            the connection is back. At most 16 MiB.
        connect_timeout: Seconds for opening one TCP and TLS connection.
        request_timeout: Seconds for the server to answer a request.
        level: The highest level of the protocol to offer: 2, or 1, as the original clients.
        limits: Bounds and timeouts, see :class:`kps.ClientLimits`.
        on_id: Called with a :class:`kps.Message` for each direct message.
        on_connect: Called with :class:`kps.Connected` after each (re)connect.
        on_disconnect: Called with :class:`kps.Disconnected` when a connection ends.
        on_error: Called with :class:`kps.ServerError` when the server refuses something.
        on_frame: Called with every message of the server as it came, and this client.
        on_close: Called without arguments once the client has closed for good.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        id: str | None = None,
        path: str | None = None,
        secure: bool = False,
        ssl: tls.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | Callable[[], str] | None = None,
        reconnect: bool | float | Backoff = True,
        offline_queue: int = 0,
        connect_timeout: float = 10.0,
        request_timeout: float = 10.0,
        level: int = LEVEL,
        limits: ClientLimits | None = None,
        on_id: Callback | None = None,
        on_connect: Callable[[Connected], Any] | None = None,
        on_disconnect: Callable[[Disconnected], Any] | None = None,
        on_error: Callable[[ServerError], Any] | None = None,
        on_frame: Callable[[dict[str, Any], Any], Any] | None = None,
        on_close: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__()
        self._limits = limits or ClientLimits()
        self._address = Address.parse(address, path=path, secure=secure)
        self._tls = (ssl or tls.create_default_context()) if self._address.secure else None
        self._config = ClientConfig(
            id=id or random_id("client"),
            host=self._address.netloc,
            target=self._address.target,
            headers=_headers(headers or {}, token is not None),
            token=token if token is None or callable(token) else check_token(token),
            reconnect=_backoff(reconnect),
            offline_messages=offline_queue,
            reports_messages=on_frame is not None,
            limits=self._limits,
            level=_level(level),
        )
        self._connect_timeout = connect_timeout
        self._request_timeout = request_timeout
        self._on_id = on_id
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._on_error = on_error
        self._on_frame = on_frame
        self.on_close: Callable[[], Any] | None = on_close
        """Called without arguments once the client has closed for good."""


class ServerSettings:
    """The choices of a server.

    Args:
        address: ``host:port`` to listen on. Port 0 lets the system choose: see ``address``.
        path: Path of the WebSocket.
        id: The server's own id, as a sender and for direct messages.
        origins: Origins of web pages (such as ``https://app.example``), beside the server's
            own, that may connect; ``*`` allows all.
        ssl: A TLS context, to serve ``wss`` and ``https``. It stays the program's: ``reload``
            does nothing to it.
        tls_cert: In place of ``ssl``: file of the certificate chain (PEM).
        tls_key: File of its private key (PEM), unless ``tls_cert`` holds it too.
        tls_client_ca: File of authorities (PEM): with it only clients connect that show a
            certificate of one of them.
        names: Hosts, or ``host:port``, under which other servers reach this one, beside
            ``address`` itself.
        level: The highest level of the protocol to speak: 2, or 1, as the original servers.
        limits: Bounds and timeouts, see :class:`kps.ServerLimits`.
        console: Whether to serve the console page at ``/``, and its figures, for who has the
            permission ``console``; without ``auth`` that is everybody.
        relay_timeout: Seconds for another server to take a message.
        relay_ssl: The TLS context for connections to other servers.
        on_upgrade: Decides on each client, see ``UpgradeHook``. Without it all may connect.
        auth: Says who the clients are, by their tokens (spec, 13.2): with it nobody may
            connect without one, unless ``on_upgrade`` says who that is. See ``TokenHook``. If
            it has a method ``reload``, that is called when the server reloads.
        permissions: What clients may do of whom it is not known who they are.
        proxies: Addresses and networks of proxies in front of this server, whose
            ``X-Forwarded-For`` tells where a client is.
        relay_token: The token that this server shows to other servers.
        on_id: Called with a :class:`kps.Message` for each direct message to the server's id.
        on_server_data: Called with a :class:`kps.Message` for each message of another server.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        path: str = DEFAULT_PATH,
        id: str | None = None,
        origins: Iterable[str] = (),
        ssl: tls.SSLContext | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        tls_client_ca: str | None = None,
        names: Iterable[str] = (),
        level: int = LEVEL,
        limits: ServerLimits | None = None,
        console: bool = True,
        relay_timeout: float = 5.0,
        relay_ssl: tls.SSLContext | None = None,
        on_upgrade: UpgradeHook | None = None,
        auth: TokenHook | None = None,
        permissions: Permissions = OPEN,
        proxies: Iterable[str] = (),
        relay_token: str | None = None,
        on_id: Callback | None = None,
        on_server_data: Callback | None = None,
    ) -> None:
        super().__init__()
        if "://" in address or "/" in address:
            raise InvalidArgument(f"a server listens on host:port, not on {address!r}")
        if not path.startswith("/"):
            raise InvalidArgument(f"a path starts with '/': {path!r}")
        self._limits = limits or ServerLimits()
        self._listens_on = Address.parse(address)
        self._tls_files = _tls_files(ssl, tls_cert, tls_key, tls_client_ca)
        self._tls = ssl if self._tls_files is None else server_context(*self._tls_files)
        self._is_reloading = threading.Lock()
        self._path = path
        self._id = id or random_id("server")
        self._origins = tuple(origins)
        self._names = frozenset(names)
        self._level = _level(level)
        self._console = console
        self._relay_timeout = relay_timeout
        self._relay_tls = relay_ssl
        self._on_upgrade = on_upgrade
        self._auth = auth
        self._permissions = permissions
        self._proxies = read_networks(proxies)
        self._relay_token = None if relay_token is None else check_token(relay_token)
        self._on_id = on_id
        self._on_server_data = [on_server_data] if on_server_data else []
        self._address = self._listens_on.netloc

    @property
    def address(self) -> str:
        """``host:port`` that the server listens on, with the real port once it does."""
        return self._address

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"{'wss' if self._tls else 'ws'}://{self._address}{self._path}"

    @property
    def id(self) -> str:
        """The server's own id."""
        return self._id

    def _reload(self) -> list[str]:
        """Read the files again that this server was given; return what they are.

        Either all of them take effect or, when this raises, none. From any thread.
        """
        read = []
        reload_tokens = getattr(self._auth, "reload", None)
        with self._is_reloading:  # so that what was read last also takes effect last
            # A new context: one in use would keep the authorities that it has, and a
            # certificate of another kind of key beside the new one.
            context = server_context(*self._tls_files) if self._tls_files is not None else None
            if reload_tokens is not None:
                reload_tokens()
                read.append("the tokens")
            if context is not None:
                self._tls = context
                read.append("the certificate")
        return read

    def _reload_and_log(self) -> None:
        """What the signal SIGHUP does."""
        try:
            read = self._reload()
        except KPSError as error:
            logger.error("cannot reload, and go on as before: %s", error)
        else:
            logger.info("reloaded %s", ", ".join(read) or "nothing: there are no files to read")

    def _hub_config(self) -> HubConfig:
        from kps.web.pages import pages

        return HubConfig(
            id=self._id,
            path=self._path,
            origins=self._origins,
            asks_upgrade=self._on_upgrade is not None,
            asks_token=self._auth is not None,
            permissions=self._permissions,
            proxies=self._proxies,
            limits=self._limits,
            level=self._level,
            pages=pages(self._path, console=self._console),
            is_monitored=self._console,
            version=_version(),
        )

    def _listening_on(self, host: str, port: int) -> set[str]:
        """Take note of the socket's address; return the names that other servers may use."""
        self._address = host_and_port(self._listens_on.host, port)
        return {self._address, self._listens_on.host, host_and_port(host, port), *self._names}


def relay_limits(timeout: float) -> ClientLimits:
    """The limits of a connection to another server, none of whose stages may take longer."""
    return ClientLimits(handshake_timeout=timeout, close_timeout=timeout)


def random_id(kind: str) -> str:
    """An id that nobody else has."""
    return f"{kind}-{uuid.uuid4().hex[:16]}"


def _headers(headers: Mapping[str, str], has_token: bool) -> tuple[tuple[str, str], ...]:
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise InvalidArgument(f"not the name of a header: {name!r}")
        if value != value.strip() or not value.isprintable():  # not shown: it may be a secret
            raise InvalidArgument(f"the header {name} has line ends or spaces where none can be")
        if has_token and name.lower() == "authorization":
            raise InvalidArgument("there is a token, and the header Authorization for another")
    return tuple(headers.items())


def _level(level: int) -> int:
    if level not in (1, LEVEL):
        raise InvalidArgument(f"level is 1 or {LEVEL}, not {level!r}")
    return level


def _backoff(reconnect: bool | float | Backoff) -> Backoff | None:
    if isinstance(reconnect, Backoff):
        return reconnect
    if reconnect is True:
        return Backoff()
    if reconnect is False:
        return None
    return Backoff.every(reconnect)


def _tls_files(
    context: tls.SSLContext | None, cert: str | None, key: str | None, client_ca: str | None
) -> tuple[str, str | None, str | None] | None:
    if cert is None:
        if key is not None or client_ca is not None:
            raise InvalidArgument("tls_key and tls_client_ca need tls_cert")
        return None
    if context is not None:
        raise InvalidArgument("ssl and tls_cert exclude each other")
    return cert, key, client_ca


def _version() -> str:
    # Loading this costs more than most of the package, and only a server asks.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("kps")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
