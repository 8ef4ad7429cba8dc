"""The vectors for clients, as data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        )
        for file in files
        for item in json.loads(file.read_text(encoding="utf-8"))["vectors"]
    ]
