"""What a channel layer has not delivered, counted and told."""

import logging
from dataclasses import asdict, dataclass, field

from kps.io_common.logger import write


@dataclass
class Counts:
    """Messages that this process has dropped since it started, by reason."""

    full: int = 0
    """To a group, of which the channel was full. (``send`` raises ``ChannelFull`` instead.)"""
    expired: int = 0
    """Nobody received them within ``expiry`` seconds."""
    nobody: int = 0
    """To a channel of a process that is not on the bus any more."""
    lost: int = 0
    """To a normal channel. Our connection or the worker's ended, so it is unknown whether a worker
    has got them. They are not sent again, as a message comes at most once. Or the server refused
    them, or the program ended before a worker took them."""
    invalid: int = 0
    """What came was no message of a channel layer: another program has published it."""

    _told: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def tell(self) -> None:
        """Write a line of the log for each reason of which there are more than the last time."""
        now = {name: count for name, count in asdict(self).items() if name in _REASONS}
        before, self._told = self._told, now
        for name, reason in _REASONS.items():
            if (more := now[name] - before.get(name, 0)) > 0:
                text = "the channel layer dropped %(count)d messages: %(reason)s"
                write(logging.WARNING, "channel_drops", text, count=more, reason=reason)


_REASONS = {
    "full": "channels of a group were full; raise capacity, or receive faster",
    "expired": "nobody received them in time",
    "nobody": "the process of their channel is gone",
    "lost": "a connection or the program ended before a worker had them, or they were refused",
    "invalid": "another program has published what is no message",
}
