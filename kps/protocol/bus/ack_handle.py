"""An ack request, as its publisher has it."""

from typing import NamedTuple

from kps.protocol.dialect.outcome import AckResponse, by_name


class AckHandle:
    """An ack request, as its publisher sees it; answers fill it in."""

    __slots__ = ("error", "finished", "id", "is_degraded", "outcomes", "presence")

    def __init__(self, ack_id: str) -> None:
        self.id = ack_id
        self.outcomes: dict[str, AckResponse] = {}
        """The outcomes so far, by their keys."""
        self.presence: int | None = None
        """The number of the latest change of the topic's members before the message."""
        self.is_degraded = False
        """Whether the server could not reach the other nodes of its cluster, nor ask there."""
        self.finished = False
        """Whether it has ended: complete, timed out, cancelled or lost."""
        self.error: Exception | None = None
        """Why it ended without the server's answer, if it did."""

    @property
    def responses(self) -> dict[str, AckResponse]:
        """The outcomes so far, by client id, and of groups by ``GROUP of TOPIC``."""
        return by_name(self.outcomes)

    def known_status(self) -> dict[str, bool]:
        """Return the clients with a known outcome, and whether each answered in time."""
        return {outcome.name: outcome.error != "timeout" for outcome in self.outcomes.values()}


class AckChanged(NamedTuple):
    """An ack request of the program got an answer, or ended."""

    handle: AckHandle
