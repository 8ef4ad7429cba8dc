"""The client's end of a WebSocket, with its opening handshake (RFC 6455, section 4.1)."""

import re
from binascii import b2a_base64
from collections.abc import Callable

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.accepting import accept_token
from kps.protocol.wire.extensions import OFFER, accepts
from kps.protocol.wire.outbox import control
from kps.protocol.wire.websocket import Closed, ClosedBy, WebSocket

KEY_SIZE = 16
"""Unpredictable bytes in a handshake."""

_SWITCHING = 101

_STATUS = re.compile(rb"HTTP/\d\.\d ([1-9]\d\d)(?: [^\0\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r\n]*?)[ \t]*")

# What a refusal means for who has given the address and the token.
_MEANINGS = {
    301: "the server sends clients to another address: ",
    302: "the server sends clients to another address: ",
    307: "the server sends clients to another address: ",
    308: "the server sends clients to another address: ",
    401: "the server wants another token: ",
    403: "the server does not let this client in: ",
    404: "there is no bus at the path {path}: ",
    502: "a proxy does not reach the server: ",
    503: "the server is full, or stops: ",
    504: "a proxy does not reach the server: ",
}

_EXTENSIONS = "sec-websocket-extensions"
_PROTOCOL = "sec-websocket-protocol"
_UNASKED = "it wants {}, which was not asked for"


class ClientWebSocket(WebSocket):
    """The client's end of a WebSocket connection, from its request on.

    ``key`` has ``KEY_SIZE`` unpredictable bytes. If it ``offers_compression``, it takes
    messages that the server has deflated.
    """

    __slots__ = ("_accept", "_head", "_offers", "_path", "refused")

    def __init__(
        self,
        *,
        host: str,
        target: str,
        headers: list[tuple[str, str]],
        key: bytes,
        text_frame: Callable[[bytes], bytes],
        limits: ConnectionLimits,
        now: float,
        offers_compression: bool = False,
    ) -> None:
        super().__init__(is_client=True, text_frame=text_frame, limits=limits, now=now)
        self.refused: int | None = None
        """The HTTP status of the server's refusal, if it refused."""
        self._head = b""
        self._path = target.partition("?")[0]  # a query may hold what is secret
        self._offers = offers_compression
        written = b2a_base64(key, newline=False)
        self._accept = accept_token(written)
        fields = [
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", written.decode()),
            ("Sec-WebSocket-Version", "13"),
            *([("Sec-WebSocket-Extensions", OFFER)] if offers_compression else ()),
            *headers,
        ]
        lines = [f"GET {target} HTTP/1.1", *[f"{name}: {value}" for name, value in fields], "", ""]
        self.outbox.push(control("\r\n".join(lines).encode()))

    def _receive_handshake(self, data: bytes, now: float) -> None:
        received = self._head + data
        # Search exactly this many bytes, so that the result does not depend on how TCP cut them.
        room = self.limits.max_head
        head, separator, rest = received[:room].partition(b"\r\n\r\n")
        if not separator:
            self._head = received
            if len(received) >= room:
                self._refuse("the head of the answer is too large", now)
            return
        rest += received[room:]
        self._head = b""
        status, *lines = head.split(b"\r\n")
        found, fields = _STATUS.fullmatch(status), _fields_of(lines)
        if found is None:
            self._refuse("not a WebSocket server: its answer is not HTTP", now)
        elif int(found[1]) != _SWITCHING:
            self.refused = int(found[1])
            meaning = _MEANINGS.get(self.refused, "").format(path=self._path)
            self._refuse(f"{meaning}refused with HTTP status {self.refused}", now)
        elif fields is None:
            self._refuse("not a WebSocket server: its answer has a line that is no header", now)
        elif fault := self._fault_of(fields):
            self._refuse(f"not a WebSocket server: {fault}", now)
        else:
            if _EXTENSIONS in fields:
                from kps.protocol.wire.deflate import Inflater  # most servers do not compress

                self.reader.inflater = Inflater()
            self._opened(rest)

    def _fault_of(self, fields: dict[str, bytes]) -> str:
        """Return what is wrong with the fields that accept the upgrade, or ``""``."""
        tokens = [token.strip().lower() for token in fields.get("connection", b"").split(b",")]
        if b"upgrade" not in tokens:
            return "its answer has no Connection: Upgrade"
        if fields.get("upgrade", b"").lower() != b"websocket":
            return "its answer has no Upgrade: websocket"
        if fields.get("sec-websocket-accept") != self._accept:
            return "its Sec-WebSocket-Accept is wrong"
        # To accept what the client did not ask for is to accept frames that it cannot read.
        extensions = fields.get(_EXTENSIONS)
        if extensions is not None:
            if not self._offers:
                return _UNASKED.format(_EXTENSIONS)
            if not accepts(extensions.decode("latin-1")):
                return "it does not compress as it was asked to"
        return _UNASKED.format(_PROTOCOL) if _PROTOCOL in fields else ""

    def _refuse(self, reason: str, now: float) -> None:
        self._abort = True
        self._end(Closed(1006, reason, ClosedBy.FAULT), now)


def _fields_of(lines: list[bytes]) -> dict[str, bytes] | None:
    """Return the fields of a head by name, or ``None`` if a line is none."""
    fields: dict[str, bytes] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        name = field[1].decode().lower()
        fields[name] = fields[name] + b"," + field[2] if name in fields else field[2]
    return fields
