"""The runner of the specification's vectors: what a server must answer, as data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kps.protocol.dialect.codes import FEATURES
from kps.protocol.dialect.level2 import LEVEL
from kps.protocol.server_limits import ServerLimits
from kps.testing.comparing import Names, Unplayable, difference, in_full, read_json, spell_out


@dataclass(frozen=True, slots=True)
class Vector:
    """One exchange with a server. ``spec/README.md`` explains the steps."""

    name: str
    """Which one it is, for the report of a failure."""
    steps: Sequence[Mapping[str, Any]]
    """What clients do, and what they must get, in order."""
    clauses: tuple[str, ...] = ()
    """What it shows: clauses of ``spec/PROTOCOL.md``."""


class VectorFailure(AssertionError):
    """A server did not answer as a vector says."""


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


def run_vector(vector: Vector, target: VectorTarget, pong: Mapping[str, Any] | None = None) -> None:
    """Hold a server to a vector. Raises :class:`VectorFailure`, which tells all.

    ``pong`` is what a ``pong`` of level 2 has beside the id, if that is not what it has by default.
    """
    names = Names(target.address)
    pong = default_pong() if pong is None else pong
    present: dict[str, None] = {}
    for number, step in enumerate(vector.steps, 1):
        try:
            complaint = _run_step(step, target, names, present, pong)
        except Unplayable as error:
            complaint = str(error)
        if complaint:
            shown = json.dumps(step, ensure_ascii=False)
            raise VectorFailure(f"{vector.name!r}, step {number}: {shown}\n{complaint}")
    for client in present:
        complaint = _compare([], target.receive(client, 0), names)
        if complaint:
            raise VectorFailure(f"{vector.name!r}, after the last step, {client!r}:\n{complaint}")


def _run_step(
    step: Mapping[str, Any],
    target: VectorTarget,
    names: Names,
    present: dict[str, None],
    more: Mapping[str, Any],
) -> str:
    """Do one step; return what is wrong with the outcome, or nothing."""
    concerned = step.get("client") or step.get("close") or step.get("drop")
    if concerned and concerned not in present:
        raise Unplayable(f"{concerned!r} has no connection")
    match step:
        case {"open": str(client), **options}:
            target.open(client)
            present[client] = None
            if options.get("registered"):
                ping: dict[str, Any] = {"action": "ping", "from": client}
                pong: dict[str, Any] = {"action": "pong", "id": client}
                if options.get("level", 1) > 1:
                    ping["proto"] = options["level"]
                    pong |= more
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
            target.send_text(client, names.fill(spell_out(text)))
        case {"client": str(client), "send_binary": text}:
            target.send_binary(client, names.fill(spell_out(text)).encode())
        case {"client": str(client), "send_raw": str(digits)}:
            target.send_raw(client, bytes.fromhex(digits))
        case {"client": str(client), "receives": list(expected)}:
            return _compare(expected, target.receive(client, len(expected)), names)
        case {"wait_s": int() | float() as seconds}:
            target.wait(seconds)
        case _:
            raise Unplayable("there is no such step")
    return ""


def default_pong() -> dict[str, Any]:
    """What a ``pong`` of level 2 has beside the id, of a server with default limits."""
    limits = ServerLimits()
    return {
        "proto": LEVEL,
        "limits": {"max_message": limits.max_message, "heartbeat": limits.heartbeat_interval},
        "features": list(FEATURES),
        "message_ids": {
            "window": "$text",
            "seconds": limits.message_id_window,
            "most": limits.max_message_ids,
            "time": "$time",
        },
    }


def _compare(expected: Sequence[Any], received: Sequence[str | int], names: Names) -> str:
    """What is wrong with the messages of one client; nothing if all is well."""
    complaints: list[str] = []
    if len(expected) != len(received):
        complaints.append(f"{len(received)} messages instead of {len(expected)}")
    for number, (wanted, got) in enumerate(zip(expected, received, strict=False)):
        complaint = _compare_message(wanted, got, names)
        if complaint:
            complaints.append(f"[{number}]{complaint}")
    return in_full(expected, [_show(one) for one in received], complaints, names)


def _show(received: str | int) -> str:
    return received if isinstance(received, str) else f"closed with code {received}"


def _compare_message(expected: Any, received: str | int, names: Names) -> str:
    if isinstance(received, int):
        code = None if received == 1006 else received
        same = isinstance(expected, dict) and expected.get("$closed", 0) == code
        return "" if same else f": {_show(received)}"
    try:
        message = read_json(received)
    except ValueError as error:
        return f" is not JSON: {error}"
    return difference(expected, message, names, "", in_order=False)
