"""HTTP requests and responses as values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The head of an HTTP request. What a hook that judges upgrades gets to see."""

    method: str
    target: str = field(repr=False)
    """The request target as sent: path and query. Not shown, as there may be a token in it."""
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Names in lower case, in the order sent. Not shown either."""
    peer: str = ""
    """Address of the client: of the other end of the TCP connection as ``host:port`` or, if
    that is a proxy that the server knows, what it says in ``X-Forwarded-For``."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    def header(self, name: str, default: str = "") -> str:
        """The first header of that name (case does not matter)."""
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
        """The token in ``Authorization: Bearer``, or in the query's ``token``; or empty.

        Browsers cannot set the header.
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
        """An answer of one line of text."""
        return cls(status, text.encode() + b"\n")

    def unless_known(self, request: HttpRequest) -> "HttpResponse":
        """This answer or, if the other side says that it still has it, only that it may keep it."""
        tag = dict(self.headers).get("etag")
        known = request.header("if-none-match")
        if tag is not None and tag in (one.strip().removeprefix("W/") for one in known.split(",")):
            return HttpResponse(304, headers=self.headers)
        return self


Responder = Callable[[HttpRequest], HttpResponse]
"""Answers a plain HTTP request."""
