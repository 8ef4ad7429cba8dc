"""The counters of a server: those that it publishes (spec, 12.8), and more for its operators."""

from collections import Counter
from dataclasses import dataclass, field

from kps.protocol.dialect.codes import DISMISSED, ERRORS, EXPIRED, ID_TAKEN


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
    own_published: int = 0
    """Those of the published that were these figures."""
    own_delivered: int = 0
    """How often these found room in a subscriber's queue."""
    refused: int = 0
    """Messages answered with an error."""
    bytes_in: int = 0
    """Bytes read from connections, HTTP and frames included."""
    bytes_out: int = 0
    """Bytes given to the driver to write."""


OTHER = "other"
"""Stands for close codes and statuses that a peer, or a program, has chosen freely."""

REFUSALS = ("full", "address", "origin", "login", "stopping")
"""Why connections are refused: there are too many, or too many from one address; the origin of a
page; a token or the program's own decision; the end of the server."""

RECOVERIES = ("complete", "loss")

_CLOSE_CODES = (*range(1000, 1004), *range(1005, 1015), ID_TAKEN, EXPIRED, DISMISSED)
_STATUSES = (101, 200, 304, 400, 401, 403, 404, 408, 426, 431, 503, 505)


def _zeros(*names: object) -> dict[str, int]:
    return dict.fromkeys(map(str, names), 0)


@dataclass(slots=True)
class Tally:
    """More counts since the start, of what is rare, by reasons."""

    accepted: int = 0
    """Connections, plain HTTP included."""
    received: int = 0
    """Messages from clients that are gone."""
    slow: int = 0
    """Messages dropped because they overflowed a queue, so that its connection was closed."""
    disconnected: int = 0
    """Messages dropped because the connection had ended."""
    links_fallen: int = 0
    """Links to other nodes of a cluster that have fallen."""
    frames_lost: int = 0
    """Frames for other nodes that had not been sent then."""
    unconfirmed: int = 0
    """Subscriptions and ids with which we went on though a node had not answered in time."""
    repeats: int = 0
    """Messages with ids that came again, and were answered as before."""
    unrecovered: int = 0
    """Messages that clients have missed for good, as far as it is known how many."""
    refusals: Counter[str] = field(default_factory=lambda: Counter(_zeros(*ERRORS)))
    """Messages answered with an error, by its code."""
    refused: dict[str, int] = field(default_factory=lambda: _zeros(*REFUSALS))
    """Connections, and later logins, that were refused."""
    closed: dict[str, int] = field(default_factory=lambda: _zeros(*_CLOSE_CODES, OTHER))
    """WebSockets that have ended, by close code."""
    responses: dict[str, int] = field(default_factory=lambda: _zeros(*_STATUSES, OTHER))
    """Answers to HTTP requests, by status."""
    recoveries: dict[str, int] = field(default_factory=lambda: _zeros(*RECOVERIES))
    """Clients that asked for what they had missed, and whether all of it was kept."""

    def answered(self, status: int) -> None:
        """Count an answer to an HTTP request."""
        add_one(self.responses, status)

    def overflowed(self, messages: int) -> None:
        """Count messages dropped because they overflowed the queue of a connection."""
        self.slow += messages

    def cut_off(self, messages: int) -> None:
        """Count messages dropped because their connection had ended."""
        self.disconnected += messages

    def recovered(self, is_whole: bool | None, lost: int | None) -> None:
        """Count a client that has asked for what it had missed; ``None``: it has not."""
        if is_whole is not None:
            self.recoveries[RECOVERIES[0] if is_whole else RECOVERIES[1]] += 1
            self.unrecovered += lost or 0


def add_one(counts: dict[str, int], name: object) -> None:
    """Count one thing under its name, if that is known, or among the others."""
    key = str(name)
    counts[key if key in counts else OTHER] += 1
