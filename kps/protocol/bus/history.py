"""The rules for history: for which topics a server keeps messages (spec, 15)."""

from dataclasses import dataclass

from kps.errors import InvalidArgument
from kps.protocol.limits import LONGEST, shown
from kps.protocol.patterns import Pattern

_LARGEST = 10_000_000  # messages


@dataclass(frozen=True, slots=True)
class History:
    """A rule of a server: for which topics it keeps messages, and how many.

    ``History("chat/**", size=100, ttl=3600)``. The first rule whose pattern has a topic counts. A
    topic that begins with ``__`` has none, unless the pattern begins so too. Raises
    :class:`kps.InvalidArgument`.
    """

    topics: str | Pattern
    """A pattern of topics: ``*`` stands for any characters but ``/``, ``**`` for any."""
    size: int = 1000
    """Messages to keep for each topic. 1 keeps the latest value."""
    ttl: float | None = None
    """Seconds for which a message is kept; ``None``: until ``size`` others have come."""

    def __post_init__(self) -> None:
        if isinstance(self.topics, Pattern):
            object.__setattr__(self, "topics", self.topics.text)
        if not isinstance(self.topics, str) or not self.topics or self.topics == "*":
            raise InvalidArgument(f"topics is a pattern like 'chat/**', not {shown(self.topics)}")
        if type(self.size) is not int or not 1 <= self.size <= _LARGEST:
            raise InvalidArgument(f"size is a number from 1 to {_LARGEST}, not {shown(self.size)}")
        ttl = self.ttl
        if ttl is not None and (type(ttl) not in (int, float) or not 0 < ttl <= LONGEST):
            raise InvalidArgument(f"ttl is a number of seconds above 0, not {shown(ttl)}")
