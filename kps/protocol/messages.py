"""What programs get to see of the bus: messages, and the answers to ack requests."""

from dataclasses import dataclass, field
from typing import Any


class Acknowledgement:
    """The answer that one message still needs, from all subscriptions that got it."""

    __slots__ = ("ack_id", "epoch", "error", "remaining")

    def __init__(self, ack_id: str, epoch: int, remaining: int) -> None:
        self.ack_id = ack_id
        self.epoch = epoch
        """The connection that it came on; an answer on a later one would mean nothing."""
        self.remaining = remaining
        """Subscriptions that have not yet told how it went."""
        self.error: str | None = None
        """What the first of them that failed said."""


@dataclass(slots=True)
class Message:
    """One message, as a callback or an iterator receives it."""

    topic: str
    """The topic; empty for a direct message."""
    data: Any
    """The payload: any JSON value."""
    sender: str
    """The id of who published it."""
    size: int = field(default=0, repr=False, compare=False)
    """Bytes of the WebSocket message that brought it; 0 within one process."""
    acknowledgement: Acknowledgement | None = field(default=None, repr=False, compare=False)

    @property
    def wants_ack(self) -> bool:
        """Whether the publisher asked to be told how handling it went."""
        return self.acknowledgement is not None


@dataclass(frozen=True, slots=True)
class AckResponse:
    """How one addressed subscriber fared with a message (spec, section 6)."""

    client_id: str
    success: bool
    error: str | None = None
    """What went wrong: the subscriber's own text, or ``disconnected``, ``timeout``,
    ``queue full``, ``no subscriber for topic``."""
    ack_id: str = ""
    """The server's id of the request."""


class AckHandle:
    """What a publisher knows of its ack request; filled in as answers come."""

    __slots__ = ("error", "finished", "id", "responses")

    def __init__(self, ack_id: str) -> None:
        self.id = ack_id
        self.responses: dict[str, AckResponse] = {}
        """The outcomes so far, by client id."""
        self.finished = False
        """Nothing more will come: complete, out of time, cancelled or lost."""
        self.error: Exception | None = None
        """Why it ended without the server's answer, if it did."""
