"""Where a server is: the forms in which a program may say it."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kps.errors import InvalidArgument
from kps.protocol.relay import DEFAULT_PATH

DEFAULT_ADDRESS = "localhost:9313"
DEFAULT_PORT = 9313


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address, read."""

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
    def url(self) -> str:
        """For people to read: without the query, in which there may be a token."""
        return f"{'wss' if self.secure else 'ws'}://{self.netloc}{_path_of(self.target)}"

    @classmethod
    def parse(cls, text: str, *, path: str | None = None, secure: bool = False) -> "Address":
        """Read ``host``, ``host:port`` or a ``ws://`` or ``wss://`` URL.

        A path and query in the address win over ``path``, a scheme over ``secure``.
        Without a port it is 9313, or the scheme's own (80, 443) in a URL.
        Raises :class:`kps.InvalidArgument`.
        """
        has_scheme = "://" in text
        try:
            parts = urlsplit(text if has_scheme else f"ws://{text}")
            port = parts.port
        except ValueError:
            raise _unreadable(text) from None
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
            raise _unreadable(text)
        if not _fits_a_request(text):
            raise _unreadable(text)
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
            raise InvalidArgument(f"not a path on a server: {_path_of(target)!r}")
        address = cls(parts.hostname, port, secure, target)
        try:
            address.netloc.encode("idna")  # as wsproto writes it into the request
        except UnicodeError:
            raise _unreadable(text) from None
        return address


def host_and_port(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _fits_a_request(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _path_of(text: str) -> str:
    return text.partition("?")[0]


def _unreadable(text: str) -> InvalidArgument:
    shown = _path_of(text)
    return InvalidArgument(f"not a server address: {shown!r}; it takes host:port or ws://host:port")
