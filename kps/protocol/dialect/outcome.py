"""How a subscriber fared with a message whose publisher wants to know."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

if TYPE_CHECKING:
    # Type checkers know this module; it is never imported. It says what a plain name means.
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class AckResponse(Generic[R]):
    """How one addressed subscriber fared with a message (spec, section 6)."""

    client_id: str
    success: bool
    error: str | None = None
    """What went wrong: the subscriber's own text, or ``disconnected``, ``timeout``,
    ``queue full``, ``no subscriber for topic``."""
    ack_id: str = ""
    """An id of the request: the server's on level 1, the publisher's on level 2."""
    result: R | None = None
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
