"""Counts how ack requests end, and what becomes of each message that is to be acknowledged."""

from typing import Final

from kps.protocol.histogram import Histogram

HANDLED: Final = "handled"
FAILED: Final = "failed"
"""A receiver has said so, or has returned the message."""
DISCONNECTED: Final = "disconnected"
TIMED_OUT: Final = "timeout"
ABSENT: Final = "absent"
"""An expected client that is not subscribed."""
NO_MEMBER: Final = "no_member"
"""A group without members."""
BUSY: Final = "busy"
"""A group of which too many messages wait."""
NO_ROOM: Final = "no_room"
"""The result, or the attempts so far, take too much memory."""
UNKNOWN: Final = "unknown"
"""Nobody waited any more: the request was cancelled, or its publisher has left."""

OUTCOMES: Final = (
    HANDLED,
    FAILED,
    DISCONNECTED,
    TIMED_OUT,
    ABSENT,
    NO_MEMBER,
    BUSY,
    NO_ROOM,
    UNKNOWN,
)

COMPLETE: Final = "complete"
CANCELLED: Final = "cancelled"
OWNER_LEFT: Final = "publisher_left"

ENDS: Final = (COMPLETE, TIMED_OUT, CANCELLED, OWNER_LEFT)
"""How a request ends: all outcomes are known, its time is over, or nobody waits any more."""

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
           300.0)  # fmt: skip


class AckFigures:
    """Counts since the start. What goes well is not counted: it is the rest."""

    def __init__(self) -> None:
        self.pending = 0
        """Requests under way."""
        self.asked = 0
        """Receivers that were to answer."""
        self.awaited = 0
        """Those that have not answered, while their requests are under way."""
        self._outcomes = dict.fromkeys(OUTCOMES, 0)
        self._ends = dict.fromkeys(ENDS, 0)
        self.duration = Histogram(_BOUNDS)
        """Seconds of the requests that were complete, or whose time was over."""

    def note(self, outcome: str) -> None:
        """Count a receiver that has not handled a message."""
        self._outcomes[outcome] += 1

    def late(self, receivers: int) -> None:
        """Count a request whose time is over, and the receivers that have not answered."""
        self._outcomes[TIMED_OUT] += receivers
        self._ends[TIMED_OUT] += 1

    def given_up(self, receivers: int, end: str) -> None:
        """Count a request for whose outcomes nobody waits any more, and those that are missing."""
        self._outcomes[UNKNOWN] += receivers
        self._ends[end] += 1

    def outcomes(self) -> dict[str, int]:
        """Return how many receivers had each outcome."""
        others = sum(self._outcomes.values()) - self._outcomes[ABSENT]
        return self._outcomes | {HANDLED: self.asked - self.awaited - others}

    def ends(self) -> dict[str, int]:
        """Return how many requests have ended in each way."""
        return self._ends | {COMPLETE: sum(self.duration.counts) - self._ends[TIMED_OUT]}
