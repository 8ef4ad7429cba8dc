"""Requests over HTTP that have one answer, as messages of level 2, and their answers (spec, 24).

A call is a client of level 2 for the time of one message: it writes the message, and reads what
the server answers.
"""

from collections.abc import Callable
from typing import Any, Protocol

from kps.protocol.dialect.envelope import Fields, InvalidMessage, load, text, write
from kps.protocol.dialect.http_answers import answer, refusal, refusal_in
from kps.protocol.dialect.http_fields import Parameters, extras, receiver
from kps.protocol.dialect.outcome import NO_MEMBER, NO_SUBSCRIBER
from kps.protocol.wire.http import HttpRequest, HttpResponse

_ACK_ID = "1"
_RESPONSE = b'{"action":"ack_response","ack_id":"1",'
"""The beginning of the final answer to an ack request."""
_TIMEOUT = 5.0
"""Seconds."""


class Call(Protocol):
    """A request that has one answer."""

    message_id: str
    """The id of its message, which is handled once; empty for none."""
    has_reply: bool
    """Whether the server replies; if not, the call is done when the message was handled."""

    def message(self, payload: bytes) -> bytes:
        """Return the message, whose payload is JSON."""

    def answer(self, message: bytes) -> HttpResponse | None:
        """Return the answer that a message of the server makes; ``None``: one is still to come."""


DONE = HttpResponse(204)
"""The answer to a call without a reply."""


class Publish:
    """``POST /publish``. Raises :class:`InvalidMessage`."""

    def __init__(self, request: HttpRequest) -> None:
        parameters = Parameters(request)
        to, ack = receiver(parameters), parameters.seconds("ack")
        wants_receipt = parameters.switch("receipt")
        fields = to | extras(request)
        if ack is not None:
            fields |= _ask(parameters, to, ack)
        elif "topic" in to:
            fields["action"] = "publish"
        else:
            if wants_receipt or "message_id" in fields:
                what = "a receipt" if wants_receipt else "a message to be handled once"
                raise InvalidMessage(f"{what} needs a topic, or ack=SECONDS", "bad_request")
            fields["action"] = "direct_message"
        if wants_receipt and ack is None:
            fields["receipt"] = ""
        self._fields = fields
        self._to = text(to, "to")
        self.message_id = text(fields, "message_id")
        self.has_reply = wants_receipt or ack is not None

    def message(self, payload: bytes) -> bytes:
        return _with_payload(self._fields, payload)

    def answer(self, message: bytes) -> HttpResponse | None:
        fields = load(message)
        match fields["action"]:
            case "error":
                return refusal_in(fields)
            case "published":
                told = {name: fields[name] for name in ("delivered", "degraded") if name in fields}
                return answer(told)
            case "ack_response":
                if self._to and not fields.keys() & {"responses", "missing"}:
                    return refusal("no_such_client", f"no client has the id {self._to}")
                # The results stay as they are written.
                body = b"{" + message.removeprefix(_RESPONSE) + b"\n"
                return HttpResponse(200, body, "application/json")
        return None


class Request:
    """``POST /request``. Raises :class:`InvalidMessage`."""

    has_reply = True

    def __init__(self, request: HttpRequest) -> None:
        parameters = Parameters(request)
        to = receiver(parameters)
        timeout = parameters.seconds("timeout") or _TIMEOUT
        self._fields = to | extras(request) | _ask(parameters, to, timeout) | {"updates": True}
        self._failures: dict[str, str] = {}
        self.message_id = text(self._fields, "message_id")

    def message(self, payload: bytes) -> bytes:
        return _with_payload(self._fields, payload)

    def answer(self, message: bytes) -> HttpResponse | None:
        fields = load(message)
        action = fields["action"]
        if action == "error":
            return refusal_in(fields)
        if action not in ("ack_update", "ack_response"):
            return None
        for name, outcome in _outcomes(fields):
            if outcome["success"]:
                return answer(outcome.get("result"))
            if outcome.get("attempts") or outcome.get("error") not in (NO_SUBSCRIBER, NO_MEMBER):
                self._failures[name] = outcome.get("error") or ""
        if action == "ack_update":
            return None
        return self._failed(fields)

    def _failed(self, ending: Fields) -> HttpResponse:
        """Return the answer when nobody has handled the message."""
        failures = self._failures | dict.fromkeys(ending.get("missing", ()), "timeout")
        if not failures:
            return refusal("nobody", "nobody takes such requests")
        if set(failures.values()) == {"timeout"}:
            return refusal("timeout", "nobody has answered in time")
        errors = [error for error in failures.values() if error and error != "timeout"]
        return refusal("failed", errors[0] if errors else "no reason", {"errors": failures})


CALLS: dict[str, Callable[[HttpRequest], Call]] = {"/publish": Publish, "/request": Request}
"""The calls by path."""
STREAM = "/sse"
"""The path of event streams."""
PATHS = (*CALLS, STREAM)
"""The paths of all requests to the bus."""


def _ask(parameters: Parameters, to: Fields, seconds: float) -> Fields:
    """Return the fields of an ack request."""
    fields: Fields = {"action": "publish_to_id_with_ack", "ack_id": _ACK_ID, "timeout": seconds}
    if "topic" in to:
        fields["action"] = "publish_with_ack"
        if key := parameters.one("key"):
            fields["key"] = key
        if (retries := parameters.number("retry")) is not None:
            fields["retry"] = retries
    return fields


def _with_payload(fields: Fields, payload: bytes) -> bytes:
    return b'%b,"data":%b}' % (write(fields)[:-1], payload)


def _outcomes(fields: Fields) -> list[tuple[str, Fields]]:
    """Return the outcomes in an answer, each with the name of who it is of."""
    groups: list[Any] = fields.get("groups", [])
    named = [(text(one, "member") or text(one, "group"), one) for one in groups]
    return [*fields.get("responses", {}).items(), *named]
