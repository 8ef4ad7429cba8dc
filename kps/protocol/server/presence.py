"""Tells clients who is subscribed to a topic, and who comes and goes (spec, section 17).

The members of a topic are its subscribers. For a topic that somebody observes we keep a roster, so
that observers get changes that agree with what they were told before. Changes are gathered for a
short time. An observer whose queue is crowded gets no changes; it gets one new list later, in place
of all that it has missed.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Protocol

from kps.protocol import cost
from kps.protocol.bus.subscriber import Departure, Subscriber
from kps.protocol.bus.topics import Bus
from kps.protocol.dialect import level2
from kps.protocol.dialect.codes import LIMIT_REACHED
from kps.protocol.dialect.envelope import Fields, InvalidMessage
from kps.protocol.dialect.outcome import Json
from kps.protocol.patterns import Key
from kps.protocol.server.turns import Turns
from kps.protocol.server_limits import ServerLimits
from kps.protocol.timers import Deadlines

if TYPE_CHECKING:
    from kps.protocol.server.ports import Transport

RENAMED = "renamed"
"""The reason of a member that goes on with another id."""

_CROWDED = 4  # a queue that is full to this part takes no list
_TICK = 0.1  # seconds for which changes of members are gathered
_SLOW_TICK = 1.0  # the same where only their number is told
_MOST_BYTES = 256 * 1024  # of a list of members
_PART = 8  # of a client's queue: such a list takes no more
_ENTRY = 32  # bytes around an id and an info in such a list
_INFOS = 64  # as many of the largest infos may one connection have


class Observer(Subscriber, Protocol):
    """A client that wants to know who is subscribed to a topic, and is subscribed to it."""

    @property
    def transport(self) -> "Transport":
        """What carries its messages."""

    def tell(self, message: bytes) -> bool:
        """Take a message about presence, or return ``False`` if too much waits for the client."""


class _Member:
    """A member of a topic, which may be away for a moment."""

    __slots__ = ("info", "subscriber")

    def __init__(self, subscriber: Subscriber | None, info: bytes) -> None:
        self.subscriber = subscriber
        """``None`` while it is away."""
        self.info = info
        """What it says about itself, as JSON; empty for nothing."""

    def fields(self, client_id: str) -> Fields:
        return {"id": client_id, "info": Json(self.info)} if self.info else {"id": client_id}


class Roster:
    """The members of one topic that somebody observes. It is an item of the agenda."""

    __slots__ = ("_absent", "_changed", "_due", "_kept_until", "_presence", "_size", "_told_at",
                 "behind", "is_long", "members", "observers", "topic", "version")  # fmt: skip

    def __init__(self, presence: "PresenceBook", topic: str, members: Iterable[Subscriber]) -> None:
        self._presence = presence
        self.topic = topic
        self.members: dict[str, _Member] = {}
        self.observers: dict[Subscriber, Observer] = {}
        """Who wants to know."""
        self.behind: set[Observer] = set()
        """Those of them that need a new list."""
        self.version = 0
        """The number of the latest change."""
        self.is_long = False
        """Whether there are so many members that only their number is told."""
        self._changed: dict[str, str] = {}  # ids since the last tick, and why those that left did
        self._absent: OrderedDict[str, tuple[float, str]] = (
            OrderedDict()
        )  # until when they may come back
        self._kept_until: float | None = None  # while an observer may come back
        self._size = 0  # bytes of the list
        self._due: float | None = None
        self._told_at = -_SLOW_TICK
        for member in members:
            self._put(member.id, _Member(member, presence.info_of(member, topic)))
        self._changed.clear()
        self.is_long = self._is_too_long()

    def joined(self, subscriber: Subscriber, now: float) -> None:
        """Note a member that is new, has come back, or says something else about itself."""
        client_id = subscriber.id
        info = self._presence.info_of(subscriber, self.topic)
        known = self.members.get(client_id)
        self._absent.pop(client_id, None)
        if known is not None and known.info == info:
            known.subscriber = subscriber
            return
        self._put(client_id, _Member(subscriber, info))
        self._plan(now)

    def left(self, subscriber: Subscriber, departure: Departure, now: float) -> None:
        """Note that a subscriber has left. Unless it said so, it may come back for a while."""
        client_id = subscriber.id
        member = self.members.get(client_id)
        if member is None or member.subscriber is not subscriber:
            return  # another connection has its id
        grace = self._presence.grace
        if departure.may_return and grace:
            member.subscriber = None
            self._absent[client_id] = now + grace, departure.reason
            if subscriber in self.observers:
                self._kept_until = now + grace
            self._presence.schedule(self)
        else:
            self._remove(client_id, departure.reason)
            self._plan(now)

    def renamed(self, subscriber: Subscriber, previous: str, now: float) -> None:
        """Note that a member has another id."""
        member = self.members.get(previous)
        if member is not None and member.subscriber is subscriber:
            self._remove(previous, RENAMED)
            self._absent.pop(subscriber.id, None)
            self._put(subscriber.id, _Member(subscriber, member.info))
            self._plan(now)

    def describe(self) -> Fields:
        """Return who is there, as fields of a message."""
        self.is_long = self.is_long or self._is_too_long()
        fields: Fields = {"count": len(self.members), "version": self.version}
        if not self.is_long:
            fields["members"] = [one.fields(name) for name, one in self.members.items()]
        return fields

    def _put(self, client_id: str, member: _Member) -> None:
        before = self.members.get(client_id)
        if before is not None:
            self._size -= _size(client_id, before)
        self.members[client_id] = member
        self._size += _size(client_id, member)
        self._changed[client_id] = ""
        self.version = self._presence.new_version()

    def _remove(self, client_id: str, reason: str) -> None:
        self._size -= _size(client_id, self.members.pop(client_id))
        self._changed[client_id] = reason
        self.version = self._presence.new_version()

    def _is_too_long(self) -> bool:
        """Tell whether there are too many members for a list; one that was too long shrinks first.

        So a number that goes up and down around the limit makes no lists again and again.
        """
        shrinks = 2 if self.is_long else 1
        most, most_bytes = self._presence.most_members, self._presence.most_bytes
        return len(self.members) * shrinks > most or self._size * shrinks > most_bytes

    # -- telling ----------------------------------------------------------------------------

    def _plan(self, now: float, patience: float = _TICK) -> None:
        """Tell the changes soon. Who causes the first of them pays for telling it."""
        tick = _SLOW_TICK if self.is_long else _TICK
        due = max(now + patience, self._told_at + tick)
        if self._due is None or due < self._due:
            self._due = due
            self._presence.turns.left -= len(self.observers)
            self._presence.schedule(self)

    def next_deadline(self) -> float | None:
        returns, _ = next(iter(self._absent.values()), (None, ""))
        times = [one for one in (self._due, self._kept_until, returns) if one is not None]
        return min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        """Give up those that have not come back, and tell what has changed."""
        while self._absent:
            client_id, (until, reason) = next(iter(self._absent.items()))
            if until > now:
                break
            del self._absent[client_id]
            self._remove(client_id, reason)
            self._plan(now, 0.0)
        if self._due is not None and now >= self._due:
            self._tell(now)
        if self._kept_until is not None and now >= self._kept_until:
            self._kept_until = None
        self._presence.forget_unless_needed(self)

    @property
    def is_needed(self) -> bool:
        """Whether somebody observes the topic, or may come back to it as an observer."""
        return bool(self.observers) or self._kept_until is not None

    def _tell(self, now: float) -> None:
        was_long, self.is_long = self.is_long, self._is_too_long()
        changes, lists = self._describe_changes(), b""
        self._changed.clear()
        self._due, self._told_at = None, now
        behind, self.behind = self.behind, set()
        lists_all = (was_long and not self.is_long) or len(changes) > self._presence.most_bytes
        for observer in list(self.observers.values()):
            message = changes
            if lists_all or observer in behind:
                if observer.transport.queued_bytes > self._presence.most_waiting:
                    self.behind.add(observer)
                    continue  # before a list is written for nobody
                lists = lists or level2.presence(self.topic, self.describe())
                message = lists
            # It may leave meanwhile, because its queue is full.
            if message and not observer.tell(message) and observer in self.observers:
                self.behind.add(observer)
        if self.behind:
            self._plan(now, _TICK if changes else _SLOW_TICK)

    def end(self) -> None:
        """Wait for nobody any more, because nobody observes the topic."""
        self._absent.clear()
        self._due = None

    def _describe_changes(self) -> bytes:
        """Return a message with all changes, as the last of each id has left them."""
        if not self._changed:
            return b""
        fields: Fields = {"count": len(self.members), "version": self.version}
        if not self.is_long:
            members = self.members
            joined = [members[name].fields(name) for name in self._changed if name in members]
            left = [
                {"id": name, "reason": reason}
                for name, reason in self._changed.items()
                if name not in members
            ]
            fields |= {"joined": joined} if joined else {}
            fields |= {"left": left} if left else {}
        return level2.presence(self.topic, fields)


def _size(client_id: str, member: _Member) -> int:
    """Return the bytes of a member in a list, roughly."""
    return _ENTRY + len(client_id.encode()) + len(member.info)


class _Infos:
    """What one client says about itself, by topic, as JSON."""

    __slots__ = ("by_topic", "size")

    def __init__(self) -> None:
        self.by_topic: dict[str, bytes] = {}
        self.size = 0
        """Bytes of all of them."""

    def put(self, topic: str, info: bytes) -> None:
        """Note what it says on a topic; empty for nothing."""
        self.size += len(info) - len(self.by_topic.pop(topic, b""))
        if info:
            self.by_topic[topic] = info


class PresenceBook:
    """Who is subscribed to the topics of one server, and who observes that.

    ``now()`` returns the time of the call that is under way.
    """

    def __init__(
        self,
        bus: Bus,
        deadlines: Deadlines,
        turns: Turns,
        limits: ServerLimits,
        now: Callable[[], float],
    ) -> None:
        self.turns = turns
        self.grace = limits.presence_grace
        self.most_members = limits.max_members
        self.most_waiting = limits.queue_bytes // _CROWDED
        self.most_bytes = min(_MOST_BYTES, limits.queue_bytes // _PART)
        self._most_info = limits.max_info
        self._bus = bus
        self._deadlines = deadlines
        self._now = now
        self._rosters: dict[str, Roster] = {}
        self._infos: dict[Subscriber, _Infos] = {}
        self._versions = count(1)
        bus.on_join.append(self._joined)
        bus.on_leave.append(self._left)

    def __len__(self) -> int:
        """Return how many topics somebody observes."""
        return len(self._rosters)

    def count_observers(self, topic: str) -> int:
        """Return how many clients observe a topic."""
        roster = self._rosters.get(topic)
        return 0 if roster is None else len(roster.observers)

    def version(self, topic: str) -> int:
        """Return the number of the latest change of a topic's members; 0: nobody observes it."""
        roster = self._rosters.get(topic)
        return 0 if roster is None else roster.version

    def info_of(self, subscriber: Subscriber, topic: str) -> bytes:
        """Return what a subscriber says about itself on a topic, as JSON; empty for nothing."""
        infos = self._infos.get(subscriber)
        return b"" if infos is None else infos.by_topic.get(topic, b"")

    def check_info(self, subscriber: Subscriber, topic: str, info: bytes) -> None:
        """Refuse an info that is too large, or too much with the others of its client."""
        if len(info) > self._most_info:
            raise InvalidMessage(f"the info has more than {self._most_info} bytes", "bad_request")
        infos = self._infos.get(subscriber)
        others = 0 if infos is None else infos.size - len(infos.by_topic.get(topic, b""))
        if others + len(info) > _INFOS * self._most_info:
            raise InvalidMessage("the infos of this client have too many bytes", LIMIT_REACHED)

    def set_info(self, subscriber: Subscriber, topic: str, info: bytes) -> None:
        """Note what a subscriber of a topic says about itself there, before it subscribes or now.

        It is JSON, or empty for nothing any more, which an empty object is as well.
        """
        self._note(subscriber, topic, b"" if info == b"{}" else cost.compact(info))
        roster = self._rosters.get(topic)
        if roster is not None and topic in subscriber.topics:
            roster.joined(subscriber, self._now())

    def _note(self, subscriber: Subscriber, topic: str, info: bytes) -> None:
        infos = self._infos.setdefault(subscriber, _Infos())
        infos.put(topic, info)
        if not infos.by_topic:
            del self._infos[subscriber]

    def prepare(self, topic: str, ready: Callable[[], object]) -> None:
        """Call ``ready`` once it can be told who is subscribed to a topic, which is at once."""
        ready()

    def observe(self, observer: Observer, topic: str) -> Fields:
        """Tell a subscriber of a topic about the members; return who is there, for its answer."""
        roster = self._rosters.get(topic)
        if roster is None:
            roster = self._rosters[topic] = self._read(topic)
        roster.observers[observer] = observer
        roster.behind.discard(observer)
        return self._describe(roster)

    def ignore(self, subscriber: Subscriber, topic: str) -> None:
        """Tell a client no more about the members of a topic."""
        roster = self._rosters.get(topic)
        observer = None if roster is None else roster.observers.pop(subscriber, None)
        if roster is not None and observer is not None:
            roster.behind.discard(observer)
            self.forget_unless_needed(roster)

    def forget_unless_needed(self, roster: Roster) -> None:
        """Forget the members of a topic that nobody observes."""
        if not roster.is_needed and self._rosters.get(roster.topic) is roster:
            del self._rosters[roster.topic]
            roster.end()
            self._deadlines.cancel(roster)

    def look(self, topic: str) -> Fields:
        """Return who is subscribed to a topic now."""
        roster = self._rosters.get(topic)
        if roster is not None:
            return self._describe(roster)
        fields = self._describe(self._read(topic))
        del fields["version"]  # nobody numbers the changes
        return fields

    def renamed(self, subscriber: Subscriber, previous: str) -> None:
        """Note that a client has another id."""
        if self._rosters:
            self.turns.left -= len(subscriber.topics)
            for key in subscriber.topics:
                roster = self._rosters.get(key) if isinstance(key, str) else None
                if roster is not None:
                    roster.renamed(subscriber, previous, self._now())

    def schedule(self, roster: Roster) -> None:
        """Enter the next deadline of a roster."""
        self._deadlines.schedule(roster)

    def new_version(self) -> int:
        """Return the number of a change, which is above all others."""
        return next(self._versions)

    def _read(self, topic: str) -> Roster:
        members = self._members(topic)
        self.turns.left -= len(members)
        return Roster(self, topic, members)

    def _members(self, topic: str) -> list[Subscriber]:
        return self._bus.own_subscribers(topic)

    def _describe(self, roster: Roster) -> Fields:
        if not roster.is_long:
            self.turns.left -= len(roster.members)
        return roster.describe()

    def _joined(self, subscriber: Subscriber, key: Key) -> None:
        roster = self._rosters.get(key) if isinstance(key, str) else None
        if roster is not None:
            roster.joined(subscriber, self._now())

    def _left(self, subscriber: Subscriber, key: Key) -> None:
        if not isinstance(key, str):
            return
        if subscriber in self._infos:
            self._note(subscriber, key, b"")
        roster = self._rosters.get(key)
        if roster is not None:
            roster.left(subscriber, subscriber.departure, self._now())
            self.ignore(subscriber, key)
