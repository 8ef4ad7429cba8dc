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


def check_since(since: object) -> Position | None:
    """Return the place behind which a program wants messages; ``None`` if it names none.

    Raises :class:`kps.InvalidArgument`.
    """
    if since is None or (isinstance(since, Position) and is_position(since)):
        return since
    raise InvalidArgument(f"since is a kps.Position, not {shown(since)}")


def check_limit(limit: object) -> int:
    """Return how many messages of the past a program wants at most.

    Raises :class:`kps.InvalidArgument`.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LARGEST:
        raise InvalidArgument(f"limit is a number of messages from 1, not {shown(limit)}")
    return limit


def check_start(key: Key, since: object, last: object) -> Start | None:
    """Return with what of the past a program wants to begin.

    Raises :class:`kps.InvalidArgument`.
    """
    place = check_since(since)
    if place is None:
        if type(last) is not int or not 0 <= last <= LARGEST:
            raise InvalidArgument(f"last is a number of messages, not {shown(last)}")
        return Start(None, last) if last else None
    if last:
        raise InvalidArgument("give either since or last")
    if not isinstance(key, str):
        raise InvalidArgument("since is for a topic: a pattern has many positions")
    return Start(place)
