"""Where a subscriber stands in the history of topics, in messages (spec, 15)."""

from typing import Any, NamedTuple

from kps.protocol.dialect.envelope import Fields, InvalidMessage, text

LARGEST = 2**53 - 1
"""The largest integer that every language reads."""

LARGEST_OFFSET = LARGEST - 2**32
"""Of a delivery: the offsets of all messages in it are numbers that every language reads."""

LONGEST_EPOCH = 256
"""Characters."""


class Position(NamedTuple):
    """A place in the history of one topic: behind the message with this offset.

    Give it to ``subscribe`` or ``history`` as ``since``, to get what has come after it. It may be
    kept, and used by another program.
    """

    epoch: str
    """Names the numbering that the offset is of. When a history is lost, a new one begins."""
    offset: int
    """The number of that message. Later ones of the epoch have larger numbers."""


class Places(NamedTuple):
    """A place in the history of all topics of a pattern."""

    epoch: str
    mark: int
    """A number of the server's, which grows with what is published on any topic."""
    topics: dict[str, Position]
    """Where the subscriber stands in topics of which it has got messages since."""


class Start(NamedTuple):
    """With which messages of the past a subscription begins."""

    since: Position | Places | None = None
    """Those behind a place."""
    last: int = 0
    """So many of the latest, if ``since`` is not given; else so many at most, of an answer."""

    def fields(self) -> Fields:
        """Return the fields of a request that ask for it."""
        since = self.since
        fields: Fields = {"last": self.last} if self.last else {}
        if isinstance(since, Position):
            fields["since"] = since._asdict()
        elif since is not None:
            topics = {topic: position._asdict() for topic, position in since.topics.items()}
            fields["since"] = {"epoch": since.epoch, "mark": since.mark, "topics": topics}
        return fields


class Standing(NamedTuple):
    """Where a subscription begins, as its confirmation tells."""

    epoch: str = ""
    """That of the topic, or for a pattern of all topics that tell no other; empty: no history."""
    offset: int = 0
    """What comes has the offsets above this."""
    mark: int = 0
    """For a pattern: a number of the server's, which grows with what is published."""
    coming: int = 0
    """How many messages of the past come."""
    recovered: bool | None = None
    """Whether all that was asked for with ``since`` comes; ``None`` if nothing was."""
    lost: int | None = None
    """If not, how many messages do not; ``None`` if nobody knows."""

    def fields(self, *, is_pattern: bool) -> Fields:
        """Return the fields of a confirmation that tell it."""
        fields: Fields = {}
        if self.epoch:
            place = {"mark": self.mark} if is_pattern else {"offset": self.offset}
            fields = {"epoch": self.epoch, **place, "coming": self.coming}
        if self.recovered is not None:
            fields["recovered"] = self.recovered
        if self.lost is not None:
            fields["lost"] = self.lost
        return fields


def without_history(start: Start | None) -> Standing:
    """Return what a confirmation tells where nothing is kept."""
    return Standing(recovered=None if start is None or start.since is None else False)


def read_start(fields: Fields, most: int, *, is_pattern: bool) -> Start | None:
    """Read with what a subscription is to begin. Raises :class:`InvalidMessage`.

    ``most`` is how many topics the place of a pattern may name.
    """
    since: Any = fields.get("since")
    last: Any = fields.get("last")
    place: Position | Places | None = None
    if since is not None:
        place = _read_places(since, most) if is_pattern else read_position(since)
        if place is None:
            raise InvalidMessage("since is not a place in the history", "bad_request")
    if last is not None and not _is_number(last):
        raise InvalidMessage("last must be a number of messages", "bad_request")
    return None if place is None and last is None else Start(place, last or 0)


def read_position(value: Any) -> Position | None:
    """Read a place in the history of a topic; ``None`` if it is none."""
    if type(value) is not dict:
        return None
    epoch: Any = value.get("epoch")
    offset: Any = value.get("offset")
    return Position(epoch, offset) if type(epoch) is str and _is_number(offset) else None


def is_position(position: Position) -> bool:
    """Tell whether a position of the program can be sent."""
    epoch: object = position.epoch
    return isinstance(epoch, str) and _is_number(position.offset)


def _read_places(value: Any, most: int) -> Places | None:
    if type(value) is not dict:
        return None
    epoch: Any = value.get("epoch")
    mark: Any = value.get("mark")
    topics = value.get("topics")
    if type(epoch) is not str or not _is_number(mark) or type(topics) not in (dict, type(None)):
        return None
    positions: dict[str, Position] = {}
    for topic, one in (topics or {}).items():
        position = read_position(one)
        if position is None:
            return None
        positions[topic] = position
    if len(positions) > most:
        raise InvalidMessage("since names too many topics", "limit_reached")
    return Places(epoch, mark, positions)


def read_standing(fields: Fields) -> Standing:
    """Read what a confirmation tells; what cannot be read counts as missing."""
    recovered, lost = fields.get("recovered"), fields.get("lost")
    numbers = {
        name: fields[name] for name in ("offset", "mark", "coming") if _is_number(fields.get(name))
    }
    return Standing(
        text(fields, "epoch")[:LONGEST_EPOCH],
        recovered=recovered if type(recovered) is bool else None,
        lost=lost if _is_number(lost) else None,
        **numbers,
    )


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST
