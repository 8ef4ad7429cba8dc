"""Ids for clients and servers that were given none."""

import uuid


def random_id(kind: str) -> str:
    """Return a unique id."""
    return f"{kind}-{uuid.uuid4().hex[:16]}"
