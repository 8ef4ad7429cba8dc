"""How the programs of vectors are spelled in Python, for both testees (``spec/CLIENTS.md``)."""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kps.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    MessageTooLarge,
    NobodyThere,
    NotConnected,
    QueueFull,
    RequestFailed,
    RequestTimeout,
    ServerError,
    Unsupported,
)
from kps.protocol.bus.members import Presence
from kps.protocol.bus.message import Message
from kps.protocol.bus.past import Past
from kps.protocol.dialect.outcome import AckResponse, GroupResponse
from kps.protocol.dialect.places import Position
from kps.protocol.patterns import Pattern, Scope

Step = Mapping[str, Any]
"""A line of the judge that begins with ``do``."""

NEEDS = ("level_1", "patterns", "history", "presence", "groups", "headers", "message_ids",
         "tokens", "request_tokens", "offline")  # fmt: skip

# A class comes before its base classes.
_KINDS: dict[type[Exception], str] = {
    MessageTooLarge: "message_too_large",
    InvalidArgument: "invalid_argument",
    ClientClosed: "client_closed",
    NotConnected: "not_connected",
    ConnectFailed: "connect_failed",
    ConnectionLost: "connection_lost",
    RequestTimeout: "request_timeout",
    QueueFull: "queue_full",
    Unsupported: "unsupported",
    ServerError: "server_error",
    NobodyThere: "nobody_there",
    RequestFailed: "request_failed",
}


class Failed(Exception):
    """A callback fails as the vector says."""


class Teller:
    """Tells the judge, from any thread, until the vector is over."""

    _lock = threading.Lock()

    def __init__(self, write: Callable[[Mapping[str, Any]], object]) -> None:
        self._write = write
        self._is_over = False

    def __call__(self, what: str, **fields: Any) -> None:
        """Tell what the program was told."""
        with self._lock:
            if not self._is_over:
                self._write({"told": what} | fields)

    def end(self) -> None:
        """Tell nothing more."""
        with self._lock:
            self._is_over = True

    def failed(self, name: str, error: Exception) -> None:
        """Tell that a call has failed."""
        self("failed", **{"as": name}, **of_error(error))

    def done(self, name: str, result: Any = None) -> None:
        """Tell that a call has come to its end."""
        self("done", **{"as": name}, **({} if result is None else {"result": result}))


def write(line: Mapping[str, Any]) -> None:
    """Write a line for the judge."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def of_error(error: Exception) -> dict[str, Any]:
    """Describe an error."""
    kind = next((kind for one, kind in _KINDS.items() if isinstance(error, one)), None)
    told: dict[str, Any] = {"error": kind or type(error).__name__}
    if isinstance(error, ServerError):
        if error.code == "unsupported":  # which is never a server's
            return {"error": "unsupported"}
        if error.code:  # what the client itself refuses has none, nor has level 1
            told["code"] = error.code
    if isinstance(error, RequestFailed):
        told["errors"] = error.errors
    return told


def of_message(message: Message) -> dict[str, Any]:
    """Describe a message of a subscription."""
    told = {"topic": message.topic} | of_direct(message)
    if message.offset is not None:
        told["offset"] = message.offset
    if message.attempt > 1:
        told["attempt"] = message.attempt
    return told


def of_direct(message: Message) -> dict[str, Any]:
    """Describe a direct message."""
    told: dict[str, Any] = {"data": message.data, "from": message.sender}
    if message.headers:
        told["headers"] = message.headers
    return told


def of_outcome(response: AckResponse) -> dict[str, Any]:
    """Describe an outcome of an ack request."""
    told: dict[str, Any] = {"success": response.success}
    if response.client_id:
        told["id"] = response.client_id
    if response.error:
        told["error"] = response.error
    if response.result is not None:
        told["result"] = response.result
    if isinstance(response, GroupResponse):
        told["group"] = response.group
        told["topic" if isinstance(response.scope, str) else "pattern"] = str(response.scope)
        told["attempts"] = response.attempts
        if response.failures:
            told["failures"] = [list(one) for one in response.failures]
    return told


def of_past(past: Past) -> dict[str, Any]:
    """Describe messages of the past."""
    messages = [message.data for message in past.messages]
    return {"messages": messages, "complete": past.recovered, "lost": past.lost}


def of_presence(presence: Presence) -> dict[str, Any]:
    """Describe the members of a topic."""
    return {"members": presence.members, "count": presence.count}


def of_change(presence: Presence) -> dict[str, Any]:
    """Describe the members that a subscription is told of."""
    members = None if presence.members is None else sorted(presence.members)
    return {"members": members, "count": presence.count}


def scope_in(step: Step) -> Scope:
    """Return the topic or the pattern of a subscription."""
    return Pattern(step["pattern"]) if "pattern" in step else str(step["topic"])


def past_in(step: Step) -> dict[str, Any]:
    """Return with what of the past a subscription begins."""
    since = step.get("since")
    told = {"since": Position(since["epoch"], since["offset"])} if since is not None else {}
    return told | some_of(step, "last")


def some_of(step: Step, *names: str) -> dict[str, Any]:
    """Return those members of a step that there are."""
    return {name: step[name] for name in names if name in step}


class Tokens:
    """The tokens of a vector, one for each connection; the last one for all further."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens

    def __call__(self) -> str:
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]


def options_in(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a client, apart from its hooks."""
    told = some_of(options, "id", "level", "token", "reconnect")
    told["request_timeout"] = options.get("request_timeout", 5.0)
    if "tokens" in options:
        told["token"] = Tokens(list(options["tokens"]))
    if "offline" in options:
        told["offline_queue"] = options["offline"]
    return told
