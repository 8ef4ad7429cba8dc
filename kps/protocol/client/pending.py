"""What the client has asked the server, and how each question ends."""

from kps.errors import KPSError


class Barrier:
    """A point in what the client sends, and whether the server has got there."""

    __slots__ = ("delivered", "error", "passed", "refusals")

    def __init__(self) -> None:
        self.passed = False
        self.refusals: list[str] = []
        """Errors that the server sent before it got there."""
        self.delivered: int | None = None
        """Subscribers that got the message, if it was asked for and the server tells."""
        self.error: KPSError | None = None
        """Why it never will."""
