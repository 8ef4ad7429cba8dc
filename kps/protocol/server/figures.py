"""What a server counts. Each count is also among the figures that it publishes (spec, 12.8)."""

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
    """Publications that had room in a subscriber's queue or mailbox, one for each."""
    dropped: int = 0
    """Messages that full queues and lost connections cost the clients that have gone."""
    refused: int = 0
    """Messages that were answered with an error."""
    bytes_in: int = 0
    """Read from connections, HTTP and frames included."""
    bytes_out: int = 0
    """Given to the driver to be written."""
