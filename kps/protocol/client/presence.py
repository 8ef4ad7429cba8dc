"""What a client knows of the members of topics (spec, section 17)."""

from collections.abc import Callable, Iterable
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
from kps.protocol.patterns import Key

_UNKNOWN = "unknown"  # the reason of one that has left meanwhile


class MembersOfTopics:
    """Asks for the members of topics, and follows those that the program observes.

    ``is_observed(key)`` tells whether it does.
    """

    def __init__(
        self,
        state: ClientState,
        sender: Sender,
        asking: Asking,
        is_observed: Callable[[Key], bool],
    ) -> None:
        self.calls = state.calls
        self._state = state
        self._sender = sender
        self._asking = asking
        self._is_observed = is_observed
        self._known: dict[str, Presence] = {}

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

    def forget_unobserved(self, key: Key) -> bool:
        """Forget the members of a topic, unless the program still observes it.

        Return whether there was something to forget. The server goes on telling of members until
        the client does not want it.
        """
        if not isinstance(key, str) or self._is_observed(key):
            return False
        return self._known.pop(key, None) is not None

    def untold(self, keys: Iterable[Key]) -> list[str]:
        """Return those that the program observes, if the server does not tell it anything."""
        if self._state.has_feature(PRESENCE):
            return []
        return [str(key) for key in keys if self._is_observed(key)]

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

    def confirmed(self, topic: str, fields: Fields) -> bool:
        """Take the members at the beginning of a subscription that observes, on this connection.

        Return whether the program still observes.
        """
        if not self._is_observed(topic):
            return False
        self._known.setdefault(topic, Presence(topic, {}, 0, None))
        self._follow(topic, fields)
        return True

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
