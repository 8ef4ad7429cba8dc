"""Which web pages may connect, by the ``Origin`` that browsers send (spec, 2.3)."""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import NamedTuple

from kps.errors import InvalidArgument
from kps.protocol.limits import shown
from kps.protocol.wire.http import HttpRequest, HttpResponse

ANY = "*"
"""Allows the pages of all origins."""

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]\\]*)(?::(\d{1,5}))?")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]\\]+)(?::(\d{1,5}))?")
_DNS_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_PORTS = {"http": 80, "https": 443}
_REMEMBERED = 100
"""Refused origins of which ``Origins`` knows that it has told."""

_FOREIGN = ("cross-site", "same-site")
"""What a browser says of a request of a page of another origin."""

_LONGEST_SHOWN = 300  # characters of an origin in a text about it; names of hosts have 253 at most
# Every page may read the refusal, which says nothing but what the page is, and what to do.
_FOR_ALL = (
    ("access-control-allow-origin", "*"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
)


class _Origin(NamedTuple):
    """A parsed origin."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        is_default = self.port is None or self.port == _PORTS.get(self.scheme)
        return f"{self.scheme}://{self.host}" + ("" if is_default else f":{self.port}")


class Origins:
    """Decides on the pages of one server."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)
        self._told: dict[str, None] = {}

    def allows(self, request: HttpRequest) -> bool:
        """Tell whether the page that asks for an upgrade may connect.

        A request without an origin passes: only browsers send one, and only they need the check.
        """
        if ANY in self._allowed or not any(name == "origin" for name, _ in request.headers):
            return True
        return self.names(request)

    def lets_in(self, request: HttpRequest) -> bool:
        """Tell whether a page may use the bus with a request, which is no mere look at a page.

        Where it only loads something, such as an image, its browser sends no origin. But it tells
        of the page of another one that it is that.
        """
        is_silent = not (request.is_upgrade or request.header("origin") or ANY in self._allowed)
        if is_silent and request.header("sec-fetch-site").lower() in _FOREIGN:
            return False
        return self.allows(request)

    def names(self, request: HttpRequest) -> bool:
        """Tell whether the page has an origin that is listed, or the server's own."""
        text = request.header("origin")
        if text in self._allowed:
            return True
        origin = _parse(text.lower())
        return origin is not None and (str(origin) in self._allowed or _is_own(origin, request))

    def refusal(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer that tells a page why it may not connect; ``None`` if it may.

        A browser does not show a page the answer to an upgrade. So the page asks for it with a
        plain request.
        """
        if self.allows(request):
            return None
        text = request.header("origin")
        origin = _written(text) if len(text) <= _LONGEST_SHOWN else ""
        advice = f"start the server with --origin {origin}".rstrip() + " (origins= in a program)"
        body = f"pages of {origin or 'this origin'} may not connect: {advice}\n".encode()
        return HttpResponse(403, body, headers=_FOR_ALL)

    def is_news(self, origin: str) -> bool:
        """Tell whether a refused origin is a new one, as far as we remember."""
        if origin in self._told:
            return False
        self._told[origin] = None
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        return True


def read_origin(text: str) -> str:
    """Return an origin that pages may have, as browsers write it; ``*`` and ``null`` are two.

    Raises :class:`kps.InvalidArgument` for one that no page can have.
    """
    plain = text.strip().lower()
    if plain in (ANY, "null", "file://", "file:///"):
        return plain.removesuffix("/") if plain == "file:///" else plain
    if ANY in plain:
        raise _unusable(text, "it has no wildcards: name each origin, or * for all")
    scheme, slashes, rest = plain.partition("://")
    if not slashes:
        raise _unusable(text, f"it begins with a scheme, such as https://{plain or 'app.example'}")
    if scheme in ("ws", "wss"):
        raise _unusable(text, f"it is that of the page: http{scheme[2:]}://{rest}")
    host = rest.split("/", 1)[0]
    if rest.removesuffix("/") != host or "?" in host or "#" in host:
        end = re.split("[/?#]", rest, maxsplit=1)[0]
        raise _unusable(text, f"it ends after host and port: {scheme}://{end}")
    origin = _parse(f"{scheme}://{_as_ascii(host.removesuffix(':'))}")
    if origin is None or not origin.host or (scheme in _PORTS and not _is_host(origin.host)):
        raise _unusable(text, "it is scheme, host and port: https://app.example:8443")
    return str(origin)


def _written(text: str) -> str:
    """Return the origin of a page as an option takes it; empty if none does."""
    try:
        return read_origin(text).replace(ANY, "")
    except InvalidArgument:
        return ""


def _is_own(origin: _Origin, request: HttpRequest) -> bool:
    """Tell whether a page came from the host and port, and the scheme, of the request."""
    default = _PORTS.get(origin.scheme)
    match = _HOST.fullmatch(request.header("host").lower())
    if match is None or default is None:
        return False
    if request.scheme and origin.scheme != request.scheme:
        return False
    host, port = match[1], int(match[2] or default)
    return (host, port) == (origin.host, origin.port or default)


def _parse(text: str) -> _Origin | None:
    match = _ORIGIN.fullmatch(text)
    if match is None or int(match[3] or 0) > 65535:
        return None
    host = match[2]
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"  # the short form, which browsers write
        except ValueError:
            return None
    return _Origin(match[1], host, int(match[3]) if match[3] else None)


def _as_ascii(host: str) -> str:
    """Return a host as browsers write it: names in Unicode have another form."""
    if host.isascii():
        return host
    name, colon, port = host.partition(":")
    try:
        return name.encode("idna").decode("ascii").lower() + colon + port
    except UnicodeError:
        return host


def _is_host(host: str) -> bool:
    return host.startswith("[") or bool(_DNS_NAME.fullmatch(host))


def _unusable(text: str, hint: str) -> InvalidArgument:
    return InvalidArgument(f"no page has the origin {shown(text)}: {hint[:200]}")
