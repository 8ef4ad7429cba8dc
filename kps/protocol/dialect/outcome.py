"""How a subscriber fared with a message whose publisher wants to know."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AckResponse:
    """How one addressed subscriber fared with a message (spec, section 6)."""

    client_id: str
    success: bool
    error: str | None = None
    """What went wrong: the subscriber's own text, or ``disconnected``, ``timeout``,
    ``queue full``, ``no subscriber for topic``."""
    ack_id: str = ""
    """An id of the request: the server's on level 1, the publisher's on level 2."""
    result: Any = None
    """What the subscriber's callback returned: any JSON value. Level 2 only."""

    def fields(self) -> dict[str, Any]:
        """The response as level 1 writes it: ``error`` only when there is one."""
        fields = {"ack_id": self.ack_id, "client_id": self.client_id, "success": self.success}
        return fields | ({"error": self.error} if self.error else {})


def bad_result(reason: object) -> str:
    """The error of a subscriber whose result cannot be sent."""
    return f"the result of the callback is of no use: {reason}"


def timed_out(client_id: str, ack_id: str) -> AckResponse:
    """The outcome of who did not answer in time."""
    return AckResponse(client_id, False, "timeout", ack_id)
