"""Messages of the past, as a program asks for them and gets them."""

from typing import NamedTuple

from kps.errors import InvalidArgument
from kps.protocol.bus.message import Message
from kps.protocol.dialect.places import LARGEST, Position, Start, is_position
from kps.protocol.limits import shown
from kps.protocol.patterns import Key


class Past(NamedTuple):
    """Messages of a topic with history, as ``history`` returns them."""

    messages: list[Message]
    """The oldest first."""
    position: Position
    """The place behind the last of them: the next ``since``."""
    recovered: bool
    """Whether there are no others between the ``since`` that was asked for and these."""
    lost: int | None
    """If there are, how many; ``None`` if nobody knows."""


def check_start(key: Key, since: Position | None, last: int) -> Start | None:
    """Return with what of the past a program wants to begin.

    Raises :class:`kps.InvalidArgument`.
    """
    if since is None:
        if type(last) is not int or not 0 <= last <= LARGEST:
            raise InvalidArgument(f"last is a number of messages, not {shown(last)}")
        return Start(None, last) if last else None
    if not isinstance(since, Position) or not is_position(since):
        raise InvalidArgument(f"since is a kps.Position, not {shown(since)}")
    if last:
        raise InvalidArgument("give either since or last")
    if not isinstance(key, str):
        raise InvalidArgument("since is for a topic: a pattern has many positions")
    return Start(since)
