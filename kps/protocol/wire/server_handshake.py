"""The server's end of a WebSocket, with its opening handshake.

:class:`ServerWebSocket` reads one HTTP request. An upgrade to WebSocket on the bus's
path becomes a connection of the bus. Any other request gets one plain HTTP answer, or a stream
of bytes whose end is that of the connection, and the connection closes.
"""

import math
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

import h11

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.accepting import accept_token
from kps.protocol.wire.body import Body
from kps.protocol.wire.extensions import accept
from kps.protocol.wire.http import WITHOUT_BODY, HttpRequest, HttpResponse, Responder
from kps.protocol.wire.outbox import Outbox, control
from kps.protocol.wire.server_end import ANSWERABLE, Books, ServerEnd
from kps.protocol.wire.websocket import State, Step

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

# What a target may look like. One that another program may read as another path must not pass:
# a proxy in front of us may have rules for the path. A plain request may also name a whole URL.
_ORIGIN_FORM = re.compile(r"/(?!/)[^#]*")
_URL = re.compile(r"https?://[^#]*", re.IGNORECASE)
_NOT_FOUND = HttpResponse.text(404, "not found")

# A host, by its name or address, and maybe a port (RFC 3986, 3.2). A request may name none.
_HOST = re.compile(r"(\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z.~_!$&'()*+,;=%-]*)(:[0-9]*)?")

_ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n%b\r\n"
)
_EXTENSIONS = "Sec-WebSocket-Extensions: %s\r\n"

_PROTOCOL = "websocket"
_CONNECTION = "upgrade"
_VERSION = "13"

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Proxies(Protocol):
    """Knows the proxies in front of the server."""

    def is_proxy(self, peer: str) -> bool:
        """Tell whether the TCP peer is a known proxy."""

    def client_of(self, peer: str, forwarded: str) -> str:
        """Return the client behind a TCP peer, by the peer's ``X-Forwarded-For`` header."""


class _Opening:
    """State of the opening handshake, dropped when the connection is open."""

    __slots__ = ("compresses", "head_size", "http")

    def __init__(self, max_head: int, *, compresses: bool) -> None:
        self.compresses = compresses
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head)
        self.head_size = 0


class ServerWebSocket(ServerEnd):
    """The server's end of a WebSocket connection, from the first byte of HTTP on.

    If it ``compresses``, it agrees with clients that offer it on permessage-deflate.
    """

    __slots__ = ("_body", "_is_secure", "_opening", "_path", "_peer", "_proxies", "_responder")

    def __init__(
        self,
        *,
        limits: ConnectionLimits,
        path: str,
        respond: Responder,
        peer: str,
        now: float,
        is_secure: bool = False,
        proxies: Proxies | None = None,
        books: Books | None = None,
        compresses: bool = False,
    ) -> None:
        super().__init__(limits=limits, now=now, books=books)
        self._path = path
        self._responder = respond
        self._peer = peer
        self._is_secure = is_secure  # whether the server speaks TLS
        self._proxies = proxies
        self._body: Body | None = None
        self._opening: _Opening | None = _Opening(limits.max_head, compresses=compresses)

    def accept(self) -> None:
        if self.state is State.REQUEST:
            opening, self._opening = self._opening, None
            assert opening is not None
            request = self._take_request()
            token = accept_token(request.header("sec-websocket-key").encode("latin-1"))
            extensions = self._agree(request) if opening.compresses else b""
            self.outbox.push(control(_ACCEPTED % (token, extensions)))
            self._opened(opening.http.trailing_data[0])

    def _agree(self, request: HttpRequest) -> bytes:
        """Agree on compression, if the client offers it; return the line that tells it so."""
        accepted = accept(",".join(_values(request, "sec-websocket-extensions")))
        if accepted is None:
            return b""
        from kps.protocol.wire.deflate import Inflater  # most servers need no zlib

        self.reader.inflater = Inflater()
        self.deflates = accepted.has_whole_window
        return (_EXTENSIONS % accepted.answer).encode()

    def respond(self, response: HttpResponse, now: float, patience: float | None = None) -> None:
        if self.state not in ANSWERABLE:
            return
        fields: list[tuple[str, str]] = []
        is_head = self.request is not None and self.request.method == "HEAD"
        if response.status not in WITHOUT_BODY and (response.body or not is_head):
            fields.append(("content-length", str(len(response.body))))
        answer = self._head_of(response, fields)
        self.outbox.push(control(answer if is_head else answer + response.body))
        self._close_behind_answer(response.status, now, patience)

    def read_body(
        self, receive: Callable[[bytes], None], end: Callable[[], None], now: float
    ) -> None:
        if not self._move(Step.TAKEN):
            return
        opening, self._opening = self._opening, None
        assert opening is not None
        self._body = Body(opening.http, receive, end)
        self._give_up_at = now + self.limits.handshake_timeout
        if invitation := self._body.invitation:
            self.outbox.push(control(invitation))
        self._feed_body(b"", now)

    def stream(self, head: HttpResponse, outbox: Outbox) -> None:
        if self._move(Step.TAKEN):
            self._opening = None
            self._give_up_at = math.inf
            outbox.push_first(control(self._head_of(head, [])))
            self.outbox = outbox

    def _head_of(self, response: HttpResponse, fields: list[tuple[str, str]]) -> bytes:
        """Write the head of an answer, and count it."""
        self._note_answer(response.status)
        http = h11.Connection(h11.SERVER)  # a new one: nothing of an earlier answer is in it
        headers = [("connection", "close"), *response.headers, *fields]
        if response.status not in WITHOUT_BODY:
            headers.append(("content-type", response.content_type))
        reason = _PHRASES.get(response.status, b"")
        head = h11.Response(status_code=response.status, headers=headers, reason=reason)
        return http.send(head) or b""

    def _feed_body(self, data: bytes, now: float) -> None:
        body = self._body
        if body is None:
            return  # nobody wants to read it
        if fault := body.feed(data):
            self.respond(HttpResponse.text(400, fault), now)
        elif body.is_complete and self.state is State.EXCHANGE:  # there is no answer yet
            self._give_up_at = math.inf

    def _receive_handshake(self, data: bytes, now: float) -> None:
        if self.state is State.EXCHANGE:
            self._feed_body(data, now)
            return
        opening = self._opening
        assert opening is not None
        if self.state is State.REQUEST:
            opening.http.receive_data(data)  # kept until ``accept``
            return
        # Read exactly this many bytes, so that the result does not depend on how TCP cut them.
        room = self.limits.max_head - opening.head_size
        opening.head_size += len(data)
        try:
            opening.http.receive_data(data[:room])
            event = opening.http.next_event()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            self.respond(HttpResponse.text(status, f"bad request: {error}"), now)
            return
        if isinstance(event, h11.Request):
            if rest := data[room:]:
                opening.http.receive_data(rest)
            self._judge(event, now)
        elif opening.head_size >= self.limits.max_head:
            self.respond(HttpResponse.text(431, "bad request: the head is too large"), now)

    def _judge(self, event: h11.Request, now: float) -> None:
        headers = tuple(
            [(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers]
        )
        peer, scheme = self._client_of(headers)
        request = HttpRequest(
            method=event.method.decode("ascii"),
            target=event.target.decode("ascii", "replace"),
            headers=headers,
            peer=peer,
            scheme=scheme,
        )
        self.request = request
        if event.http_version not in (b"1.0", b"1.1"):
            self.respond(HttpResponse.text(505, "this server speaks HTTP/1.1"), now)
        elif fault := _fault_in_head(request, event.http_version):
            self.respond(HttpResponse.text(400, f"bad request: {fault}"), now)
        elif not request.is_upgrade:
            self._answer(request, now)
        elif not _ORIGIN_FORM.fullmatch(request.target):
            self.respond(HttpResponse.text(400, "bad upgrade: the target is not a path"), now)
        elif request.path != self._path:
            self.respond(HttpResponse.text(404, "no WebSocket on this path"), now)
        elif fault := fault_of(request):
            self.respond(HttpResponse.text(400, f"bad upgrade: {fault}"), now)
        else:
            self._read_upgrade(request, event.http_version, now)

    def _client_of(self, headers: tuple[tuple[str, str], ...]) -> tuple[str, str]:
        """Return the client's address, and the scheme by which it reached the server."""
        peer, scheme = self._peer, "https" if self._is_secure else ""
        proxies = self._proxies
        if proxies is None or not proxies.is_proxy(peer):
            return peer, scheme
        forwarded = ",".join(value for name, value in headers if name == "x-forwarded-for")
        protos = [value for name, value in headers if name == "x-forwarded-proto"]
        if protos:  # the first is what the client used, the others what proxies used
            scheme = _SCHEMES.get(protos[0].partition(",")[0].strip().lower(), "")
        return proxies.client_of(peer, forwarded), scheme

    def _answer(self, request: HttpRequest, now: float) -> None:
        """Answer a plain request, or let it wait for ``respond``."""
        response: HttpResponse | None
        try:
            is_clear = _ORIGIN_FORM.fullmatch(request.target) or _URL.fullmatch(request.target)
            response = self._responder(request) if is_clear else _NOT_FOUND
        except ValueError:  # the host of a whole URL cannot be read
            response = HttpResponse.text(400, "bad request: unreadable target")
        if response is None:
            self._move(Step.REQUESTED)
        else:
            self.respond(response, now)

    def _read_upgrade(self, request: HttpRequest, version: bytes, now: float) -> None:
        spoken = request.header("sec-websocket-version")
        headers: tuple[tuple[str, str], ...] = ()
        status = 400
        if request.method != "GET" or version < b"1.1":
            fault = "an upgrade takes GET and HTTP/1.1"
        elif _CONNECTION not in _items(request, "connection"):
            fault = "it has no Connection: Upgrade"
        elif spoken != _VERSION:
            fault = f"it needs Sec-WebSocket-Version: {_VERSION}"
            status = 426 if spoken else 400
            headers = (("Sec-WebSocket-Version", _VERSION),)
        elif not request.header("sec-websocket-key"):
            fault = "it has no Sec-WebSocket-Key"
        elif set(_items(request, "upgrade")) != {_PROTOCOL}:  # proxies may have repeated it
            fault = "it has no Upgrade: websocket"
        else:
            self._move(Step.REQUESTED)
            return
        body = f"bad upgrade: {fault}\n".encode()
        self.respond(HttpResponse(status, body, headers=headers), now)


def _values(request: HttpRequest, name: str) -> list[str]:
    """Return the values of a field, of which there may be several."""
    return [value for key, value in request.headers if key == name]


def _items(request: HttpRequest, name: str) -> list[str]:
    """Return the items of a field."""
    return [item.strip().lower() for item in ",".join(_values(request, name)).split(",")]


def _fault_in_head(request: HttpRequest, version: bytes) -> str:
    """Return what another program may read otherwise, or reads as a fault; ``""`` for nothing."""
    if not _HOST.fullmatch(request.header("host")):
        return "Host is no host"
    if version == b"1.0" and _values(request, "transfer-encoding"):
        return "HTTP/1.0 has no Transfer-Encoding"  # who passes it on may know no chunks
    return ""


def fault_of(request: HttpRequest) -> str:
    """Return what is ambiguous in an upgrade, or ``""``."""
    if twice := request.ambiguity:
        return twice
    if request.header("content-length", "0").strip("0") or request.header("transfer-encoding"):
        return "it has a body"  # which the server would read as frames
    return ""
