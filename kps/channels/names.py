"""Names: of channels, and of the topics and the id under which they are on the bus."""

import re
import secrets

from kps.errors import InvalidArgument
from kps.protocol.limits import shown

WORKERS = "workers"
"""The group of KPS in which all that receive from a normal channel are."""

_LONGEST_PREFIX = 30  # so that with it the name of a channel has fewer than 100 characters


class Names:
    """The names that one process uses. ``prefix`` keeps several projects on a bus apart.

    Raises :class:`kps.InvalidArgument` for a prefix that cannot be in the name of a channel.
    """

    def __init__(self, prefix: str) -> None:
        if not isinstance(prefix, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", prefix):
            raise InvalidArgument(
                f"prefix has ASCII letters, digits, - and _, unlike {shown(prefix)}"
            )
        if len(prefix) > _LONGEST_PREFIX:
            raise InvalidArgument(f"prefix has up to {_LONGEST_PREFIX} characters")
        self._prefix = prefix
        self.id = f"{prefix}-{secrets.token_hex(8)}"
        """The id of this process on the bus."""
        self.flush = f"{prefix}/flush"
        """The topic on which all processes are told to forget everything."""

        self.members = f"{prefix}/members"
        """The topic on which all processes are asked who is in a group."""

    def new_channel(self, prefix: str) -> str:
        """Return a new name of a channel from which only this process receives."""
        return f"{prefix}.{self.id}!{secrets.token_hex(6)}"

    def group(self, group: str) -> str:
        """Return the topic of a group."""
        return f"{self._prefix}/group/{group}"

    def group_of(self, topic: str) -> str:
        """Return the group of a topic; empty if it is none of a group."""
        head = self.group("")
        return topic.removeprefix(head) if topic.startswith(head) else ""

    def channel(self, channel: str) -> str:
        """Return the topic of a normal channel."""
        return f"{self._prefix}/channel/{channel}"

    def free(self, channel: str) -> str:
        """Return the topic on which workers of a normal channel say that they are free."""
        return f"{self._prefix}/free/{channel}"


def owner_of(channel: str) -> str:
    """Return the id of the process that a channel belongs to; empty for a normal channel."""
    process, mark, _ = channel.partition("!")
    return process.rpartition(".")[2] if mark else ""
