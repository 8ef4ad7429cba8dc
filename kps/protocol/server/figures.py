"""The counters of a server, which are also among its published figures (spec, 12.8)."""

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """Counts since the start."""

    connections: int = 0
    """Clients that registered."""
    lost: int = 0
    """Registered clients whose connection ended without a closing handshake."""
    published: int = 0
    delivered: int = 0
    """Publications that had room in a subscriber's queue or mailbox, counted per subscriber."""
    dropped: int = 0
    """Messages dropped for clients that are gone, by full queues and ended connections."""
    refused: int = 0
    """Messages answered with an error."""
    bytes_in: int = 0
    """Bytes read from connections, HTTP and frames included."""
    bytes_out: int = 0
    """Bytes given to the driver to write."""
