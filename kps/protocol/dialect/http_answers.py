"""Refusals as answers to HTTP requests (spec, 24)."""

from dataclasses import replace
from typing import Any

from kps.protocol.dialect.codes import (
    LIMIT_REACHED,
    MESSAGE_ID_IN_USE,
    OUTCOME_UNKNOWN,
    RATE_LIMITED,
)
from kps.protocol.dialect.envelope import Fields, InvalidMessage, text, write
from kps.protocol.wire.http import HttpResponse

JSON = "application/json"

STATUSES = {
    "unauthorized": 401,
    "forbidden": 403,
    "no_such_client": 404,
    "nobody": 404,
    "no_history": 404,
    "method": 405,
    "id_unavailable": 409,
    MESSAGE_ID_IN_USE: 409,
    OUTCOME_UNKNOWN: 409,
    "length": 411,
    "too_large": 413,
    "content_type": 415,
    LIMIT_REACHED: 429,
    RATE_LIMITED: 429,
    "failed": 502,
    "unavailable": 503,
    "timeout": 504,
}
"""The status of an answer for each error code that does not mean 400."""

_CODES = {401: "unauthorized", 403: "forbidden", 429: RATE_LIMITED}


def answer(fields: Any, status: int = 200) -> HttpResponse:
    """Return an answer of one line of JSON."""
    return HttpResponse(status, write(fields) + b"\n", JSON)


def refusal(code: str, reason: str, more: Fields | None = None) -> HttpResponse:
    """Return the answer that refuses a request."""
    response = answer({"code": code, "error": reason} | (more or {}), STATUSES.get(code, 400))
    if response.status == 401:
        return replace(response, headers=(("www-authenticate", "Bearer"),))
    return response


def refused(error: InvalidMessage) -> HttpResponse:
    """Return the answer for an error of a request that cannot be read."""
    return refusal(error.code, str(error))


def refusal_in(message: Fields) -> HttpResponse:
    """Return the answer for a refusal of the server, as a client of level 2 gets it."""
    return refusal(text(message, "code") or "bad_request", text(message, "error"))


def in_json(response: HttpResponse) -> HttpResponse:
    """Return a refusal in plain text as one in JSON. Others, as hooks make them, stay as they are.

    So all refusals have one form, whoever has made them.
    """
    if response.status < 400 or not response.content_type.startswith("text/plain"):
        return response
    code = _CODES.get(response.status, "unavailable" if response.status >= 500 else "bad_request")
    fields = {"code": code, "error": response.body.decode("utf-8", "replace").strip()}
    return HttpResponse(response.status, write(fields) + b"\n", JSON, response.headers)
