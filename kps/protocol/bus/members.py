"""Who is subscribed to a topic, as programs see it (spec, section 17)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kps.errors import InvalidArgument
from kps.protocol.cost import compact
from kps.protocol.dialect.envelope import Fields, compose
from kps.protocol.dialect.requests import NO_WISH, PresenceWish
from kps.protocol.limits import shown
from kps.protocol.patterns import Key

_MEMBER = 100  # bytes of a place in a table


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is subscribed to a topic, and what has changed since the last time."""

    topic: str
    """The topic of which it tells."""
    members: dict[str, Any] | None
    """What each member says about itself (its ``info``, or ``None``), by id. ``None``: there are
    so many that the server tells only their number."""
    count: int
    """Number of the members."""
    version: int | None
    """The number of the latest change, which grows; ``None`` if nobody observes the topic. An ack
    tells the one at which its message was published: see ``Ack.presence``."""
    joined: Mapping[str, Any] = field(default_factory=dict)
    """The members that are new, and what each says about itself."""
    updated: Mapping[str, Any] = field(default_factory=dict)
    """Those that say something else about themselves."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Why each has left: ``unsubscribed``, ``closed``, ``lost`` (its connection broke),
    ``replaced`` (another connection took its id), ``renamed``; or ``unknown``, if it left while
    this client had no connection or read too slowly."""

    @property
    def size(self) -> int:
        """Bytes for which it counts while it waits to be handled: its table, not what is in it."""
        return _MEMBER * len(self.members or ())


PresenceCallback = Callable[[Presence], object]


def check_wish(key: Key, info: Any, callback: object) -> PresenceWish:
    """Return what a program wants of a topic's presence. Raises :class:`kps.InvalidArgument`."""
    if info is None and callback is None:
        return NO_WISH
    if not isinstance(key, str):
        raise InvalidArgument("presence and info are for a topic, not for a pattern")
    observes = None if callback is None else True
    if info is None:
        return PresenceWish(None, observes)
    if not isinstance(info, dict):
        raise InvalidArgument(f"info is a dictionary, not {shown(info)}")
    return PresenceWish(compact(compose(info)), observes)


def read_presence(topic: str, fields: Fields) -> Presence:
    """Read who is there; what cannot be read counts as missing."""
    listed = fields.get("members")
    members = read_infos(listed) if type(listed) is list else None
    count, version = fields.get("count"), fields.get("version")
    return Presence(
        topic,
        members,
        count if type(count) is int else len(members or ()),
        version if type(version) is int else None,
    )


def read_infos(entries: list[Any]) -> dict[str, Any]:
    """Return what members say about themselves, by id."""
    return {
        one["id"]: one.get("info")
        for one in entries
        if type(one) is dict and type(one.get("id")) is str
    }
