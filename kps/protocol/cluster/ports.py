"""Small protocols for what the parts of a node need of each other."""

from typing import Protocol

from kps.protocol.bus.publication import Publication


class DeliversHere(Protocol):
    """Delivers to the clients of this node."""

    def publish_here(self, publication: Publication) -> int:
        """Deliver a publication; return how many subscribers had room for its last message."""

    def reached(self, node: str, number: int, count: int) -> None:
        """Note how many subscribers of a node got a publication of which one wants a receipt."""
