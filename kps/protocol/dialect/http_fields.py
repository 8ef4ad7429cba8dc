"""Reads the parameters, the headers and the body of an HTTP request (spec, 24).

Each function raises :class:`InvalidMessage` for what cannot be read.
"""

import re
from math import isfinite
from urllib.parse import parse_qsl

from kps.protocol.dialect.envelope import Fields, InvalidMessage, load, write
from kps.protocol.wire.http import HttpRequest

_HEADER = "kps-header-"
_TRACE = ("traceparent", "tracestate")
_TEXTS = ("text/plain",)
_CHARSETS = ("utf-8", "utf8", "us-ascii")

# ``curl --data`` claims that it sends a form, so this type says nothing.
_JSON = re.compile(r"application/(json|[\w.+-]+\+json|x-www-form-urlencoded)|")


class Parameters:
    """The parameters of a query, each of which has a text that is not empty.

    Raises :class:`InvalidMessage` for a query that is not UTF-8.
    """

    def __init__(self, request: HttpRequest) -> None:
        try:
            self._pairs = parse_qsl(request.query, keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise InvalidMessage("the query is not UTF-8", "bad_request") from None

    def all(self, name: str) -> list[str]:
        """Return all values of a parameter."""
        values = [value for one, value in self._pairs if one == name]
        if "" in values:
            raise InvalidMessage(f"the parameter {name} is empty", "bad_request")
        return values

    def one(self, name: str) -> str:
        """Return the one value of a parameter, or ``""``."""
        values = self.all(name)
        if len(values) > 1:
            raise InvalidMessage(f"the parameter {name} is there twice", "bad_request")
        return values[0] if values else ""

    def switch(self, name: str) -> bool:
        """Return the truth value of a parameter: ``1``, ``true``, ``0`` or ``false``."""
        value = self.one(name).lower()
        if value not in ("", "0", "1", "false", "true"):
            raise InvalidMessage(f"the parameter {name} is 1 or 0", "bad_request")
        return value in ("1", "true")

    def number(self, name: str) -> int | None:
        """Return a whole number from 0, or ``None``."""
        value = self.one(name)
        if not value:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 16):
            raise InvalidMessage(f"the parameter {name} is a whole number from 0", "bad_request")
        return int(value)

    def seconds(self, name: str) -> float | None:
        """Return a number of seconds above 0, or ``None``."""
        value = self.one(name)
        if not value:
            return None
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not (isfinite(seconds) and seconds > 0):
            text = f"the parameter {name} is a number of seconds above 0"
            raise InvalidMessage(text, "bad_request")
        return seconds


def receiver(parameters: Parameters) -> Fields:
    """Return the field that tells for whom a message is: ``topic`` or ``to``."""
    topic, client_id = parameters.one("topic"), parameters.one("to")
    if bool(topic) == bool(client_id):
        raise InvalidMessage("a message needs a topic=NAME, or a to=ID", "bad_request")
    return {"topic": topic} if topic else {"to": client_id}


def extras(request: HttpRequest) -> Fields:
    """Return the fields of a message that are in the headers of the request."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        if name in _TRACE or (name.startswith(_HEADER) and name != _HEADER):
            headers.setdefault(name.removeprefix(_HEADER), _as_text(value))
    fields: Fields = {"headers": headers} if headers else {}
    message_id = _as_text(request.header("idempotency-key")).strip()
    if len(message_id) > 1 and message_id[0] == message_id[-1] == '"':
        message_id = message_id[1:-1]
    return fields | {"message_id": message_id} if message_id else fields


def _as_text(value: str) -> str:
    """Return the value of a header, which may be UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def check_length(request: HttpRequest, most: int) -> None:
    """Refuse a body that the head tells to be too long, or of which it tells no length."""
    length = request.header("content-length")
    if not length and not request.header("transfer-encoding"):
        raise InvalidMessage("there is no body: send the payload, which is JSON", "length")
    if length.isascii() and length.isdigit() and (len(length) > 15 or int(length) > most):
        raise too_large(most)


def too_large(most: int) -> InvalidMessage:
    """Return the refusal of a body that is too long."""
    return InvalidMessage(f"the body has more than {most} bytes", "too_large")


def check_type(request: HttpRequest) -> None:
    """Refuse a body that says that it is neither JSON nor plain text."""
    media, _, more = request.header("content-type").lower().partition(";")
    charset = re.search(r"charset=\"?([^\s\";]+)", more)
    is_known = _JSON.fullmatch(media.strip()) or media.strip() in _TEXTS
    if not is_known or (charset is not None and charset[1] not in _CHARSETS):
        text = "a body is JSON (application/json), or a text in UTF-8 (text/plain)"
        raise InvalidMessage(text, "content_type")
    if request.header("content-encoding", "identity").lower() != "identity":
        raise InvalidMessage("a body is not compressed", "content_type")


def payload_in(request: HttpRequest, body: bytes, max_brackets: int) -> bytes:
    """Return the payload, as JSON: the body itself or, of a text, the JSON of that."""
    media = request.header("content-type").lower().partition(";")[0].strip()
    if media in _TEXTS:
        try:
            return write(body.decode())
        except UnicodeDecodeError:
            raise InvalidMessage("the body is not UTF-8", "bad_message") from None
    if body.count(b"[") + body.count(b"{") > max_brackets:  # each may become an object
        raise InvalidMessage("the message has too many brackets")
    try:
        load(body)
    except InvalidMessage:
        hint = "a text is one in quotes, or of the type text/plain"
        raise InvalidMessage(f"the body is not JSON: {hint}") from None
    return body.strip()
