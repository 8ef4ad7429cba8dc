"""Finds the files of the specification: in an installed package, and in a checkout."""

from pathlib import Path


def vectors_for_servers() -> Path:
    """Return the folder with the vectors that a server must pass."""
    return _folder("vectors")


def vectors_for_clients() -> Path:
    """Return the folder with the vectors that a client must pass."""
    return _folder("client-vectors")


def _folder(name: str) -> Path:
    packaged = Path(__file__).parent / "spec" / name
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "spec" / name
