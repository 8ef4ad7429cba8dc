"""HTTP requests and responses as values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The head of an HTTP request, as the ``authenticate`` hook sees it."""

    method: str
    target: str = field(repr=False)
    """The request target as sent: path and query. ``repr`` hides it: it may hold a token."""
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Names in lower case, in the order sent. ``repr`` hides them too."""
    peer: str = ""
    """Address of the client: ``host:port`` of the TCP peer or, behind a known proxy, the
    address that the proxy gives in ``X-Forwarded-For``."""
    scheme: str = ""
    """``https`` or ``http``, by which the client reached the server: ``https`` if the server
    itself speaks TLS, else what a known proxy gives in ``X-Forwarded-Proto``. Empty if unknown,
    because a proxy that the server does not know may be in front of it."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    def header(self, name: str, default: str = "") -> str:
        """Return the first header of that name (case does not matter)."""
        wanted = name.lower()
        for key, value in self.headers:
            if key == wanted:
                return value
        return default

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name, with their values as sent."""
        pairs = (part.partition("=") for part in self.header("cookie").split(";"))
        return {name.strip(): value.strip() for name, equals, value in pairs if equals}

    @property
    def token(self) -> str:
        """The token in ``Authorization: Bearer``, else in the query's ``token``, else empty.

        Browsers need the query, as they cannot set the header.
        """
        scheme, _, credentials = self.header("authorization").partition(" ")
        if scheme.lower() == "bearer":
            return credentials.strip()
        return next((value for name, value in parse_qsl(self.query) if name == "token"), "")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A plain HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())

    @classmethod
    def text(cls, status: int, text: str) -> "HttpResponse":
        """Make an answer of one line of text."""
        return cls(status, text.encode() + b"\n")

    def unless_known(self, request: HttpRequest) -> "HttpResponse":
        """Return this answer, or 304 if the request has its ETag."""
        tag = dict(self.headers).get("etag")
        known = request.header("if-none-match")
        if tag is not None and tag in (one.strip().removeprefix("W/") for one in known.split(",")):
            return HttpResponse(304, headers=self.headers)
        return self


Responder = Callable[[HttpRequest], HttpResponse]
"""Answers a plain HTTP request."""
