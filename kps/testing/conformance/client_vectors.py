"""The vectors for clients, as data."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ClientVector:
    """A script for a server and a program. ``spec/CLIENTS.md`` explains the steps."""

    name: str
    steps: Sequence[Mapping[str, Any]]
    clauses: tuple[str, ...] = ()
    """What it shows: clauses of ``spec/PROTOCOL.md``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the client."""
    needs: frozenset[str] = frozenset()
    """Features that the client must know."""
    on_level_1: bool = False
    """Whether it holds for a client that knows level 1 only, in the form of :func:`lowered`."""

    @property
    def verbs(self) -> frozenset[str]:
        """What the program does."""
        return frozenset(step["do"] for step in self.steps if "do" in step)


def load_client_vectors(path: Path | str) -> list[ClientVector]:
    """Read a file of vectors for clients, or all files of a directory."""
    path = Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [
        ClientVector(
            item["name"],
            item["steps"],
            (item["clause"],) if isinstance(item["clause"], str) else tuple(item["clause"]),
            item.get("options", {}),
            frozenset(item.get("needs", ())),
            item.get("on_level_1", "level_1" in item.get("needs", ())),
        )
        for file in files
        for item in json.loads(file.read_text(encoding="utf-8"))["vectors"]
    ]


def lowered(vector: ClientVector) -> ClientVector:
    """Return a vector for a client that offers level 1: all of its connections are on level 1."""
    steps = [one for step in vector.steps for one in _lowered_step(step, vector)]
    return replace(vector, options={**vector.options, "level": 1}, steps=steps)


def _lowered_step(step: Mapping[str, Any], vector: ClientVector) -> Iterator[Mapping[str, Any]]:
    match step:
        case {"accept": True, "id": str()}:
            yield {name: one for name, one in step.items() if name != "pong"} | {"level": 1}
        case {"got": list(expected)}:
            yield {"got": [_lowered_question(one) for one in expected]}
        case {"send": list() | dict() as sent} if "level_1" not in vector.needs:
            for message in sent if isinstance(sent, list) else [sent]:
                yield {"send": _lowered_message(message)}
        case _:
            yield step


def _lowered_question(expected: Mapping[str, Any]) -> Mapping[str, Any]:
    """A client of level 1 has no ``proto``, and need not pass its timeout on (6.7)."""
    changed = {name: one for name, one in expected.items() if name != "proto"}
    if "timeout" in changed:
        changed["timeout"] = {"$optional": changed["timeout"]}
    return changed


def _lowered_message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    match message:
        case {"action": "pong", "id": id}:
            return {"action": "pong", "id": id}
        case {"action": "publish", "from": sender, "data": data, **rest}:
            return {"action": "publish", "data": {"data": data, "from": sender}, **rest}
    return message
