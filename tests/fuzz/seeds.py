"""First inputs: what is in the vectors of the specification."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kps.testing.vectors import Vector, load_vectors

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
LONGEST = 4000  # bytes: longer messages are about limits, and slow everything down
ADDRESS = "localhost:9313"


@dataclass(frozen=True, slots=True)
class Step:
    """What one client does, or a time that passes."""

    kind: str
    """``open``, ``text``, ``raw``, ``close``, ``drop`` or ``wait``."""
    client: str = ""
    data: bytes = b""
    seconds: float = 0.0


def vectors() -> Iterator[list[Step]]:
    """What the clients of each vector do."""
    for vector in load_vectors(VECTORS):
        steps = list(steps_of(vector))
        if sum(len(step.data) for step in steps) <= LONGEST:
            yield steps


def all_messages() -> Iterator[bytes]:
    """Every message in the vectors, of clients and servers, once."""
    found: dict[bytes, None] = {}
    for vector in load_vectors(VECTORS):
        for step in vector.steps:
            for message in [step["send"]] if "send" in step else step.get("receives", []):
                found[written(message)] = None
            if isinstance(step.get("send_text"), str):
                found[step["send_text"].encode()] = None
    return (message for message in found if len(message) <= LONGEST)


def server_messages() -> Iterator[list[bytes]]:
    """What the clients of each vector are sent."""
    for vector in load_vectors(VECTORS):
        messages = [
            written(message)
            for step in vector.steps
            for message in step.get("receives", [])
            if "$closed" not in message
        ]
        if sum(map(len, messages)) <= LONGEST:
            yield messages


def steps_of(vector: Vector) -> Iterator[Step]:
    for step in vector.steps:
        match step:
            case {"open": str(client), **options}:
                yield Step("open", client)
                if options.get("registered"):
                    ping: dict[str, Any] = {"action": "ping", "from": client}
                    if options.get("level", 1) > 1:
                        ping["proto"] = options["level"]
                    yield Step("text", client, written(ping))
            case {"client": str(client), "send": message}:
                yield Step("text", client, written(message))
            case {"client": str(client), "send_text": str(text)}:
                yield Step("text", client, text.encode())
            case {"client": str(client), "send_raw": str(digits)}:
                yield Step("raw", client, bytes.fromhex(digits))
            case {"close": str(client)}:
                yield Step("close", client)
            case {"drop": str(client)}:
                yield Step("drop", client)
            case {"wait_s": int() | float() as seconds}:
                yield Step("wait", seconds=float(seconds))


def written(message: Any) -> bytes:
    """A message of a vector as JSON, with something in the place of each placeholder."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    for name, value in (("$ack", "ack_"), ("$address", ADDRESS), ("$generated", "generated-1")):
        text = text.replace(name, value)
    return text.encode()
