"""The runner of the specification's vectors: what a server must answer, as data."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol
from uuid import uuid4

from kps.protocol.dialect.codes import FEATURES
from kps.protocol.server_limits import ServerLimits


@dataclass(frozen=True, slots=True)
class Vector:
    """One exchange with a server. ``spec/README.md`` explains the steps."""

    name: str
    steps: Sequence[Mapping[str, Any]]
    clauses: tuple[str, ...] = ()
    """What it shows: clauses of ``spec/PROTOCOL.md``."""


class VectorFailure(AssertionError):
    """A server did not answer as a vector says."""


class _Unplayable(Exception):
    """A step that cannot be done: the vector is at fault."""


class VectorTarget(Protocol):
    """A server under test, as :func:`run_vector` reaches it.

    :class:`MemoryTarget` is one; for a server behind a socket any WebSocket client
    makes another. ``client`` is always a name that the vector chose.
    """

    @property
    def address(self) -> str:
        """``host:port`` of the server, as its clients have it in their ``Host`` header."""

    def open(self, client: str) -> None:
        """Connect and do the opening handshake, and no more."""

    def send_text(self, client: str, text: str) -> None:
        """Send a text message."""

    def send_binary(self, client: str, data: bytes) -> None:
        """Send a binary message."""

    def send_raw(self, client: str, data: bytes) -> None:
        """Put bytes on the connection as they are: frames that a library would not make."""

    def close(self, client: str) -> None:
        """Close with code 1000, and wait for the end of the handshake."""

    def drop(self, client: str) -> None:
        """End the TCP connection without a close frame."""

    def receive(self, client: str, count: int) -> list[str | int]:
        """Take what arrived since the last call, once it is certain that this is all.

        That is: the server has handled whatever any client sent, and its messages have
        arrived. Where these are fewer than ``count``, wait for the missing ones for a
        reasonable time. Returns the texts of the messages in order, those of an array one by
        one (see :func:`messages_in`), and behind them the close code if the
        server has closed the connection (1006 when there was no close frame).
        """

    def wait(self, seconds: float) -> None:
        """Let time pass on the server."""


def load_vectors(path: Path | str) -> list[Vector]:
    """Read a file of vectors, or all files of a directory."""
    path = Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    vectors: list[Vector] = []
    for file in files:
        # The standard library's reader keeps integers of any size exact.
        for item in json.loads(file.read_text(encoding="utf-8"))["vectors"]:
            clause = item["clause"]
            clauses = (clause,) if isinstance(clause, str) else tuple(clause)
            vectors.append(Vector(item["name"], item["steps"], clauses))
    return vectors


def messages_in(text: str) -> list[str]:
    """The messages in one WebSocket message: its text, or those of the array that it holds."""
    if not text.startswith("["):
        return [text]
    return [json.dumps(message, ensure_ascii=False) for message in json.loads(text)]


def run_vector(vector: Vector, target: VectorTarget) -> None:
    """Hold a server to a vector. Raises :class:`VectorFailure`, which tells all."""
    names = _Names(target.address)
    present: dict[str, None] = {}
    for number, step in enumerate(vector.steps, 1):
        try:
            complaint = _run_step(step, target, names, present)
        except _Unplayable as error:
            complaint = str(error)
        if complaint:
            shown = json.dumps(step, ensure_ascii=False)
            raise VectorFailure(f"{vector.name!r}, step {number}: {shown}\n{complaint}")
    for client in present:
        complaint = _compare([], target.receive(client, 0), names)
        if complaint:
            raise VectorFailure(f"{vector.name!r}, after the last step, {client!r}:\n{complaint}")


def _run_step(
    step: Mapping[str, Any], target: VectorTarget, names: "_Names", present: dict[str, None]
) -> str:
    """Do one step; return what is wrong with the outcome, or nothing."""
    concerned = step.get("client") or step.get("close") or step.get("drop")
    if concerned and concerned not in present:
        raise _Unplayable(f"{concerned!r} has no connection")
    match step:
        case {"open": str(client), **options}:
            target.open(client)
            present[client] = None
            if options.get("registered"):
                ping, pong = _greeting(client, options.get("level", 1))
                target.send_text(client, json.dumps(ping))
                return _compare([pong], target.receive(client, 1), names)
        case {"close": str(client)}:
            target.close(client)
            del present[client]
        case {"drop": str(client)}:
            target.drop(client)
            del present[client]
        case {"client": str(client), "send": message}:
            target.send_text(client, json.dumps(names.fill(message), ensure_ascii=False))
        case {"client": str(client), "send_text": text}:
            target.send_text(client, names.fill(_spell_out(text)))
        case {"client": str(client), "send_binary": text}:
            target.send_binary(client, names.fill(_spell_out(text)).encode())
        case {"client": str(client), "send_raw": str(digits)}:
            target.send_raw(client, bytes.fromhex(digits))
        case {"client": str(client), "receives": list(expected)}:
            return _compare(expected, target.receive(client, len(expected)), names)
        case {"wait_s": int() | float() as seconds}:
            target.wait(seconds)
        case _:
            raise _Unplayable("there is no such step")
    return ""


def _greeting(client: str, level: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ``ping`` that registers a client, and the ``pong`` that it is answered with."""
    ping: dict[str, Any] = {"action": "ping", "from": client}
    pong: dict[str, Any] = {"action": "pong", "id": client}
    if level > 1:
        limits = ServerLimits()
        ping["proto"] = pong["proto"] = level
        pong["limits"] = {
            "max_message": limits.max_message,
            "heartbeat": limits.heartbeat_interval,
        }
        pong["features"] = list(FEATURES)
        pong["message_ids"] = {
            "window": "$text",
            "seconds": limits.message_id_window,
            "most": limits.max_message_ids,
        }
    return ping, pong


def _spell_out(text: str | list[list[Any]]) -> str:
    """A text, or the one that pairs of a piece and how often it comes stand for."""
    return text if isinstance(text, str) else "".join(piece * times for piece, times in text)


def _compare(expected: Sequence[Any], received: Sequence[str | int], names: "_Names") -> str:
    """What is wrong with the messages of one client; nothing if all is well."""
    complaints: list[str] = []
    if len(expected) != len(received):
        complaints.append(f"{len(received)} messages instead of {len(expected)}")
    for number, (wanted, got) in enumerate(zip(expected, received, strict=False)):
        complaint = _compare_message(wanted, got, names)
        if complaint:
            complaints.append(f"[{number}]{complaint}")
    if not complaints:
        return ""
    shown = json.dumps(expected, ensure_ascii=False)
    got_all = "\n            ".join(map(_show, received)) or "nothing"
    known = f"\n  names:    {names.bound}" if names.bound else ""
    wrong = "\n".join(f"  {complaint}" for complaint in complaints)
    return f"{wrong}\n  expected: {shown}\n  received: {got_all}{known}"


def _show(received: str | int) -> str:
    return received if isinstance(received, str) else f"closed with code {received}"


def _compare_message(expected: Any, received: str | int, names: "_Names") -> str:
    if isinstance(received, int):
        code = None if received == 1006 else received
        same = isinstance(expected, dict) and expected.get("$closed", 0) == code
        return "" if same else f": {_show(received)}"
    try:
        message = json.loads(received, parse_constant=_refuse_constant)
    except ValueError as error:
        return f" is not JSON: {error}"
    return _difference(expected, message, names, "", in_order=False)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _difference(expected: Any, actual: Any, names: "_Names", path: str, *, in_order: bool) -> str:
    """Where a JSON value is not what it should be; nothing if it is."""
    if isinstance(expected, dict) and list(expected) == ["$in_order"]:
        return _difference(expected["$in_order"], actual, names, path, in_order=True)
    if isinstance(expected, dict) and isinstance(actual, dict):
        if missing := [key for key in expected if key not in actual]:
            return f"{path}: lacks {missing}"
        if extra := [key for key in actual if key not in expected]:
            return f"{path}: has {extra} besides"
        if in_order and list(expected) != list(actual):
            return f"{path}: keys in the order {list(actual)} instead of {list(expected)}"
        keys: list[Any] = list(expected)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return f"{path}: {len(actual)} elements instead of {len(expected)}"
        keys = list(range(len(expected)))
    elif expected in ("$mark", "$later") and type(actual) is int:
        same = names.numbers.setdefault(expected, actual) == actual
        return "" if same else f"{path}: {actual!r} instead of {names.numbers[expected]!r}"
    elif isinstance(expected, str) and isinstance(actual, str):
        same = names.match(expected, actual)
        return "" if same else f"{path}: {actual!r} instead of {expected!r}"
    else:
        # Numbers are equal by value, however they are written; true is not 1.
        numbers = _is_number(expected) and _is_number(actual)
        same = (numbers or type(expected) is type(actual)) and expected == actual
        return "" if same else f"{path}: {actual!r} instead of {expected!r}"
    for key in keys:
        inner = f"{path}[{key!r}]"
        difference = _difference(expected[key], actual[key], names, inner, in_order=in_order)
        if difference:
            return difference
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class _Names:
    """The placeholders of a vector, and what they have been found to stand for."""

    _PLACEHOLDER = re.compile(r"\$(?:(?:ack|new)\d+|epoch|generated|address|n|text)(?![a-z0-9])")

    def __init__(self, address: str) -> None:
        self.bound = {"$address": address}
        self.numbers: dict[str, int] = {}

    def fill(self, value: Any) -> Any:
        """Put in what the placeholders stand for, at any depth of a JSON value."""
        if isinstance(value, str):
            if value in self.numbers:
                return self.numbers[value]
            return self._PLACEHOLDER.sub(lambda found: self._known(found.group()), value)
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return value

    def match(self, expected: str, actual: str) -> bool:
        """Compare a string with a text that came, and learn from it what is not yet known."""
        pattern = ""
        position = 0
        unknown: list[str] = []
        for found in self._PLACEHOLDER.finditer(expected):
            name = found.group()
            pattern += re.escape(expected[position : found.start()])
            position = found.end()
            if name == "$n":
                pattern += r"\d+"
            elif name == "$text":
                pattern += ".+"
            elif name in self.bound:
                pattern += re.escape(self.bound[name])
            else:
                pattern += "(.+)"
                unknown.append(name)
        result = re.fullmatch(pattern + re.escape(expected[position:]), actual, re.DOTALL)
        if result is None or not set(self.bound.values()).isdisjoint(result.groups()):
            return False  # ids of different names are different
        self.bound.update(zip(unknown, result.groups(), strict=True))
        return True

    def _known(self, name: str) -> str:
        if name.startswith("$new"):
            self.bound.setdefault(name, str(uuid4()))
        if name not in self.bound:
            raise _Unplayable(f"{name} is not known yet")
        return self.bound[name]
