"""What a caller of a client asks the server."""

from kps.errors import KPSError


class StatusQuestion:
    """A caller that waits for the status of an ack request."""

    __slots__ = ("answer", "error")

    def __init__(self) -> None:
        self.answer: dict[str, bool] | None = None
        self.error: KPSError | None = None

    @property
    def is_over(self) -> bool:
        """Whether the server has answered."""
        return self.answer is not None or self.error is not None
