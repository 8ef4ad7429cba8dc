"""What a client knows of the members of topics (spec, section 17)."""

from dataclasses import replace

from kps.protocol.bus.given import check_topic
from kps.protocol.bus.members import Presence, read_infos, read_presence
from kps.protocol.calls import verb
from kps.protocol.client.asking import Asking
from kps.protocol.client.events import PresenceChanged
from kps.protocol.client.pending import PresenceQuestion
from kps.protocol.client.sender import Sender
from kps.protocol.client.state import ClientState
from kps.protocol.dialect import level2
from kps.protocol.dialect.codes import PRESENCE
from kps.protocol.dialect.envelope import Fields, text
from kps.protocol.dialect.requests import NO_WISH, PresenceWish
from kps.protocol.patterns import Key

_UNKNOWN = "unknown"  # the reason of one that has left meanwhile


class MembersOfTopics:
    """Asks for the members of topics, and follows those that the program observes."""

    def __init__(self, state: ClientState, sender: Sender, asking: Asking) -> None:
        self.calls = state.calls
        self._state = state
        self._sender = sender
        self._asking = asking
        self._known: dict[str, Presence] = {}
        self._wishes: dict[Key, PresenceWish] = {}  # of the program's subscriptions

    @verb
    def ask(self, topic: object, now: float) -> PresenceQuestion:
        """Ask who is subscribed to a topic; ``BarrierPassed`` tells that the answer is there.

        Raises ``NotConnected``, ``QueueFull`` and :class:`kps.Unsupported`.
        """
        state, asking = self._state, self._asking
        state.now = now
        topic = check_topic(topic, state.config.limits)
        state.require_link()
        state.require_feature(PRESENCE)
        asking.require_room()
        question = PresenceQuestion(asking.pending.new_name("presence"))
        message = level2.ask_presence(topic, question.name)
        self._sender.send_or_refuse(message, droppable=False)
        asking.pending.add(question.name, question)
        return question

    def wish_of(self, key: Key) -> PresenceWish:
        """Return what the program wants of the presence on a topic."""
        return self._wishes.get(key, NO_WISH)

    def want(self, key: Key, wish: PresenceWish) -> None:
        """Note what a subscription has to do with presence, besides others."""
        if wish != NO_WISH:
            self._wishes[key] = self.wish_of(key).changed(wish)

    def return_to(self, key: Key, wish: PresenceWish) -> None:
        """Want what the program wanted before, as the server has refused something."""
        self._wishes[key] = wish
        if not wish.observes:
            self._known.pop(str(key), None)

    def ignore(self, key: Key) -> None:
        """Forget the members of a topic, which the program does not observe any more."""
        self.return_to(key, self.wish_of(key)._replace(observes=None))

    def forget(self, key: Key) -> None:
        """Forget all about a topic, to which the program is not subscribed any more."""
        self._known.pop(str(key), None)
        self._wishes.pop(key, None)

    def untold(self) -> list[str]:
        """Return the topics whose members the program observes, if the server does not tell."""
        if self._state.has_feature(PRESENCE):
            return []
        return [str(key) for key, wish in self._wishes.items() if wish.observes]

    def received(self, fields: Fields) -> None:
        """Take an answer, or what has changed on a topic."""
        topic, name = text(fields, "topic"), text(fields, "nonce")
        if not name:
            if topic in self._known:
                self._follow(topic, fields)
            return
        question = self._asking.pending.find(name, PresenceQuestion)
        if question is not None:
            question.presence = read_presence(topic, fields)
            self._asking.passed(name)

    def confirmed(self, topic: str, fields: Fields) -> None:
        """Take the members at the beginning of a subscription that observes, on this connection."""
        if not self.wish_of(topic).observes:
            return
        self._known.setdefault(topic, Presence(topic, {}, 0, None))
        self._follow(topic, fields)

    def _follow(self, topic: str, fields: Fields) -> None:
        before = self._known[topic]
        if "members" in fields:
            now = _since(before, read_presence(topic, fields))
        else:
            now = _changed(before, fields)
        members = None if now.members is None else dict(now.members)  # the program may change its
        self._known[topic] = Presence(topic, members, now.count, now.version)
        self._state.events.append(PresenceChanged(now))


def _since(before: Presence, now: Presence) -> Presence:
    """Return who is there, with what has changed since then."""
    old, new = before.members or {}, now.members or {}
    return replace(
        now,
        joined={name: info for name, info in new.items() if name not in old},
        updated={name: info for name, info in new.items() if name in old and old[name] != info},
        left={name: _UNKNOWN for name in old if name not in new},
    )


def _changed(before: Presence, fields: Fields) -> Presence:
    """Return who is there after some changes, which may be known already."""
    now = read_presence(before.topic, fields)
    came, went = fields.get("joined"), fields.get("left")
    if before.members is None or (came is None and went is None):
        return now  # only the number is told
    told = read_infos(came) if type(came) is list else {}
    members = dict(before.members)
    left: dict[str, str] = {}
    for one in went if type(went) is list else ():
        name = one.get("id") if type(one) is dict else None
        if type(name) is str and name in members and name not in told:  # it may be back already
            del members[name]
            left[name] = text(one, "reason") or _UNKNOWN
    joined = {name: info for name, info in told.items() if name not in before.members}
    updated = {
        name: info
        for name, info in told.items()
        if name in before.members and before.members[name] != info
    }
    return replace(now, members=members | told, joined=joined, updated=updated, left=left)
