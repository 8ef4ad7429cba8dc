"""Which node is the home of a name: all nodes that see the same ones agree, without a word."""

from collections.abc import Iterable
from hashlib import blake2b


def weight(name: str, node: str) -> bytes:
    """Return how much a node is the home of a name."""
    text = f"{name}\0{node}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8).digest()


def home_of(name: str, nodes: Iterable[str]) -> str:
    """Return the node that is home (rendezvous hashing).

    Another node makes itself the home of a fair share of names, and moves no others.
    """
    return max(nodes, key=lambda node: (weight(name, node), node))
