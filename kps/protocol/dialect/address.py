"""Addresses of servers, as programs and clients give them, and the path of the bus."""

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import NamedTuple
from urllib.parse import urlsplit

from kps.errors import InvalidArgument
from kps.protocol.limits import shown

DEFAULT_ADDRESS = "localhost:9313"
DEFAULT_PORT = 9313
DEFAULT_PATH = "/ws/bus"

_LONGEST_LABEL = 63  # characters, in the domain name system

_NUMBERS = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+))*\.?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed server address."""

    host: str
    port: int
    secure: bool
    target: str = field(repr=False)
    """Path and query of the WebSocket."""

    @property
    def netloc(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return host_and_port(self.host, self.port)

    @property
    def host_header(self) -> str:
        """The ``Host`` of a request: without the scheme's own port, as browsers write it."""
        netloc = self.netloc
        return netloc.removesuffix(":443" if self.secure else ":80")

    @property
    def url(self) -> str:
        """The URL for people to read: without the query, which may hold a token."""
        return f"{'wss' if self.secure else 'ws'}://{self.netloc}{path_of(self.target)}"

    @classmethod
    def parse(cls, text: str, *, path: str | None = None, secure: bool = False) -> "Address":
        """Parse ``host``, ``host:port`` or a ``ws://`` or ``wss://`` URL.

        A path in the address overrides ``path``, a scheme overrides ``secure``.
        The default port is 9313, or the scheme's own (80, 443) in a URL.
        Raises :class:`kps.InvalidArgument`.
        """
        has_scheme = "://" in text
        try:
            parts = urlsplit(text if has_scheme else f"ws://{text}")
        except ValueError:
            raise _unreadable(text) from None
        if parts.scheme not in ("ws", "wss", "http", "https") or not _fits_a_request(text):
            raise _unreadable(text)
        if "@" in parts.netloc:
            raise _unreadable(text, _USER)
        port = _port_of(parts.netloc, text)
        if not parts.hostname:
            raise _unreadable(text)
        if parts.fragment:
            raise _unreadable(text, "it has no fragment")
        if _is_odd_number(parts.hostname):
            raise _unreadable(
                text,
                "a host is a name, or four numbers as in 127.0.0.1; a port goes behind it, as in "
                f"localhost:{text if _is_port(text) else 8080}",
            )
        if has_scheme:
            secure = parts.scheme in ("wss", "https")
        if port is None:
            port = (443 if secure else 80) if has_scheme else DEFAULT_PORT
        target = parts.path or path or DEFAULT_PATH
        if not target.startswith("/"):
            target = "/" + target
        if parts.query:
            target += "?" + parts.query
        if not _fits_a_request(target):
            raise InvalidArgument(f"not a path on a server: {shown(path_of(target))}")
        address = cls(parts.hostname, port, secure, target)
        *labels, last = address.netloc.split(".")  # the last one may be empty: "localhost.:80"
        if not all(labels) or max(map(len, [*labels, last])) > _LONGEST_LABEL:
            raise _unreadable(text)
        return address


def host_and_port(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _fits_a_request(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def path_of(text: str) -> str:
    return text.partition("?")[0]


def named(text: str) -> str:
    """Return an address for a text about it, without what may be secret: user, password, query."""
    path, _, query = text.partition("?")
    if "@" in query:  # or the question mark is part of a password
        return shown("…")
    _, at, host = path.rpartition("@")
    return shown(f"…@{host}" if at else path)


_USER = "an address has no user and no password; a client shows a token"
_PORT = "it takes host:port or ws://host:port"


def _unreadable(text: str, hint: str = _PORT) -> InvalidArgument:
    if "@" in path_of(text):  # whatever else cannot be read
        hint = _USER
    return InvalidArgument(f"not a server address: {named(text)}; {hint}")


def _port_of(netloc: str, text: str) -> int | None:
    """Return the port, or ``None`` if there is none."""
    host, colon, port = netloc.rpartition(":")
    if not colon or netloc.endswith("]"):
        return None
    if ":" in host and not host.endswith("]"):
        raise _unreadable(text, "an IPv6 address has brackets, as in [::1]:9313")
    if not (port.isascii() and port.isdecimal()):
        raise _unreadable(text, "a port is a number, as in localhost:9313")
    if not _is_port(port):
        raise _unreadable(text, "the port is out of range: it is a number up to 65535")
    return int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) <= 65535


def _is_odd_number(host: str) -> bool:
    """Tell whether a host is a number, or several, in a form that resolvers read in many ways.

    They take ``0`` for all addresses, ``8080`` for 0.0.31.144, and ``127.1`` for 127.0.0.1.
    """
    if not _NUMBERS.fullmatch(host):
        return False
    try:
        IPv4Address(host)
    except ValueError:
        return True
    return False


# Permissions are checked against this text, so it may hold a host and a port only: a user or a
# fragment, as in a URL, could make it mean another server than the one it begins with.
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?", re.ASCII)


class RelayTarget(NamedTuple):
    """A parsed ``host:port[/path][::proxied-address]``."""

    address: str
    """``host:port`` to connect to, and the ``to`` of the message."""
    path: str
    proxied: str
    """The address of the server behind a proxy, or empty: the ``id`` of the message."""

    @classmethod
    def parse(cls, to: str) -> "RelayTarget":
        """Parse an address. Raises :class:`kps.InvalidArgument`."""
        host = to[: to.find("]") + 1] if to.startswith("[") else ""  # IPv6 has colons too
        reached, _, proxied = to[len(host) :].partition("::")
        address, slash, path = reached.partition("/")
        address = host + address
        proxied_address, proxied_slash, proxied_path = proxied.partition("/")
        is_sound = to.isprintable() and not any(c in "?#\\ " for c in to)
        if not is_sound or not _HOST_AND_PORT.fullmatch(address):
            raise InvalidArgument(
                f"not a server address: {named(to)}; it takes host:port[/path][::proxied-address]"
            )
        if proxied_slash:
            slash, path = proxied_slash, proxied_path
        return cls(address, slash + path if slash else DEFAULT_PATH, proxied_address)


def origin_of(address: str, path: str, *, secure: bool, client_id: str = "") -> str:
    """Return the ``from`` of a relayed message: the server that sends it, and its client."""
    host, _, port = address.rpartition(":")
    if port == ("443" if secure else "80"):
        address = host
    url = f"{'wss' if secure else 'ws'}://{address}{path}"
    return f"{client_id}---{url}" if client_id else url
