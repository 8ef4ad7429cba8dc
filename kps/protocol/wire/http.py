"""HTTP requests and responses as values."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from kps.errors import InvalidArgument
from kps.protocol.limits import shown

WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
"""The statuses of answers that have no body, and nothing that describes one."""

# Fields that decide about a request. Of two values, another program may take the other one.
_ONCE = ("authorization", "content-length", "host", "origin", "sec-websocket-key",
         "sec-websocket-version", "upgrade")  # fmt: skip
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!-~]([ -~\t]*[!-~])?|")
_OURS = frozenset(("connection", "content-length", "content-type", "keep-alive",
                   "transfer-encoding", "upgrade"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The head of an HTTP request, as the hook ``on_upgrade`` sees it."""

    method: str
    """``GET`` for a WebSocket."""
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
        """The path of the target, without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        """The query of the target, as sent, without the ``?``."""
        return urlsplit(self.target).query

    def header(self, name: str, default: str = "") -> str:
        """Return the first header of that name (case does not matter)."""
        wanted = name.lower()
        for key, value in self.headers:
            if key == wanted:
                return value
        return default

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a WebSocket, however badly."""
        return "websocket" in self.header("upgrade").lower()

    @property
    def ambiguity(self) -> str:
        """What another program may read in another way; empty if there is nothing."""
        names = [name for name, _ in self.headers]
        twice = next((name for name in _ONCE if names.count(name) > 1), "")
        if twice:
            return f"two headers {twice}"
        if "transfer-encoding" in names and "content-length" in names:
            return "two lengths of the body"
        return ""

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
    """A plain HTTP answer.

    Raises :class:`kps.InvalidArgument` for what cannot be written.
    """

    status: int
    """From 200 to 599: an answer ends its request."""
    body: bytes = b""
    """Empty with the statuses 204 and 304."""
    content_type: str = "text/plain; charset=utf-8"
    """The header ``Content-Type``."""
    headers: tuple[tuple[str, str], ...] = field(default=())
    """More header fields, in printable ASCII; not ``Content-Type``, ``Content-Length``, nor others
    of the connection."""

    def __post_init__(self) -> None:
        status, body, headers = self.status, self.body, self.headers
        is_number = isinstance(status, int) and not isinstance(status, bool)
        if not is_number or not 200 <= status <= 599:
            raise InvalidArgument(f"status is a number from 200 to 599, not {shown(status)}")
        if not isinstance(body, bytes):
            text = "body is bytes, not {}; for a text use HttpResponse.text(status, text)"
            raise InvalidArgument(text.format(shown(body)))
        if body and status in WITHOUT_BODY:
            raise InvalidArgument(f"an answer of the status {int(status)} has no body")
        if not isinstance(self.content_type, str) or not _VALUE.fullmatch(self.content_type):
            raise InvalidArgument(f"not a content_type: {shown(self.content_type)}")
        if not isinstance(headers, (list, tuple)) or not all(map(_is_field, headers)):
            raise InvalidArgument(f"headers is pairs of name and value, not {shown(headers)}")
        object.__setattr__(self, "headers", tuple([(name, value) for name, value in headers]))

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


def is_value(text: str) -> bool:
    """Tell whether a text can be the value of a field of an answer: it is in printable ASCII."""
    return _VALUE.fullmatch(text) is not None


def _is_field(field: object) -> bool:
    """Tell whether this is a header field that an answer may have besides ours."""
    return (
        isinstance(field, (list, tuple))
        and len(field) == 2
        and all(isinstance(text, str) for text in field)
        and _NAME.fullmatch(field[0]) is not None
        and is_value(field[1])
        and field[0].lower() not in _OURS
    )


Responder = Callable[[HttpRequest], HttpResponse | None]
"""Answers a plain HTTP request; ``None`` lets it wait for somebody's decision."""

Answer = Callable[[HttpResponse], object]
"""Takes the answer to a request."""

LateResponder = Callable[[HttpRequest, Answer], object]
"""Answers a plain HTTP request, at once or later, by a call."""
